"""Ctrl-C that waits for the end of a step, so that what is saved is never half of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class HeldInterrupt:
    """Inside the `with`, the first Ctrl-C only sets `asked`; a second one stops at once. Does nothing outside the main thread."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> HeldInterrupt:
        self.held = threading.current_thread() is threading.main_thread()
        if self.held:
            self.before = signal.signal(signal.SIGINT, self._hold)
        return self

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.held:
            signal.signal(signal.SIGINT, self.before)
