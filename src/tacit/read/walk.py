"""Every file below a folder, in one order for every verb, and what could not be walked."""

from __future__ import annotations

import os
from pathlib import Path

from tacit.errors import ReadError


def walk(folder: Path) -> tuple[list[Path], list[ReadError]]:
    """Files in order of their paths, and an error for each thing that cannot be looked at. Raises ReadError where nothing can.

    Hidden files, pipes and the folders of earlier runs are left out; links to folders are not followed, so loops end.
    """
    found: list[Path] = []
    problems: list[ReadError] = []

    def unreadable(error: OSError) -> None:
        problems.append(ReadError(error.filename, f"this folder cannot be read ({error.strerror})", "change its permissions"))

    for root, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not is_run(Path(root) / f))
        for name in sorted(names):
            path = Path(root) / name
            if name.startswith("."):
                continue
            if not is_printable(path):
                problems.append(ReadError(repr(str(path)), "the file name is not UTF-8", "rename it"))
                continue
            try:
                if path.is_file():
                    found.append(path)
                elif path.is_symlink():
                    problems.append(ReadError(path, "a link that leads nowhere or round in a circle", "remove it"))
            except OSError as error:
                problems.append(ReadError(path, f"it cannot be looked at ({error.strerror or error})", "change its permissions"))
    if problems and not found:
        raise problems[0]
    return found, problems


def is_run(folder: Path) -> bool:
    """Whether a folder is the result of an earlier run, whose pictures are answers and not input."""
    return (folder / "run.json").is_file() and (folder / "log.txt").is_file()


def is_printable(path: Path) -> bool:
    """Whether a path is UTF-8, so that tables can name it."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
