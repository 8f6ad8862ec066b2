"""Networks: round-trip time and bandwidth of the link between the parties.

Network.parse("lan")            -> the preset
Network.parse("20ms,100MB/s")   -> 0.02 s round trip, 100e6 bytes a second each direction
Network.parse_list("lan,20ms,100MB/s,wan")      -> three networks
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from mpcc.errors import UsageError

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_BYTES_PER_SECOND = {
    "B/s": 1.0,
    "kB/s": 1e3,
    "MB/s": 1e6,
    "GB/s": 1e9,
    "kb/s": 1e3 / 8,
    "Mb/s": 1e6 / 8,
    "Gb/s": 1e9 / 8,
}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z/]+)\s*")
_HINT = "use lan, wan, or a round-trip time and a bandwidth, such as 20ms,100MB/s (small b for bits: 1Gb/s)"


@dataclass(frozen=True)
class Network:
    """A symmetrical link: `rtt_seconds` there and back, `bandwidth` in bytes per second in each direction."""

    name: str
    rtt_seconds: float
    bandwidth: float
    source: str

    @staticmethod
    def parse(text: str | Network) -> Network:
        """A preset's name, or `RTT,BANDWIDTH` with units. UsageError for anything else."""
        if isinstance(text, Network):
            return text
        if not isinstance(text, str):
            raise UsageError(f"invalid network {text!r}", hint=_HINT)
        if text.strip() in NETWORKS:
            return NETWORKS[text.strip()]
        parts = text.split(",")
        if len(parts) != 2:
            raise UsageError(f"invalid network {text!r}", hint=_HINT)
        rtt = _quantity(parts[0], _SECONDS, "a round-trip time", text)
        bandwidth = _quantity(parts[1], _BYTES_PER_SECOND, "a bandwidth", text)
        if bandwidth <= 0:
            raise UsageError(f"invalid network {text!r}: the bandwidth must be above zero", hint=_HINT)
        return Network(text.strip(), rtt, bandwidth, "given by the user")

    @staticmethod
    def parse_list(text: str) -> list[Network]:
        """Networks with commas between them; the comma within `RTT,BANDWIDTH` does not separate two."""
        parts = text.split(",")
        found: list[Network] = []
        while parts:
            length = 1 if parts[0].strip() in NETWORKS or len(parts) == 1 else 2
            found.append(Network.parse(",".join(parts[:length])))
            parts = parts[length:]
        return found


def _quantity(text: str, units: dict[str, float], what: str, whole: str) -> float:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in units:
        raise UsageError(f"{text.strip()!r} in {whole!r} is not {what} (units: {', '.join(units)})", hint=_HINT)
    value = float(match[1]) * units[match[2]]
    if not math.isfinite(value):
        raise UsageError(f"{text.strip()!r} in {whole!r} is not finite", hint=_HINT)
    return value


LAN = Network("lan", 0.3e-3, 1e9 / 8, "one switch: gigabit Ethernet, 0.3 ms round trip")
WAN = Network("wan", 40e-3, 44e6, "two data centres: 44 MB/s, 40 ms round trip")
NETWORKS = {network.name: network for network in (LAN, WAN)}
