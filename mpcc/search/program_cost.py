"""The cost of a scheduled program as an Estimate: rounds and bytes exact, seconds from the machine and the network."""

from __future__ import annotations

from mpcc.cost import Compute, Estimate, Network, PhaseCost, Protocol, SiteCost
from mpcc.program import Program
from mpcc.program.local import Local
from mpcc.program.traffic import attributed_rounds, rows, work


def program_estimate(program: Program, protocol: Protocol, network: Network, compute: Compute) -> Estimate:
    """What one inference of this very program costs, where local work takes what `compute` says.

    seconds = local work of the busier party + rounds * rtt_per_round * RTT + bytes of the busier direction / bandwidth.
    """
    cost, found = program.cost, rows(program)
    shares = attributed_rounds(found)
    local = max(_seconds(work(program, "online", party), compute) for party in (0, 1))
    local += cost.rounds * compute.per_round + cost.bytes * compute.per_byte
    offline = max(_seconds(work(program, "offline", party), compute) for party in (0, 1))
    latency = protocol.rtt_per_round * network.rtt_seconds
    setup = cost.setup_rounds * latency + cost.setup_bytes / network.bandwidth
    before, busier = cost.dealer_bytes + cost.ahead_bytes, cost.busier_dealer_bytes + cost.ahead_bytes
    total_bytes = max(1, sum(row.bytes for row in found))
    sites = tuple(
        SiteCost(
            row.site,
            row.layer,
            row.primitive,
            rounds,
            row.bytes,
            rounds * latency + (cost.busier_bytes / network.bandwidth + local) * row.bytes / total_bytes,
        )
        for row, rounds in zip(found, shares, strict=True)
    )
    return Estimate(
        protocol=protocol.name,
        network=network.name,
        rounds=cost.rounds,
        bytes=cost.bytes,
        seconds=local + cost.rounds * latency + cost.busier_bytes / network.bandwidth,
        setup=PhaseCost(cost.setup_rounds, cost.setup_bytes, setup),
        offline=PhaseCost(1, before, offline + latency + busier / network.bandwidth),
        sites=sites,
        machine=compute.note,
    )


def sizeless_seconds(program: Program, compute: Compute) -> float:
    """Of the local work, what kernels and calls take whatever the size of their operands."""
    amounts = [work(program, "online", party) for party in (0, 1)]
    return max(amount.kernels * compute.per_kernel + amount.calls * compute.per_call for amount in amounts)


def _seconds(amount: Local, compute: Compute) -> float:
    return (
        amount.kernels * compute.per_kernel
        + amount.calls * compute.per_call
        + amount.elements * compute.per_element
        + amount.macs * compute.per_mac
        + amount.leaves * compute.per_leaf
    )
