"""Calibration inputs made from the model alone, for those who give no images.

    made = synthesise(graph)          Synthetic: inputs to fit ranges to, and others that judge them
    made.calls(gain=1.4)              one tuple of tensors a call, the float inputs 1.4 times as large

The same graph gives the same inputs. What rests on them says so: docs/data-free.md.
"""

from .kinds import CONFIGURED, configured_range
from .synthesise import Synthetic, range_of, synthesise

__all__ = ["CONFIGURED", "Synthetic", "configured_range", "range_of", "synthesise"]
