"""Measures every primitive and whole blocks under SPU by its own counters: tests/runtime/spu/counters.json.

    pip install "mpcc[spu]"
    python -m benchmarks.spu.counters [--protocol semi2k ...] [--case exp ...]      other rows stay as they are

Bytes are totals over all parties, sends the messages of all parties. Cheetah keeps state from one operation to the next
(pools, batches of triples), so that a program's second half is measured there: several copies less one copy.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from tests.models.spu_cases import cases_of, measure

ROOT = Path(__file__).parents[2]
COUNTERS = ROOT / "tests" / "runtime" / "spu" / "counters.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocol", action="append", choices=("semi2k", "aby3", "cheetah"))
    parser.add_argument("--case", action="append", help="the beginning of a case's name")
    options = parser.parse_args()
    kept: dict[str, Any] = json.loads(COUNTERS.read_text()) if COUNTERS.is_file() else {"protocols": {}}
    for protocol in options.protocol or ["semi2k", "aby3", "cheetah"]:
        before = kept["protocols"].get(protocol, {"cases": {}})["cases"]
        for name in cases_of(protocol):
            if options.case and not name.startswith(tuple(options.case)):
                continue
            before[name] = measure(name, protocol)
            print(protocol, name, before[name], flush=True)
            kept["protocols"][protocol] = {
                "spu": importlib.metadata.version("spu"),
                "date": datetime.date.today().isoformat(),
                "cases": before,
            }
            rows = {"command": "python -m benchmarks.spu.counters", **kept}
            COUNTERS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
