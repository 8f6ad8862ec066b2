"""A bundle: the folder in which an optimised model is stored, exchanged and run.

    plan.json             the choice at every site
    model.onnx            the rewritten model in standard operators (if it can be expressed in ONNX); for the server only
    program.json          what the parties run, without the weights
    weights.safetensors   the weights; for the server only
    report.html           what was changed and what it costs; for the server only
    owner.json            the key of all hashes over what is not public; for the server only
    manifest.json         the hash of each file, digest of the program, version of the model
    public/               exactly what the client and the dealer may have: manifest.json, plan.json, program.json

The same model and plan give the same bytes, but for the key and its hashes. A bundle holds data only: reading it
runs no code from it.
"""

from .read import Bundle, open_bundle
from .write import Contents, save

__all__ = ["Bundle", "Contents", "open_bundle", "save"]
