"""SPU's own counters, which it writes to its log only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .job import Row

_COUNTED = r"send bytes (\d+) recv bytes \d+, send actions (\d+), recv actions \d+"
_ROW = re.compile(rf"- (pphlo\.[\w.]+), executed (\d+) times, duration [\d.e+-]+s, {_COUNTED}")
_TOTAL = re.compile(r"Link details: total send bytes (\d+), recv bytes \d+, send actions (\d+)")


def counted(log: str) -> list[tuple[int, int, list[tuple[str, Row]]]]:
    """(bytes sent, messages sent, rows of operations) of each run that a log tells of, in the order of their ends."""
    found, rows = [], list[tuple[str, Row]]()
    for line in log.splitlines():
        if row := _ROW.search(line):
            rows.append((row[1], Row(int(row[2]), int(row[3]), int(row[4]))))
        if total := _TOTAL.search(line):
            found.append((int(total[1]), int(total[2]), rows))
            rows = []
    return found


def together(several: Sequence[Mapping[str, Row]]) -> dict[str, Row]:
    """The rows of all parties: as many calls as one made, all bytes and messages."""
    rows: dict[str, Row] = {}
    for one in several:
        for name, row in one.items():
            before = rows.get(name, Row(row.calls, 0, 0))
            rows[name] = Row(row.calls, before.bytes + row.bytes, before.sends + row.sends)
    return rows
