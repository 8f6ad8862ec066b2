"""Independent tasks on all cores, on other processes or on a cluster, by way of joblib; results in the order of the tasks.

    each(sites, here, there)                          threads of this process, as many as torch has
    with joblib.parallel_config("loky", n_jobs=8):    processes of this machine
    with on(8, "ray"):                                whatever backend joblib knows: `mpcc optimize --workers 8 --backend ray`

A task runs on one thread of torch wherever it runs, and sees nothing of the others: so results are the same bits whatever the
number of workers. What tasks share is sent once: joblib maps arrays of more than a megabyte from a file, Ray keeps them.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, TypeVar

import joblib
import torch
from joblib.parallel import get_active_backend

from .errors import MissingDependency, UsageError

BACKENDS = ("loky", "ray", "dask")
CHUNKS = 4
"""Parts that each worker is given one after another: more even out tasks of unequal length, and each is sent what they share."""
Task = TypeVar("Task")
Made = TypeVar("Made")
Tell = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Work(Generic[Task, Made]):
    """What another process makes of `given`, all of it picklable: make(*given) is called once there, and then with each task."""

    make: Callable[..., Callable[[Task], Made]]
    given: tuple[Any, ...]
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Work) and other.token == self.token

    def __hash__(self) -> int:
        return hash(self.token)

    def __call__(self, tasks: Sequence[Task]) -> list[Made]:
        """In the other process."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits; it ends this one
        torch.set_num_threads(1)
        function = _made(self)
        return [function(task) for task in tasks]


@lru_cache(maxsize=1)
def _made(work: Work[Any, Any]) -> Callable[[Any], Any]:
    return work.make(*work.given)


def _silent(done: int, total: int) -> None:
    return


def each(
    tasks: Sequence[Task], here: Callable[[Task], Made], there: Callable[[], Work[Task, Made]], tell: Tell = _silent
) -> list[Made]:
    """`here(task)` of every task, in order, or what `there` says is the same in another process."""
    count, processes = _workers()
    if min(count, len(tasks)) < 2:
        return list(_told(map(here, tasks), tell, len(tasks), _one_thread()))
    if not processes:
        return list(_told(_in_threads(tasks, here, count), tell, len(tasks), nullcontext()))
    work, chunks = there(), _chunks(tasks, count * CHUNKS)
    as_it_comes = "generator" if get_active_backend()[0].supports_return_generator else "list"  # Ray's does not
    with joblib.Parallel(batch_size=1, return_as=as_it_comes) as parallel:
        made = (one for row in parallel(joblib.delayed(work)(chunk) for chunk in chunks) for one in row)
        return list(_told(made, tell, len(tasks), nullcontext()))


def _told(made: Iterable[Made], tell: Tell, total: int, around: AbstractContextManager[None]) -> Iterator[Made]:
    with around:
        for done, one in enumerate(made, 1):
            tell(done, total)
            yield one


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _in_threads(tasks: Sequence[Task], here: Callable[[Task], Made], count: int) -> Iterator[Made]:
    """Threads suffice: torch gives up Python's lock while it computes."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(here, tasks)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _workers() -> tuple[int, bool]:
    """(how many workers, whether they are processes). Unless joblib was told otherwise, threads."""
    backend, count = get_active_backend()
    name = type(backend).__name__
    if name == "LokyBackend" and count in (None, 1):
        return torch.get_num_threads(), False
    return joblib.effective_n_jobs(), name not in ("ThreadingBackend", "SequentialBackend")


def _chunks(tasks: Sequence[Task], most: int) -> list[Sequence[Task]]:
    size = -(-len(tasks) // most)
    return [tasks[start : start + size] for start in range(0, len(tasks), size)]


@contextmanager
def on(count: int | None, backend: str | None = None) -> Iterator[None]:
    """Tasks inside run on so many workers (None: as many as the backend has) of a backend: see `BACKENDS`.

    Without either everything stays as it is. UsageError, MissingDependency.
    """
    if count is None and backend is None:
        yield
        return
    if count is not None and count < 1:
        raise UsageError(f"{count} workers", where="--workers", hint="Give a number from 1 on.")
    if backend is not None and backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}", where="--backend", hint="One of: " + ", ".join(BACKENDS))
    if count == 1 and backend is None:
        config: dict[str, Any] = {"backend": "threading", "n_jobs": 1}
    elif backend in (None, "loky"):
        config = {"backend": "loky", "n_jobs": count or -1, "inner_max_num_threads": 1}
    else:
        _prepare(str(backend), count)
        config = {"backend": backend, "n_jobs": count or -1}
    with joblib.parallel_config(**config):
        yield


def _prepare(backend: str, count: int | None) -> None:
    """Tell joblib of a cluster. Where none is named (RAY_ADDRESS, DASK_SCHEDULER_ADDRESS), one is started on this machine."""
    try:
        if backend == "ray":
            ray, own = importlib.import_module("ray"), "RAY_ADDRESS" not in os.environ
            if not ray.is_initialized():
                ray.init(log_to_driver=False, **({"num_cpus": count, "include_dashboard": False} if own else {}))
            importlib.import_module("ray.util.joblib").register_ray()
        else:
            importlib.import_module("dask.distributed").Client(set_as_default=True)
    except ImportError:
        raise MissingDependency(f"the backend {backend} is not installed", hint=f'pip install "mpcc[{backend}]"') from None
