"""Lists of pairs as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tacit.errors import InputError
from tacit.read.pairs import Pair, read_pairs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("x.png", "y.png", "z, 2.png"):
        (tmp_path / name).write_bytes(b"\x89PNG")
    return tmp_path


def read(folder: Path, text: str, root: Path | None = None, encoding: str = "utf-8") -> list[tuple[str, str, int | None]]:
    (folder / "pairs.csv").write_bytes(text.encode(encoding))
    return [(p.a.name, p.b.name, p.label) for p in read_pairs(folder / "pairs.csv", root)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a,b,label\nx.png,y.png,1\n", [("x.png", "y.png", 1)]),
        ("x.png,y.png,1\ny.png,x.png,0\n", [("x.png", "y.png", 1), ("y.png", "x.png", 0)]),
        ("x.png,y.png\n", [("x.png", "y.png", None)]),
        ("a,b\nx.png,y.png\n", [("x.png", "y.png", None)]),
        ("a;b;label\r\nx.png; y.png ;1.0\r\n\r\n", [("x.png", "y.png", 1)]),
        ('x.png,"z, 2.png",0\n', [("x.png", "z, 2.png", 0)]),
        ("x.png;z, 2.png;0\n", [("x.png", "z, 2.png", 0)]),
        ("label,b,a,note\n0,x.png,y.png,seen twice\n", [("y.png", "x.png", 0)]),
        ("first,second,same\nx.png,y.png,\n", [("x.png", "y.png", None)]),
        ("\n\nx.png,y.png,0", [("x.png", "y.png", 0)]),
    ],
)
def test_a_list_is_read_with_a_header_or_none(folder: Path, text: str, found: list) -> None:
    assert read(folder, text) == found
    assert read(folder, text, encoding="utf-8-sig") == found


def test_names_are_below_the_list_or_below_the_root_or_absolute(folder: Path) -> None:
    (folder / "lists").mkdir()
    (folder / "lists" / "p.csv").write_text(f"x.png,{folder / 'y.png'},1\n")
    assert read_pairs(folder / "lists" / "p.csv", folder) == [Pair(folder / "x.png", folder / "y.png", 1)]
    (folder / "lists" / "p.csv").write_text("../x.png,../y.png,1\n")
    assert read_pairs(str(folder / "lists" / "p.csv"))[0].a.samefile(folder / "x.png")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x.png,y.png,1\nx.png,y.png,same\n", "line 2: label 'same', expected 1"),
        ("a,b,label\nx.png,y.png,2\n", "line 2: label '2'"),
        ("a,b,label\nx.png,y.png,1\nx.png\n", "line 3: 1 cells, expected 3"),
        ("x.png,y.png,1,0\n", "line 1: 4 cells, expected 2 or 3"),
        ("x.png\n", "line 1: 1 cells"),
        ("x.png,w.png,1\nv.png,x.png,1\n", "line 1: there is no image .*w.png .and 1 more.*--root"),
        ("a,b,label\n", "holds no pairs"),
        ("", "holds no pairs"),
        ('x.png,y.png,1\n"x.png,y.png\n', "line 2: no valid CSV"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(folder: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(folder, text)


def test_a_list_that_is_absent_or_no_text_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_pairs(folder / "absent.csv")
    (folder / "p.csv").write_bytes(b"x.png,y\xff.png,1\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_pairs(folder / "p.csv")
