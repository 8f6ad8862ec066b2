"""The latency order of MPCViT's published models is predicted, and its page in docs/ is current."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import mpcvit_ratios

ROOT = Path(__file__).parents[2]

@pytest.mark.parametrize("protocol", ["cheetah", "semi2k", "aby3"])
@pytest.mark.parametrize("network", ["lan", "wan"])
def test_the_published_order_is_predicted(protocol: str, network: str) -> None:
    found = mpcvit_ratios.ratios(protocol, network, as_written=True)
    assert found[0] == 1 == max(found)
    assert mpcvit_ratios.rank_correlation(found) >= 0.9


def test_latency_is_linear_in_mu_when_every_head_pays_for_itself() -> None:
    """Published: 44.63 + 27.19 mu seconds."""
    found = dict(
        zip((m.name for m in mpcvit_ratios.MODELS), mpcvit_ratios.ratios("cheetah", "wan", as_written=True), strict=True)
    )
    steps = [found[f"MPCViT, mu = {mu}"] for mu in (0.1, 0.3, 0.5, 0.7)]
    growth = [after - before for before, after in zip(steps, steps[1:], strict=False)]
    assert max(growth) < 1.25 * min(growth)


def test_the_page_is_current() -> None:
    page = (ROOT / "docs" / "mpcvit-ratios.md").read_text()
    assert page == mpcvit_ratios.page(), "run: python -m benchmarks.mpcvit_ratios --write"
