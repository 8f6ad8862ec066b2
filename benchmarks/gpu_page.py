"""The figures of docs/gpu.md, of docs/gpu.json: what was measured on a GPU if anything was, and what follows for a network.

docs/gpu.json: {"programs": cost by model, of this commit, "measured": what `python -m benchmarks.gpu` found, or null}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mpcc import files

DOCS = Path(__file__).parents[1] / "docs"
START, END = "<!-- figures: python -m benchmarks.gpu --page -->", "<!-- end -->"
TITLES = {"vit_lite": "ViT-Lite 7/4/32", "vit_s": "ViT-S/16", "vit_b": "ViT-B/16", "curve": "curve", "mixed": "mixed"}
LAB: dict[str, Any] = {
    "card": "one H100 80GB (SXM)",
    "date": "27 November 2026",
    "rows": (
        ("dealer's material, host to device (134 / 205 MB)", "2.64", "3.90"),
        ("masks from the seed", "0.22", "0.12"),
        ("openings: mask, cut, pack, unpack", "0.54", "0.37"),
        ("wire bytes, device to host and back (28 MB)", "0.85", "0.83"),
        ("products with weights", "0.15", "-"),
        ("products of attention", "0.09", "0.10"),
        ("row factors, sums, shifts", "0.27", "0.18"),
        ("gates of rows (rsqrt, 1/x)", "0.62", "0.56"),
        ("exp", "1.98", "1.95"),
        ("GELU", "3.62", "3.63"),
        ("**a layer, as a CUDA graph**", "**10.1**", "**11.2**"),
        ("**12 layers, an image**", "**121**", "**134**"),
    ),
    "dealer_ms": 10,
}
"""A prototype's figures (other CUDA code, one layer of ViT-B/16, no network and no other party), each checked against the CPU bit
by bit: what the hardware allows, and no measurement of mpcc."""
PARTY_SECONDS = 0.134
"""Of the slower party, for 12 layers."""
NETWORKS = ((1.0, 2e-4), (10.0, 1e-4), (100.0, 2e-5))
"""Gb/s, and seconds of a round trip: Ethernet in one data centre."""


def write(known: Mapping[str, Any]) -> None:
    """docs/gpu.md with the figures of docs/gpu.json."""
    page = DOCS / "gpu.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    files.write(page, f"{before}{START}\n{text(known)}{END}{after}")


def text(known: Mapping[str, Any]) -> str:
    measured = known.get("measured")
    parts = ["## Figures\n", *(_not_measured() if measured is None else _measured(measured))]
    parts += _networks(known["programs"].get("vit_b"))
    return "\n".join(parts) + "\n"


NOT_MEASURED = """\
**Not measured on this commit.** `python -m benchmarks.gpu` is the prepared run: kernels, products, gates, masks, parties of three
ViTs, processes on sockets, the dealer and emulation, in six minutes on one GPU; every session is held against the CPU's. What a
prototype reached on {card} ({date}; other code, one party of one layer of ViT-B/16 at batch 1, no network):

