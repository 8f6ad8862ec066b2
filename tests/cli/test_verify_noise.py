"""What `mpcc verify` makes of a top-1 that differs: the noise on outputs decides near ties, and nothing else is excused."""

from __future__ import annotations

import torch

from mpcc.cli.verify import _ties

PLAIN = [torch.tensor([[1.0, 0.99, 0.0]]), torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[1.0, 0.99, 0.0]])]


def test_only_a_near_tie_is_the_noises() -> None:
    noisy = [torch.tensor([[1.0, 1.1, 0.0]]), torch.tensor([[1.0, 1.1, 0.0]]), torch.tensor([[1.0, 0.9, 0.0]])]
    assert _ties(PLAIN, PLAIN, noisy, 0.03) == 1
    assert _ties(PLAIN, PLAIN, noisy, 0.0) == 0


def test_a_top1_that_fixed_point_lost_is_not() -> None:
    fixed = [torch.tensor([[1.0, 1.01, 0.0]])]
    assert _ties(PLAIN[:1], fixed, fixed, 0.03) == 0
