"""What can go wrong, as a tree; every leaf knows the exit code that the command line returns.

    TacitError            1   unexpected, or one of:
    ├── UsageError        2   the command or a setting is wrong
    │   ├── ConfigError   2     an unknown or unfit setting
    │   └── OutputError   2     OUT is not empty, is locked, or belongs to another run
    ├── InputError        4   nothing usable in the input
    │   └── ReadError     4     one file could not be read (in a batch: a row of failures.csv, exit code 3)
    ├── MissingError      5   an optional package or a weight file is not there
    ├── StorageError      1   the disk is full or refuses to be written
    ├── TrainingError     1   learning stopped: the loss was not finite
    ├── SolverError       1   a solver stopped before its answer was one
    └── Interrupted       130 Ctrl-C, where the verb itself says how to go on

Messages are one line: what came, what was expected, where, and what to do. 3 is no exception but a result: some items failed.
130 is Ctrl-C, with the state saved.
"""

from __future__ import annotations


class TacitError(Exception):
    """The root: catch this to catch all of Tacit's own errors."""

    exit_code = 1
    told = False  # of several processes another one says it


class UsageError(TacitError):
    exit_code = 2


class ConfigError(UsageError):
    pass


class OutputError(UsageError):
    pass


class InputError(TacitError):
    exit_code = 4


class ReadError(InputError):
    """One file that cannot be used: `reason` in words, `remedy` says what to do about it."""

    def __init__(self, path: object, reason: str, remedy: str = "replace the file or leave it out") -> None:
        super().__init__(f"{path}: {reason}; {remedy}")
        self.path, self.reason, self.remedy = path, reason, remedy


class MissingError(TacitError):
    exit_code = 5


class StorageError(TacitError):
    pass


class TrainingError(TacitError):
    pass


class SolverError(TacitError):
    pass


SOME_FAILED = 3
INTERRUPTED = 130


class Interrupted(TacitError):
    exit_code = INTERRUPTED
