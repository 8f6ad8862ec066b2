"""The process of one party in a session on one machine: a CrypTen party that runs an online program.

    python -m mpcc.runtime.crypten.party FD

Its job comes through the inherited socket FD from the session that started it, its reports go back. The server's process
gets the weights; the client's gets the program and, inference by inference, its input.
"""

from __future__ import annotations

import time

from ..engine.evaluate import decode
from ..net.handshake import CLIENT, SERVER
from ..net.pipe import Child
from ..session.participant import Participant, as_header
from ..session.process import Job, run_child
from .borders import encode_inputs, join


def main() -> None:
    run_child(_party)


def _party(job: Job, child: Child) -> None:
    join(0 if job.role == SERVER else 1, job.rendezvous, "lo")
    child.say({"joined": job.role})
    participant = job.join()
    try:
        child.say({"setup": as_header(participant.set_up())})
        if job.role == CLIENT:
            _serve_input(participant, child)
        else:
            participant.serve(lambda report: child.say({"report": as_header(report)}))
    except BaseException as error:
        participant.peers.abort(error)
        raise


def _serve_input(participant: Participant, child: Child) -> None:
    """The client: prepare an inference ahead of its input, again and again, until the session says stop."""
    prepared = False
    while True:
        if not prepared:
            participant.prepare()
            prepared = True
        command, tensors = child.command()
        if command["do"] == "stop":
            participant.leave()
            return
        shares = encode_inputs(participant.program, [tensors[str(i)] for i in range(len(tensors))])
        totals, report = participant.run(shares, _throttled(child))
        prepared = False
        pairs = zip(totals, participant.program.outputs, strict=True)
        outputs = {str(i): decode(total, scale) for i, (total, (_, scale)) in enumerate(pairs)}
        child.say({"report": as_header(report)}, outputs)


class _throttled:
    """Progress to the session, a few times a second."""

    def __init__(self, child: Child) -> None:
        self.child, self.last = child, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last > 0.2:
            self.last = now
            self.child.say({"progress": [done, total]})


if __name__ == "__main__":
    main()
