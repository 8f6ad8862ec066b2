"""Parties and dealers on a device: what they send and what they answer is the CPU's, bit for bit. The device here is the kernels'
source compiled for this CPU, on the same path as a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mpcc.errors import CheckFailed, MissingDependency, PartyError, SecurityError, UsageError
from mpcc.ir import limbs
from mpcc.ir.curve import key_words
from mpcc.ir.info import weight_of
from mpcc.ir.ring import bilinear
from mpcc.program.layout import Place
from mpcc.runtime.dealer.dealing import SessionSeeds
from mpcc.runtime.device import card, check, compiled
from mpcc.runtime.device.card import Card, device_of
from mpcc.runtime.device.device import CPU, Device
from mpcc.runtime.device.products import MOST_TERMS, Digits, Products, digits_of, fits
from mpcc.runtime.engine.emulate import Emulator
from mpcc.runtime.net.transport import Slot
from tests.models.programs import NAMES, SHAPE, Threads, program

SEEDS = SessionSeeds(b"s" * 32, b"c" * 32, b"o" * 32)
ROLES = ("server", "client", "dealer")


@pytest.fixture(scope="module")
def device() -> Card:
    """As `--device` gives it: built, loaded and checked."""
    made = device_of(compiled.HOST)
    assert isinstance(made, Card)
    return made


class Recorded(dict[str, bytes]):
    """All bytes that each end receives, by message."""

    def tap(self, end: str) -> object:
        def note(direction: str, slot: Slot, payload: memoryview) -> None:
            if direction == "received":
                self[f"{end} {slot}"] = bytes(payload)

        return note


def run(name: str, devices: dict[str, Device], insecure: bool = False) -> tuple[Recorded, list[Tensor]]:
    """What was received and answered in two inferences of a session of these seeds."""
    seen, generator = Recorded(), torch.Generator().manual_seed(5)
    ends = [f"{me}-{other}" for me in ROLES for other in ROLES]
    with Threads(program(name), devices=devices, seeds=SEEDS, insecure=insecure, taps={e: seen.tap(e) for e in ends}) as session:
        return seen, [session.run(torch.randn(SHAPE, generator=generator))[0] for _ in range(2)]


@pytest.mark.parametrize("name", NAMES)
def test_a_session_on_the_device_is_that_of_the_cpu(name: str, device: Card) -> None:
    expected, answers = run(name, {})
    found, own = run(name, dict.fromkeys(ROLES, device))
    assert len(expected) > 5 and found == expected
    assert all(map(torch.equal, own, answers))


@pytest.mark.parametrize("role", ROLES)
def test_any_role_may_be_on_a_device_by_itself(role: str, device: Card) -> None:
    expected, answers = run("mixed", {})
    found, own = run("mixed", {role: device})
    assert found == expected and all(map(torch.equal, own, answers))


def test_a_server_that_deals_does_so_on_its_device(device: Card) -> None:
    """Seeds are drawn anew there, so answers agree up to what truncations are off by."""
    _, answers = run("curve", {})
    _, own = run("curve", {"server": device}, insecure=True)
    assert all((one - other).abs().max() < 0.02 for one, other in zip(own, answers, strict=True))


def broken(device: Card, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let a kernel give one wrong bit."""
    right = getattr(device.kernels, name)

    def wrong(*arguments: object, **options: object) -> Tensor:
        made: Tensor = right(*arguments, **options)
        made.reshape(-1)[-1] ^= 1
        return made

    monkeypatch.setattr(device.kernels, name, wrong)


@pytest.mark.parametrize("name", ["draw", "make_tree", "curve", "read", "multiply", "join_digits"])
def test_a_wrong_bit_of_any_kernel_is_found_before_it_is_used(
    name: str, device: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    check.check(device)
    broken(device, monkeypatch, name)
    with pytest.raises(CheckFailed, match="1 of .* values are not those of the CPU"):
        check.check(device)


def ring(*shape: int, bits: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-(2**63), 2**63 - 1, shape, generator=generator) >> (64 - bits)


EXTREME = torch.tensor([[-(2**63), 2**63 - 1, -1, 0, 1, 128, -128, 127]])


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (ring(5, 7), ring(7, 3)), (ring(2, 3, 4, 5), ring(3, 5, 6)), (ring(4, 5), ring(2, 5, 6)), (ring(7), ring(7, 2)),
        (ring(3, 7), ring(7)), (ring(1, 1), ring(1, 1)), (ring(33, 70), ring(70, 130)), (EXTREME, EXTREME.T),
        (EXTREME.T, EXTREME), (ring(0, 3), ring(3, 2)), (ring(3, 0), ring(0, 2)), (ring(2, 600), ring(600, 40)),
    ],
    ids=lambda value: "x".join(map(str, value.shape)),
)  # fmt: skip
def test_every_way_to_multiply_is_exact(x: Tensor, y: Tensor, device: Card) -> None:
    expected = torch.matmul(x, y)
    products = Products(device.kernels, [y])
    assert torch.equal(products.matmul(x, y), expected)
    assert torch.equal(products.matmul(x, y), expected)  # by the way that was chosen
    if min(x.dim(), y.dim()) > 1 and x.numel() and y.numel():
        assert torch.equal(limbs.exact(x, y), expected)
    if y.dim() == 2:
        assert torch.equal(products.by_weight("matmul", x, y), expected)
        assert torch.equal(products.by_weight("matmul", x, y), expected)


