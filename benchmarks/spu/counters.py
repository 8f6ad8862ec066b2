"""Measures every primitive and whole blocks under SPU by its own counters: tests/spu_counters/counters.json.

    pip install "mpcc[spu]"
    python benchmarks/spu/counters.py [--protocol semi2k ...]     writes what it measured; other protocols' rows stay

Bytes are totals over all parties, sends the messages of all parties. Cheetah keeps state from one operation to the next
(pools, batches of triples), so that a program's second half is measured there: several copies less one copy.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
COUNTERS = ROOT / "tests" / "spu_counters" / "counters.json"


def measured(protocol: str) -> dict[str, dict[str, int]]:
    from tests.spu_counters.cases import cases_of, measure

    found = {}
    for name in cases_of(protocol):
        found[name] = measure(name, protocol)
        print(protocol, name, found[name], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocol", action="append", choices=("semi2k", "aby3", "cheetah"))
    protocols = parser.parse_args().protocol or ["semi2k", "aby3", "cheetah"]
    kept: dict[str, Any] = json.loads(COUNTERS.read_text()) if COUNTERS.is_file() else {"protocols": {}}
    for protocol in protocols:
        kept["protocols"][protocol] = {
            "spu": importlib.metadata.version("spu"),
            "date": datetime.date.today().isoformat(),
            "cases": measured(protocol),
        }
    rows = json.dumps({"command": "python benchmarks/spu/counters.py", **kept}, indent=1, sort_keys=True)
    COUNTERS.write_text(rows + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
