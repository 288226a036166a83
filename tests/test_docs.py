"""What the pages show is what the commands do."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tacit.cli import app

NUMBER = re.compile(r"\d+(?:\.\d+)?")
ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize(("first", "steps"), [("tacit phantom", 3), ("tacit index made", 2)])
def test_the_readmes_examples_print_what_they_show(first: str, steps: int, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    blocks = [re.search(rf"```\n(\$ {start}.*?)```", text, re.S) for start in dict.fromkeys(("tacit phantom", first))]
    assert None not in blocks
    parts = [[part.strip().split("\n") for part in block.group(1).split("$ ") if part.strip()] for block in blocks if block]
    assert len(parts[-1]) == steps
    for command, *shown in [*(parts[0][:1] if len(parts) > 1 else []), *parts[-1]]:  # a later example needs the drawings of the first
        words = shlex.split(command, comments=True)
        assert words[0] == "tacit"
        done = subprocess.run([sys.executable, "-m", "tacit", *words[1:]], cwd=tmp_path, capture_output=True, text=True, check=True)
        printed = done.stdout.splitlines()
        assert [NUMBER.sub("#", " ".join(line.split())) for line in shown] == [NUMBER.sub("#", " ".join(line.split())) for line in printed]
        for a, b in zip(shown, printed, strict=True):  # another processor rounds differently
            assert [float(n) for n in NUMBER.findall(a)] == pytest.approx([float(n) for n in NUMBER.findall(b)], rel=0.05, abs=0.02)


def test_the_pages_python_runs(drawn: Path, tmp_path: Path) -> None:
    code = re.search(r"```python\n(import numpy.*?)```", (ROOT / "docs" / "phantom.md").read_text(), re.S)
    assert code is not None
    (tmp_path / "mine.py").write_text(code.group(1))
    words = [sys.executable, "-m", "tacit", "phantom", "mine.py", "-n", "2", "--height", "100", "--width", "120", "-o", "sheet"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    import numpy as np
    from PIL import Image as Pillow

    with Pillow.open(tmp_path / "sheet" / "masks" / "mine_0000.png") as file:
        assert np.asarray(file).max() > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_settings_page_is_what_the_code_says() -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "write_settings.py", "--check"], check=True)


def test_the_readmes_tree_names_every_file() -> None:
    text = (ROOT / "README.md").read_text()
    for path in (ROOT / "src" / "tacit").rglob("*.py"):
        if not path.name.startswith("__"):
            assert path.name in text, path.name


def options_of(words: list[str]) -> set[str] | None:
    """Every option that may stand in a command, by its words after `tacit`; None where they name no verb."""
    command: Any = get_command(app)
    found = {"--debug", "--version", "--help"}
    for word in words:
        if not hasattr(command, "commands"):
            break
        if word not in command.commands:
            return None
        command = command.commands[word]
    return found | {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_options_that_a_page_names_are_options_of_that_verb(page: Path) -> None:
    text = page.read_text()
    named = [(verb.split(), cells) for verb, table in re.findall(r"^\| options? of `tacit ([a-z ]+)` \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.M)
             for cells in [" ".join(line.split(" | ")[0] for line in table.splitlines())]]  # fmt: skip
    named += [(line.split(), line) for line in re.findall(r"(?:^|[`$] ?|\n)tacit ([a-z][^`\n#|]*)", text)]
    for words, said in named:
        known = options_of(words)
        for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", said) if known is not None else []:
            assert option in known, f"{page.name}: tacit {' '.join(words)[:60]} has no {option}"
