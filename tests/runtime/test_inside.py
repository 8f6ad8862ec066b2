"""A program inside a user's CrypTen run: CrypTensor in, CrypTensor out; and outputs that stay shared."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mpcc.approximate import Plan
from mpcc.errors import UsageError
from mpcc.lowering.reshare import narrowed
from mpcc.program.check import check_masks
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.executable import Executable
from mpcc.runtime.net.connect import PeerConfig
from mpcc.runtime.session.standalone import PartyConfig, run_party
from tests.models.programs import NAMES, SHAPE, program

ROOT = Path(__file__).parents[2]


def parties(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    environment = os.environ | {
        "RENDEZVOUS": f"file://{folder}/rendezvous",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.runtime.inside_party", *arguments]
    started = [
        subprocess.Popen(command, env=environment | {"RANK": str(rank)}, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    return [json.loads(party.communicate(timeout=60)[0].splitlines()[-1]) for party in started]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [1.0, -3.7])
def test_a_narrowed_output_is_the_same_at_sixteen_bits(name: str, factor: float) -> None:
    made = program(name)
    made = replace(made, outputs=tuple((node, scale * factor) for node, scale in made.outputs))
    narrow = narrowed(made)
    check_masks(narrow)
    assert {scale for _, scale in narrow.outputs} == {2.0**16}
    x = torch.randn(SHAPE)
    wide, cut = Emulator(made)(x)[0], Emulator(narrow)(x)[0]
    assert (wide - cut).abs().max() <= 2**-16 + wide.abs().max() * 2**-19
    assert narrow.cost.rounds <= made.cost.rounds + 2


@pytest.mark.slow
@pytest.mark.parametrize("dealer", [False, True])
def test_a_cryptensor_goes_in_and_comes_out(tmp_path: Path, dealer: bool) -> None:
    made = program("mixed")
    narrow = narrowed(made)
    arguments = ["insecure"]
    thread = None
    if dealer:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        arguments = ["dealer", f"127.0.0.1:{port}"]
        addresses = {"server": ("127.0.0.1", 1), "client": ("127.0.0.1", 1), "dealer": ("127.0.0.1", port)}
        config = PartyConfig(PeerConfig("dealer", addresses))
        thread = threading.Thread(target=run_party, args=(narrow, "v1", config))
        thread.start()
    answers = parties(tmp_path, *arguments)
    if thread is not None:
        thread.join(10)
        assert not thread.is_alive()
    emulate = Emulator(made)
    for answer in answers:
        assert answer["class"] == "MPCTensor"
        online_bytes = 8 * sum(message.words(0) + message.words(1) for message in narrow.messages)
        assert (answer["rounds"], answer["bytes"]) == (len(narrow.messages), online_bytes)
        for number, got in enumerate(answer["answers"]):
            x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(number))
            assert (torch.tensor(got) - 2 * emulate(1.5 * x)[0]).abs().max() < 0.01


@pytest.mark.slow
def test_two_programs_are_refused(tmp_path: Path) -> None:
    for answer in parties(tmp_path, "other program"):
        assert answer["error"].startswith("SecurityError") and "program digest" in answer["error"]


@pytest.mark.slow
def test_an_executable_takes_and_gives_cryptensors(tmp_path: Path) -> None:
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    expected = Emulator(program("mixed"))(x)[0]
    for answer in parties(tmp_path, "executable"):
        assert answer["class"] == "MPCTensor" and (torch.tensor(answer["answer"]) - expected).abs().max() < 0.01


def test_an_executable_refuses_what_is_no_tensor() -> None:
    executable = Executable(program("local"), Plan({}))
    with pytest.raises(UsageError, match="inputs of type list"):
        executable.run([[1.0]])
