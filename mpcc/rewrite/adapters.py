"""Which parameters of a module are an adapter's: what was trained on top of a frozen base, as `peft` and others attach it.

    adapter_parameters(model)      {"base_model.model.blocks.0.attn.q.lora_A.default.weight", ...}

Read off the modules, without importing peft: its layers name what they add (`adapter_layer_names`), and keep whole modules that
were trained in `modules_to_save`. Where an adapter was merged into its base, the base tells what the adapter is, and counts as
one. Names of adapters that are written by hand are recognised where they begin as those of peft do.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

ATTRIBUTES = ("modules_to_save", "prompt_encoder")
"""Of a module: what peft has trained as a whole."""
PREFIXES = ("lora_", "ia3_", "hada_", "lokr_", "vera_", "oft_", "boft_", "adapter", "modules_to_save", "prompt_encoder")
"""Of a part of a parameter's name, in peft (its tuners' `prefix`) and in adapters of one's own."""


def adapter_parameters(model: nn.Module) -> frozenset[str]:
    """The names of the parameters and buffers that are an adapter's; none of a model without adapters."""
    roots = tuple(f"{place}." for place in _places(model))
    names = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    return frozenset(name for name in names if f"{name}.".startswith(roots) or _called_so(name))


def _places(model: nn.Module) -> Iterator[str]:
    for path, module in model.named_modules():
        added = getattr(module, "adapter_layer_names", ())
        if added and getattr(module, "merged", False):
            yield path
        for attribute in (*added, *ATTRIBUTES):
            if hasattr(module, attribute):
                yield f"{path}.{attribute}" if path else attribute


def _called_so(name: str) -> bool:
    return any(part.startswith(PREFIXES) for part in name.split("."))
