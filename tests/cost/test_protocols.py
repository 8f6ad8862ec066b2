"""All protocols: one contract. Whole models: what was measured (each cost model says where its figures are from)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sympy
import torch
from torch import fx

from mpcc import registry
from mpcc.cost import LAN, WAN, Network, Price, Protocol, Work, estimate_graph
from mpcc.errors import MissingCost
from mpcc.frontend import capture
from mpcc.testing.protocols import check_protocol
from tests.models.vit_lite import vit_lite_7_4_32

PROTOCOLS = sorted(registry.protocols())
STOCK = registry.protocol("crypten-stock")


@pytest.fixture(scope="session")
def vit_lite() -> Callable[[str], fx.GraphModule]:
    """ViT-Lite 7/4/32 at the nn level, with the exact GELU or its tanh form."""
    graphs: dict[str, fx.GraphModule] = {}

    def captured(approximate: str) -> fx.GraphModule:
        if approximate not in graphs:
            model, inputs = vit_lite_7_4_32()
            for block in model.blocks:
                block.mlp.act = torch.nn.GELU(approximate=approximate)
            graphs[approximate] = capture(model, inputs)
        return graphs[approximate]

    return captured


# ------------------------------------------------------------------------------------------------ the contract


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_keeps_the_contract(name: str) -> None:
    check_protocol(registry.protocol(name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": ""}, "source is empty"),
        ({"parties": 4}, "4 parties"),
        ({"prices": {**STOCK.prices, "mul": lambda call: Price.of(1, -1)}}, "negative price"),
        ({"prices": {**STOCK.prices, "less": lambda call: Price.of(1, 1 if isinstance(call.out, int) else 2)}}, "by formula"),
    ],
)
def test_a_breach_of_the_contract_is_told(change: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_protocol(replace(STOCK, **change))


def test_the_engine_prices_no_softmax_before_an_approximation_is_chosen(vit_lite: Any) -> None:
    with pytest.raises(MissingCost, match="blocks.0.norm1.layer_norm"):
        estimate_graph(vit_lite("none"), registry.protocol("mpcc"), LAN)


# ------------------------------------------------------------------------------------------------ whole models


def test_stock_crypten_on_vit_lite(vit_lite: Any) -> None:
    """CrypTen's own counters say 1317 rounds and 440,785,792 B (both directions)."""
    estimate = estimate_graph(vit_lite("none"), registry.protocol("crypten-stock"), WAN)
    assert (estimate.rounds, estimate.bytes) == (1317, 440_785_792)
    assert {row.kind: (row.rounds, row.bytes) for row in estimate.grouped("kind") if row.bytes} == {
        "convolution": (1, 245_760),
        "layer_norm": (300, 12_416_640),
        "linear": (29, 68_083_712),
        "matmul": (14, 7_483_840),
        "softmax": (805, 169_915_200),
        "gelu": (168, 182_640_640),
    }
    assert estimate.seconds == pytest.approx(113, rel=0.01)


@pytest.mark.parametrize(
    ("name", "hops", "megabytes", "lan", "wan", "tolerance"),
    [("semi2k", 1781, 347.6, 6.75, 44.7, 0.0005), ("aby3", 2418, 438.5, 5.34, 55.5, 0.001),
     ("cheetah", 4115, 1783, 161, 256, 0.02)],
)  # fmt: skip
def test_spu_on_vit_lite(
    vit_lite: Any, name: str, hops: float, megabytes: float, lan: float, wan: float, tolerance: float
) -> None:
    """Measured on SPU 0.9.5 with the tanh form of GELU; Cheetah's bytes with its keys, of one inference, while its price is that
    of one of many."""
    on_lan, on_wan = (estimate_graph(vit_lite("tanh"), registry.protocol(name), link) for link in (LAN, WAN))
    assert (on_lan.bytes + on_lan.setup.bytes) / 1e6 == pytest.approx(megabytes, rel=tolerance)
    assert on_lan.rounds == pytest.approx(hops, rel=0.001)
    assert on_lan.seconds == pytest.approx(lan, rel=0.01)
    assert on_wan.seconds == pytest.approx(wan, rel=0.01)


# ---------------------------------------------------------------------- what differs between protocols is modelled


def price(name: str, primitive: str, *shapes: tuple[int, ...], **attrs: Any) -> Work:
    return registry.protocol(name).price(primitive, shapes, **attrs).online


