"""The engine SPU: parties in processes of their own, the same function, the predicted bytes, clear words where it cannot run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mpcc
from mpcc import registry
from mpcc.errors import BundleError, MissingDependency, MpccError, PartyError, SecurityError, UsageError
from mpcc.ir.circuit import Circuit, Given, Opened, Ref, Step
from mpcc.runtime.net.authority import make
from mpcc.runtime.net.connect import free_ports
from mpcc.runtime.net.identity import Identity
from mpcc.runtime.spu import engine
from mpcc.runtime.spu.engine import Place, interpreter, parties_of, run_party
from mpcc.runtime.spu.job import ROLES, Answer
from mpcc.runtime.spu.running import predicted

CIRCUIT = Circuit(
    "aby3", 18, (Given("x", (2, 3)),), (Given("w", (4, 3)),), (Step("mpc.linear", (Ref(0), Ref(1), None)),), (Opened(2, 1.0),)
)
WEIGHTS, X = {"w": torch.arange(12.0).reshape(4, 3) / 8}, torch.tensor([[1.0, -2.0, 0.5], [0.25, 0.0, 3.0]])
installed = pytest.mark.spu


class Small(nn.Module):
    """Attention over four tokens, a norm, a GELU: every kind of choice. [1, 4, 6] -> [1, 3]"""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.query, self.head = nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        mixed = (self.query(y) @ y.transpose(-1, -2) / 2).softmax(-1) @ y
        return self.head(nn.functional.gelu(mixed).mean(1))


class Bundles:
    """A bundle of the small model for each protocol that a test asks for."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __getitem__(self, protocol: str) -> Path:
        found, images = self.place / protocol, torch.randn(80, 4, 6, generator=torch.Generator().manual_seed(0))
        if not found.exists():
            made = mpcc.optimize(Small().eval(), (images[:1],), calibration=images, protocol=protocol, machine="reference")
            made.save(found)
        return found


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(tmp_path_factory.mktemp("spu"))


@pytest.fixture
def spu() -> Iterator[None]:
    pytest.importorskip("spu", reason="install it with: make test-spu")
    yield


@installed
@pytest.mark.parametrize(("protocol", "off"), [("semi2k", 0.0), ("aby3", 0.01)])
def test_the_plan_is_the_same_function_at_the_predicted_bytes(
    bundles: Bundles, spu: None, protocol: str, off: float
) -> None:
    executable = mpcc.load(bundles[protocol])
    x = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(9))
    run = executable.run(x, engine="spu")
    with torch.no_grad():
        expected = Small().eval()(x)
    assert executable.circuit is not None and (run.output - expected).abs().max() < 0.01
    price = predicted(executable.circuit.circuit)
    assert run.bytes == pytest.approx(float(price.bytes), rel=off)
    assert run.rounds == pytest.approx(float(price.messages) / parties_of(protocol), rel=off, abs=0.5)


@installed
@pytest.mark.slow
def test_cheetah(bundles: Bundles, spu: None) -> None:
    x = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(9))
    run = mpcc.load(bundles["cheetah"]).run(x, engine="spu")
    with torch.no_grad():
        assert (run.output - Small().eval()(x)).abs().max() < 0.01