@pytest.mark.parametrize(("low", "high", "digits"), [(-128, 127, 1), (-128, 128, 2), (-32896, 32639, 2), (0, 32640, 3)])
def test_a_weight_has_as_few_digits_as_hold_it(low: int, high: int, digits: int, device: Card) -> None:
    weight = torch.tensor([[low, high, 0], [high, low, 1]])
    made, x = Digits(device.kernels, weight), ring(5, 2)
    assert made.others == digits and torch.equal(made.product(x), torch.matmul(x, weight))


def test_a_sum_that_leaves_int32_takes_another_way(device: Card) -> None:
    weight = ring(MOST_TERMS // 8 + 1, 1)
    products = Products(device.kernels, [weight])
    assert fits(1000, digits_of(weight)) and not fits(len(weight), digits_of(weight))
    x = ring(2, len(weight))
    assert torch.equal(products.by_weight("matmul", x, weight), torch.matmul(x, weight))
    assert all("digits" not in ways for ways in products.seconds.values())


@pytest.mark.parametrize("way", ["words", "limbs", "digits"])
def test_the_way_that_is_chosen_is_taken_and_alone_kept(way: str, device: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = ring(20, 30), ring(3, 20)
    products = Products(device.kernels, [weight])
    times = iter([float(name != way) for name in ("words", "limbs", "digits")])
    monkeypatch.setattr(products, "_timed", lambda work: next(times))
    expected = torch.matmul(x, weight)
    for _ in range(2):
        assert torch.equal(products.by_weight("matmul", x, weight), expected)
    assert list(products.chosen.values()) == [way] and bool(products.digits) == (way == "digits")


@pytest.mark.parametrize("name", ["linear", "mixed"])
def test_what_is_kept_of_weights_does_not_grow_with_inferences(name: str, device: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each weight a party keeps at most itself and its opening."""
    made, right = [], Products.__init__

    def noted(self: Products, *arguments: object) -> None:
        right(self, *arguments)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Products, "__init__", noted)
    run(name, dict.fromkeys(("server", "client"), device))
    weights = sum(weight_of(node) is not None for node in program(name).online.graph.nodes)
    assert made and all(len(one.fixed) <= 2 * weights for one in made) and any(one.fixed for one in made)


def test_ways_that_disagree_are_not_used(device: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(device, monkeypatch, "multiply")
    with pytest.raises(PartyError, match="differ between two ways"):
        Products(device.kernels).matmul(ring(3, 4), ring(4, 5))


def test_a_launch_that_fails_says_so(device: Card) -> None:
    with pytest.raises(PartyError, match="evaluate_gates failed: no kernel for these sizes"):
        device.kernels._launch("evaluate_gates", 0, 0, 3, 3, 0, 8, 1, 1, *[None] * 8)


def test_a_device_that_fails_is_an_error_of_its_role(device: Card) -> None:
    with pytest.raises(PartyError, match="its memory is full"), device.computing():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")
    with pytest.raises(PartyError, match="it failed: CUDA error: unspecified launch failure$"), device.computing():
        raise card.FAILURES[0]("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")
    with pytest.raises(KeyError), device.computing():
        raise KeyError("a bug of mpcc")


# ---- nothing of the host among what is on a device ------------------------------------------------------------------------


class Nowhere:
    """Kernels of a device without memory: torch refuses to mix its tensors with the host's, as it does those of a GPU."""

    device = torch.device("meta")

    def draw(self, key: bytes, count: int) -> Tensor:
        return torch.empty(count, dtype=torch.int64, device=self.device)

    def curve(self, c: Tensor, roots: Tensor, key: Tensor, *rest: object, lead: bool) -> Tensor:
        assert {c.device, roots.device, key.device} == {self.device}
        return torch.empty_like(c)

    def make_tree(self, roots: Tensor, keys: Tensor, point: Tensor, payload: Tensor, depth: int) -> Tensor:
        assert {roots.device, keys.device, point.device, payload.device} == {self.device}
        return self.draw(b"", key_words(point.numel(), depth, len(payload)))

    def write(self, message: Tensor, place: Place, share: Tensor) -> None:
        assert message.device == share.device == self.device

    def read(self, message: Tensor, place: Place) -> Tensor:
        assert message.device == self.device
        return self.draw(b"", place.planes[0].count)


class Without(Card):
    """A card of such kernels; what comes and goes is of the host."""

    def __init__(self) -> None:
        self.name, self.place, self.pinned = "nowhere", Nowhere.device, False
        self.kernels = Nowhere()  # type: ignore[assignment]

    def on_it(self, value: Tensor) -> Tensor:
        return value.to(self.place)

    def on_host(self, value: Tensor) -> Tensor:
        assert value.device == self.place
        return torch.zeros(value.shape, dtype=value.dtype)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_host_is_mixed_with_what_is_on_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Products, "_count", lambda *_: 1)
    monkeypatch.setattr(Products, "_chosen", lambda self, x, y, known=None: torch.matmul(x, y))
    _, (answer, _) = run(name, dict.fromkeys(ROLES, Without()))
    assert answer.shape[0] == SHAPE[0]
    with pytest.raises(RuntimeError, match="not on the expected device"):  # what would have been said
        torch.empty(3, device="meta") + torch.zeros(3)


@pytest.mark.parametrize("name", NAMES)
def test_emulation_mixes_nothing_either(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limbs.Fixed, "product", lambda self, kind, x: bilinear(kind, x, self.weight))
    made = Emulator(program(name), "meta")
    outputs, _ = made._one_call([torch.empty(SHAPE, device="meta")], ())
    batched = torch.func.vmap(lambda x: made._one_call([x], ())[0])(torch.empty(3, *SHAPE, device="meta"))
    assert [value.device.type for value in (*outputs, *batched)] == ["meta"] * 2 * len(outputs)


# ---- names, and what is not there ----------------------------------------------------------------------------------------


def test_without_a_name_it_is_the_cpu() -> None:
    assert device_of(None) is CPU and device_of("cpu") is CPU


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:x", "mps", "", "cuda:-1"])
def test_a_name_of_no_device_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is no device"):
        device_of(name)


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch knows GPUs")
def test_a_torch_without_cuda_says_what_to_install() -> None:
    with pytest.raises(MissingDependency, match="built without CUDA"):
        device_of("cuda")


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card.torch.version, "cuda", "13.0")
    monkeypatch.setattr(card.torch.cuda, "device_count", lambda: 1)
    assert card.named("cuda") == torch.device("cuda", 0)
    with pytest.raises(UsageError, match="there are 1 GPUs"):
        card.named("cuda:1")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled.load.cache_clear()
    yield tmp_path / "mpcc"
    compiled.load.cache_clear()


def test_without_nvcc_it_says_what_to_do(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "nvcc", lambda: None)
    with pytest.raises(MissingDependency, match="mpcc gpu --build"):
        compiled.build("sm_90")


@pytest.mark.parametrize("name", ["sm_9", "sm_35", "../x", "sm_90; x", "90"])
def test_what_is_no_architecture_is_refused(name: str, elsewhere: Path) -> None:
    with pytest.raises(UsageError, match="not an architecture"):
        compiled.build(name)


def test_a_compiler_that_fails_leaves_nothing(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(MissingDependency, match="could not compile"):
        compiled.build(compiled.HOST)
    assert list(elsewhere.iterdir()) == []


def test_a_cache_that_cannot_be_written_says_so(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere.write_text("a file in the folder's place")
    with pytest.raises(MissingDependency, match="cannot be kept"):
        compiled.build(compiled.HOST)


def test_a_built_file_that_others_could_write_is_not_loaded(elsewhere: Path) -> None:
    place = compiled.place(compiled.HOST)
    elsewhere.mkdir()
    place.write_bytes(b"no library")
    place.chmod(0o666)
    with pytest.raises(SecurityError, match="others can write this file"):
        compiled.load(compiled.HOST)
    place.chmod(0o600)
    with pytest.raises(MissingDependency, match="cannot be loaded"):
        compiled.load(compiled.HOST)


@pytest.mark.slow
@pytest.mark.skipif(compiled.nvcc() is None, reason="nvcc is not installed")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_nvcc_compiles_the_kernels(architecture: str, elsewhere: Path) -> None:
    assert compiled.build(architecture).stat().st_size > 100_000
