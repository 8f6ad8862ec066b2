"""transformers: one model of each vision architecture in its own mappings, configurations cut to two layers."""

from __future__ import annotations

import os
from typing import Any

import torch

from benchmarks.coverage.torchvision_stub import declare

os.environ["HF_HUB_OFFLINE"] = "1"
declare()

import transformers  # noqa: E402
from transformers.models.auto import modeling_auto  # noqa: E402

_MAPPINGS = (
    "IMAGE_CLASSIFICATION",
    "VIDEO_CLASSIFICATION",
    "IMAGE",
    "BACKBONE",
    "DEPTH_ESTIMATION",
    "SEMANTIC_SEGMENTATION",
)

# Convolutional networks, wrappers of other libraries, detectors on a convolutional backbone, language models.
_OTHERS = set(
    "bit convnext convnextv2 dinov3_convnext efficientnet hgnet_v2 mobilenet_v1 mobilenet_v2 pp_lcnet pp_lcnet_v3"
    " pp_lcnet_v4 regnet resnet rt_detr_resnet textnet timm_wrapper timm_backbone uvdoc_backbone conditional_detr"
    " dab-detr deformable_detr detr table-transformer llama4 mllama cohere2_vision shieldgemma2 upernet".split()
)


def names() -> list[str]:
    """`architecture/class`."""
    found: dict[str, str] = {}
    for mapping in _MAPPINGS:
        for architecture, model in getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES").items():
            name = model if isinstance(model, str) else model[0]
            if architecture not in _OTHERS:
                found.setdefault(architecture, name)
    return [f"{architecture}/{name}" for architecture, name in sorted(found.items())]


def build(name: str) -> tuple[torch.nn.Module, Any]:
    architecture, _, model = name.partition("/")
    kind = getattr(transformers, model)
    for narrow in (True, False):
        try:
            made = kind(_config(kind, narrow))
            break
        except (ValueError, RuntimeError, AssertionError, KeyError, IndexError):
            if not narrow:
                raise
    config = made.config
    vision = getattr(config, "vision_config", config)
    if architecture == "siglip2":  # patches of images of any size
        return Sized(made), (torch.randn(1, 64, 3 * vision.patch_size**2),)
    return made, {made.main_input_name: _input(vision, made.main_input_name, "Video" in model)}


class Sized(torch.nn.Module):
    """Siglip2 for images of 8 by 8 patches: sizes are shapes, which are public."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        mask, sizes = torch.ones(1, 64), torch.tensor([[8, 8]])
        logits: torch.Tensor = self.model(patches, pixel_attention_mask=mask, spatial_shapes=sizes).logits
        return logits


def _config(kind: Any, narrow: bool) -> Any:
    """The default configuration, cut."""
    config = kind.config_class()
    if getattr(config, "backbone_config", None) is None:  # whose later layers are asked for by number
        for part in (config, getattr(config, "vision_config", None)):
            _shrink(part, narrow)
        _shorten_backbone(config)
    return config


def _shorten_backbone(config: Any) -> None:
    """A backbone gives the stages that it is asked for by name: of fewer layers, the last one."""
    layers, stages = getattr(config, "num_hidden_layers", 0), getattr(config, "stage_names", None)
    if isinstance(stages, list) and len(stages) > layers + 1 == 3:
        config.stage_names = stages[: layers + 1]
        config.set_output_features_output_indices(out_features=None, out_indices=None)


def _shrink(config: Any, narrow: bool) -> None:
    if config is None:
        return
    for key in ("num_hidden_layers", "encoder_layers", "num_layers", "n_layer", "num_self_attends_per_block"):
        value = getattr(config, key, None)
        if isinstance(value, int) and value > 2:
            setattr(config, key, 2)
    if hasattr(config, "use_cache"):
        config.use_cache = False
    heads = getattr(config, "num_attention_heads", None)
    if narrow and isinstance(heads, int) and isinstance(getattr(config, "hidden_size", None), int):
        config.hidden_size = 16 * heads
        if isinstance(getattr(config, "intermediate_size", None), int):
            config.intermediate_size = 32 * heads
    depths = getattr(config, "depths", None)
    if isinstance(depths, (list, tuple)) and depths and isinstance(depths[0], int):
        config.depths = type(depths)(min(depth, 2) for depth in depths)


def _input(config: Any, name: str, video: bool) -> torch.Tensor:
    size = getattr(config, "image_size", 224) or 224
    high, wide = size if isinstance(size, (list, tuple)) else (size, size)
    channels = getattr(config, "num_channels", 3) or 3
    frames = getattr(config, "num_frames", getattr(config, "frames_per_clip", None)) if video else None
    if name == "input_ids":
        return torch.randint(0, config.vocab_size - 1, (1, min(getattr(config, "n_positions", 64), 64)))
    return torch.randn(1, frames, channels, high, wide) if frames else torch.randn(1, channels, high, wide)
