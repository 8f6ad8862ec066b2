"""report.html: groups with rows that open, the model by blocks, rounds in time; and as a browser shows and prints it."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import mpcc
from mpcc.approximate import Choice, Part, Plan, Split
from mpcc.show import units
from mpcc.show.pictures import blocks
from mpcc.show.report import former_plan

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "br", "img", "hr", "link", "rect"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a model with two GELUs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3)).eval()
    made = mpcc.optimize(model, (torch.zeros(1, 4),), calibration=torch.randn(64, 4), machine="reference")
    return made.save(tmp_path_factory.mktemp("report") / "x.mpcc") / "report.html"


class Balanced(HTMLParser):
    """Every tag that opens closes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    loads = re.findall(r"""(?:src|href)\s*=\s*["'](?!#)[^"']*""", text)
    assert "What more tokens would cost is not known: it has no softmax over tokens." in text
    assert loads == [] and "<script" not in text and "@import" not in text


def test_groups_open_into_sites_and_rounds_have_bars(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<summary>2 sites</summary>" in text and "gelu (2)" in text and "1.gelu" in text
    rounds = int(re.search(r"<b>([\d,]+) rounds", text)[1].replace(",", ""))  # type: ignore[index]
    assert text.split('class="time"')[1].split("</svg>")[0].count("<rect") == rounds
    legend = text.split('class="legend"')[1].split("</p>")[0]
    assert set(re.findall(r"</i>([^<]+)</span>", legend)) == {"linear", "gelu", "output"}  # not the layers 0, 2 and 4
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def test_what_changed_since_the_last_bundle(tmp_path: Path) -> None:
    """Saved over a bundle of another plan, and over itself; what is no plan is not compared with."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)).eval()
    given = dict(example_inputs=(torch.zeros(1, 4),), calibration=torch.randn(64, 4), machine="reference")
    place = tmp_path / "x.mpcc"
    mpcc.optimize(model, plan=Plan({"1.gelu": Choice("gelu_relu")}), **given).save(place)  # type: ignore[arg-type]
    assert "Since the last bundle" not in (place / "report.html").read_text(encoding="utf-8")
    made = mpcc.optimize(model, **given)  # type: ignore[arg-type]
    made.save(place)
    text = (place / "report.html").read_text(encoding="utf-8").partition("Since the last bundle")[2]
    assert "was predicted to take" in text and "gelu_relu" in text.partition("Accuracy")[0]
    assert "95 % from" in text  # so many inputs leave an interval
    made.save(place)
    assert "The same is chosen everywhere" in (place / "report.html").read_text(encoding="utf-8")
    (tmp_path / "plan.json").write_text("{}")
    assert former_plan(tmp_path) is None


def test_what_a_search_chose_otherwise(tmp_path: Path) -> None:
    """With a budget that asks for more, each choice that was given up stands beside what is there now, and both costs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)).eval()
    given = dict(example_inputs=(torch.zeros(1, 4),), calibration=torch.randn(64, 4), machine="reference")
    loose = mpcc.optimize(model, **given)  # type: ignore[arg-type]
    assert "without a search" not in (loose.save(tmp_path / "x.mpcc") / "report.html").read_text(encoding="utf-8")
    bound = f"{loose.estimate.rounds - 1}rounds"
    made = mpcc.optimize(model, budget=bound, level="structural", **given)  # type: ignore[arg-type]
    assert made.chosen is not None and made.chosen.accurate is not None
    text = (made.save(tmp_path / "y.mpcc") / "report.html").read_text(encoding="utf-8")
    part = text.partition("Against the plan without a search")[2].partition("<h2>")[0]
    before, now = (plan.choices["1.gelu"].choices[0].approximation for plan in (made.chosen.accurate.plan, made.plan))
    assert before != now and f"<td>1.gelu</td><td>{before}" in part and now in part
    assert f"{loose.estimate.rounds} rounds" in part and f"{made.estimate.rounds} rounds" in part


def test_a_share_of_few_has_a_wide_interval() -> None:
    """Against the exact figures of the Wilson interval."""
    low, high = units.share_of(1.0, 16)
    assert high == 1.0 and abs(low - 16 / (16 + 1.959964**2)) < 1e-9
    low, high = units.share_of(0.5, 1000)
    assert abs(low - 0.46907) < 1e-4 and abs(high - 0.53093) < 1e-4


def test_blocks_are_those_of_the_model() -> None:
    sites = ["patch.norm.layer_norm", "blocks.0.attn.softmax", "blocks.0.mlp.gelu", "blocks.1.attn.softmax"]
    plan = Plan({site: Choice(f"{site.rpartition('.')[2]}_x") for site in sites})
    found = blocks(plan)
    assert [(name, [cell.operator for cell in cells]) for name, cells in found] == [
        ("patch.norm", ["layer_norm"]), ("blocks.0", ["softmax", "gelu"]), ("blocks.1", ["softmax"]),
    ]  # fmt: skip
    assert found[1][1][0].colour == found[2][1][0].colour != found[1][1][1].colour
    split = Split(1, (Part((0, 2), Choice("softmax_x")), Part((1,), Choice("softmax_y"))))
    (_, (cell,)), *_ = blocks(Plan({"blocks.0.attn.softmax": split, "blocks.1.attn.softmax": Choice("softmax_x")}))
    assert [name for name, _ in cell.parts] == ["softmax_x", "softmax_y", "softmax_x"]
    assert cell.colour == cell.parts[0][1] == cell.parts[2][1] != cell.parts[1][1]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_and_prints_it(page: Path, tmp_path: Path) -> None:
    """A screenshot that is not empty, and a PDF."""
    picture = pytest.importorskip("PIL.Image")
    base = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    for what in ("--screenshot=shot.png", "--print-to-pdf=page.pdf"):
        subprocess.run([*base, "--window-size=1000,2400", what, page.as_uri()], cwd=tmp_path, check=True, capture_output=True,
                       timeout=120)  # fmt: skip
    shown = np.asarray(picture.open(tmp_path / "shot.png").convert("RGB"))
    assert shown.shape == (2400, 1000, 3) and len(np.unique(shown.reshape(-1, 3), axis=0)) > 20
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
