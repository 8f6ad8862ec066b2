"""What a private inference protects, from whom, and what it does not: the one text that every face prints."""

from __future__ import annotations

TITLE = "Who can see what"

SUMMARY = (
    "Two parties and a dealer, semi-honest. The weights and the input stay secret-shared; only the output is opened, "
    "to the client. Architecture and shapes are public."
)

POINTS: tuple[tuple[str, str], ...] = (
    (
        "Who takes part",
        "the model's owner (party 0, the server), the client (party 1), and a dealer of correlated randomness. All "
        "three are assumed semi-honest: they follow the program, and no two of them pool what they see.",
    ),
    (
        "The input",
        "belongs to the client and stays secret-shared: neither the owner nor the dealer learns anything of it.",
    ),
    (
        "The weights",
        "belong to the owner and stay secret-shared: neither the client nor the dealer learns anything of them "
        "beyond what the output tells.",
    ),
    ("The output", "is opened to the client alone."),
    (
        "Public to all three",
        "the architecture, every shape, the plan (approximations with their ranges and coefficients, which were fitted "
        "on the calibration inputs), the number of inferences and how long they take.",
    ),
    (
        "Not protected against",
        "a party that deviates from the program; two of the three that collude; a client that learns about the model "
        "by asking often; eavesdroppers on links without TLS (--tls).",
    ),
)

INSECURE_DEALER = (
    "party 0 makes the correlated randomness itself (insecure dealer), so it knows every mask and can read the client's "
    "input and output. For trials and measurements on one machine only."
)

ONE_MACHINE = (
    "All three ran on this machine, as separate processes: whoever controls it can read everything. To protect the "
    "parties from each other, run them on machines of their own (mpcc run BUNDLE --party ...)."
)


def statement(*, insecure_dealer: bool = False) -> str:
    """The security statement as plain text."""
    lines = [f"{TITLE}: {SUMMARY}", *(f"* {name}: {text}" for name, text in POINTS)]
    if insecure_dealer:
        lines.insert(0, f"NOT PRIVATE: {INSECURE_DEALER}")
    return "\n".join(lines)
