"""The pipeline: the steps in their order (`steps`), and the functions of `import mpcc` that take them (`faces`)."""

from .faces import Front, Optimized, compile, count, estimate, load, optimize, optimize_within, pareto
from .steps import (
    Prepared,
    Progress,
    capture,
    check_machine,
    compute_of,
    first_plan,
    mpc_graph,
    precise,
    prepare,
    prepared_for,
    schedule,
    task_of,
    transform,
)

__all__ = [
    "Front",
    "Optimized",
    "Prepared",
    "Progress",
    "capture",
    "check_machine",
    "compile",
    "compute_of",
    "count",
    "estimate",
    "first_plan",
    "load",
    "mpc_graph",
    "optimize",
    "optimize_within",
    "pareto",
    "precise",
    "prepare",
    "prepared_for",
    "schedule",
    "task_of",
    "transform",
]