def test_aby3_pays_a_product_by_its_output() -> None:
    assert price("aby3", "linear", (65, 256), (768, 256)).bytes == 52 * 65 * 768
    assert price("semi2k", "linear", (65, 256), (768, 256)).bytes == 2 * (8 * (65 * 256 + 256 * 768) + 4 * 65 * 768)


@pytest.mark.parametrize("name", ["semi2k", "aby3", "cheetah"])
def test_spu_runs_a_batch_one_product_after_the_other(name: str) -> None:
    one, heads = price(name, "matmul", (65, 64), (64, 65)), price(name, "matmul", (4, 65, 64), (4, 64, 65))
    assert (heads.rounds, heads.bytes) == (4 * one.rounds, 4 * one.bytes)


def test_cheetah_makes_products_in_batches() -> None:
    """Few from batches of 4096 triples; many at once, in whole ciphertexts of two workers: 16,385 cost as 32,768."""
    few, many = price("cheetah", "square", (4096,)), price("cheetah", "square", (32768,))
    assert few.bytes / 4096 == pytest.approx(314, rel=0.01) and many.bytes / 32768 == pytest.approx(221, rel=0.01)
    assert price("cheetah", "square", (16385,)).bytes == pytest.approx(many.bytes, rel=0.01)
    symbol = sympy.Symbol("n", integer=True, positive=True)
    formula = registry.protocol("cheetah").price("exp", [(symbol,)]).online.bytes
    for n in (100, 8192, 8193, 16640):
        assert float(formula.subs(symbol, n)) == pytest.approx(float(price("cheetah", "exp", (n,)).bytes))


def test_crypten_opens_a_batch_in_one_round() -> None:
    assert price("crypten-stock", "matmul", (4, 65, 64), (4, 64, 65)).rounds == 1


@pytest.mark.parametrize(("name", "by_row", "by_element"), [("semi2k", 200, 697), ("aby3", 686, 2004)])
def test_dividing_every_element_of_a_softmax_is_dearer(name: str, by_row: float, by_element: float) -> None:
    count = 4 * 65 * 65
    parties = 2 if name == "semi2k" else 1  # SEMI2K's figures are a party's
    row = price(name, "softmax", (4, 65, 65), dim=-1).bytes / count / parties
    element = price(name, "softmax", (4, 65, 65), dim=-1, division="element").bytes / count / parties
    assert row == pytest.approx(by_row, rel=0.01)
    assert element == pytest.approx(by_element, rel=0.015)


def test_cheetah_is_bound_by_the_processor_in_matmuls() -> None:
    work = price("cheetah", "linear", (65, 256), (768, 256))
    assert work.bytes == pytest.approx(5.84e6, rel=0.003)
    assert work.local_seconds == pytest.approx(8.8, rel=0.2)
    assert registry.protocol("cheetah").fixed.setup.bytes == pytest.approx(21.6e6, rel=0.01)


def test_the_engine_opens_each_value_once_and_weights_at_set_up() -> None:
    protocol = registry.protocol("mpcc")
    layer = protocol.price("linear", [(65, 256), (768, 256)], ["secret", "weights"])
    assert (layer.online.rounds, layer.online.bytes) == (1, 16 * 65 * 256)
    assert (layer.setup.rounds, layer.setup.bytes) == (1, 8 * 768 * 256)
    shared = protocol.price("linear", [(65, 256), (768, 256)], ["secret", "weights"], opened=(0,))
    assert (shared.online.rounds, shared.online.bytes) == (0, 0)
    less, select = (
        protocol.price("less", [(640,)]).online,
        protocol.price("select", [(640,), (640,)], opened=(1,)).online,
    )
    assert less.rounds + select.rounds == 3
    assert (less.bytes + select.bytes) / 640 == 17.75


def parts_of_a_softmax() -> fx.GraphModule:
    """Two halves of the heads, one squared, the other squared twice; then put together."""
    from mpcc.ir import mpc
    from mpcc.ir.trace import Recorder

    def halves(x: Any) -> Any:
        first = torch.ops.aten.slice.Tensor(x, 1, 0, 2)
        second = torch.ops.aten.slice.Tensor(x, 1, 2, 4)
        return torch.ops.aten.cat.default([mpc.square(first), mpc.square(mpc.square(second))], 1)

    graph = fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = torch.empty(1, 4, 5, 5, device="meta")
    graph.output(Recorder(graph, {"layer": "attn", "site": "attn.softmax"}).call(halves, x))
    return fx.GraphModule(torch.nn.Module(), graph)


