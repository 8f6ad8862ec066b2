"""Whole models under SPU, its parties in processes of their own: answers, bytes and messages against emulation and cost model.

    python -m benchmarks.spu.models [--python PATH] [--model digits ...] [--protocol semi2k ...] [--images N] [--bundles FOLDER]

Rows that were not asked for stay as they are; docs/spu.md is written from docs/spu.json. Bytes and messages are those of all
parties, on average over the inferences behind the first: what Cheetah's price means, where some refill a pool and others do not.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mpcc
from examples.digits_vit.model import digits_vit
from examples.fashion_vit.model import fashion_vit
from mpcc import files, registry
from mpcc.runtime.spu.running import predicted, run_calls
from mpcc.training.datasets import built_in
from tests.models.vit_lite import smooth_image, vit_lite_7_4_32

DOCS = Path(__file__).parents[2] / "docs"
JSON, PAGE, PLANS = DOCS / "spu.json", DOCS / "spu.md", DOCS / "spu-plans.json"
PROTOCOLS = ("semi2k", "aby3", "cheetah")
CALIBRATION = 128
IMAGES = {"digits": 100, "fashion": 4, "vit_lite": 2}
CHEETAH_IMAGES = {"digits": 20, "fashion": 2, "vit_lite": 2}
"""So many that a row takes some ten minutes of two cores: an inference under Cheetah is 25 s to 5 min of processor time."""


def data_of(build: Callable[[], Any], name: str) -> tuple[nn.Module, Tensor | None, Tensor]:
    found = built_in(name)
    assert found.test is not None
    return build()[0].eval(), found.images[:CALIBRATION], found.test[0]


def random_vit_lite() -> tuple[nn.Module, Tensor | None, Tensor]:
    """ViT-Lite 7/4/32 with random weights, on smooth random images."""
    return vit_lite_7_4_32()[0], smooth_image(32, seed=2, batch=64), smooth_image(32, seed=3, batch=8)


MODELS: dict[str, Callable[[], tuple[nn.Module, Tensor | None, Tensor]]] = {
    "digits": lambda: data_of(digits_vit, "digits"),
    "fashion": lambda: data_of(fashion_vit, "fashion-mnist"),
    "vit_lite": random_vit_lite,
}


def bundle_of(name: str, protocol: str, folder: Path) -> Path:
    """The bundle in the folder, made where it is not there yet."""
    place = folder / f"{name}-{protocol}"
    if not place.exists():
        model, calibration, images = MODELS[name]()
        found = mpcc.optimize(
            model, (images[:1],), calibration=calibration, protocol=protocol, machine="reference", network="lan"
        )
        found.save(place)
    return place


def row(name: str, protocol: str, count: int, python: Path | None, bundle: Path) -> dict[str, Any]:
    """One plan, `count` inferences."""
    model, _, images = MODELS[name]()
    images = images[:count]
    executable = mpcc.load(bundle)
    emulated = executable.emulate(images, check=False)
    assert isinstance(emulated, Tensor) and executable.circuit is not None
    with torch.no_grad():
        plain = model(images)
    done = run_calls(executable, list(executable.calls(images)), python)
    answers = torch.cat([one.outputs[0] if executable.answers is None else executable.answers.of(one.outputs)[0] for one in done])
    price, counted = predicted(executable.circuit.circuit), done[1:] or done
    return {
        "model": name,
        "protocol": protocol,
        "images": len(images),
        "fraction_bits": executable.circuit.circuit.fraction_bits,
        "as_emulation": int((answers.argmax(-1) == emulated.argmax(-1)).sum()),
        "as_float": int((answers.argmax(-1) == plain.argmax(-1)).sum()),
        "logits_off": float((answers - plain).abs().max()),
        "bytes": round(statistics.fmean(one.bytes for one in counted)),
        "predicted_bytes": round(float(price.bytes)),
        "first_bytes": done[0].bytes,
        "predicted_first_bytes": round(float(price.bytes) + float(price.setup.bytes)),
        "first_messages": done[0].messages,
        "predicted_first_messages": round(float(price.messages) + float(registry.protocol(protocol).fixed.setup.messages)),
        "messages": round(statistics.fmean(one.messages for one in counted)),
        "predicted_messages": round(float(price.messages)),
        "predicted_hops": round(float(price.rounds)),
        "date": datetime.date.today().isoformat(),
    }


def page(rows: list[dict[str, Any]], plans: list[dict[str, Any]]) -> str:
    head = Path(__file__).with_name("models.md").read_text(encoding="utf-8")
    lines = [
        "| model | protocol | bits | top class as emulation | as float | logits off | MB | off | messages | off | hops "
        "| first MB | off | first messages | off |",
        f"| --- | --- |{' ---: |' * 13}",
    ]
    for one in rows:
        lines.append(
            f"| {one['model']} | {one['protocol']} | {one['fraction_bits']} | {one['as_emulation']} of {one['images']} "
            f"| {one['as_float']} of {one['images']} | {one['logits_off']:.2g} | {one['bytes'] / 1e6:.2f} | {off(one, 'bytes')} "
            f"| {one['messages']:,} | {off(one, 'messages')} | {one['predicted_hops']:,} | {first(one)} |"
        )
    return head.replace("{table}", "\n".join(lines)).replace("{plans}", section(plans) if plans else "")


def section(rows: list[dict[str, Any]]) -> str:
    """What benchmarks.spu.plans found; what was run stands for what was predicted."""
    text = Path(__file__).with_name("plans.md").read_text(encoding="utf-8")
    lines = ["| chosen for | right | hops | messages | MB | seconds |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for one in rows:
        messages, size = one.get("messages", one["predicted_messages"]), one.get("bytes", one["predicted_bytes"])
        seconds = f"{one['seconds']:.2f}" if "seconds" in one else "not timed"
        right = f"{one['right']} of {one['images']}"
        lines.append(f"| {one['chosen_for']} | {right} | {one['hops']:,} | {messages:,} | {size / 1e6:.2f} | {seconds} |")
    return text.replace("{plans}", "\n".join(lines))


def first(row: dict[str, Any]) -> str:
    """The first inference of a session, which pays the set-up too; blank where it is as all others or was not counted."""
    if row["protocol"] != "cheetah" or "first_messages" not in row:
        return " | | | "
    size, messages = f"{row['first_bytes'] / 1e6:.2f}", f"{row['first_messages']:,}"
    return f"{size} | {off(row, 'first_bytes')} | {messages} | {off(row, 'first_messages')}"


def off(row: dict[str, Any], name: str) -> str:
    """How far what was counted is from its prediction."""
    counted, expected = row[name], row[f"predicted_{name}"]
    return "0" if counted == expected else f"{counted / expected - 1:+.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--python", type=Path, help="the interpreter that has SPU, where this one has not")
    parser.add_argument("--model", action="append", choices=tuple(MODELS))
    parser.add_argument("--protocol", action="append", choices=PROTOCOLS)
    parser.add_argument("--images", type=int, help="instead of what fits into some ten minutes")
    parser.add_argument("--bundles", type=Path, help="where bundles are kept, and taken from; else they are made anew")
    parser.add_argument("--page", action="store_true", help="run nothing: write docs/spu.md of what is known")
    options = parser.parse_args()
    if options.page:
        write_page(json.loads(JSON.read_text(encoding="utf-8")))
        return
    with tempfile.TemporaryDirectory() as made:
        rows(options, options.bundles or Path(made))


def write_page(kept: list[dict[str, Any]]) -> None:
    files.write(PAGE, page(kept, json.loads(PLANS.read_text(encoding="utf-8")) if PLANS.is_file() else []))


def rows(options: argparse.Namespace, bundles: Path) -> None:
    for name in options.model or MODELS:
        for protocol in options.protocol or PROTOCOLS:
            count = options.images or (CHEETAH_IMAGES if protocol == "cheetah" else IMAGES)[name]
            found = row(name, protocol, count, options.python, bundle_of(name, protocol, bundles))
            print(json.dumps(found), flush=True)
            kept = json.loads(JSON.read_text(encoding="utf-8")) if JSON.is_file() else []
            kept = [one for one in kept if (one["model"], one["protocol"]) != (name, protocol)] + [found]
            kept.sort(key=lambda one: (list(MODELS).index(one["model"]), PROTOCOLS.index(one["protocol"])))
            files.write(JSON, json.dumps(kept, indent=1) + "\n")
            write_page(kept)


if __name__ == "__main__":
    main()
