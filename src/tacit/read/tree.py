"""What lies below a folder: every file with its kind, told by its first bytes where the name does not say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tacit.errors import InputError, ReadError
from tacit.read.dicom import DICOMS, MARKER
from tacit.read.nifti import is_volume
from tacit.read.picture import SUFFIXES as PICTURES
from tacit.read.walk import walk

SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
TABLES = (".csv", ".tsv", ".parquet", ".xlsx", ".json", ".xml", ".txt", ".md")


@dataclass(frozen=True)
class Tree:
    """Files in order of their paths, each with its kind, and what could not be walked."""

    files: tuple[tuple[Path, str], ...]  # kind: picture, dicom, volume, slide, table, zip, empty or other
    problems: tuple[ReadError, ...]

    def of(self, kind: str) -> list[Path]:
        """The paths of one kind."""
        return [path for path, k in self.files if k == kind]


def find_files(source: Path) -> Tree:
    """Every file that `walk` finds in a folder (or the one file). Raises InputError."""
    if not source.exists():
        raise InputError(f"{source} does not exist; INPUT is a folder, a file or a zip")
    if source.is_file():
        return Tree(((source, kind_of(source)),), ())
    files, problems = walk(source)
    return Tree(tuple((path, kind_of(path)) for path in files), tuple(problems))


def listed_files(paths: Iterable[object], folder: Path) -> Tree:
    """The files that a list names, relative ones from `folder`; those that are not there are problems."""
    files = [p if p.is_absolute() else folder / p for p in map(Path, map(str, paths))]
    problems = [ReadError(p, "the list names it, but it is not there", "correct the list") for p in files if not p.is_file()]
    return Tree(tuple((p, kind_of(p)) for p in files if p.is_file()), tuple(problems))


def kind_of(path: Path) -> str:
    """What a file is, by its name and, where that does not say, by its first bytes."""
    low = path.name.lower()
    if is_volume(path):
        return "volume"
    for kind, suffixes in (("picture", PICTURES), ("slide", SLIDES), ("table", TABLES), ("dicom", DICOMS), ("zip", (".zip",))):
        if low.endswith(suffixes):
            return kind
    if low == "dicomdir":
        return "other"
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return "dicom" if "." not in low else "other"  # named when it is read
    if not head:
        return "empty"
    return "dicom" if head[128:132] == MARKER else "other"
