"""docs/engine.md from the figures of benchmarks/engine.py: tables, and each target beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Row = dict[str, Any]
COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("rounds", "rounds", lambda x: f"{x:,.0f}"),
    ("bytes", "MB online", lambda x: f"{x / 1e6:.1f}"),
    ("setup_bytes", "MB set-up, once a model", lambda x: f"{x / 1e6:.1f}"),
    ("dealer_bytes", "MB from the dealer, before the input", lambda x: f"{x / 1e6:.1f}"),
    ("error", "largest output error", lambda x: f"{x:.4f}"),
    ("failure", "failure probability", lambda x: f"{x:.1e}"),
    ("cpu", "CPU s, busier party", lambda x: f"{x:.2f}"),
    ("loopback", "s, loopback", lambda x: f"{x:.2f}"),
    ("link", "s, link", lambda x: f"{x:.2f}"),
)
RATIOS = ("rounds", "bytes", "cpu", "loopback", "link")


def page(found: Row, larger: Sequence[Row] = (), tokens: Row | None = None) -> str:
    """The page: `found` of engine.py; `larger` of vit_small.py and `tokens` of tokens.py, where they have been run."""
    stock, peer, mine = found["systems"]
    more = ["\n## Larger models\n", *map(_larger, larger)] if larger else []
    return TEXT.format(
        systems=_systems([stock, peer, mine]),
        link=found["link"],
        how=f"stock: {stock['link_how']}; mpcc: {mine['link_how']}",
        images=found["images"],
        calibration=found["calibration_images"],
        cores=found["machine"]["cores"],
        load=f"{found['machine']['load_average']:.1f}",
        torch=found["machine"]["torch"],
        gates=found["machine"]["gates"],
        targets=_targets(found, stock, mine),
        strict=_strict(found["strict"]),
        time=_time(found["time"]),
    ) + "".join(more + ([_tokens(tokens)] if tokens else []))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _systems(systems: Sequence[Row]) -> str:
    rows = [[row["system"], *(show(row[key]) if key in row else "" for key, _, show in COLUMNS)] for row in systems]
    mine = systems[-1]
    for row in systems[:-1]:
        ratios = [f"{row[key] / mine[key]:.1f}x" if key in RATIOS and key in row else "" for key, _, _ in COLUMNS]
        rows.append([f"{row['system'].split(',')[0]} / mpcc", *ratios])
    return table(["", *(title for _, title, _ in COLUMNS)], rows)


def _targets(found: Row, stock: Row, mine: Row) -> str:
    worst = max(abs(row["off"]) for row in found["time"])
    rows = [
        ("rounds online", "at most 180", f"{mine['rounds']}", mine["rounds"] <= 180),
        ("MB online", "at most 36", f"{mine['bytes'] / 1e6:.1f}", mine["bytes"] <= 36e6),
        ("largest output error", "at most 0.015", f"{mine['error']:.4f}", mine["error"] <= 0.015),
        ("failure probability", "at most 1e-6", f"{mine['failure']:.1e}", mine["failure"] <= 1e-6),
        _times("faster than stock on the link", 20, stock["link"] / mine["link"]),
        _times("faster than stock on loopback", 8, stock["loopback"] / mine["loopback"]),
        ("predicted seconds, largest deviation", "at most 10 %", f"{worst:.0%}", worst <= 0.1),
    ]
    return table(["", "target", "measured", ""], [[a, b, c, "met" if met else "**missed**"] for a, b, c, met in rows])


def _times(name: str, wanted: float, ratio: float) -> tuple[str, str, str, bool]:
    return name, f"at least {wanted:g} times", f"{ratio:.1f} times", ratio >= wanted


def _strict(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        if "refused" in row:
            lines.append([f"{row['budget']:.0e}", f"refused: {row['refused']}", *[""] * 4])
            continue
        sizes = [f"{row[key] / 1e6:.1f}" for key in ("bytes", "dealer_bytes")]
        chances = [f"{row['budget']:.0e}", f"{row['failure']:.1e}"]
        lines.append([*chances, str(row["rounds"]), *sizes, f"{row['error']:.4f}"])
    return table(
        ["failure budget", "failure probability", "rounds", "MB online", "MB of the dealer", "output error, emulated"],
        lines,
    )


def _time(rows: Sequence[Row]) -> str:
    lines = [
        [
            row["network"],
            f"{row['measured']:.2f}",
            f"{row['predicted']:.2f}",
            f"{row['off']:+.0%} ({row['off_least']:+.0%} to {row['off_most']:+.0%})",
            f"{row['from_cpu']:.2f} ({row['from_cpu'] / row['measured'] - 1:+.0%})",
            f"{row['load_average']:.1f}",
        ]
        for row in rows
    ]
    head = ["network", "measured, s", "predicted, s", "predicted / measured", "measured CPU + rounds and bytes", "load average"]
    return table(head, lines)


def _larger(found: Row) -> str:
    peaks = found["peak_bytes"]
    rows = [
        ("rounds online", f"{found['rounds']}"),
        ("MB online", f"{found['bytes'] / 1e6:.1f}"),
        ("MB set-up, once a model", f"{found['setup_bytes'] / 1e6:.1f}"),
        ("MB from the dealer", f"{found['dealer_bytes'] / 1e6:.1f}"),
        ("largest logit error", f"{found['largest_logit_error']:.4f} (logits up to {found['largest_logit']:.1f})"),
        ("seconds online, loopback", f"{found['online_seconds']:.1f} (load average {found['load_average']:.0f})"),
        *((f"GB of memory at most, {role}", f"{size / 1e9:.1f}") for role, size in peaks.items()),
    ]
    said = {name: found.get(name, default) for name, default in OF_A_LARGER.items()}
    return LARGER.format(**said, table=table(["", "measured"], rows))


OF_A_LARGER = {"model": "ViT-S/16", "width": 384, "gates": "none", "layers": 12, "command": ""}
"""What is said of a model that was run before files said it."""


def _tokens(found: Row) -> str:
    keys = ("bytes", "dealer_bytes", "stock_bytes")
    rows = [
        [str(row["tokens"]), str(row["rounds"]), *(f"{row[key] / 1e6:.1f}" for key in keys)] for row in found["sizes"]
    ]
    head = ["tokens", "rounds", "MB online", "MB from the dealer", "MB online, stock CrypTen"]
    powers = found["exponents"]
    rows.append(["exponent, all sizes", "", *(f"{powers[key]['all']:.2f}" for key in keys)])
    rows.append(["exponent, upper half", "", *(f"{powers[key]['upper_half']:.2f}" for key in keys)])
    return TOKENS.format(command=found["command"], table=table(head, rows))


LARGER = """
{model} at 224x224: {layers} layers, 197 tokens of width {width}, random weights, one image, three processes on this
machine, spline gates: {gates}: `{command}`.

