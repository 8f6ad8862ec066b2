"""Tasks on threads, processes and Ray: the same results in the same order, and a worker makes what tasks share once."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any

import joblib
import pytest
import torch

from mpcc.errors import UsageError
from mpcc.workers import Work, each, on

TASKS = list(range(23))


def made(power: int) -> Callable[[int], tuple[int, int, int]]:
    """What another process makes of 3: it tells its own number and how many threads it has."""
    return lambda task: (task**power, os.getpid(), torch.get_num_threads())


def work() -> Work[int, tuple[int, int, int]]:
    return Work(made, (3,))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_threads_by_default_each_with_one_of_torch() -> None:
    told: list[tuple[int, int]] = []
    found = each(TASKS, made(3), work, lambda done, total: told.append((done, total)))
    assert [value for value, *_ in found] == [task**3 for task in TASKS]
    assert {(process, count) for _, process, count in found} == {(os.getpid(), 1)}
    assert told[-1] == (23, 23) and torch.get_num_threads() == 2


def test_one_worker_is_this_thread() -> None:
    def here(task: int) -> int:
        return torch.get_num_threads()

    with on(1):
        assert each(TASKS, here, work) == [1] * 23  # type: ignore[arg-type]


def test_what_a_task_raises_is_raised(threads: None) -> None:
    def here(task: int) -> Any:
        raise UsageError(f"task {task}")

    before = torch.get_num_threads()
    with pytest.raises(UsageError, match="task 0"):
        each(TASKS, here, work)
    assert torch.get_num_threads() == before


def test_nothing_to_do() -> None:
    assert each([], made(3), work) == []


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "ray"])
def test_processes_give_the_same(backend: str) -> None:
    if importlib.util.find_spec(backend if backend == "ray" else "joblib") is None:
        pytest.skip(f"{backend} is not installed")
    with on(2, backend):
        found = each(TASKS, made(3), work)
    assert [value for value, *_ in found] == [task**3 for task in TASKS]
    assert os.getpid() not in {process for _, process, _ in found}
    assert {count for *_, count in found} == {1}


@pytest.mark.slow
def test_a_surrounding_configuration_of_joblib_counts() -> None:
    with joblib.parallel_config("loky", n_jobs=2):
        assert os.getpid() not in {process for _, process, _ in each(TASKS, made(3), work)}


@pytest.mark.parametrize(("count", "backend", "message"), [(0, None, "0 workers"), (2, "slurm", "unknown backend 'slurm'")])
def test_what_is_refused(count: int, backend: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message), on(count, backend):
        pass
