"""Answers written image by image: what is there already is left, what fails is listed, Ctrl-C waits for the image at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2

from tacit.cases import Cases
from tacit.errors import InputError, ReadError
from tacit.interrupt import HeldInterrupt
from tacit.report.track import Bar
from tacit.run import Run

REMEDY = "check the file, or leave it out"


def one_by_one(cases: Cases, run: Run, write: Callable[[str, Path], None], smaller: str) -> int:
    """Calls write(name, path) for every image without items/NAME.json, which it must write last. Returns how many are answered.

    smaller: what to do about an image that is too large for the memory.
    """
    done = 0
    with Bar("segmenting") as bar, HeldInterrupt() as interrupt:
        for index, (name, path) in enumerate(cases):
            if not (run.folder / "items" / f"{name}.json").exists():
                try:
                    write(name, path)
                except ReadError as error:
                    run.fail(path, error)
                    continue
                except InputError as error:
                    run.fail(path, ReadError(path, str(error), REMEDY))
                    continue
                except (MemoryError, cv2.error) as error:
                    run.fail(path, ReadError(path, f"it is too large for this machine's memory ({type(error).__name__})", smaller))
                    continue
            done += 1
            bar.advance(index + 1, len(cases))
            if interrupt.asked:
                raise KeyboardInterrupt
    return done
