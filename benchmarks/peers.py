"""docs/peers.md: mpcc beside the published systems, mpcc's row from what `python -m benchmarks.engine` measured last.

    python -m benchmarks.peers

Nothing is run here: figures of other systems stand below with how each was obtained, mpcc's are read from docs/engine.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpcc import files

DOCS = Path(__file__).parents[1] / "docs"
RUN, CODE, LOGS = "run", "from its code", "published logs"


@dataclass(frozen=True)
class Peer:
    """One system on ViT-Lite 7/4/32, softmax and GELU exact, batch 1, all secret. MB in both directions; None: not known."""

    system: str
    trust: str
    rounds: str
    megabytes: str
    dealer: str
    error: str
    obtained: str


PEERS = (
    Peer("stock CrypTen 0.4.1", "2 + dealer", "1317", "440.8", "dealer is party 0", ".023-.036", RUN),
    Peer("SHAFT (NDSS 2025)", "2 + dealer", "854", "539", "160", ".093 (softmax)", f"{RUN}; dealer {CODE}"),
    Peer("CrypTorch (arXiv 2511.19711), best settings found by hand", "2 + dealer", "646", "147.5", "", ".031-.035", RUN),
    Peer("SIGMA (PoPETs 2024), ring of 37 bits", "2 + dealer", "742", "52", "1,715", "", CODE),
    Peer("SIGMA, ring of 50 bits", "2 + dealer", "742", "71", "2,352", "", CODE),
    Peer("SIGMA, ring of 64 bits", "2 + dealer", "742", "90", "3,072", "", CODE),
    Peer("NssMPClib", "2 + dealer", "about 800", "180", "over 1,400 for GELU alone", "", CODE),
    Peer("SPU 0.9.5, SEMI2K, GELU by tanh", "2 + dealer", "1781 one-way", "348", "rank 0 is the dealer", ".015", RUN),
    Peer("SPU, ABY3, GELU by tanh", "3, honest majority", "2418 one-way", "439", "none", ".015", RUN),
    Peer("SPU, Cheetah, GELU by tanh", "2, no dealer", "4115 one-way", "1783", "none", ".015", RUN),
)
LARGER = (
    ("SIGMA, ViT-S/16, 224x224", "1296", "968", "31,900", CODE),
    ("SIGMA, ViT-B/16, 224x224", "1296", "1,937", "64,400", CODE),
    ("CryptPEFT's wholly secret ViT-B/16", "844", "5,046", "", LOGS),
    ("CryptPEFT, public backbone, secret adapter and head", "29", "57-64", "", LOGS),
)


def own(engine: dict[str, Any]) -> Peer:
    """mpcc's row as it was measured."""
    found = next(row for row in engine["systems"] if row["system"] == "mpcc")
    mega = {key: f"{found[key] / 1e6:.1f}" for key in ("bytes", "dealer_bytes")}
    return Peer(
        "**mpcc**", "2 + dealer", str(found["rounds"]), mega["bytes"], mega["dealer_bytes"], f"{found['error']:.4f}",
        "run: `python -m benchmarks.engine`",
    )  # fmt: skip


def page(engine: dict[str, Any]) -> str:
    lines = [
        "| system | parties | rounds | MB online | MB of the dealer or of keys | largest output error | obtained |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in (*PEERS, own(engine)):
        lines.append(
            f"| {row.system} | {row.trust} | {row.rounds} | {row.megabytes} | {row.dealer} | {row.error} | {row.obtained} |"
        )
    larger = ["| system | rounds | MB online | MB of keys | obtained |", "| --- | ---: | ---: | ---: | --- |"]
    larger += [f"| {' | '.join(row)} |" for row in LARGER]
    head = Path(__file__).with_name("peers.md").read_text(encoding="utf-8")
    return head.replace("{table}", "\n".join(lines)).replace("{larger}", "\n".join(larger))


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None).parse_args()
    engine = json.loads((DOCS / "engine.json").read_text(encoding="utf-8"))
    files.write(DOCS / "peers.md", page(engine))


if __name__ == "__main__":
    main()
