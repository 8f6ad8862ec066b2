"""How far one machine goes: the compiler on ViT-B/16 and ViT-L/16, two workers against one, a private ViT-B/16, a training step.

    python -m benchmarks.scale                        everything, and docs/scale.json and docs/scale.md
    python -m benchmarks.scale --only workers         one of compile, large, workers, run, training; what was measured is kept
    python -m benchmarks.scale --quick                two layers, nothing written

Random weights. Each row is a process of its own, so that its peak is its own, and has the load average when it began: rows of a
busy machine are marked on the page. Needs 20 GB for ViT-L/16.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import unittest.mock
from pathlib import Path
from typing import Any

import torch

import mpcc
from benchmarks import vit_b
from benchmarks.vit_small import peak_bytes
from mpcc import workers
from mpcc.search import cache
from mpcc.training.epoch import Epoch
from mpcc.training.trainer import Trainer
from tests.models.vit_lite import VisionTransformer, randomize, smooth_image

DOCS = Path(__file__).parents[1] / "docs"
COMMAND = "python -m benchmarks.scale"
SIZES = {"ViT-B/16": (768, 12, 12, 3072), "ViT-L/16": (1024, 24, 16, 4096)}
"""Width, layers, heads, hidden size."""
GOALS = {"seconds": {0: 40.0, 64: 240.0}, "bytes": 6e9, "large bytes": 20e9, "program": 2e6, "ratio": 1.6}
KINDS = ("compile", "large", "workers", "run", "training")
PAIRS = 3
BUSY = 1.0
"""Load average above which times say little."""
SEARCH = {"image": 32, "patch": 4, "width": 96, "depth": 6, "heads": 4, "hidden": 192, "classes": 10}
"""The model of the comparison of workers: 18 sites, of which a run takes a quarter of a second."""


def exported(folder: Path, name: str, quick: bool) -> Path:
    """A model as an ONNX file; two of its layers when it has to be quick."""
    width, depth, heads, hidden = SIZES[name]
    model = VisionTransformer(
        image=224, patch=16, width=width, depth=2 if quick else depth, heads=heads, hidden=hidden, classes=1000
    )
    path = folder / f"{name.replace('/', '_')}.onnx"
    with torch.no_grad():
        torch.onnx.export(randomize(model).eval(), (smooth_image(224),), str(path), opset_version=18, dynamo=False)
    return path


# ---- rows, each in a process of its own ----------------------------------------------------------------------------------


def compiled(quick: bool, images: int) -> dict[str, Any]:
    """`mpcc.optimize` of ViT-B/16, level structural, half the accurate plan's time."""
    with tempfile.TemporaryDirectory() as folder:
        path = exported(Path(folder), "ViT-B/16", quick)
        budget = json.loads(child("half", quick, 0, str(path)))
        row = vit_b.measure(path, images, mpcc.Budget(budget, "seconds"))
    return {key: row[key] for key in ("images", "wall", "processor", "peak_bytes", "program_bytes", "stages")}


def half(path: str) -> float:
    """Seconds: apart, so that it adds nothing to the peak."""
    return vit_b.half(Path(path)).amount


def large(quick: bool) -> dict[str, Any]:
    """`mpcc.optimize` of ViT-L/16 without calibration and without a budget."""
    with tempfile.TemporaryDirectory() as folder:
        path = exported(Path(folder), "ViT-L/16", quick)
        start, processor = time.perf_counter(), time.process_time()
        made = mpcc.optimize(path, network="wan", machine="reference")
    return {
        "wall": time.perf_counter() - start,
        "processor": time.process_time() - processor,
        "peak_bytes": own_peak(),
        "program_bytes": len(made.program.to_json()),
    }