| one layer, ms | server | client |
| --- | ---: | ---: |"""
PROTOTYPE = """
The same gates take a thread of a CPU 10.9 s for the 12 layers. Nine tenths of the arithmetic are AES (36 x 10^9 blocks a second);
a batch brings nothing, since one image fills the card. The prototype replayed a layer as a CUDA graph; mpcc launches kernel by
kernel, and each launch costs some microseconds more.
"""
SETTING = """\
One inference at a time. Where the dealer's bytes are the bound, a dealer beside each party (a trusted box in either machine's
rack, on a link of its own) or keys on disk (`--material`, read at the speed of the disk) remove it. A GPU that deals made the
keys of an image in about {dealer_ms} ms in the prototype, so one serves many pairs.
"""


def _not_measured() -> Iterator[str]:
    yield NOT_MEASURED.format(**LAB)
    for name, server, client in LAB["rows"]:
        yield f"| {name} | {server} | {client} |"
    yield PROTOTYPE


def _measured(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['device']}, {found['date']}, commit {found['commit'][:10]}, torch {found['torch']}.\n"
    yield "| one party, one image | server, s | client, s | CPU, s | dealing, s | processes, s | rounds |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for name, title in TITLES.items():
        alone, both = found.get(f"{name}: parties"), found.get(f"{name}: processes", {})
        if alone and "server_s" in alone:
            times = f"{alone['server_s']:.3f} | {alone['client_s']:.3f} | {alone['cpu_server_s']:.2f}"
            times += f" | {alone['dealing_s']:.3f}"
            yield f"| {title} | {times} | {_or(both.get('seconds'))} | {alone['rounds']} |"
    yield "\n| product (batch, rows, terms, columns) | digits, ms | limbs, ms | words, ms | CrypTen's, ms | taken |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    for row in rows if isinstance(rows := found["products"], list) else ():
        ways = " | ".join(_or(row.get(f"{way}_ms")) for way in ("digits", "limbs", "words", "peer"))
        yield f"| {' x '.join(map(str, row['shape']))}{', a weight' if row['weight'] else ''} | {ways} | {row['chosen']} |"
    for name, title in TITLES.items():
        if isinstance(kinds := found.get(f"{name}: gates"), list):
            yield f"\n| gates of {title} | elements | party, ns each | dealer, ns each | 10^9 AES blocks/s |"
            yield "| --- | ---: | ---: | ---: | ---: |"
            for row in kinds:
                kind = f"2^{row['depth']} places, {row['pieces']} pieces, degree {row['degree']}"
                rates = f"{row['party_ns']:.2f} | {row['dealer_ns']:.2f} | {row['blocks_per_s'] / 1e9:.1f}"
                yield f"| {kind} | {row['elements']:,} | {rates} |"
    yield from _rates(found["memory"], found["emulation"])


def _rates(memory: Mapping[str, Any], emulated: Mapping[str, Any]) -> Iterator[str]:
    missing = [what for what, found in (("copies", memory), ("emulation", emulated)) if "not reached" in found]
    if missing:
        yield f"\nNot reached within the time: {', '.join(missing)}."
        return
    yield f"\nMasks {memory['masks_gb_per_s']:.0f} GB/s (a CPU thread {memory['masks_cpu_gb_per_s']:.1f}); copies to the device "
    to_host, within = memory["to_host_gb_per_s"], memory["copy_gb_per_s"]
    yield f"{memory['to_device_gb_per_s']:.0f}, to the host {to_host:.0f}, within it {within:.0f}."
    each = emulated["images"] / emulated["seconds"]
    yield f"Emulation: {emulated['images']:,} images in {emulated['seconds']:.1f} s, {each:.0f}/s"
    yield f"(CPU {emulated['cpu_images_per_s']:.1f}/s).\n"


def _or(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _networks(cost: Mapping[str, int] | None) -> Iterator[str]:
    """What bytes alone allow, for a party as fast as the prototype."""
    if cost is None:
        return
    yield "### What a network makes of it\n"
    yield f"ViT-B/16 on this commit: {cost['rounds']} rounds, {cost['busier_bytes'] / 1e6:,.0f} MB between parties (one way),"
    both = cost["dealer_bytes"] / 1e9
    yield f"{cost['busier_dealer_bytes'] / 1e9:.2f} GB from the dealer on the busier of its links ({both:.2f} GB on both). With"
    yield f"parties as fast as the prototype ({PARTY_SECONDS} s), an image takes and a pair of parties answers:\n"
    yield "| network | latency of an image, s | images/s, dealer over the same network | images/s, material there beforehand |"
    yield "| --- | ---: | ---: | ---: |"
    for speed, trip in NETWORKS:
        line = speed * 1e9 / 8
        wire = cost["busier_bytes"] / line + cost["rounds"] * trip / 2
        latency = PARTY_SECONDS + wire
        dealt = 1 / max(latency, cost["busier_dealer_bytes"] / line)
        yield f"| {speed:g} Gb/s | {latency:.2f} | {dealt:.2f} | {1 / latency:.2f} |"
    yield ""
    yield SETTING.format(**LAB)


def known() -> dict[str, Any]:
    """docs/gpu.json, or what it is before anything was measured."""
    path = DOCS / "gpu.json"
    return dict(json.loads(path.read_text())) if path.exists() else {"programs": {}, "measured": None}


def keep(found: Mapping[str, Any]) -> None:
    """Write docs/gpu.json and the page."""
    (DOCS / "gpu.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    write(found)
