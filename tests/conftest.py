"""What tests of several rooms share."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mpcc import files, registry
from mpcc.cost.machine import Machine
from mpcc.runtime import this_machine


def pytest_configure(config: pytest.Config) -> None:
    """Tests of SPU that were asked for do not pass by being left out. torch's trace writes empty lines for every graph, which
    pytest shows below each failure; and its OpInfo imports setuptools, which fails once anything else has loaded the distutils of
    the standard library."""
    if config.getoption("markexpr") == "spu" and importlib.util.find_spec("spu") is None:
        raise pytest.UsageError('SPU is not installed. Install it with: pip install "mpcc[spu]"  (from a clone: make test-spu)')
    logging.getLogger("torch.__trace").disabled = True
    with contextlib.suppress(ImportError):
        importlib.import_module("setuptools")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Every test draws the same numbers in every run and in any order: its seeds come from its name."""
    seed = zlib.crc32(item.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 -- what libraries under test draw from the global generator
    torch.manual_seed(seed)


@pytest.fixture(scope="session", autouse=True)
def _speed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test measures this machine, and none depends on its speed: in the cache that all of them share, it is as fast as the
    reference, and what would measure it fails. Data sets stay where they are."""
    kept, cache = files.cache_folder(), tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setattr(this_machine, "COMMAND", ("false",))
        Machine.here(registry.protocol("mpcc").compute).write()
        for folder in kept.glob("dataset-*"):
            (cache / "mpcc" / folder.name).symlink_to(folder)
        yield


SYNTHETIC = {"MOST": 24, "MOST_JUDGING": 24, "MOST_INVERTED": 0}
"""How many inputs are made from a model in tests of other things: as many as tell that it works."""


@pytest.fixture(scope="session", autouse=True)
def few_synthetic_inputs() -> Iterator[None]:
    """Models without images are calibrated on few inputs; tests/calibration/test_synthetic.py has them all."""
    module = importlib.import_module("mpcc.calibration.synthetic.synthesise")
    with pytest.MonkeyPatch.context() as patch:
        for name, number in SYNTHETIC.items():
            patch.setattr(module, name, number)
        yield


UPDATE_GOLDEN = "--update-golden"
GOLDEN = Path(__file__).with_name("golden")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden`"""
    parser.addoption(UPDATE_GOLDEN, action="store_true", help="write the texts that `golden` compares with")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """golden(name, text): the text is that of tests/golden/NAME.txt, whose first line is the command that rewrites it."""

    def check(name: str, text: str) -> None:
        file = GOLDEN / f"{name}.txt"
        test = Path(request.path).relative_to(GOLDEN.parents[1]).as_posix()
        text = f"# pytest {test} {UPDATE_GOLDEN}\n{text}"
        if request.config.getoption(UPDATE_GOLDEN):
            file.write_text(text, encoding="utf-8")
        assert file.is_file(), f"no golden text: pytest {test} {UPDATE_GOLDEN}"
        assert text == file.read_text(encoding="utf-8")

    return check


@pytest.fixture(scope="session")
def timm() -> Iterator[Any]:
    """timm imports torchvision, whose binary part does not exist for this torch: its two operators are declared."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    pytest.importorskip("timm", exc_type=ImportError)
    yield importlib.import_module("timm")
    del library  # what it declares is gone with it