def searched(quick: bool, count: int, backend: str) -> dict[str, Any]:
    """One search on so many workers, each with one thread: its seconds and a hash of its plan."""
    torch.set_num_threads(1)
    model = randomize(VisionTransformer(**SEARCH | ({"depth": 2} if quick else {}))).eval()
    size = SEARCH["image"]
    images = torch.cat([smooth_image(size, seed=seed) for seed in range(1000, 1128)])
    with workers.on(count, backend or None), unittest.mock.patch.object(cache, "read", lambda key: {}):
        start = time.perf_counter()
        made = mpcc.optimize(
            model, (images[:1],), calibration=images, level="structural", budget="2s", network="wan", machine="reference",
            effort=10.0 if quick else 120.0, compensate=False,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    return {"wall": seconds, "plan": hashlib.sha256(made.plan.to_json().encode()).hexdigest()}


def private(quick: bool) -> dict[str, Any]:
    """ViT-B/16 from the file to a private answer on three processes of this machine, as the command line does it."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        path = exported(Path(folder), "ViT-B/16", quick)
        start = time.perf_counter()
        command = [sys.executable, "-m", "mpcc", "optimize", str(path), "--budget", "30s", "--network", "lan", "-o", "b.mpcc"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds, compiler = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        width, depth, heads, hidden = SIZES["ViT-B/16"]
        model = randomize(VisionTransformer(
            image=224, patch=16, width=width, depth=2 if quick else depth, heads=heads, hidden=hidden, classes=1000
        )).eval()  # fmt: skip
        image = smooth_image(224, seed=1)
        with torch.no_grad():
            expected = model(image)
        program = (Path("b.mpcc") / "program.json").stat().st_size
        with mpcc.load("b.mpcc").session() as session:
            run = session.run(image)
            peaks = {role: peak_bytes(process.pid) for role, process in session.opened.processes.items()}
    return {
        "optimize_seconds": seconds, "program_bytes": program, "rounds": run.rounds, "bytes": run.bytes,
        "online_seconds": run.seconds, "setup_seconds": run.setup.seconds,
        "largest_logit": float(expected.abs().max()), "largest_error": float((run.output - expected).abs().max()),
        "same_top1": bool((run.output.argmax(-1) == expected.argmax(-1)).all()), "peak_bytes": peaks | {"compiler": compiler},
    }  # fmt: skip


def trained(quick: bool) -> dict[str, Any]:
    """The part of a step of training that is spent on choosing, moving and copying images: processor time of this thread."""
    torch.set_num_threads(1)
    model = VisionTransformer(image=8, patch=2, width=64, depth=3, heads=4, hidden=128, classes=10)
    model.patch_embed.proj = torch.nn.Conv2d(1, 64, 2, 2)  # the digits are grey
    took = {"images": 0.0, "step": 0.0}

    def timed(name: str, function: Any) -> Any:
        def call(*args: Any) -> Any:
            start = time.thread_time()
            found = function(*args)
            took[name] += time.thread_time() - start
            return found

        return call

    patches = [(Epoch, "batch", "images"), (Trainer, "_images", "images"), (Trainer, "_one", "step")]
    with contextlib.ExitStack() as stack:
        for owner, name, kind in patches:
            stack.enter_context(unittest.mock.patch.object(owner, name, timed(kind, getattr(owner, name))))
        hyper = mpcc.training.Hyperparameters(epochs=1 if quick else 3)
        mpcc.tune(randomize(model).eval(), "digits", (torch.zeros(1, 1, 8, 8),), method="relu-softmax", search_epochs=1,
                  hyperparameters=hyper, machine="reference", compensate=False)  # fmt: skip
    return {"parameters": sum(p.numel() for p in model.parameters()), "share": took["images"] / took["step"], **took}


def own_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def child(kind: str, quick: bool, count: int = 0, text: str = "") -> str:
    """The last line that a row's process prints."""
    command = [sys.executable, "-m", "benchmarks.scale", "--row", kind, "--count", str(count), "--text", text]
    done = subprocess.run([*command, *(["--quick"] if quick else [])], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().splitlines()[-1]


def row(kind: str, quick: bool, count: int, text: str) -> Any:
    """What a process of its own measures."""
    load = os.getloadavg()[0]
    found: Any = {
        "half": lambda: half(text), "compile": lambda: compiled(quick, count), "large": lambda: large(quick),
        "workers": lambda: searched(quick, count, text), "run": lambda: private(quick), "training": lambda: trained(quick),
    }[kind]()  # fmt: skip
    return found if kind == "half" else {**found, "load": load}


# ---- all of them -------------------------------------------------------------------------------------------------------


def pairs(quick: bool) -> dict[str, Any]:
    """Searches on one worker and on two in turn; on Ray once, where it is installed."""
    counts = (1, 2) * (1 if quick else PAIRS)
    rows = [json.loads(child("workers", quick, count)) | {"count": count} for count in counts]
    ratios = [one["wall"] / two["wall"] for one, two in zip(rows[::2], rows[1::2], strict=True)]
    with contextlib.suppress(ImportError):
        import ray  # noqa: F401

        rows.append(json.loads(child("workers", quick, 2, "ray")) | {"count": 2, "backend": "ray"})
    return {"rows": rows, "ratio": statistics.median(ratios), "same_plan": len({one["plan"] for one in rows}) == 1,
            "load": max(one["load"] for one in rows)}  # fmt: skip


def page(found: dict[str, Any]) -> str:
    """docs/scale.md."""
    lines = ["# Scale", "", f"Written by `{found['command']}` on {found['cores']} cores; random weights.", ""]
    if "compile" in found:
        lines += [
            "| ViT-B/16, structural, half the accurate plan's time | wall, s (goal) | processor, s | peak, GB (goal 6) | "
            "program.json, MB (goal 2) | load |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for one in found["compile"]:
            what = f"{one['images']} images" if one["images"] else "without calibration"
            lines.append(
                f"| {what} | {one['wall']:.0f} ({GOALS['seconds'][one['images']]:.0f}) | {one['processor']:.0f} | "  # type: ignore[index]
                f"{one['peak_bytes'] / 1e9:.1f} | {one['program_bytes'] / 1e6:.2f} | {load_of(one)} |"
            )
        lines.append("")
    if "large" in found:
        one = found["large"]
        lines += [
            f"ViT-L/16 (304 million parameters), without calibration and budget: {one['wall']:.0f} s, "
            f"{one['peak_bytes'] / 1e9:.1f} GB (goal 20), program.json {one['program_bytes'] / 1e6:.2f} MB; load {load_of(one)}.",
            "",
        ]  # fmt: skip
    if "workers" in found:
        one = found["workers"]
        local = [r for r in one["rows"] if "backend" not in r]
        walls = {count: [f"{r['wall']:.0f}" for r in local if r["count"] == count] for count in (1, 2)}
        same = "The plan is the same, byte for byte" if one["same_plan"] else "**The plans differ**"
        ray = ", and on Ray" if any("backend" in r for r in one["rows"]) else ""
        lines += [
            f"Two workers against one (`--workers`, one thread each, in turn): {', '.join(walls[2])} s against "
            f"{', '.join(walls[1])} s, {one['ratio']:.2f} times as fast (goal 1.6). {same}{ray}. Load {load_of(one)}.", "",
        ]  # fmt: skip
    if "run" in found:
        one = found["run"]
        lines += [
            f"ViT-B/16, `mpcc optimize --budget 30s --network lan` and one private inference on this machine: "
            f"{one['optimize_seconds']:.0f} s; {one['rounds']} rounds, {one['bytes'] / 1e6:.0f} MB, "
            f"{one['online_seconds']:.1f} s online, {one['setup_seconds']:.1f} s of set-up. "
            f"Largest logit error {one['largest_error']:.3f} of "
            f"{one['largest_logit']:.2f}, the top class is {'the same' if one['same_top1'] else '**another**'}. Peak memory: "
            + ", ".join(f"{role} {size / 1e9:.1f} GB" for role, size in one["peak_bytes"].items()) + f". Load {load_of(one)}.",
            "",
        ]  # fmt: skip
    if "training" in found:
        one = found["training"]
        lines += [
            f"Training of a ViT with {one['parameters']:,} parameters on one thread: choosing, moving and copying images takes "
            f"{100 * one['share']:.1f} % of a step's processor time (goal 10).", "",
        ]  # fmt: skip
    return "\n".join(lines)


def load_of(one: dict[str, Any]) -> str:
    return f"{one['load']:.1f}" + (" (busy: times say little)" if one["load"] > BUSY else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=KINDS, action="append")
    parser.add_argument("--quick", action="store_true", help="two layers, nothing written")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--text", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.row is not None:
        print(json.dumps(row(asked.row, asked.quick, asked.count, asked.text)))
        return
    kinds = asked.only or KINDS
    place, found = DOCS / "scale.json", dict[str, Any]()
    if asked.only and place.exists():
        found = json.loads(place.read_text(encoding="utf-8"))
    found |= {"command": COMMAND, "cores": os.cpu_count()}
    for kind in kinds:
        if kind == "compile":
            found[kind] = [json.loads(child(kind, asked.quick, images)) for images in (0, 2 if asked.quick else 64)]
        else:
            found[kind] = pairs(asked.quick) if kind == "workers" else json.loads(child(kind, asked.quick))
        print(kind, json.dumps(found[kind]), flush=True)
        if not asked.quick:
            place.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            (DOCS / "scale.md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
