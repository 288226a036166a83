"""What a series or a volume is called: the end of its path that no other one has, never a number of its place in a list.

A label is found by a case's name. A name that hangs on the order of a cohort would hand the label to another patient when a patient is added.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

LONGEST = 180  # bytes of a joined name, so that it still fits a file system with a suffix


def case_names(cases: Sequence[tuple[Path, str]]) -> list[str]:
    """A name for each (path without its suffix, what tells it from others at the same path), unique and safe as a file name.

    The last part of the path; where another path has the same end, the shortest end that none has, its parts joined by "-". Cases at one path get the end
    of their mark, a SeriesInstanceUID or a suffix, behind it. The order of `cases` changes nothing.

    >>> case_names([(Path("/in/P001/CT"), "1.2.7"), (Path("/in/P002/CT"), "1.2.5"), (Path("/in/P003/MR"), "1.2.6")])
    ['P001-CT', 'P002-CT', 'MR']
    >>> case_names([(Path("/in/P001"), "1.2.7.1"), (Path("/in/P001"), "1.2.7.2")])
    ['P001-1', 'P001-2']
    """
    paths = [_parts(path) for path, _ in cases]
    there = Counter(paths)
    marks = [_ends(tuple(re.findall(r"[0-9A-Za-z]+", mark)), ".") if there[path] > 1 else [] for path, (_, mark) in zip(paths, cases, strict=True)]
    held = Counter((path, end) for path, own in zip(paths, marks, strict=True) for end in own)
    chosen = [next((end for end in own if held[path, end] == 1), "") for path, own in zip(paths, marks, strict=True)]
    marked = [(*path[:-1], f"{path[-1]}-{end}") if end else path for path, end in zip(paths, chosen, strict=True)]
    meant = Counter(end for path, own in zip(paths, marked, strict=True) for end in {*_ends(path, "-"), *_ends(own, "-")})  # how many cases it could mean
    names = [next((end for end in _ends(own, "-") if meant[end] == 1), "") for own in marked]
    return [_safe(name, own, case) for name, own, case in zip(names, marked, cases, strict=True)]


def folder_of(paths: Sequence[Path]) -> Path:
    """The folder that holds all files of a case, in its subfolders too."""
    folders = {p.parent for p in paths}
    return folders.pop() if len(folders) == 1 else Path(os.path.commonpath(folders))


def _parts(path: Path) -> tuple[str, ...]:
    """The parts of the absolute path, without its root."""
    absolute = Path(os.path.abspath(path))
    return absolute.parts[1:] or ("series",)


def _ends(parts: tuple[str, ...], sign: str) -> list[str]:
    """All ends of `parts`, the shortest first."""
    return [sign.join(parts[-n:]) for n in range(1, len(parts) + 1)]


def _safe(name: str, parts: tuple[str, ...], case: tuple[Path, str]) -> str:
    """The name; cut, or made of the whole path, with a hash of path and mark where it is too long or there was none."""
    if name and (name == parts[-1] or len(name.encode()) <= LONGEST):
        return name
    digest = hashlib.sha256(f"{os.path.abspath(case[0])} {case[1]}".encode()).hexdigest()[:12]
    return f"{(name or parts[-1])[:40]}-{digest}"
