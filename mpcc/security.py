"""What private inference protects, from whom, and what it does not protect: the one text that all interfaces print."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass

SPARE = 1.15
"""Of noise: it is a power of two times one of a few factors, an eighth apart."""
ENDLESS = 10**12
"""Of answers: so many, and more, are said to be any number."""
TITLE = "Who can see what"

SUMMARY = (
    "Two parties and a dealer, semi-honest. Weights and input stay secret-shared; only the output is revealed, and only to "
    "the client. The architecture and all shapes are public."
)

POINTS: tuple[tuple[str, str], ...] = (
    (
        "Who takes part",
        "the server (party 0), which owns the model; the client (party 1); and a dealer of correlated randomness. All three "
        "are assumed to be semi-honest: they follow the protocol, and no two of them collude.",
    ),
    (
        "The input",
        "belongs to the client and stays secret-shared: neither the server nor the dealer learns anything about it.",
    ),
    (
        "The weights",
        "belong to the server and stay secret-shared: neither the client nor the dealer learns anything about them beyond "
        "what the outputs reveal.",
    ),
    (
        "The output",
        "is revealed to the client only, with noise from the dealer that hides the roundings of hidden values in so many "
        "answers to one client as the program says (docs/security.md).",
    ),
    (
        "Public to all three",
        "the architecture, all shapes, the plan (approximations with their ranges and coefficients, which were fitted to the "
        "calibration inputs, and statistics of these inputs and their outputs, by which clients recognise unlike ones), scales "
        "of weights as powers of two (docs/security.md counts the bits), and the number and duration of inferences.",
    ),
    (
        "Not protected against",
        "a party that deviates from the protocol; collusion between any two of the three; a client that infers the model from "
        "many queries; eavesdroppers on connections without TLS (--tls).",
    ),
)



@dataclass(frozen=True)
class Trust:
    """What a protocol of another engine asks of its parties, in its own words (`mpcc.cost.Protocol`)."""

    title: str
    parties: int
    adversary: str
    correlations: str
    collusion: str

    @property
    def summary(self) -> str:
        return (
            f"{_NUMBERS[self.parties]} parties under {self.title}, {self.adversary}. Weights and input enter as secret shares; "
            "only the output is revealed, and only to the client. The architecture and all shapes are public."
        )

    @property
    def points(self) -> tuple[tuple[str, str], ...]:
        others = "" if self.parties == 2 else "; and a helper, a third server, which owns nothing"
        return (
            (
                "Who takes part",
                f"the server, which owns the model; the client{others}. All are assumed to follow the protocol.",
            ),
            ("Collusion", self.collusion + "."),
            ("Correlated randomness", f"comes from {self.correlations}."),
            ("The input", "belongs to the client and enters as its secret."),
            ("The weights", "belong to the server and enter as its secret."),
            (
                "The output",
                "is opened to the client only, as it is: without the noise by which mpcc's own engine hides roundings of hidden "
                "values, so that many answers say more of the weights than the outputs alone.",
            ),
            (
                "Public to all",
                "the circuit with all shapes, scales and coefficients; the plan, with the ranges that were fitted to the "
                "calibration inputs and statistics of these inputs and their outputs; and the number and duration of inferences.",
            ),
            (
                "Not protected against",
                "a party that deviates from the protocol; a client that infers the model from many queries; eavesdroppers on "
                "connections without TLS (--tls); the holder of one role's certificate who takes part as another, as the engine "
                "looks at the authority alone.",
            ),
        )


_NUMBERS = {2: "Two", 3: "Three"}

SERVED: tuple[tuple[str, str], ...] = (
    (
        "Who takes part",
        "the server, which owns the model; the helper, a second server of another organisation; a dealer of correlated "
        "randomness; and any number of clients. Server, helper and dealer follow the protocol, and no two of them collude. "
        "Clients may do what they like.",
    ),
    (
        "The input and the answer",
        "belong to the client. It splits its input into two shares, each of them uniform, and adds up two shares of the answer. "
        "Whoever sees what two of server, helper and dealer see can read both.",
    ),
    (
        "The weights",
        "belong to the server. Helper and dealer together can compute them. A client, even together with the helper, learns no "
        "more than a client that is a party itself: what the answers reveal. They carry noise of the dealer that hides the "
        "roundings of hidden values in so many answers to one client as the program says. Without that "
        "noise (a client together with the dealer) answers tell roundings of hidden values (docs/security.md).",
    ),
    (
        "Known to server and helper",
        "who asks, when and how often; and all that is public (the architecture, shapes, the plan).",
    ),
    (
        "Not protected against",
        "a server, helper or dealer that deviates from the protocol; a client that infers the model from many answers; a web "
        "page that was changed on its way, or by whoever hosts it.",
    ),
)
"""The same for `mpcc serve`, where clients only share their inputs."""

SERVED_HERE = (
    "server, helper and dealer run on this machine, so whoever controls it can read every input and the weights. This is for "
    "trying out: it protects nobody. docs/serving.md says how each role runs at an organisation of its own."
)
MOST_NAMED = 4
"""Public parameters that the statement names; plan.json lists all of them."""

INSECURE_DEALER = (
    "the server generates the correlated randomness itself (insecure dealer), so it knows every mask and can read the "
    "client's input and output. For tests and measurements on one machine only."
)

ONE_MACHINE = (
    "All parties ran as processes on this machine, so whoever controls it can read everything. To protect the "
    "parties from each other, run each on its own machine (mpcc run BUNDLE --party ...)."
)


def is_this_machine(host: str) -> bool:
    """Whether a host is this machine's own address: the only links that may go without TLS."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def hides(hidden: int | None) -> str:
    """What the noise on the answers does, in one sentence, from the number of answers that a program says (`Program.hidden`).

    The highest thousandth of the steps is left out of that number (`mpcc.lowering.flood.RARE`)."""
    if hidden is None:
        return "The program, of an earlier mpcc, does not say in how many answers its noise hides roundings."
    if hidden == 0:
        return "The answers carry no noise that hides the roundings of hidden values."
    if hidden >= ENDLESS:
        return "The answers show no roundings of hidden values, however many there are."
    return f"Noise on answers hides 99.9 % of roundings in {hidden:,} answers to one client."


