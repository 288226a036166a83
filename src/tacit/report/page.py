"""One self-contained HTML page of a run: nothing is fetched, it can be mailed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { --ink: #1c2733; --soft: #5b6b7a; --line: #d9e0e6; --ground: #fbfcfd; --accent: #1f4e79; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 0 auto; max-width: 1180px; padding: 24px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 32px 0 8px; border-bottom: 1px solid var(--line); padding-bottom: 4px; }
p.note, figcaption, small { color: var(--soft); } .warning { background: #fff4e0; border-left: 4px solid #e8a33d; padding: 8px 12px; margin: 8px 0; }
table { border-collapse: collapse; margin: 8px 0; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { text-align: left; padding: 3px 12px 3px 0; border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; } td.wrap { white-space: normal; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 16px; }
figure { margin: 0; } figure.wide { margin: 18px 0; } figure.wide img { max-width: 100%; } .stack { position: relative; line-height: 0; } .stack img { width: 100%; } .stack img + img { position: absolute; inset: 0; }
#outlines:not(:checked) ~ main .stack img + img { display: none; }
label.switch { position: sticky; top: 0; background: var(--ground); padding: 6px 0; display: inline-block; z-index: 2; cursor: pointer; }
details { margin: 8px 0; } summary { cursor: pointer; color: var(--accent); } pre { background: #f0f3f6; padding: 10px; overflow-x: auto; font-size: 13px; }
</style></head><body>
<h1>{{ title }}</h1><p class="note">{{ subtitle }}</p>
{% for line in warnings %}<div class="warning">{{ line }}</div>{% endfor %}
<input type="checkbox" id="outlines" checked{% if not overlays %} hidden{% endif %}> {% if overlays %}<label class="switch" for="outlines">show outlines</label>{% endif %}
<main>
<h2>In short</h2><table>{% for key, value in facts %}<tr><th>{{ key }}</th><td class="wrap">{{ value }}</td></tr>{% endfor %}</table>
{% for panel in figures %}<figure class="wide"><img src="{{ panel.picture }}" alt="{{ panel.name }}"><figcaption><b>{{ panel.name }}</b> {{ panel.caption }}</figcaption></figure>{% endfor %}
{% for heading, note, panels in galleries if panels %}<h2>{{ heading }}</h2><p class="note">{{ note }}</p>
<div class="grid">{% for panel in panels %}<figure><div class="stack"><img src="{{ panel.picture }}" alt="{{ panel.name }}">{% if panel.over %}<img src="{{ panel.over }}" alt="outlines">{% endif %}</div>
<figcaption><b>{{ panel.name }}</b> {{ panel.caption }}</figcaption></figure>{% endfor %}</div>{% endfor %}
{% if curves %}<h2>Learning</h2><img src="{{ curves }}" alt="learning curves" style="max-width:100%">{% endif %}
{% for heading, note, header, rows in tables %}<h2>{{ heading }}</h2><p class="note">{{ note }}</p>
<table><tr>{% for h in header %}<th>{{ h }}</th>{% endfor %}</tr>{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</table>{% endfor %}
<h2>What failed</h2>{% if failures %}<table><tr><th>file</th><th>reason</th><th>remedy</th></tr>{% for row in failures %}<tr>{% for cell in row %}<td class="wrap">{{ cell }}</td>{% endfor %}</tr>{% endfor %}</table>{% else %}<p>Nothing.</p>{% endif %}
<h2>Settings</h2><details><summary>every setting, as used</summary><pre>{{ settings }}</pre></details>
<p class="note">Made by Tacit. Research use only, not a medical device.</p>
</main></body></html>
"""


@dataclass(frozen=True)
class Panel:
    """One picture of a gallery; `over` is a picture with a clear ground that can be toggled."""

    name: str
    picture: str  # data URI
    over: str | None
    caption: str


def page(
    *,
    title: str,
    subtitle: str,
    facts: list[tuple[str, str]],
    galleries: list[tuple[str, str, list[Panel]]],
    tables: list[tuple[str, str, list[str], list[list[Any]]]],
    failures: list[tuple[str, str, str]],
    settings: str,
    warnings: list[str] | None = None,
    curves: str | None = None,
    figures: list[Panel] | None = None,
) -> str:
    """The page as text. Everything that is not markup is escaped. figures: plots at full width, before the galleries."""
    from jinja2 import Environment

    template = Environment(autoescape=True, trim_blocks=False).from_string(TEMPLATE)
    return template.render(
        title=title,
        subtitle=subtitle,
        facts=facts,
        galleries=galleries,
        tables=tables,
        failures=failures,
        settings=settings,
        warnings=warnings or [],
        curves=curves,
        figures=figures or [],
        overlays=any(panel.over for _, _, panels in galleries for panel in panels),
    )
