"""One CrypTen party of test_inside.py: RANK and RENDEZVOUS in the environment, a case as argument, JSON to stdout."""

from __future__ import annotations

import json
import os
import sys

import torch

from mpcc.approximate import Plan
from mpcc.errors import MpccError
from mpcc.program import Program
from mpcc.runtime.crypten.borders import join
from mpcc.runtime.crypten.inside import PartyState, run_in_party
from mpcc.runtime.executable import Executable
from mpcc.runtime.net.transport import Phase
from tests.models.programs import SHAPE, program


def main() -> None:
    torch.set_num_threads(1)
    rank, case = int(os.environ["RANK"]), sys.argv[1]
    crypten = join(rank, os.environ["RENDEZVOUS"], "lo")
    made = program("linear" if case == "other program" and rank else "mixed")
    if case == "executable":
        executable = Executable(made, Plan({}))
        x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
        y = executable.run(crypten.cryptensor(x, src=1), insecure_dealer=True)
        print(json.dumps({"answer": y.get_plain_text().tolist(), "class": type(y).__name__}))
        return
    if case == "dealer":
        host, port = sys.argv[2].split(":")
        state = PartyState.join(made, "v1", dealer=(host, int(port)))
    else:
        if rank == 1:
            made = Program.from_json(made.to_json(), {})  # without the weights
        state = PartyState.join(made, "v1", insecure_dealer=True)
    answers = []
    for number in range(2):
        x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(number))
        secret = crypten.cryptensor(x, src=1)
        y = run_in_party(state, secret * 0.5 + secret)  # CrypTen's own arithmetic before and after
        answers.append((y * 2).get_plain_text().tolist())
    took = state.inference.link.traffic[Phase.ONLINE, 1]
    state.leave()
    print(json.dumps({"answers": answers, "rounds": took.rounds, "bytes": took.bytes, "class": type(y).__name__}))


if __name__ == "__main__":
    try:
        main()
    except MpccError as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
    sys.stdout.flush()
    os._exit(0)
