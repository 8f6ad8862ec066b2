"""vit-pytorch: the last model class of each module, with small sizes for the arguments that it asks for.

Wrappers that take another model (self-supervised training, recorders) are no models of their own.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import torch
from torch import nn

from benchmarks.coverage.torchvision_stub import declare

declare()
vit_pytorch = importlib.import_module("vit_pytorch")

_WRAPPED = {"net", "vit", "encoder", "transformer", "teacher", "student", "image_net"}

# Small values for required arguments, by their names.
_ARGUMENTS: dict[str, Any] = {
    **dict(image_size=64, patch_size=16, num_classes=10, dim=32, depth=2, heads=2, mlp_dim=64, cls_depth=1, channels=3),
    **dict(frames=4, frame_patch_size=2, image_patch_size=16, seq_len=64, spatial_depth=1, temporal_depth=1),
    **dict(max_tokens_per_depth=(8, 4), num_register_tokens=2, num_residual_streams=2, freq_patch_size=8, num_slots=4),
    **dict(ndim=2, input_shape=(64, 64), max_frames=4),
}

# Where a family wants other values than those.
_SPECIAL: dict[str, dict[str, Any]] = {
    "cct": dict(img_size=64, embedding_dim=32, num_layers=2, num_heads=2, mlp_ratio=2.0, num_classes=10),
    "cct_3d": dict(img_size=32, num_frames=4, embedding_dim=32, num_layers=2, num_heads=2, mlp_ratio=2.0),
    "cross_vit": dict(image_size=48, sm_dim=16, lg_dim=24, lg_enc_depth=1, depth=1),
    "crossformer": dict(depth=(1, 1, 1, 1)),
    "cvt": dict(s3_depth=1),
    "jet_vit": dict(window_size=2, dim=64, heads=1),
    "levit": dict(image_size=224, stages=2, dim=(32, 48), depth=1, heads=(2, 3), mlp_mult=2),
    "look_vit": dict(image_size=48, patch_size=16, highres_patch_size=12, depth=1),
    "looped_vit": dict(image_size=64, patch_size=16, pre_loop_depth=1, num_looped_blocks=1, post_loop_depth=1),
    "max_vit": dict(dim=32, depth=(1, 1), window_size=7, dim_conv_stem=8),
    "max_vit_with_registers": dict(dim=32, depth=(1, 1), window_size=7, dim_conv_stem=8),
    "mobile_vit": dict(image_size=(64, 64), dims=[24, 32, 40], channels=[8, 8, 16, 16, 16, 16, 24, 24, 32, 32, 64]),
    "nest": dict(image_size=64, patch_size=4, num_hierarchies=2, block_repeats=(1, 1)),
    "parallel_vit": dict(num_parallel_branches=2),
    "pit": dict(image_size=56, patch_size=14, depth=(1, 1)),
    "regionvit": dict(depth=(1, 1, 1, 1), num_classes=10),
    "scalable_vit": dict(
        dim=32, heads=(1, 1, 2, 2), depth=(1, 1, 1, 1), reduction_factor=(8, 4, 2, 1), window_size=(8, 8, None, None)
    ),
    "sep_vit": dict(dim=16, depth=(1, 1, 1), heads=(1, 1, 1), window_size=7),
    "t2t": dict(image_size=64, depth=1, heads=2, mlp_dim=32),
    "twins_svt": dict(s3_depth=1, s4_depth=1, s1_local_patch_size=7),
    "vat_siglip": dict(depth=2, siglip_depth=2),
}  # fmt: skip

_INPUTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("simple_vit_1d", "vit_1d"), (1, 3, 64)),
    **dict.fromkeys(("vit_3d", "simple_vit_3d", "simple_flash_attn_vit_3d"), (1, 3, 4, 64, 64)),
    **dict.fromkeys(("vivit", "vivit_with_moss"), (1, 3, 4, 64, 64)),
    **dict.fromkeys(("cvt", "crossformer", "regionvit", "twins_svt", "max_vit", "max_vit_with_registers", "levit"),
                    (1, 3, 224, 224)),
    "scalable_vit": (1, 3, 256, 256),
    "sep_vit": (1, 3, 224, 224),
    "cct_3d": (1, 3, 4, 32, 32),
    "cross_vit": (1, 3, 48, 48),
    "pit": (1, 3, 56, 56),
    "look_vit": (1, 3, 48, 48),
    "vat_siglip": (1, 3, 224, 224),
}  # fmt: skip


def names() -> list[str]:
    found = []
    for module in sorted(item.name for item in pkgutil.iter_modules(vit_pytorch.__path__)):
        try:
            model = _class(module)
        except ImportError:
            found.append(f"{module}/?")
            continue
        if model is not None and not _WRAPPED & set(inspect.signature(model.__init__).parameters):
            found.append(f"{module}/{model.__name__}")
    return found


def _class(module: str) -> Any:
    source = importlib.import_module(f"vit_pytorch.{module}")
    classes = [
        item for item in vars(source).values()
        if inspect.isclass(item) and issubclass(item, nn.Module) and item.__module__ == source.__name__
    ]  # fmt: skip
    return classes[-1] if classes else None


def build(name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    module = name.partition("/")[0]
    model = _class(module)
    given = _SPECIAL.get(module, {})
    asked = {
        key: _ARGUMENTS[key]
        for key, parameter in inspect.signature(model.__init__).parameters.items()
        if parameter.default is inspect.Parameter.empty and key in _ARGUMENTS
    }
    made = model(**{**asked, **given})
    shape = _INPUTS.get(module, (1, 3, 64, 64))
    if module == "na_vit_nested_tensor_3d":
        return made, ([torch.randn(3, 4, 64, 64), torch.randn(3, 2, 32, 64)],)
    if module.startswith("na_vit"):
        return made, ([torch.randn(3, 64, 64), torch.randn(3, 32, 64)],)
    return made, (torch.randn(shape),)