@pytest.mark.parametrize(("name", "rounds"), [("mpcc", 2), ("crypten-stock", 3), ("semi2k", 3 * 2)])
def test_parallel_parts_share_rounds_only_where_the_protocol_runs_them_together(name: str, rounds: int) -> None:
    protocol = registry.protocol(name)
    estimate = estimate_graph(parts_of_a_softmax(), protocol, LAN)
    assert protocol.concurrent == (name == "mpcc") and protocol.executes
    assert estimate.rounds == rounds == sum(row.rounds for row in estimate.sites)
    assert estimate.bytes == sum(row.bytes for row in estimate.sites) > 0


def test_the_engine_opens_a_value_once_whatever_uses_it() -> None:
    """x, seen through a reshape, is squared, compared and multiplied: one opening, then one of its square."""
    from mpcc.ir import mpc
    from mpcc.ir.trace import Recorder

    def several(x: Any) -> Any:
        square, less = mpc.square(x), mpc.less(torch.ops.aten.reshape.default(x, [640]), 0.5)
        return mpc.add(mpc.mul(x, square), torch.ops.aten.reshape.default(less, [10, 64]))

    graph = fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = torch.empty(10, 64, device="meta")
    graph.output(Recorder(graph).call(several, x))
    found = estimate_graph(fx.GraphModule(torch.nn.Module(), graph), registry.protocol("mpcc"), LAN)
    assert found.rounds == 2 and found.bytes == 16 * 640 * 2 + 16 * 6 * 10
    stock = estimate_graph(fx.GraphModule(torch.nn.Module(), graph), registry.protocol("crypten-stock"), LAN)
    assert stock.rounds == 1 + 8 + 1


# ------------------------------------------------------------------------------------------------ formulas


def test_stock_softmax_as_a_formula_in_tokens_gives_the_numbers() -> None:
    tokens = sympy.Symbol("n", integer=True, positive=True)
    formula = registry.protocol("crypten-stock").price("softmax", [(4, tokens, tokens)], dim=-1).online
    for n in (17, 65, 197):
        exact = price("crypten-stock", "softmax", (4, n, n), dim=-1)
        assert formula.bytes.subs(tokens, n) == exact.bytes
        assert formula.rounds.subs(tokens, n) == exact.rounds


# ------------------------------------------------------------------------------------------------ seconds, reports


def test_latency_is_local_work_plus_rounds_plus_one_direction() -> None:
    protocol = Protocol(
        name="p", title="p", parties=2, adversary="a", correlations="c", source="s", prices={},
        compute=registry.protocol("aby3").compute, rtt_per_round=2.0,
    )  # fmt: skip
    link = Network("n", rtt_seconds=0.01, bandwidth=1e6, source="test")
    assert protocol.seconds(Work(rounds=10, bytes=4e6, local_seconds=1.0), link) == pytest.approx(1 + 10 * 0.02 + 2)
    assert protocol.seconds(Work(bytes=4e6), link, phase="setup") == pytest.approx(4)


def test_prices_add_up_and_share_messages() -> None:
    one, other = Price.of(3, 100), Price.of(5, 10)
    assert (one + other).online == Work(8, 110)
    assert one.beside(other).online == Work(5, 110)
    assert (one * 3).online == Work(9, 300)


def test_an_estimate_as_json_and_as_tables(vit_lite: Any) -> None:
    estimate = estimate_graph(vit_lite("none"), registry.protocol("crypten-stock"), "20ms,100MB/s")
    written = json.loads(estimate.to_json())
    assert written["online"] == {"rounds": 1317, "bytes": 440785792, "seconds": estimate.seconds}
    assert written["network"] == "20ms,100MB/s" and len(written["sites"]) == len(estimate.sites)
    assert sum(row.bytes for row in estimate.sites) == estimate.bytes
    assert "blocks.0.attn.softmax" in [row.site for row in estimate.sites]
    for by in ("site", "kind", "layer"):
        assert estimate.table(by).row_count == sum(row.seconds > 0 for row in estimate.grouped(by))
