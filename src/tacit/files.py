"""Writing so that a reader sees the old file or the new one, never half of one: temporary file, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tacit.errors import StorageError

ENDS = 1 << 23  # bytes
AGAIN = "repeat the command"  # what a full disk asks for


def write_atomic(path: Path, content: bytes | str) -> None:
    """Puts `content` at `path` whole or not at all. Raises StorageError with the reason and the remedy."""
    body = content.encode("utf-8") if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise storage_error(path, error) from error
    except BaseException:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """One process at a time; others wait. The kernel frees the lock when its owner dies. Raises StorageError where `place` cannot be written."""
    with opened_lock(place) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def opened_lock(place: Path) -> IO[str]:
    """A file to be locked, made with its folder where it is not there. Raises StorageError."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        return place.open("a+")
    except OSError as error:
        raise storage_error(place, error) from error


def taken(lock: IO[str], *, shared: bool = False) -> bool:
    """Whether the lock could be had now, alone or with others that share it. The kernel frees it when its owner dies."""
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def storage_error(path: Path, error: OSError) -> StorageError:
    """The StorageError that says in words why `path` could not be written, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = f"the disk is full: free space or choose another OUT, then {AGAIN}"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "the folder may not be written: choose another OUT or change its permissions"
    else:
        remedy = f"{error.strerror or error}: check the path and the disk"
    return StorageError(f"cannot write {path}; {remedy}")


def to_resume(error: StorageError) -> StorageError:
    """The same, of a run that may be finished where it stopped."""
    found = StorageError(str(error).replace(AGAIN, f"{AGAIN} with --resume"))
    found.told = error.told
    return found


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_ends(path: Path) -> str:
    """The SHA-256 of a large file's size and of its first and last `ENDS` bytes, or of all of a small one."""
    size = path.stat().st_size
    if size <= 2 * ENDS:
        return sha256(path)
    with path.open("rb") as file:
        first = file.read(ENDS)
        file.seek(-ENDS, os.SEEK_END)
        return hashlib.sha256(b"%d" % size + first + file.read(ENDS)).hexdigest()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
