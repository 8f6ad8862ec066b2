"""Ranges of graphs with large values are recorded call by call: the same ranges, and little memory."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from mpcc.calibration import ranges
from mpcc.ir import mpc
from mpcc.ir.trace import Recorder


def graph() -> fx.GraphModule:
    """A softmax site between two others, with views."""
    made = fx.Graph()
    x = made.placeholder("x")
    x.meta["val"] = torch.empty((1, 4, 8), device="meta")
    inner = Recorder(made, {"site": "a.softmax", "layer": "a"})
    (e,) = (inner.call(lambda v: mpc.square(mpc.sub(v, mpc.mean(v, (2,), keepdim=True))), x),)
    turned = Recorder(made, {"layer": "b"}).call(lambda v: torch.ops.aten.permute.default(mpc.scale(v, 3.0), (0, 2, 1)), e)
    made.output(turned)
    return fx.GraphModule(nn.Module(), made)


def test_call_by_call_is_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(7, 4, 8)
    together, apart = graph(), graph()
    ranges.record_ranges(together, inputs)
    monkeypatch.setattr(ranges, "LARGE", 1)
    ranges.record_ranges(apart, inputs)
    for one, other in zip(together.graph.nodes, apart.graph.nodes, strict=True):
        if "range" in one.meta:
            for field in ("low", "high", "rms"):
                assert getattr(one.meta["range"], field) == pytest.approx(getattr(other.meta["range"], field), rel=1e-6)
    seen = ranges.observe(apart, inputs, lambda node, args, kwargs, value: value)
    monkeypatch.undo()
    expected = ranges.observe(together, inputs, lambda node, args, kwargs, value: value)
    assert seen.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(seen[name], value)
