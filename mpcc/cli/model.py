"""What MODEL means on the command line: a file, a bundle folder, or a function that returns a module.

graph(source("model.onnx"))                              nn-level graph
source("examples/digits_vit/model.py:digits_vit")        (module, example_inputs) from your own code
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mpcc.errors import ModelFileError, ShapeError, UsageError

from . import early
from .early import FORMS
from .hub import is_named, named

if TYPE_CHECKING:
    from torch.fx import GraphModule



@dataclass(frozen=True)
class Source:
    """`model` is what mpcc.capture takes; `bundle` is the folder of a bundle, `stem` names what is made."""

    model: Any
    example_inputs: Any
    stem: str
    bundle: Path | None = None
    size_limit: float = 1.0
    preprocess: Mapping[str, Any] | None = None


def source(text: str, size_limit: float = 1.0, *, pretrained: bool = False, weights: Path | None = None) -> Source:
    """What `text` names. ModelFileError or UsageError if there is no such thing.

    Files are read and nothing in them is run; a function is imported and called, which runs whatever code it is.
    """
    if is_named(text):
        made = named(text, pretrained, weights)
        return Source(made.model, made.example, Path(text.partition(":")[2]).name, None, size_limit, made.preprocess)
    if pretrained or weights is not None:
        raise UsageError("--pretrained and --weights are for models of a library", where=text, hint=FORMS)
    return replace(_source(text), size_limit=size_limit)


def _source(text: str) -> Source:
    path, stem = Path(text), early.model(text)
    if path.is_dir():
        return Source(path / "model.onnx", None, stem, path)
    if path.exists():
        return Source(path, None, stem)
    model, inputs = _from_function(text)
    return Source(model, inputs, stem)


def graph(found: Source, input_shapes: Sequence[str] | None, fix: Sequence[str] | None = None) -> GraphModule:
    """The nn-level graph. A dynamic shape is a ShapeError that says which option fixes it."""
    from mpcc.frontend import Limits
    from mpcc.pipeline import capture

    if found.bundle is not None:
        from mpcc.bundle import open_bundle

        opened = open_bundle(found.bundle)
        if opened.plan.notes.get("public"):
            what = "this bundle's model has public parameters; which they are, and what the client computes, would be lost"
            raise UsageError(what, where=str(found.bundle), hint="Give the model that the bundle was made of, with --public.")
        return capture(opened.model)
    try:
        limits = Limits().times(found.size_limit)
        return capture(found.model, found.example_inputs, input_shapes=shapes(input_shapes), fixed=fixed(fix), limits=limits)
    except ShapeError as error:
        hint = "on the command line: --input-shape NAME=1,3,224,224, with your model's sizes"
        raise ShapeError(error.what, where=error.where, hint=hint if input_shapes is None else error.hint) from error


def fixed(given: Sequence[str] | None) -> dict[str, Any]:
    """{"mask": 1.0, "text": tensor} of ["mask=1", "text=features.npy"]."""
    from mpcc.calibration.arrays import as_input, read_arrays

    found: dict[str, Any] = {}
    for item in given or ():
        name, sign, value = item.partition("=")
        if not (name and sign and value):
            raise UsageError(f"invalid value {item!r}", where="--fix", hint="Give NAME=NUMBER or NAME=FILE.npy.")
        try:
            found[name] = float(value)
        except ValueError:
            path = Path(value)
            if not path.is_file():
                what = f"{value!r} is neither a number nor a file"
                raise UsageError(what, where=f"--fix {name}", hint="Give NAME=NUMBER or NAME=FILE.npy.") from None
            arrays = read_arrays(path)
            if len(arrays) != 1 and name not in arrays:
                raise UsageError(f"{value} has the arrays {', '.join(arrays)}", where=f"--fix {name}") from None
            found[name] = as_input(arrays.get(name, next(iter(arrays.values()))), value)
    return found


def shapes(given: Sequence[str] | None) -> dict[str, tuple[int, ...]] | None:
    """{"image": (1, 3, 224, 224)} of ["image=1,3,224,224"]."""
    if not given:
        return None
    found: dict[str, tuple[int, ...]] = {}
    for text in given:
        name, equals, sizes = text.partition("=")
        try:
            shape = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            shape = ()
        if not (name and equals and shape and all(size > 0 for size in shape)):
            raise UsageError(f"invalid input shape {text!r}", where="--input-shape", hint="An example: image=1,3,224,224")
        found[name] = shape
    return found


def _from_function(text: str) -> tuple[Any, Any]:
    home, _, name = text.rpartition(":")
    module = _imported(home, text)
    function: Callable[[], Any] | None = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"{home} has no function {name!r}", where=text, hint=FORMS)
    made = _guarded(function, text)
    if isinstance(made, tuple):
        if len(made) != 2:
            raise UsageError(f"{name} returned {len(made)} values, not (module, example_inputs)", where=text)
        return made[0], made[1]
    return made, None


def _imported(home: str, text: str) -> ModuleType:
    if home.endswith(".py"):
        path = Path(home)
        if not path.is_file():
            raise ModelFileError("there is no such file", where=home, hint=FORMS)
        spec = importlib.util.spec_from_file_location(f"mpcc_model_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        _guarded(lambda: spec.loader.exec_module(module), text)  # type: ignore[union-attr]
        return module
    found: ModuleType = _guarded(lambda: importlib.import_module(home), text)
    return found


def _guarded(call: Callable[[], Any], where: str) -> Any:
    """The user's own code: what goes wrong in it is shown in one line, and what would end the process does not."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise UsageError(f"your code raised {type(error).__name__}: {error}", where=where, hint=FORMS) from error
