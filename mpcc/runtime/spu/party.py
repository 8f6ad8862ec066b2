"""One party of a computation under SPU, as a process of its own: python -m mpcc.runtime.spu.party FOLDER

The folder holds job.json, circuit.json and what this party owns (weights.npz of the server's, inputs.npz of the client's). Owners
secret-share what is theirs and send each party its share over SPU's link; the client gets all shares of the outputs. answer.json
and outputs.npz are left in the folder. Needs spu, jax and numpy, and nothing else.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpcc import files
from mpcc.ir.circuit import Circuit

from .compiled import compiled, configuration, numbers
from .counters import counted
from .job import ANSWER, CIRCUIT, CLIENT, INPUTS, JOB, MET, OUTPUTS, RECEIVE_MILLISECONDS, SERVER, WEIGHTS, Answer, Count, Job

RETRIES, RETRY_MILLISECONDS = 120, 500
"""Parties are started by hand on machines of their own: a minute to find each other."""


class Party:
    """What a party does with its link."""

    def __init__(self, job: Job, circuit: Circuit) -> None:
        import spu.api as api
        import spu.libspu as libspu

        self.job, self.circuit, self.libspu = job, circuit, libspu
        self.config = configuration(job.protocol, circuit.fraction_bits)
        self.link = libspu.link.create_brpc(self._description(), job.rank)
        self.io = api.Io(len(job.addresses), self.config)
        self.runtime = api.Runtime(self.link, self.config)

    def _description(self) -> Any:
        link = self.libspu.link
        described = link.Desc()
        described.recv_timeout_ms = RECEIVE_MILLISECONDS
        described.connect_retry_times, described.connect_retry_interval_ms = RETRIES, RETRY_MILLISECONDS
        for rank, address in enumerate(self.job.addresses):
            described.add_party(f"party{rank}", address)
        if self.job.tls is not None:
            described.enable_ssl = True
            for options in (described.client_ssl_opts, described.server_ssl_opts):
                options.cert.certificate_path = self.job.tls.certificate
                options.cert.private_key_path = self.job.tls.key
                options.verify.ca_file_path = self.job.tls.authority
                options.verify.verify_depth = 1
        return described

    def agree(self) -> None:
        """All parties run the same circuit under the same protocol, or none does."""
        own = f"{self.job.protocol} {self.circuit.digest} {self.job.calls}"
        for rank, other in enumerate(self.link.all_gather(own)):
            if other != own:
                raise ValueError(f"party {rank} runs another circuit, protocol or number of inferences")

    def share(self, owner: int, names: Sequence[str], values: Sequence[Any]) -> None:
        """The owner's tensors as secrets of this runtime."""
        if self.job.rank == owner:
            for name, value in zip(names, values, strict=True):
                parts = self.io.make_shares(np.ascontiguousarray(value, dtype=np.float32), self.libspu.Visibility.VIS_SECRET)
                for rank, part in enumerate(parts):
                    if rank != owner:
                        self._send(rank, part)
                self.runtime.set_var(name, parts[owner])
        else:
            for name in names:
                self.runtime.set_var(name, self._receive(owner))

    def publish(self, name: str, value: Any) -> None:
        """A tensor that every party has already, as a public value of this runtime."""
        self.runtime.set_var(name, self.io.make_shares(value, self.libspu.Visibility.VIS_PUBLIC)[self.job.rank])

    def open(self, names: Sequence[str]) -> list[Any]:
        """The outputs at the client; nothing elsewhere."""
        found = []
        for name in names:
            own = self.runtime.get_var(name)
            if self.job.rank != CLIENT:
                self._send(CLIENT, own)
                continue
            count = len(self.job.addresses)
            parts = [own if rank == CLIENT else self._receive(rank) for rank in range(count)]
            found.append(np.array(self.io.reconstruct(parts)))
        return found

    def _send(self, rank: int, share: Any) -> None:
        parts = [share.meta, *share.share_chunks]
        self.link.send(rank, json.dumps([base64.b64encode(part).decode() for part in parts]))

    def _receive(self, rank: int) -> Any:
        meta, *chunks = [base64.b64decode(part) for part in json.loads(self.link.recv(rank))]
        share = self.libspu.Share()
        share.meta, share.share_chunks = meta, chunks
        return share


def run(folder: Path) -> None:
    """The work of the party whose job is in the folder. Its answer is there before it leaves the link."""
    job = Job.from_json((folder / JOB).read_text(encoding="utf-8"))
    circuit = Circuit.from_json((folder / CIRCUIT).read_bytes(), CIRCUIT)
    log = _log(folder)
    executable = compiled(circuit)
    party = Party(job, circuit)
    (folder / MET).touch()
    party.agree()
    weights = [f"in{len(circuit.inputs) + i}" for i in range(len(circuit.weights))]
    own = dict(np.load(folder / WEIGHTS, allow_pickle=False)) if job.rank == SERVER else {}
    party.share(SERVER, weights, [own[one.name] for one in circuit.weights] if own else ())
    party.publish(f"in{len(circuit.inputs) + len(weights)}", numbers(circuit))
    given = dict(np.load(folder / INPUTS, allow_pickle=False)) if job.rank == CLIENT else {}
    took, outputs = list[float](), dict[str, Any]()
    for call in range(job.calls):
        values = [given[f"{call}.{i}"] / one.scale for i, one in enumerate(circuit.inputs)] if given else ()
        party.share(CLIENT, [f"in{i}" for i in range(len(circuit.inputs))], values)
        party.link.barrier()
        start = time.perf_counter()
        party.runtime.run(executable)
        seconds = time.perf_counter() - start
        for i, value in enumerate(party.open(executable.output_names)):
            outputs[f"{call}.{i}"] = value * circuit.outputs[i].scale
        took.append(seconds)
    if job.rank == CLIENT:
        np.savez(folder / OUTPUTS, **outputs)
    rows = log()
    if len(rows) != job.calls:
        raise ValueError(f"SPU's log holds the counters of {len(rows)} inferences, not {job.calls}")
    answer = Answer(tuple(Count(s, size, sends, dict(found)) for s, (size, sends, found) in zip(took, rows, strict=True)))
    files.write(folder / ANSWER, answer.to_json())
    party.link.barrier()  # whoever leaves before the others takes their links down
    party.link.stop_link()


def _log(folder: Path) -> Any:
    """SPU writes its counters to its log only; a function that reads them: (bytes, messages, rows) of each run so far."""
    import spu.libspu as libspu

    options = libspu.logging.LogOptions()
    options.enable_console_logger = False
    options.system_log_path = str(folder / "spu.log")
    libspu.logging.setup_logging(options)
    return lambda: counted((folder / "spu.log").read_text(encoding="utf-8", errors="replace"))


def main() -> None:
    """Exit code 1, with what went wrong in answer.json, where the party cannot go on."""
    folder = Path(sys.argv[1])
    os.umask(0o077)
    try:
        run(folder)
    except BaseException as error:  # whatever it is, the other side of the folder has to hear of it
        said = " ".join(str(error).partition("stacktrace:")[0].split())
        if not (folder / ANSWER).exists():  # else it was done, and lost its link while it left
            files.write(folder / ANSWER, Answer((), f"{type(error).__name__}: {said}"[:500]).to_json())
            os._exit(1)
    os._exit(0)  # a link that lost its peer would wait at exit


if __name__ == "__main__":
    main()
