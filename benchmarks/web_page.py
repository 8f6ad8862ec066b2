"""The page of examples/web in a headless Chromium: held-out digits, drawn on its canvas, against the emulation.

    python -m benchmarks.web_page [--digits 20] [--screenshot docs/web.png]

Needs `pip install playwright` and a Chromium (CHROMIUM=/path, or one in $PATH). Exit code 1 unless every answer is that of
`Executable.emulate` within the noise of the outputs.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mpcc
from mpcc.client.preprocess import Preprocess
from mpcc.program.program import FLOOD_REACH
from mpcc.runtime.net.connect import free_ports
from mpcc.serving.local import here

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits_vit"
DRAWN = """async ([pixels, side]) => {
  const canvas = document.getElementById("draw"), pen = canvas.getContext("2d"), cell = canvas.width / side;
  for (let i = 0; i < side * side; i++) {
    pen.fillStyle = `rgb(${pixels[i]},${pixels[i]},${pixels[i]})`;
    pen.fillRect((i % side) * cell, Math.floor(i / side) * cell, cell, cell);
  }
  return await window.ask();
}"""


class Quiet(SimpleHTTPRequestHandler):
    """The folder of the page."""

    def log_message(self, *_: Any) -> None:
        pass


def bundle(folder: Path) -> Path:
    """The digits ViT, with its preprocessing."""
    from dataclasses import replace

    made = mpcc.optimize(DIGITS / "model.onnx", calibration=DIGITS / "calibration.npz", machine="reference")
    how = json.loads((DIGITS / "preprocess.json").read_text())
    return replace(made, plan=replace(made.plan, notes={**made.plan.notes, "preprocess": how})).save(folder / "digits.mpcc")


def pictures(count: int) -> list[np.ndarray]:
    """Held-out digits as grey levels, 8x8."""
    images = np.load(DIGITS / "heldout.npz")["images"][:count, 0]
    return [np.rint((image * 6.018 + 4.886) * 255 / 16).astype(np.uint8) for image in images]


def browse(url: str, servers: tuple[str, str], drawn: list[np.ndarray], screenshot: Path | None) -> list[dict[str, Any]]:
    """What the page answers for each picture."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 900})
        page.goto(f"{url}/index.html?server={servers[0]}&helper={servers[1]}")
        page.wait_for_function("window.ask !== undefined")
        found = [page.evaluate(DRAWN, [picture.reshape(-1).tolist(), len(picture)]) for picture in drawn]
        if screenshot is not None:
            page.screenshot(path=str(screenshot))
        browser.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=int, default=20)
    parser.add_argument("--screenshot", type=Path)
    options = parser.parse_args()
    drawn = pictures(options.digits)
    handler = functools.partial(Quiet, directory=str(ROOT / "examples" / "web"))
    page = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        made = bundle(Path(folder))
        with here(made, port=free_ports(1)[0], options=["--batch", "1"]) as running:
            servers = running.replicas[0].server, running.replicas[0].helper
            answers = browse(f"http://127.0.0.1:{page.server_address[1]}", servers, drawn, options.screenshot)
        executable = mpcc.load(made)
        how = Preprocess.read(executable.plan.notes["preprocess"])
        inputs = torch.from_numpy(np.stack([how(picture) for picture in drawn])).float()
        expected = executable.emulate(inputs, check=False)
        assert isinstance(expected, torch.Tensor)
        allowed = FLOOD_REACH * executable.program.flood[0] + 0.02
    return report(answers, expected.numpy(), allowed)


def report(answers: list[dict[str, Any]], expected: np.ndarray, allowed: float) -> int:
    """Print how many answers are those of the emulation. `allowed`: the noise's reach, and units of truncation."""
    values = np.array([answer["values"] for answer in answers])
    same = int((values.argmax(1) == expected.argmax(1)).sum())
    error = float(np.abs(values - expected).max())
    print(f"{same} of {len(answers)} answers are those of the emulation; largest difference {error:.4f} (noise {allowed:.4f})")
    print(f"seconds in the page: {min(a['seconds'] for a in answers):.2f} to {max(a['seconds'] for a in answers):.2f}")
    return 0 if same == len(answers) and error <= allowed else 1


if __name__ == "__main__":
    sys.exit(main())
