"""The way of a newcomer, timed: from a clone by README's commands to a private answer of a model of one's own, an exported ViT.

    python -m benchmarks.walk [--folder FOLDER] [--json]

A clone of the last commit here, an empty home and caches, `make demo`, `mpcc doctor`; a ViT as timm writes them with random
weights, exported to ONNX by torch; `mpcc optimize`, and then the two commands that its screen ends in, pasted. pip takes packages
from where it is set up to. Exit code 1 where a step fails, the answer is not onnxruntime's, or all of it takes over ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from mpcc.cli.screen import console

ROOT = Path(__file__).parents[1]
MOST_SECONDS = 600.0
MOST_OFF = 0.05
"""Of the logits' spread: the tolerance of `mpcc optimize`."""
MODEL = '''
import numpy, torch
from torch import nn


class Block(nn.Module):
    def __init__(self, dim=64, heads=4):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))
        return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    def __init__(self, dim=64, depth=3, classes=10):
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.position = nn.Parameter(torch.randn(1, 17, dim) / 8)
        self.blocks = nn.Sequential(*[Block(dim) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


torch.manual_seed(0)
numpy.save("images.npy", torch.randn(64, 3, 32, 32).numpy())
torch.onnx.export(ViT().eval(), (torch.zeros(1, 3, 32, 32),), "model.onnx", input_names=["pixels"], output_names=["logits"])
'''
CHECK = '''
import json, numpy, onnxruntime
expected = onnxruntime.InferenceSession("model.onnx").run(None, {"pixels": numpy.load("images.npy")[:1]})[0]
found = numpy.load("logits.npy")
print(json.dumps({"same": bool((found.argmax(1) == expected.argmax(1)).all()),
                  "off": float(abs(found - expected).max() / expected.std())}))
'''


@dataclass(frozen=True)
class Step:
    """What was done, how long it took, and the last line that it said."""

    what: str
    seconds: float
    said: str


class Failed(Exception):
    """A step ended with an error."""


def walk(folder: Path) -> tuple[list[Step], dict[str, float]]:
    """Every step in an empty `folder`, and how the private answer compares with the model's."""
    home, clone, own = folder / "home", folder / "mpcc", folder / "my model"
    for new in (home, own):
        new.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    environment = {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "COLUMNS": "80"}
    steps: list[Step] = []

    def do(what: str, command: str, where: Path) -> str:
        print(f"{what} ...", file=sys.stderr, flush=True)
        start = time.monotonic()
        active = f". '{clone}/.venv/bin/activate' && {command}" if (clone / ".venv").exists() else command
        done = subprocess.run(["bash", "-c", active], cwd=where, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{what}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        steps.append(Step(what, time.monotonic() - start, lines[-1].strip() if lines else ""))
        return done.stdout

    do("git clone", f"git clone -q '{ROOT}' '{clone}'", folder)
    do("make demo", "make demo", clone)
    do("mpcc doctor", "mpcc doctor", own)
    (own / "export.py").write_text(MODEL, encoding="utf-8")
    do("python export.py", "python export.py", own)
    screen = do("mpcc optimize", "mpcc optimize model.onnx --calibration images.npy --network wan", own)
    run, verify = (line.strip() for line in screen.splitlines() if line.startswith("  mpcc "))
    do(run, f"{run} --output logits.npy", own)
    do(verify, verify, own)
    (own / "check.py").write_text(CHECK, encoding="utf-8")
    compared: dict[str, float] = json.loads(do("the same by onnxruntime", "python check.py", own))
    return steps, compared


def main() -> None:
    """Print a row for each step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="an empty folder to do it in; without it, one that is removed afterwards")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mpcc-walk-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            steps, compared = walk(folder.resolve())
        except Failed as failed:
            sys.exit(str(failed))
    total = sum(step.seconds for step in steps)
    if options.json:
        print(json.dumps({"steps": [asdict(step) for step in steps], "seconds": total, "answer": compared}, indent=2))
    else:
        shown = Table(title="From a clone to a private answer", title_justify="left", show_footer=True)
        shown.add_column("step", f"answer off by {compared['off']:.2%} of the logits' spread", overflow="fold")
        shown.add_column("wall", f"{total:.0f} s", justify="right")
        for step in steps:
            shown.add_row(step.what, f"{step.seconds:.1f} s")
        console().print(shown)
    sys.exit(0 if compared["same"] and compared["off"] <= MOST_OFF and total <= MOST_SECONDS else 1)


if __name__ == "__main__":
    main()
