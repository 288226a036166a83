"""Many tasks of one kind: one after another, by several processes of this machine, or by Ray on many. The results are the same.

A process that is killed takes only its task with it: the task is begun anew by another one, and given up where that one is killed too. Ctrl-C and
SIGTERM wait for the tasks at hand. Workers end by themselves when the process that started them is gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar, cast

from tacit.errors import MissingError, UsageError
from tacit.interrupt import HeldInterrupt

T = TypeVar("T")
R = TypeVar("R")
TRIES = 2  # times that a task is begun whose process is killed
ENGINES = ("local", "ray")
ANSWERS_WITHIN = 10.0  # seconds, a Ray cluster
RAY_MISSING = "--engine ray needs the package ray; pip install 'tacit[ray]', or share the work with --shard i/n"


@dataclass(frozen=True)
class Lost:
    """In place of a result: every process that began the task was killed."""

    reason: str


@dataclass(frozen=True)
class Asked:
    """How the work is shared."""

    workers: int
    shard: str | None
    engine: str
    address: str | None


def shared_out(work: Callable[[T], R], tasks: Sequence[T], asked: Asked, device: str) -> Generator[tuple[T, R | Lost]]:
    """Each task with its result, by the engine that was asked for. work: a function of a module."""
    if asked.engine == "ray":
        return by_ray(work, tasks, asked.address, gpus=0 if device == "cpu" else 1)
    if asked.workers == 1 or len(tasks) < 2:
        return one_after_another(work, tasks)
    return by_processes(work, tasks, min(asked.workers, len(tasks)))


def one_after_another(work: Callable[[T], R], tasks: Sequence[T]) -> Generator[tuple[T, R | Lost]]:
    """Each task with its result, here and now."""
    with HeldInterrupt() as interrupt:
        for task in tasks:
            yield task, work(task)
            if interrupt.asked:
                raise KeyboardInterrupt


def by_processes(work: Callable[[T], R], tasks: Sequence[T], workers: int) -> Generator[tuple[T, R | Lost]]:
    """Each task with its result, in the order in which `workers` processes finish them. work: a function of a module."""
    waiting, tries = deque(range(len(tasks))), [0] * len(tasks)
    busy: dict[Connection, _Worker[T, R]] = {}
    with HeldInterrupt() as interrupt:
        try:
            while (waiting and not interrupt.asked) or busy:
                while waiting and len(busy) < workers and not interrupt.asked:
                    fresh = _Worker(work)
                    fresh.give(waiting.popleft(), tasks)
                    busy[fresh.line] = fresh
                for line in wait(list(busy), timeout=0.5):
                    worker = busy[cast(Connection, line)]
                    task = worker.task
                    try:
                        result: R | Lost = worker.line.recv()
                    except (EOFError, OSError):
                        del busy[worker.line]
                        tries[task] += 1
                        if tries[task] < TRIES:
                            waiting.appendleft(task)
                        else:
                            yield tasks[task], Lost(worker.end())
                        continue
                    if waiting and not interrupt.asked:
                        worker.give(waiting.popleft(), tasks)
                    else:
                        del busy[worker.line]
                        worker.end()
                    yield tasks[task], result
        finally:
            for worker in busy.values():
                worker.process.kill()
        if waiting:
            raise KeyboardInterrupt


def by_ray(work: Callable[[T], R], tasks: Sequence[T], address: str | None, gpus: float = 0) -> Generator[tuple[T, R | Lost]]:
    """Each task with its result, as Ray's workers finish them. address: of a cluster; None: this machine alone. Raises MissingError."""
    ray = _ray()
    begun, before = not ray.is_initialized(), signal.getsignal(signal.SIGTERM)
    if begun:
        _check_reachable(address)
        try:
            ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise MissingError(
                f"--address {address}: no Ray cluster answers there ({line[:160]}); start one with `ray start --head`, or leave it out"
            ) from error
    try:
        remote = ray.remote(max_retries=TRIES + 1, num_cpus=1, num_gpus=gpus)(work)
        pending = {remote.remote(task): task for task in tasks}
        with HeldInterrupt() as interrupt:
            while pending:
                ready, _ = ray.wait(list(pending), num_returns=1, timeout=1.0)
                for reference in ready:
                    task = pending.pop(reference)
                    try:
                        result: R | Lost = ray.get(reference)
                    except ray.exceptions.RayError as error:
                        result = Lost(f"Ray lost the process that worked on it ({(str(error).strip().splitlines() or ['no reason given'])[0][:160]})")
                    yield task, result
                if interrupt.asked and pending:
                    for reference in pending:
                        ray.cancel(reference)
                    raise KeyboardInterrupt
    finally:
        if begun:
            ray.shutdown()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray puts a handler of its own there and leaves it


