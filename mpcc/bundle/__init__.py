"""A bundle: the folder that an optimised model is kept in, exchanged and run from.

    plan.json             the choice for every site
    model.onnx            the rewritten model in standard operators (when the model can be written as ONNX)
    program.json          what the parties run, without the weights
    weights.safetensors   the weights: the owner's alone
    report.html           what was changed and what it costs, for people
    manifest.json         SHA-256 of each file, digest of the program, version of the model

The same model and plan give the same bytes. Nothing in it is code, and reading it runs none.
"""

from .read import Bundle, open_bundle
from .write import Contents, save

__all__ = ["Bundle", "Contents", "open_bundle", "save"]