def fewer(hidden: int | None, asked: int, share: float) -> str:
    """What stands in the way where noise of at most this share of the outputs' spread hides fewer answers than were asked for,
    and what to do; empty where it hides as many."""
    if hidden is None or hidden >= asked:
        return ""
    more = share * math.sqrt(asked / hidden) * SPARE if hidden else math.inf
    allowed = f"--noise {more:.2g}" if more < 1 else "no noise that leaves an answer"
    return f"noise hides roundings in {hidden:,} answers, not {asked:,}; {allowed} would."


def summary(under: Trust | None = None) -> str:
    """The first sentences of the statement."""
    return SUMMARY if under is None else under.summary


def points(
    public: Sequence[str] = (), answers: Sequence[str] = (), under: Trust | None = None, hidden: int | None = None
) -> tuple[tuple[str, str], ...]:
    """The points of the statement, for a model whose parameters `public` were made public by their owner, and of whose outputs
    the client computes the functions `answers` itself. `under`: the protocol, where that is not mpcc's own; `hidden`: what mpcc's
    own program says of its noise, which others do not add."""
    if hidden is not None and under is None:
        return _behind("The output", points(public, answers), _noise(hidden))
    if answers:
        return _behind("The output", points(public, under=under), _logits(answers))
    own = POINTS if under is None else under.points
    if not public:
        return own
    return _behind("The weights", own, _public(public, "the server learns"))


def served(
    answers: Sequence[str] = (), public: Sequence[str] = (), hidden: int | None = None
) -> tuple[tuple[str, str], ...]:
    """The points of the statement for thin clients, see `points`; they are told where the program does not say `hidden`."""
    shown = _behind("The weights", SERVED, _noise(hidden))
    shown = _behind("The weights", shown, _public(public, "server and helper learn")) if public else shown
    return _behind("The input and the answer", shown, _logits(answers)) if answers else shown


def _public(names: Sequence[str], others: str) -> tuple[str, str]:
    named = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    return (
        "The public parameters",
        f"({len(names)}: {named}) are known to everybody. What depends on them and the input alone the client computes in the "
        f"clear, before anything is shared; {others} nothing of that. By those behind a secret weight each party multiplies its "
        "own shares. All other weights stay secret, and so does whatever was computed of both.",
    )


def _noise(hidden: int | None) -> tuple[str, str]:
    return "The noise on the answers", hides(hidden)


def _logits(answers: Sequence[str]) -> tuple[str, str]:
    return (
        "What the answers are computed of",
        f"the client computes the last steps ({', '.join(answers)}) itself, in the clear: it learns the values before them "
        "(the logits), which say more of the model than the answers alone. --hide-logits keeps them secret.",
    )


def _behind(name: str, points: tuple[tuple[str, str], ...], more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    place = [known for known, _ in points].index(name) + 1
    return (*points[:place], more, *points[place:])


def statement(
    *, insecure_dealer: bool = False, public: Sequence[str] = (), answers: Sequence[str] = (), under: Trust | None = None,
    hidden: int | None = None,
) -> str:  # fmt: skip
    """The security statement as plain text. `public`: the names of the parameters that are no secret; `answers`: what the client
    computes of the outputs; `under`: the protocol, where that is not mpcc's own; `hidden`: in how many answers a program says
    that its noise hides roundings."""
    lines = [f"{TITLE}: {summary(under)}", *(f"* {name}: {text}" for name, text in points(public, answers, under, hidden))]
    if insecure_dealer:
        lines.insert(0, f"NOT PRIVATE: {INSECURE_DEALER}")
    return "\n".join(lines)
