"""Whole Vision Transformers: files of both torch exporters at several opsets, also behind optimisers."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import mpcc.frontend
from mpcc.frontend.onnx import capture_onnx
from mpcc.ir.nn import is_site, sites
from tests.models.onnx_build import compare, run, run_onnxruntime

EXPORTS = [(False, 13), (False, 17), (False, 20), (True, 18), (True, 20), (True, 23)]


class Attention(nn.Module):
    """Packed queries, keys and values, a softmax with a name of its own."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, dim = x.shape
        packed = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = packed.unbind(0)
        scores = (query @ key.transpose(-2, -1)) * (dim // self.heads) ** -0.5
        mixed = scores.softmax(dim=-1) @ value
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """8 x 8 images, patches of 4 x 4, a class token, a batch norm behind the patches."""

    def __init__(self, dim: int = 16, depth: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 4, 4)
        self.bn = nn.BatchNorm2d(dim)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos = nn.Parameter(torch.zeros(1, 5, dim))
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn(self.patch(x)).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        return self.head(self.norm(self.blocks(x))[:, 0])


SITES = [
    *(
        f"blocks.{block}.{name}"
        for block in (0, 1)
        for name in ("norm1.layer_norm", "attn.softmax", "norm2.layer_norm", "mlp.1.gelu")
    ),
    "norm.layer_norm",
]
PARAMETERS = {
    *(
        f"blocks.{block}.{layer}.{role}"
        for block in (0, 1)
        for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.0", "mlp.2")
        for role in ("weight", "bias")
    ),
    *(f"{layer}.{role}" for layer in ("patch", "norm", "head") for role in ("weight", "bias")),
    "cls",
    "pos",
}


@pytest.fixture(scope="module")
def vit() -> ViT:
    """Weights all different, as trained ones are: exporters merge equal ones."""
    torch.manual_seed(0)
    model = ViT()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.bn.running_mean.normal_()
        model.bn.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def export(model: nn.Module, folder: Path, dynamo: bool, opset: int, name: str = "vit", **options: object) -> Path:
    path = folder / f"{name}-{dynamo}-{opset}.onnx"
    if not path.exists():
        with quiet(), torch.no_grad():
            torch.onnx.export(
                model, (torch.randn(1, 3, 8, 8),), str(path), dynamo=dynamo, opset_version=opset, **options
            )
    return path


def image(seed: int = 0, batch: int = 1) -> list[np.ndarray]:
    return [np.random.default_rng(seed).standard_normal((batch, 3, 8, 8)).astype(np.float32)]


def check(path: Path, arrays: list[np.ndarray] | None = None, **options: object) -> torch.fx.GraphModule:
    arrays = image() if arrays is None else arrays
    graph = capture_onnx(path, **options)
    compare(run(graph, arrays), run_onnxruntime(str(path), arrays), 1e-5)
    return graph


@pytest.mark.parametrize(("dynamo", "opset"), EXPORTS)
def test_every_exporter_and_opset(vit: ViT, folder: Path, dynamo: bool, opset: int) -> None:
    """Equal to onnxruntime, every site under its layer's name, every parameter under the checkpoint's."""
    graph = check(export(vit, folder, dynamo, opset))
    assert list(sites(graph)) == SITES
    names = {name for name, _ in graph.named_parameters()}
    assert names - PARAMETERS <= {"constant"}  # the newer exporter folds cls.expand, and its name is lost
    assert PARAMETERS - names <= {"cls"}


def anonymous(proto: onnx.ModelProto) -> onnx.ModelProto:
    """As files of torch before 1.13 look: nodes and values are numbered, weights of products too."""
    last = {info.name for info in proto.graph.output}
    numbers: dict[str, str] = {}
    for place, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{place}"
        del node.metadata_props[:]
        for name in set(node.output) - last:
            numbers[name] = str(1000 + len(numbers))
    for tensor in proto.graph.initializer:
        if tensor.name.startswith(("onnx::", "val_")):
            numbers[tensor.name] = str(1000 + len(numbers))
        tensor.name = numbers.get(tensor.name, tensor.name)
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [numbers.get(name, name) for name in names]
    return proto


@pytest.mark.parametrize(("dynamo", "opset"), [(False, 13), (False, 17), (True, 20)])
def test_a_file_without_names(vit: ViT, folder: Path, dynamo: bool, opset: int) -> None:
    """Names come back from the biases and norm weights alone; only a GELU's own module cannot."""
    proto = anonymous(onnx.load(export(vit, folder, dynamo, opset)))
    graph = capture_onnx(proto)
    compare(run(graph, image()), run_onnxruntime(proto, image()), 1e-5)
    assert list(sites(graph)) == [name.replace("mlp.1.gelu", "mlp.gelu") for name in SITES]
    assert PARAMETERS - {name for name, _ in graph.named_parameters()} <= {"cls", "patch.weight", "patch.bias"}


def test_parameters_are_those_of_the_model(vit: ViT, folder: Path) -> None:
    graph = check(export(vit, folder, False, 17))
    ours, theirs = dict(graph.named_parameters()), dict(vit.named_parameters())
    for name in PARAMETERS - {"patch.weight", "patch.bias"}:  # the batch norm is folded into these
        assert torch.equal(ours[name], theirs[name]), name


def test_the_torch_front_end_finds_the_same_sites(vit: ViT) -> None:
    assert list(sites(mpcc.frontend.capture(vit, torch.randn(1, 3, 8, 8)))) == SITES


def test_the_captured_graph_trains(vit: ViT, folder: Path) -> None:
    graph = check(export(vit, folder, False, 17))
    graph(torch.randn(1, 3, 8, 8)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in graph.parameters())


def test_the_public_door(vit: ViT, folder: Path) -> None:
    path = export(vit, folder, False, 17)
    for source in (path, str(path), onnx.load(path)):
        compare(run(mpcc.frontend.capture(source), image()), run_onnxruntime(str(path), image()), 1e-5)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dynamo", [False, True])
def test_a_dynamic_batch(vit: ViT, folder: Path, dynamo: bool, batch: int) -> None:
    """The clutter of dynamic shapes vanishes; without a shape the batch is 1."""
    options = (
        {"dynamic_shapes": {"x": {0: torch.export.Dim("b", min=1, max=64)}}}
        if dynamo
        else {"dynamic_axes": {"x": {0: "b"}}}
    )
    path = export(vit, folder, dynamo, 18, name="dynamic", input_names=["x"], **options)  # fmt: skip
    shapes = {} if batch == 1 else {"input_shapes": {"x": (batch, 3, 8, 8)}}
    graph = check(path, image(batch=batch), **shapes)
    assert list(sites(graph)) == SITES


@pytest.mark.parametrize(("dynamo", "opset"), [(False, 13), (False, 17), (True, 20)])
def test_behind_onnxruntimes_optimiser(vit: ViT, folder: Path, dynamo: bool, opset: int) -> None:
    """Fused contrib operators; the sites are found under the same layers."""
    source = export(vit, folder, dynamo, opset)
    path = source.with_suffix(".extended.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    graph = check(path)
    kinds = [name.rpartition(".")[2] for name in sites(graph)]
    assert kinds == [name.rpartition(".")[2] for name in SITES]


def test_behind_the_transformers_optimiser(vit: ViT, folder: Path) -> None:
    optimizer = pytest.importorskip("onnxruntime.transformers.optimizer")
    source = export(vit, folder, False, 17)
    path = source.with_suffix(".transformers.onnx")
    with quiet():
        better = optimizer.optimize_model(str(source), model_type="vit", num_heads=2, hidden_size=16, opt_level=0)
        better.save_model_to_file(str(path))
    assert sum(is_site(node) for node in check(path).graph.nodes) == len(SITES)


@pytest.mark.parametrize("dynamo", [False, True])
def test_behind_onnxslim(vit: ViT, folder: Path, dynamo: bool) -> None:
    onnxslim = pytest.importorskip("onnxslim")
    source = export(vit, folder, dynamo, 18)
    path = source.with_suffix(".slim.onnx")
    with quiet():
        onnx.save(onnxslim.slim(onnx.load(source)), path)
    assert sum(is_site(node) for node in check(path).graph.nodes) == len(SITES)


def test_behind_onnxsim(vit: ViT, folder: Path) -> None:
    onnxsim = pytest.importorskip("onnxsim")
    source = export(vit, folder, False, 17)
    path = source.with_suffix(".sim.onnx")
    with quiet():
        onnx.save(onnxsim.simplify(onnx.load(source))[0], path)
    assert sum(is_site(node) for node in check(path).graph.nodes) == len(SITES)


def test_weights_beside_the_file(vit: ViT, folder: Path) -> None:
    path = folder / "external" / "vit.onnx"
    path.parent.mkdir()
    onnx.save(onnx.load(export(vit, folder, False, 17)), path, save_as_external_data=True, size_threshold=64)
    assert len(os.listdir(path.parent)) > 1
    assert list(sites(check(path))) == SITES


def test_half_precision(vit: ViT, folder: Path) -> None:
    """float16 weights become float32: the answer is near onnxruntime's on the float32 file."""
    from onnx import TensorProto, numpy_helper

    proto = onnx.load(export(vit, folder, False, 17))
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for info in (*proto.graph.input, *proto.graph.output):
        info.type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))
    expected = run_onnxruntime(str(export(vit, folder, False, 17)), image())
    graph = capture_onnx(proto)
    compare(run(graph, image()), expected, 1e-2)
    assert list(sites(graph)) == SITES  # also the GELUs, whose sqrt 2 was rounded


class Several(nn.Module):
    """Two inputs, two outputs."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x @ y, (x + 1).softmax(-1)


@pytest.mark.parametrize("dynamo", [False, True])
def test_several_inputs_and_outputs(tmp_path: Path, dynamo: bool) -> None:
    path = tmp_path / "several.onnx"
    arrays = [np.random.default_rng(seed).standard_normal((3, 3)).astype(np.float32) for seed in (0, 1)]
    with quiet():
        torch.onnx.export(Several(), tuple(map(torch.from_numpy, arrays)), str(path), dynamo=dynamo, opset_version=18)
    check(path, arrays)