def parties(places: list[Place], circuits: list[Circuit], calls: list[int]) -> list[Any]:
    """What each party's own machine would see: its run, or its error."""
    found: list[Any] = [None] * len(places)

    def party(rank: int) -> None:
        own = [(X,)] * calls[rank] if places[rank].role == "client" else []
        try:
            found[rank] = run_party(circuits[rank], WEIGHTS if rank == 0 else None, own, places[rank], calls[rank])
        except MpccError as error:
            found[rank] = error

    threads = [threading.Thread(target=party, args=(rank,)) for rank in range(len(places))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def addresses(count: int) -> list[tuple[str, int]]:
    return [("127.0.0.1", port) for port in free_ports(count)]


@installed
def test_three_machines_with_tls_open_the_output_to_the_client_alone(spu: None, tmp_path: Path) -> None:
    keys = make(tmp_path / "keys", 30)
    where = addresses(3)
    places = [Place(role, where, Identity.of(keys[role], role)) for role in ROLES]
    server, client, helper = parties(places, [CIRCUIT] * 3, [2, 2, 2])
    assert not isinstance(server, MpccError) and not isinstance(client, MpccError), (server, client)
    torch.testing.assert_close(client[1].outputs[0], X @ WEIGHTS["w"].T, atol=1e-3, rtol=0)
    assert server[0].outputs == helper[0].outputs == ()


@installed
def test_parties_of_different_circuits_refuse(spu: None) -> None:
    where = addresses(3)
    other = replace(CIRCUIT, fraction_bits=17)
    found = parties([Place(role, where) for role in ROLES], [CIRCUIT, CIRCUIT, other], [1, 1, 1])
    assert all(isinstance(one, PartyError) for one in found) and any("another circuit" in str(one) for one in found)


def waiting_interpreter(place: Path, before: str = "") -> Path:
    """Stands for an interpreter whose party meets all others, and then waits for what never comes."""
    found = place / "python"
    found.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 0\n{before}\ntouch "$3/met"\nexec sleep 1000\n')
    found.chmod(0o755)
    return found


def test_nobody_waits_for_a_party_that_is_gone(tmp_path: Path) -> None:
    """Where the other party listened nobody does: it was killed, or its machine was."""
    two, place = replace(CIRCUIT, protocol="cheetah"), Place("client", addresses(2))
    with pytest.raises(PartyError, match="server has left before the end"):
        run_party(two, None, [(X,)], place, 1, waiting_interpreter(tmp_path))


def test_an_answer_counts_though_the_others_left_first(tmp_path: Path) -> None:
    """All have answered before any leaves; a party that lost its link on the way out has nothing more to wait for."""
    answered = f"echo '{Answer(()).to_json().strip()}' > \"$3/answer.json\""
    place = Place("server", addresses(2))
    assert run_party(replace(CIRCUIT, protocol="cheetah"), WEIGHTS, [], place, 0, waiting_interpreter(tmp_path, answered)) == []


def test_without_spu_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    with pytest.raises(MissingDependency, match=r'pip install "mpcc\[spu\]"'):
        interpreter()


def test_an_interpreter_that_is_none_or_lacks_spu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Python interpreter"):
        interpreter(tmp_path / "python")
    lacking = tmp_path / "lacking"
    lacking.write_text("#!/bin/sh\necho no module named spu >&2\nexit 1\n")
    lacking.chmod(0o755)
    with pytest.raises(MissingDependency, match="no module named spu"):
        interpreter(lacking)


def test_a_bundle_of_mpccs_own_protocol_is_refused(bundles: Bundles) -> None:
    executable = mpcc.load(bundles["mpcc"])
    assert executable.circuit is None
    with pytest.raises(UsageError, match="not made for a protocol that SPU runs"):
        executable.run(torch.zeros(1, 4, 6), engine="spu")
    with pytest.raises(UsageError, match="unknown engine"):
        executable.run(torch.zeros(1, 4, 6), engine="crypten")


def test_a_bundle_for_spu_gives_the_client_no_weights(bundles: Bundles) -> None:
    public = bundles["aby3"] / "public"
    assert sorted(path.name for path in public.iterdir()) == ["circuit.json", "manifest.json", "plan.json", "program.json"]
    text = (public / "circuit.json").read_text()
    executable = mpcc.load(bundles["aby3"])
    assert executable.circuit is not None and executable.circuit.weights
    largest = max(executable.circuit.weights.values(), key=torch.numel)
    assert not any(f"{float(value):.6g}" in text for value in largest.flatten()[:8])


@pytest.mark.parametrize("protocol", ["mpcc", "aby3", "semi2k"])
def test_the_report_says_who_is_trusted_under_its_protocol(bundles: Bundles, protocol: str) -> None:
    page = " ".join((bundles[protocol] / "report.html").read_text(encoding="utf-8").split())
    known = registry.protocol(protocol)
    assert (known.title in page, f"{known.collusion}." in page) == ((protocol != "mpcc",) * 2)
    assert ("no two of them collude" in page, "Rounds in the order of time" in page) == ((protocol == "mpcc",) * 2)


def test_a_changed_circuit_is_noticed(bundles: Bundles, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundles["aby3"], copy)
    path = copy / "circuit.json"
    path.write_text(path.read_text().replace('"fraction_bits": ', '"fraction_bits":  '))
    with pytest.raises(BundleError, match="circuit.json was changed"):
        mpcc.load(copy)


@pytest.mark.parametrize(
    ("place", "error"),
    [
        (Place("client", [("far.example", 1), ("127.0.0.1", 2), ("127.0.0.1", 3)]), SecurityError),
        (Place("client", [("127.0.0.1", 1), ("127.0.0.1", 2)]), UsageError),
    ],
)
def test_places_that_cannot_be(place: Place, error: type[MpccError]) -> None:
    with pytest.raises(error):
        run_party(CIRCUIT, None, [(X,)], place, 1)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"counts": [{}], "error": null}'])
def test_damaged_answers_are_refused(text: str) -> None:
    with pytest.raises(PartyError, match="damaged"):
        Answer.from_json(text)
