"""The thin client of `mpcc serve`: numpy and the standard library alone, no torch, no party of the protocol.

    client = Client("https://a.example", "https://b.example")
    answer = client.predict("digit.png")
    answer.label, answer.outputs, answer.warnings
"""

from .client import Answer, Client

__all__ = ["Answer", "Client"]
