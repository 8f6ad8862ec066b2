"""mpcc: a compiler for private inference of Vision Transformers.

    made = mpcc.optimize("model.onnx", calibration="images.npy", budget="2s", network="wan")
    made.save("private.mpcc")
    run = mpcc.load("private.mpcc").run(image)

Nothing is imported before it is asked for: `import mpcc` takes milliseconds.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.isfile(os.path.join(_ROOT, "passes", "__init__.py")) and not os.path.isdir(os.path.join(_ROOT, "mpcc", "passes")):
    # A checkout that was not installed as editable: its plug-ins stand beside this folder, and are installed inside it.
    __path__ = [*__path__, _ROOT]

if TYPE_CHECKING:
    from .approximate import Choice, Plan
    from .cost import Budget, Estimate, Network, OpCounts
    from .errors import MpccError
    from .pipeline import Front, Optimized, capture, compile, count, estimate, load, optimize, optimize_within, pareto, transform
    from .runtime.executable import Executable, Run
    from .search.target import Objective, Target
    from .training import Tuned, tune

__all__ = [
    "Budget",
    "Choice",
    "Estimate",
    "Executable",
    "Front",
    "MpccError",
    "Network",
    "Objective",
    "OpCounts",
    "Optimized",
    "Plan",
    "Run",
    "Target",
    "Tuned",
    "capture",
    "compile",
    "count",
    "estimate",
    "load",
    "optimize",
    "optimize_within",
    "pareto",
    "transform",
    "tune",
]

_HOMES = {
    "cost": ("Budget", "Estimate", "Network", "OpCounts"),
    "errors": ("MpccError",),
    "runtime.executable": ("Executable", "Run"),
    "pipeline": (
        "Front", "Optimized", "capture", "compile", "count", "estimate", "load", "optimize", "optimize_within", "pareto",
        "transform",
    ),
    "training": ("Tuned", "tune"),
    "approximate": ("Choice", "Plan"),
    "search.target": ("Objective", "Target"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(f"mpcc.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'mpcc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
