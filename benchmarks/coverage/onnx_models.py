"""The models whose ONNX files are captured: published Vision Transformers, made small where the structure allows it.

Each entry: how to build it, and the shape of its input. Weights are random and all different, so that exporters merge
none of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.coverage.torchvision_stub import declare


@dataclass(frozen=True)
class Entry:
    """A model of a library: the name by which it is made there, and the options."""

    library: str
    name: str
    shape: tuple[int, ...] = (1, 3, 224, 224)
    options: dict[str, Any] = field(default_factory=dict)

    def build(self, fused: bool = True) -> torch.nn.Module:
        """`fused`: with torch's attention operator (which has an ONNX form since opset 14), else with a softmax."""
        torch.manual_seed(0)
        if self.library == "timm":
            declare()
            importlib.import_module("timm.layers").set_fused_attn(fused)
        model = BUILDERS[self.library](self.name, self.options)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        return model.eval()


def _timm(name: str, options: dict[str, Any]) -> torch.nn.Module:
    declare()
    model: torch.nn.Module = importlib.import_module("timm").create_model(name, pretrained=False, **options)
    return model


def _vit_pytorch(name: str, options: dict[str, Any]) -> torch.nn.Module:
    declare()
    module, _, kind = name.rpartition(".")
    model: torch.nn.Module = getattr(importlib.import_module(f"vit_pytorch.{module}"), kind)(**options)
    return model


class _Transformers(torch.nn.Module):
    """The one tensor of the answer that matters."""

    def __init__(self, model: torch.nn.Module, answer: str) -> None:
        super().__init__()
        self.model = model
        self.answer = answer

    def forward(self, pixel_values: torch.Tensor) -> Any:
        return getattr(self.model(pixel_values), self.answer)


def _transformers(name: str, options: dict[str, Any]) -> torch.nn.Module:
    declare()
    library = importlib.import_module("transformers")
    settings = {"attn_implementation": "eager", **options}
    answer = settings.pop("answer", "logits")
    config = getattr(library, settings.pop("config"))(**settings)
    return _Transformers(getattr(library, name)(config), answer)


BUILDERS: dict[str, Callable[[str, dict[str, Any]], torch.nn.Module]] = {
    "timm": _timm,
    "vit_pytorch": _vit_pytorch,
    "transformers": _transformers,
}


SMALL = (1, 3, 64, 64)
PLAIN = {"img_size": 64, "depth": 2}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 32}
OWN = {"image_size": 32, "patch_size": 8, "num_classes": 10, "dim": 32, "depth": 2, "heads": 4, "mlp_dim": 64}


def entries() -> Iterator[Entry]:
    for name in (
        "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224", "beit_base_patch16_224",
        "beitv2_base_patch16_224", "eva02_tiny_patch14_336", "cait_xxs24_224", "vit_base_patch16_siglip_224",
        "vit_small_patch14_reg4_dinov2", "vit_relpos_small_patch16_224", "vit_medium_patch16_gap_240",
    ):  # fmt: skip
        if name in ("eva02_tiny_patch14_336", "vit_small_patch14_reg4_dinov2"):
            yield Entry("timm", name, (1, 3, 56, 56), {"img_size": 56, "depth": 2})
        else:
            yield Entry("timm", name, SMALL, PLAIN)
    yield Entry("timm", "swin_tiny_patch4_window7_224", options={"depths": (2, 1, 2, 1)})
    yield Entry("timm", "swinv2_tiny_window8_256", (1, 3, 256, 256), {"depths": (2, 1, 2, 1)})
    yield Entry("timm", "swinv2_cr_tiny_ns_224", options={"depths": (2, 1, 2, 1)})
    yield Entry("timm", "xcit_nano_12_p16_224", SMALL, PLAIN)
    yield Entry("timm", "convit_tiny", (1, 3, 64, 64), {**PLAIN, "local_up_to_layer": 1})
    yield Entry("timm", "visformer_tiny", options={"depth": (1, 1, 1)})
    yield Entry("timm", "tnt_s_patch16_224", (1, 3, 224, 224), {"depth": 2})
    yield Entry("timm", "volo_d1_224")
    yield Entry("timm", "maxvit_rmlp_pico_rw_256", (1, 3, 256, 256))
    for name in (
        "pvt_v2_b0", "twins_svt_small", "twins_pcpvt_small", "levit_128s", "mobilevit_xxs", "mobilevitv2_050",
        "coat_lite_tiny", "crossvit_9_240", "nest_tiny", "caformer_s18", "coatnet_nano_rw_224", "efficientformer_l1",
        "efficientformerv2_s0", "edgenext_xx_small", "fastvit_t8", "davit_tiny", "gcvit_xxtiny", "mvitv2_tiny",
        "repvit_m0_9", "tiny_vit_5m_224", "hiera_tiny_224", "efficientvit_b0", "efficientvit_m0", "pit_ti_224",
        "focalnet_tiny_srf", "poolformer_s12",
    ):  # fmt: skip
        yield Entry("timm", name, (1, 3, 240, 240) if name == "crossvit_9_240" else (1, 3, 224, 224))
    yield from _from_transformers()
    yield Entry("vit_pytorch", "vit.ViT", (1, 3, 32, 32), OWN)
    yield Entry("vit_pytorch", "simple_vit.SimpleViT", (1, 3, 32, 32), OWN)
    yield Entry("vit_pytorch", "deepvit.DeepViT", (1, 3, 32, 32), OWN)
    yield Entry("vit_pytorch", "cait.CaiT", (1, 3, 32, 32), {**OWN, "cls_depth": 1})


def _from_transformers() -> Iterator[Entry]:
    shape = (1, 3, 32, 32)
    tiny = {**TINY, "patch_size": 8}
    yield Entry("transformers", "ViTForImageClassification", shape, {**tiny, "config": "ViTConfig"})
    yield Entry("transformers", "DeiTForImageClassification", shape, {**tiny, "config": "DeiTConfig"})
    yield Entry("transformers", "BeitForImageClassification", shape,
                {**tiny, "config": "BeitConfig", "use_relative_position_bias": True})  # fmt: skip
    yield Entry("transformers", "Dinov2ForImageClassification", shape, {**tiny, "config": "Dinov2Config"})
    yield Entry("transformers", "CLIPVisionModel", shape,
                {**tiny, "config": "CLIPVisionConfig", "answer": "pooler_output"})  # fmt: skip
    yield Entry("transformers", "SiglipVisionModel", shape,
                {**tiny, "config": "SiglipVisionConfig", "answer": "pooler_output"})  # fmt: skip
    yield Entry("transformers", "SwinForImageClassification", (1, 3, 64, 64),
                {"config": "SwinConfig", "image_size": 64, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4],
                 "window_size": 4})  # fmt: skip
    yield Entry("transformers", "SegformerForImageClassification", (1, 3, 64, 64),
                {"config": "SegformerConfig", "depths": [1, 1, 1, 1]})  # fmt: skip
    yield Entry("transformers", "YolosModel", (1, 3, 64, 64),
                {**tiny, "image_size": (64, 64), "config": "YolosConfig", "answer": "last_hidden_state"})  # fmt: skip
