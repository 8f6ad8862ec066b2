"""Compensation: structural plans repaired without training, by new weights in closed form for the layers behind each choice.

    made = compensated(graph, plan, inputs, known, judge)        made.graph has the weights, made.plan is fitted behind them

The model as it was says on the owner's own inputs, without labels, what each layer should give. Rounds and bytes stay what
they are: weights are the owner's, whatever their values.
"""

from .compensated import Compensated, Judge, Report, compensated
from .inputs import FULL, QUICK, Effort
from .mender import Mender

__all__ = ["FULL", "QUICK", "Compensated", "Effort", "Judge", "Mender", "Report", "compensated"]
