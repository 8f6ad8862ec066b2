"""What capture() takes, what it keeps (names, layers, sites), and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import fx, nn

from mpcc.errors import CaptureError, InvalidGraph, ModelFileError, ShapeError, UnsupportedOperator, UsageError
from mpcc.frontend import capture
from mpcc.ir.nn import OPERATORS, sites, verify
from tests.models.torch_models import DigitsViT, images


@pytest.fixture(scope="module")
def model() -> DigitsViT:
    torch.manual_seed(0)
    return DigitsViT().eval()


def assert_equal(graph: nn.Module, model: nn.Module, *inputs: torch.Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(graph(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)


def test_module(model: DigitsViT) -> None:
    x = images(2)
    graph = capture(model, x)
    assert_equal(graph, model, x)
    assert dict(graph.named_parameters()).keys() == dict(model.named_parameters()).keys()
    assert not {id(p) for p in graph.parameters()} & {id(p) for p in model.parameters()}
    assert not graph.training


def test_sites_carry_the_layers_names(model: DigitsViT) -> None:
    assert list(sites(capture(model, images()))) == [
        "blocks.0.norm1.layer_norm",
        "blocks.0.softmax",
        "blocks.0.norm2.layer_norm",
        "blocks.0.mlp.1.gelu",
        "blocks.1.norm1.layer_norm",
        "blocks.1.softmax",
        "blocks.1.norm2.layer_norm",
        "blocks.1.mlp.1.gelu",
        "norm.layer_norm",
    ]


def test_later_sites_of_a_layer_are_counted() -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.gelu(nn.functional.gelu(x) + x.softmax(-1))

    graph = capture(nn.Sequential(nn.Linear(4, 4), Twice()), torch.randn(1, 4))
    assert list(sites(graph)) == ["1.gelu", "1.softmax", "1.gelu#2"]


def test_symbolic_trace(model: DigitsViT) -> None:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.fc, self.drop = nn.LayerNorm(8), nn.Linear(8, 8), nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.drop(self.fc(self.norm(x)).softmax(-1))

    traced = fx.symbolic_trace(Mixer())
    x = torch.randn(2, 3, 8)
    with pytest.raises(CaptureError, match=r"input x .*\n.*capture\(model, torch.randn"):
        capture(traced)
    assert_equal(capture(traced, input_shapes={"x": (2, 3, 8)}), traced.eval(), x)
    (placeholder,) = (node for node in traced.graph.nodes if node.op == "placeholder")
    placeholder.meta["val"] = torch.empty(2, 3, 8, device="meta")
    assert list(sites(capture(traced))) == ["norm.layer_norm", "softmax"]


def test_exported_program_and_file(model: DigitsViT, tmp_path: Path) -> None:
    x = images()
    program = torch.export.export(model, (x,))
    assert_equal(capture(program), model, x)
    assert_equal(capture(program.module()), model, x)
    torch.export.save(program, tmp_path / "model.pt2")
    graph = capture(tmp_path / "model.pt2")
    assert_equal(graph, model, x)
    assert len(sites(graph)) == 9


def test_dynamic_program_needs_shapes(model: DigitsViT) -> None:
    program = torch.export.export(model, (images(2),), dynamic_shapes=({0: torch.export.Dim("n")},))
    with pytest.raises(ShapeError, match="dynamic"):
        capture(program)
    assert_equal(capture(program, input_shapes=(3, 1, 8, 8)), model, images(3))


def test_captured_graph_is_captured_again_as_a_copy(model: DigitsViT) -> None:
    graph = capture(model, images())
    again = capture(graph)
    assert again is not graph and list(sites(again)) == list(sites(graph))
    assert_equal(again, model, images())


def test_training_mode_is_captured_in_evaluation_mode() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.9)).train()
    before = model[1].num_batches_tracked.clone()
    x = torch.randn(1, 3, 4, 4)
    graph = capture(model, x)
    assert model.training and model[1].num_batches_tracked == before
    assert_equal(graph, model.eval(), x)
    assert [node.target for node in graph.graph.nodes if node.op == "call_function"] == [
        torch.ops.aten.convolution.default
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(dtype: torch.dtype) -> None:
    model = DigitsViT().eval().to(dtype)
    graph = capture(model, images().to(dtype))
    assert {p.dtype for p in graph.parameters()} == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert_equal(graph, model.float(), images())


def test_nan_weights_are_named(model: DigitsViT) -> None:
    broken = DigitsViT()
    with torch.no_grad():
        broken.blocks[1].proj.weight[0, 0] = float("nan")  # type: ignore[union-attr,index,operator]
    with pytest.raises(CaptureError, match=r"blocks\.1\.proj\.weight.*NaN"):
        capture(broken, images())


def test_several_outputs_are_flat() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, object]:
            return {"a": x + 1, "rest": (x * 2, None)}

    x = torch.randn(3)
    made = capture(Two(), x)(x)
    assert isinstance(made, tuple) and torch.equal(made[0], x + 1) and torch.equal(made[1], x * 2)


def test_data_dependent_control_flow_names_the_line() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.sum() > 0:
                return x
            return -x

    with pytest.raises(CaptureError, match=r"test_capture\.py:\d+: if x\.sum\(\) > 0"):
        capture(Branch(), torch.randn(3))


def test_unsupported_operators_are_listed_together() -> None:
    class Strange(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.fmod(2) * x.floor() + nn.functional.embedding(x.long(), torch.randn(5000, 3))

    with pytest.raises(UnsupportedOperator) as caught:
        capture(Strange(), torch.randn(3))
    for name in ("fmod", "floor", "embedding"):
        assert name in str(caught.value)


def test_missing_inputs_show_the_call() -> None:
    with pytest.raises(CaptureError, match=r"input x of DigitsViT is not known\n.*input_shapes=\{'x'"):
        capture(DigitsViT())


def test_inputs_that_do_not_fit(model: DigitsViT) -> None:
    with pytest.raises((ShapeError, CaptureError), match="DigitsViT"):
        capture(model, torch.randn(1, 1, 9, 20))
    with pytest.raises(ShapeError, match="not a shape"):
        capture(model, input_shapes=(1, 1, 0, 8))


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        capture(tmp_path / "gone.pt2")
    (tmp_path / "broken.pt2").write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match="cannot read"):
        capture(tmp_path / "broken.pt2")
    with pytest.raises(ModelFileError, match="not a kind of model file"):
        capture(tmp_path / "model.pth")
    with pytest.raises(UsageError, match="is not a model"):
        capture(3)


def test_gradients_and_weights_load_back(model: DigitsViT) -> None:
    graph = capture(model, images())
    graph.load_state_dict(model.state_dict(), strict=True)
    graph(images()).sum().backward()
    assert all(p.grad is not None for p in graph.parameters())


def test_verify_names_the_broken_rule(model: DigitsViT) -> None:
    graph = capture(model, images())
    (node,) = graph.graph.find_nodes(op="call_function", target=torch.ops.aten.convolution.default)
    for change, complaint in (
        (lambda: node.meta.pop("layer"), "layer"),
        (lambda: node.meta.update(layer="patch", val=None), "not a tensor"),
        (lambda: setattr(node, "target", torch.ops.aten.conv2d.default), "not an operator"),
    ):
        change()
        with pytest.raises(InvalidGraph, match=complaint):
            verify(graph)


def test_every_operator_has_a_kind_and_a_name() -> None:
    assert {operator.kind for operator in OPERATORS.values()} == {"product", "site", "arithmetic", "view"}
    assert all(operator.name.isidentifier() for operator in OPERATORS.values())


def test_what_is_no_tensor_is_left_out_of_the_outputs() -> None:
    class Cache:
        pass

    class Caching(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, Cache]:
            return x + 1, Cache()

    x = torch.randn(3)
    assert torch.equal(capture(Caching(), x)(x), x + 1)


def test_random_numbers_are_drawn_once_with_a_warning() -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x) + torch.randn(3)

    with pytest.warns(UserWarning, match="what it drew now is kept"):
        graph = capture(Noisy(), torch.randn(3))
    assert torch.equal(graph(torch.ones(3)), graph(torch.ones(3)))


def test_sizes_that_depend_on_values_are_refused() -> None:
    class Resized(nn.Module):
        def forward(self, x: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
            return nn.functional.interpolate(x, (int(size[0]), 4))

    with pytest.raises(CaptureError, match="the values of an input"):
        capture(Resized(), (torch.randn(1, 1, 4, 4), torch.tensor([3])))


def test_nested_tensors_are_refused_with_their_line() -> None:
    class Ragged(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            lengths = torch.tensor([2, 3])
            nested = torch.nested.nested_tensor(list(x.split(lengths.tolist())), layout=torch.jagged)
            return torch.nested.to_padded_tensor(nested, 0.0)

    with pytest.raises(CaptureError, match=r"test_capture.py:\d+: .*nested tensors have no static shape"):
        capture(Ragged(), torch.randn(5, 4))
