"""Published families: captured, equal to eager, and every softmax, GELU and norm found under its layer's name."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from mpcc.frontend import capture
from mpcc.ir.nn import OPERATORS, sites

# model, options, input size, the sites that matter
FAMILIES: list[tuple[str, dict[str, Any], int, dict[str, int]]] = [
    ("test_vit", {}, 160, {"softmax": 6, "gelu": 6, "layer_norm": 13}),
    ("deit_tiny_distilled_patch16_224", {"depth": 2, "img_size": 64}, 64, {"softmax": 2, "gelu": 2, "layer_norm": 5}),
    ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1), "embed_dim": 24, "img_size": 224}, 224,
     {"softmax": 4, "gelu": 4, "layer_norm": 13}),
    ("swinv2_cr_tiny_224", {"depths": (1, 1, 1, 1), "embed_dim": 24}, 224, {"softmax": 4, "gelu": 4, "layer_norm": 13}),
    ("vit_relpos_small_patch16_rpn_224", {"depth": 2, "img_size": 64}, 64, {"softmax": 2, "gelu": 2, "layer_norm": 5}),
    ("cait_xxs24_224", {"depth": 1, "img_size": 64}, 64, {"softmax": 3, "gelu": 3, "layer_norm": 7}),
    ("xcit_nano_12_p16_224", {"depth": 1, "img_size": 64}, 64, {"softmax": 3, "rms_norm": 2, "layer_norm": 8}),
    ("levit_128s", {"img_size": 224}, 224, {"softmax": 11, "hardswish": 25}),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", [family[0] for family in FAMILIES])
def test_family(timm: Any, name: str) -> None:
    _, options, size, wanted = next(family for family in FAMILIES if family[0] == name)
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    x = torch.randn(1, 3, size, size)
    graph = capture(model, x)
    with torch.no_grad():
        torch.testing.assert_close(graph(x), model(x), rtol=1e-4, atol=1e-4)
    found = Counter(OPERATORS[node.target].name for node in sites(graph).values())
    assert {kind: found[kind] for kind in wanted} == wanted
    layers = {layer for layer, _ in model.named_modules()}
    assert {node.meta["layer"] for node in sites(graph).values()} <= layers
