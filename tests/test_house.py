"""The house rules: which way imports go, what is public, what is documented, what may not be written."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command

import tacit
from tacit.cli import VERBS, app, classifying
from tacit.cli.comparing import compare as tacit_compare
from tacit.config import Config
from tacit.learn.few_labels import FewLabelsConfig
from tacit.learn.methods import METHODS
from tacit.learn.pipelines import PIPELINES
from tacit.learn.pretraining import METHODS as PRETRAINING
from tacit.learn.series_models import MODELS
from tacit.learn.sources import TilesConfig
from tacit.learn.structures import STRUCTURES
from tacit.learn.tune import TuneConfig
from tacit.use.instances import InstancesConfig
from tacit.use.lungs_learn import LungsConfig
from tacit.use.pair_calibrate import PairsConfig
from tacit.use.pretrain_select import SelectConfig
from tacit.use.slide_predict import SlidesConfig

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "tacit"
FILES = sorted(SRC.rglob("*.py"))
LEVEL = {
    "errors": 0, "interrupt": 0, "files": 0, "config": 0, "image": 0, "cases": 0, "run": 0, "run_folder": 0,
    "read": 1, "phantom": 1, "parts": 1, "report": 1,
    "prepare": 2, "learn": 3, "use": 4, "serve": 5, "scale": 5, "cli": 6, "__init__": 7, "__main__": 7,
}  # fmt: skip
SIBLINGS_ALLOWED = {("parts", "report")}


def room(path: Path) -> str:
    first = path.relative_to(SRC).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else [a.name for a in node.names] if isinstance(node, ast.Import) else []
        found |= {n.split(".")[1] for n in names if n.startswith("tacit.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_go_one_way(path: Path) -> None:
    here = room(path)
    for other in imported(path):
        if other == here or LEVEL[here] == 0 == LEVEL[other]:
            continue
        assert LEVEL[other] < LEVEL[here] or (here, other) in SIBLINGS_ALLOWED, f"{here} imports {other}"


HEAVY = {"learn", "parts", "use"}  # rooms of ours that may bring torch


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != SRC / "cli"], ids=lambda p: str(p.relative_to(SRC)))
def test_only_heavy_packages_are_imported_inside_functions(path: Path) -> None:
    functions = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inside = {n.module for f in functions for n in ast.walk(f) if isinstance(n, ast.ImportFrom) and n.module}
    light = {m for m in inside if m.split(".")[0] in sys.stdlib_module_names or (m.startswith("tacit.") and m.split(".")[1] not in HEAVY)}
    assert light == set()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_every_function_has_types(path: Path) -> None:
    assert "no-untyped-def" not in path.read_text()


def test_every_room_has_a_level() -> None:
    assert {room(p) for p in FILES} <= set(LEVEL)


def test_the_public_names_are_these_and_exist() -> None:
    kept = "Cases Image TacitError __version__ audit classify_compare classify_fit classify_predict compare compare_jobs compare_methods decide_pairs distance draw evaluate find_cases find_lungs index_images locate lungs map_index open_slide prepare_images pretrain query read_picture read_volume segment suggest_template"
    assert tacit.__all__ == kept.split()
    for name in tacit.__all__:
        assert getattr(tacit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'sgment'"):
        tacit.sgment  # noqa: B018


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_no_pickle_no_eval_no_broad_except(path: Path) -> None:
    text = path.read_text()
    for bad in (r"\bpickle\b", r"torch\.load\(", r"joblib\.", r"allow_pickle=True", r"yaml\.load", r"(?<![.\w])eval\(", r"(?<![.\w])exec\("):
        assert not re.search(bad, text), f"{bad} in {path.name}"
    if path not in (SRC / "cli" / "__init__.py", SRC / "run.py", SRC / "report" / "tracked.py"):
        assert "except Exception" not in text and "except BaseException" not in text.replace("except BaseException:\n        if temporary", "")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_a_file_is_one_idea(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 350
    if path.stat().st_size:
        assert ast.get_docstring(ast.parse(text)), "a file opens with a sentence that says what it is"


def test_public_functions_say_what_they_give() -> None:
    bare = []
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_") and path.name != "errors.py":
                if not ast.get_docstring(node) and not (isinstance(node, ast.ClassDef) and node.name.endswith(("Config", "Tracker"))):
                    bare.append(f"{path.name}:{node.name}")
    assert bare == []


def test_help_loads_nothing_heavy() -> None:
    """What makes it come in a tenth of a second; seconds themselves are no matter for a test."""
    code = "import sys; sys.argv = ['tacit', '--help']\ntry:\n  from tacit.cli import run; run()\nexcept SystemExit: pass\nprint('LOADED', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "timm", "pandas", "numpy", "cv2", "scipy", "sklearn", "skimage", "matplotlib", "pydicom", "lancedb", "pyarrow", "PIL"}
    assert "segment" in done.stdout and not heavy & set(done.stdout.split("LOADED")[1].split())


def test_the_version_is_printed_without_a_verb() -> None:
    done = subprocess.run([sys.executable, "-m", "tacit", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, tacit.__version__)


def test_the_command_alone_shows_its_verbs_on_lines_of_their_own() -> None:
    alone, asked = (subprocess.run([sys.executable, "-m", "tacit", *w], capture_output=True, text=True, check=False) for w in ([], ["--help"]))
    assert (alone.returncode, alone.stdout, alone.stderr) == (0, asked.stdout, "") and "\n  segment " in alone.stdout


def functions(verb: Callable) -> list[Callable]:
    """The public function of a verb, by one of the names that it may have."""
    return [getattr(tacit, n) for n in (verb.__name__, f"{verb.__name__}_images", f"decide_{verb.__name__}") if n in tacit.__all__]


@pytest.mark.parametrize("part", ["fit", "predict", "compare"])
def test_classify_has_the_names_and_defaults_of_its_functions(part: str) -> None:
    typed = inspect.signature(getattr(classifying, part)).parameters
    known = inspect.signature(getattr(tacit, f"classify_{part}")).parameters
    assert {n: p.default for n, p in typed.items() if n not in ("as_json", "no_twins", "no_pages")} == {
        n: p.default for n, p in known.items() if n not in ("twins", "pages")
    }


@pytest.mark.parametrize("verb", [v for v in VERBS if functions(v)], ids=lambda v: v.__name__)
def test_a_verb_has_the_names_and_defaults_of_its_function(verb: Callable) -> None:
    function = functions(verb)[0]
    several = {"index": {"out", "listed", "delete"}, "locate": {"out", "template", "points", "suggest_template"}}  # several functions are one verb there
    several["compare"] = {n for f in ("compare_methods", "compare_jobs") for n in inspect.signature(getattr(tacit, f)).parameters} - {"k"}
    aside = {"as_json", *several.get(verb.__name__, set())}
    typed = {n: p.default for n, p in inspect.signature(verb).parameters.items() if n not in aside}
    known = {n: p.default for n, p in inspect.signature(function).parameters.items()}
    assert typed == {n: known.get(n, "unknown there") for n in typed}


def test_compare_has_the_names_and_defaults_of_its_three_functions() -> None:
    typed = {n: p.default for n, p in inspect.signature(tacit_compare).parameters.items() if n != "as_json"}
    known = [inspect.signature(getattr(tacit, f)).parameters for f in ("compare", "compare_methods", "compare_jobs")]
    assert set(typed) == {n for each in known for n in each}
    for each in known:
        for name, p in each.items():
            if p.default is not p.empty:  # sequences are typed with commas
                wanted = (",".join(map(str, p.default)) or None) if isinstance(p.default, tuple) else p.default
                assert typed[name] == wanted, name


def commands() -> dict[str, list[str]]:
    group = get_command(app)
    alone = {name: c for name, c in group.commands.items() if not hasattr(c, "commands")}
    parted = {f"{name} {part}": c for name, g in group.commands.items() for part, c in getattr(g, "commands", {}).items()}
    return {name: [o for p in c.params for o in p.opts if o.startswith("--")] for name, c in (alone | parted).items()}


def docs() -> str:
    return "\n".join(p.read_text() for p in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])


def test_every_command_and_option_is_documented() -> None:
    text = docs()
    for name, options in commands().items():
        assert f"tacit {name}" in text, f"tacit {name} is not in README.md or docs/"
        for option in options:
            assert f"`{option}" in text or f" {option}" in text, f"{option} of tacit {name}"


def fields(kind: type[Config], prefix: str = "") -> list[str]:
    found = []
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            found += fields(field.annotation, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    missing = [f"{m}: {f}" for m, kind in (METHODS | STRUCTURES).items() for f in fields(kind.Config) if f"`{f}`" not in text]
    missing += [f for f in fields(InstancesConfig, "instances.") if f"`{f}`" not in text]
    missing += [
        f
        for f in (*fields(TilesConfig, "tiles."), *fields(SelectConfig, "select."), *fields(TuneConfig, "tune."), *fields(SlidesConfig, "slides."))
        if f"`{f}`" not in text
    ]
    missing += [
        f for kind in (LungsConfig, PairsConfig, FewLabelsConfig, *(p.Config for p in PIPELINES.values())) for f in fields(kind) if f"`{f}`" not in text
    ]
    missing += [f"{m}: {f}" for m, kind in (PRETRAINING | MODELS).items() for f in fields(kind.Config) if f"`{f}`" not in text]
    assert missing == []


def test_every_method_has_a_page() -> None:
    for method in (*METHODS, *STRUCTURES, *PRETRAINING):
        assert any(f"`--method {method}`" in p.read_text() for p in (ROOT / "docs").glob("*.md")), method


def test_figures_in_results_have_a_file() -> None:
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "write_results.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_network_is_not_touched(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    tacit.segment(drawn, tmp_path / "o", method="haematoxylin", mpp=1.2)


def test_the_licence_and_the_warning_are_there() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert "Research use only" in (ROOT / "README.md").read_text()
