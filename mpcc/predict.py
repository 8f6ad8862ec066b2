"""The cost of a scheduled program as an Estimate: rounds and bytes exact, seconds from the machine and the network."""

from __future__ import annotations

from .cost import Estimate, Network, PhaseCost, Protocol, SiteCost
from .schedule import Program
from .schedule.traffic import Work, attributed_rounds, rows, work


def program_estimate(program: Program, protocol: Protocol, network: Network) -> Estimate:
    """What one inference of this very program costs.

    seconds = local work of the busier party + rounds * rtt_per_round * RTT + bytes of one direction / bandwidth.
    """
    cost = program.cost
    found = rows(program)
    shares = attributed_rounds(found)
    local = max(_seconds(work(program, "online", party), protocol) for party in (0, 1))
    offline = max(_seconds(work(program, "offline", party), protocol) for party in (0, 1))
    latency = protocol.rtt_per_round * network.rtt_seconds
    total_bytes = max(1, sum(row.bytes for row in found))
    sites = tuple(
        SiteCost(
            row.site,
            row.layer,
            row.primitive,
            rounds,
            row.bytes,
            rounds * latency + row.bytes / 2 / network.bandwidth + local * row.bytes / total_bytes,
        )
        for row, rounds in zip(found, shares, strict=True)
    )
    return Estimate(
        protocol=protocol.name,
        network=network.name,
        rounds=cost.rounds,
        bytes=cost.bytes,
        seconds=local + cost.rounds * latency + cost.bytes / 2 / network.bandwidth,
        setup=PhaseCost(cost.setup_rounds, cost.setup_bytes, cost.setup_rounds * latency + cost.setup_bytes / network.bandwidth),
        offline=PhaseCost(1, cost.dealer_bytes, offline + latency + cost.dealer_bytes / network.bandwidth),
        sites=sites,
    )


def _seconds(amount: Work, protocol: Protocol) -> float:
    compute = protocol.compute
    return amount.kernels * compute.per_kernel + amount.elements * compute.per_element + amount.macs * compute.per_mac
