"""mpcc/ir/names.py: what text becomes a name, which name is free; and that nothing else puts parameters on a module."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

import pytest
import torch
from torch import fx, nn

from mpcc import capture
from mpcc.errors import InvalidGraph
from mpcc.ir.names import check_names, free_name, identifier, register, replace_tensor, safe_path

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["blocks.0.attn.qkv.weight", "a-b.c_d", "T", "x.1", "__x"])
def test_names_of_checkpoints_stay(name: str) -> None:
    assert safe_path(name) == name


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('x"); import os; ("', "x_import_os_"),
        ("class.weight", "class_.weight"),
        ("self", "self_"),
        ("a..b.", "a.b"),
        ("a/b c.d\n", "a_b_c.d_"),
        ("", ""),
        ("ﬁ.ｅ", "_._"),
    ],
)
def test_other_text_becomes_a_path(text: str, path: str) -> None:
    assert safe_path(text) == path == safe_path(path)


def test_long_text_is_cut() -> None:
    assert len(safe_path("a" * 10**6)) <= 128 and len(safe_path("a." * 10**6)) < 10**4


@pytest.mark.parametrize("text", ["", "1", "class", "self", "a b", "match", 'x="', "é", "_", "x" * 999])
def test_inputs_are_arguments_of_python(text: str) -> None:
    made = identifier(text, "input")
    assert made.isidentifier() and made.isascii() and not keyword.iskeyword(made) and made != "self"
    assert identifier(made, "input") == made


def test_nothing_that_is_there_is_replaced() -> None:
    root = nn.Module()
    names = ["a.b", "a", "a.b", "a.b.c", "training", "graph", "x.forward", "_parameters", ""]
    given = [register(root, name, torch.full((1,), float(i)), trainable=True) for i, name in enumerate(names)]
    assert len(set(given)) == len(given)
    assert [float(root.get_parameter(name)) for name in given] == list(range(len(given)))
    fx.GraphModule(root, fx.Graph())


def test_a_value_is_replaced_by_its_exact_name() -> None:
    root = nn.Module()
    register(root, "a.b", torch.zeros(1), trainable=True)
    replace_tensor(root, "a.b", torch.ones(2))
    assert isinstance(root.get_parameter("a.b"), nn.Parameter) and root.get_parameter("a.b").shape == (2,)


def test_free_names_count_upwards() -> None:
    taken = {"a", "a_2"}
    assert free_name("a", taken.__contains__) == "a_3" and free_name("b", taken.__contains__) == "b"


@pytest.mark.parametrize(("op", "target"), [("get_attr", 'a")'), ("placeholder", "x=1"), ("get_attr", "class")])
def test_a_graph_with_other_names_is_refused_before_source_is_made_of_it(op: str, target: str) -> None:
    graph = fx.Graph()
    node = graph.placeholder("x") if op == "placeholder" else graph.create_node(op, "a")
    node.target = target
    with pytest.raises(InvalidGraph, match="is not the name"):
        check_names(graph)


def test_parameters_are_registered_in_one_place() -> None:
    """Code that registers by itself overwrites what another pass has put there (two folded batch norms)."""
    own = re.compile(r"\.(register_parameter|register_buffer|add_module)\(|\bsetattr\(|_parameters\[|_buffers\[")
    files = [path for folder in ("mpcc", "passes") for path in (ROOT / folder).rglob("*.py")]
    found = [path.relative_to(ROOT).as_posix() for path in files if own.search(path.read_text(encoding="utf-8"))]
    assert found == ["mpcc/ir/names.py"]


class Flat(nn.Module):
    """Weights of two convolutions in one module, and an own parameter that is called like the bias that folding makes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(4, 4, 3, 3))
        self.bias = nn.Parameter(torch.randn(4))
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
        for norm in self.norms:
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu(self.norms[0](nn.functional.conv2d(x, self.first, padding=1)))
        return self.norms[1](nn.functional.conv2d(x, self.second, padding=1)).mean((2, 3)) + self.bias


def test_folded_batch_norms_of_one_module_keep_their_biases() -> None:
    model, x = Flat().eval(), torch.randn(1, 3, 8, 8)
    graph = capture(model, x)
    with torch.no_grad():
        assert torch.allclose(graph(x), model(x), atol=1e-5)
    assert len([name for name, _ in graph.named_parameters() if "bias" in name]) == 3