{table}
"""
TOKENS = """
## Growth with tokens

One block of width 256 whose every token is needed; cost of the scheduled program, not run: `{command}`.

{table}

![MB against tokens, with exponents](tokens.png)
"""
TEXT = """# The engine, measured

Written by `python -m benchmarks.engine`, which runs both engines (needs root for the namespaces; `--quick` in short).
ViT-Lite 7/4/32 with softmax and true GELU, random weights, batch 1, weights and input secret; stock CrypTen takes
GELU as x sigmoid(1.702 x), its erf being wrong. {calibration} calibration images, {images} others run; mpcc's seconds
are the least over these. {cores} cores shared with other work (load average {load}), one thread a process,
torch {torch}, spline gates in {gates} (in numpy they are several times as dear as in C, so that fewer of them pay).

{systems}

Bytes count both directions. `link` is {link} ({how}).
Namespaces: real TCP through a forwarder that delays and paces packets of up to 16 kB (`benchmarks/netns.py`).
Set-up is paid once a model and not in the seconds, nor is the dealer's work, which is done before the input arrives;
stock CrypTen opens the weights' masks in every inference, and its dealer is party 0, who can read everything and
sends nothing. CPU seconds are of the online phase, in runs of their own. CrypTorch's figures were measured
elsewhere, at its best knobs and its largest error there; stock's failure probability is the sum
of |v| 2^-64 over its local truncations, and its error is that of one image.

## Targets

{targets}

## What a smaller failure probability costs

{strict}

## Seconds: predicted and measured

T = local work + rounds * RTT / 2 + one direction's bytes / bandwidth, on networks that the transport emulates.
Predictions are those of `mpcc.estimate` after `mpcc benchmark`. The speed of a machine that others use changes within
minutes, so calibrations and runs take turns: in each of five cycles the machine is calibrated, then eight inferences
run; of both the quarter that went best counts, and the table gives medians over the cycles and the range of their
ratios.

{time}
"""
