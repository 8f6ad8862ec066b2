"""A bundle: the folder in which an optimised model is stored, exchanged and run.

    plan.json             the choice at every site
    model.onnx            the rewritten model in standard operators (if it can be expressed in ONNX); for the server only
    program.json          what the parties run, without the weights
    weights.safetensors   the weights; for the server only
    report.html           what was changed and what it costs
    manifest.json         SHA-256 of each file, digest of the program, version of the model

The same model and plan give the same bytes. A bundle holds data only: reading it runs no code from it.
"""

from .read import Bundle, open_bundle
from .write import Contents, save

__all__ = ["Bundle", "Contents", "open_bundle", "save"]