def parsed_shard(shard: str | None) -> tuple[int, int] | None:
    """(which, of how many) from "i/n", i from 0; "auto" reads it from SLURM's array or tasks, or from torchrun; None: the work is not shared.

    Several processes of torchrun share it unasked, since each of them is given the same command. Raises UsageError.
    """
    environment = os.environ
    if shard is None:
        if environment.get("WORLD_SIZE", "1").strip() in ("", "0", "1"):
            return None
        shard = "auto"
    if shard == "auto":
        if "SLURM_ARRAY_TASK_ID" in environment and "SLURM_ARRAY_TASK_COUNT" in environment:
            shard = _of_array({name: int(environment.get(f"SLURM_ARRAY_TASK_{name}", "-1")) for name in ("ID", "MIN", "MAX", "STEP", "COUNT")})
        elif "RANK" in environment and "WORLD_SIZE" in environment:
            shard = f"{environment['RANK']}/{environment['WORLD_SIZE']}"
        elif "SLURM_PROCID" in environment and "SLURM_NTASKS" in environment:
            shard = f"{environment['SLURM_PROCID']}/{environment['SLURM_NTASKS']}"
        else:
            raise UsageError("--shard auto: neither SLURM_ARRAY_TASK_ID, RANK nor SLURM_PROCID says which part this is; give --shard i/n, i from 0")
    which, slash, of = shard.partition("/")
    if not slash or not which.strip().isdigit() or not of.strip().isdigit() or not 0 <= int(which) < int(of):
        raise UsageError(f"--shard {shard}: expected i/n with i from 0 to n − 1, for example 0/4")
    return int(which), int(of)


def _of_array(task: dict[str, int]) -> str:
    """i/n of a task of SLURM's array, whose numbers may begin anywhere and go by steps; of a list such as 2,5,6 SLURM does not say which stands where."""
    first, step, count = max(task["MIN"], 0), max(task["STEP"], 1), task["COUNT"]
    if task["MAX"] >= 0 and (task["MAX"] - first) // step + 1 != count:
        raise UsageError(
            f"--shard auto: SLURM's array from {first} to {task['MAX']} has {count} tasks, so it is a list with holes; use --array=0-{count - 1}, or give --shard i/n, i from 0"
        )
    return f"{(task['ID'] - first) // step}/{count}"


def check_engine(engine: str, workers: int, address: str | None) -> None:
    """Raises UsageError for what does not go together, MissingError where Ray is asked for and not there."""
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine!r} is unknown; known are {', '.join(ENGINES)}")
    if workers < 1:
        raise UsageError(f"--workers {workers}: expected 1 or more")
    if address is not None and engine != "ray":
        raise UsageError(f"--address {address} is that of a Ray cluster; add --engine ray")
    if engine == "ray":
        _ray()


class _Worker(Generic[T, R]):
    """A process that does one task after another."""

    def __init__(self, work: Callable[[T], R]) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(work, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.task = -1

    def give(self, task: int, tasks: Sequence[T]) -> None:
        self.task = task
        with contextlib.suppress(OSError):  # it is gone: told when its result is read
            self.line.send(tasks[task])

    def end(self) -> str:
        """Lets it go; says how it ended."""
        self.line.close()
        self.process.join(10)
        code = self.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f"the process that worked on it was killed {TRIES} times ({how}); the memory may not be enough"


def _serve(work: Callable[[Any], Any], line: Connection) -> None:
    """What a worker does until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = line.recv()
        except (EOFError, OSError):
            return
        line.send(work(task))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _check_reachable(address: str | None) -> None:
    """Ray itself ends the process where nobody answers. Raises MissingError; names like auto are left to Ray."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=ANSWERS_WITHIN).close()
        except (OSError, OverflowError) as error:
            raise _unreachable(address, error) from error


def _unreachable(address: str | None, error: Exception) -> MissingError:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return MissingError(f"--address {address}: no Ray cluster answers there ({line[:160]}); start one with `ray start --head`, or leave it out")


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingError(RAY_MISSING) from error
    return ray
