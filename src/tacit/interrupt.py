"""Ctrl-C that waits for the end of a step, so that what is saved is never half of one; a scheduler's SIGTERM is the same."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType

AT_ONCE = 1.0  # seconds: torchrun hands a Ctrl-C on to processes that heard it already


class HeldInterrupt:
    """Inside the `with`, the first Ctrl-C or SIGTERM only sets `asked`; a later Ctrl-C stops at once. Does nothing outside the main thread."""

    def __init__(self) -> None:
        self.asked = False
        self.asked_at = 0.0

    def __enter__(self) -> HeldInterrupt:
        self.held = threading.current_thread() is threading.main_thread()
        if self.held:
            self.before = {number: signal.signal(number, self._hold) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _hold(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT and time.monotonic() - self.asked_at > AT_ONCE:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self.asked_at = True, time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.held:
            for number, handler in self.before.items():
                signal.signal(number, handler)
