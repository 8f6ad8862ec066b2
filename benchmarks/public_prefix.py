"""What public weights save: rounds and bytes where only the head, some blocks, or an adapter is secret.

    python -m benchmarks.public_prefix                         digits and Fashion; writes docs/public-parameters.md
    python -m benchmarks.public_prefix --model vit_b           ViT-B/16 at 224x224 with random weights (ten minutes, 8 GB)
    python -m benchmarks.public_prefix --page                  the page alone

Rows of models that were not asked for stay as they are. Counts are exact: those of the program, which a private run of the digits
model is held to. Agreement is that of the fixed-point emulation with the float model in the top class of test images.

Two kinds of adapters, of rank 8 in every block. LoRA adds to the queries and values, so that all that follows is secret. One that
only reads from the backbone, as in CryptPEFT (NDSS 2026), leaves the backbone to the client: what it makes of the public features
goes from adapter to adapter, and to the head.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mpcc
from benchmarks.vit_small import transformer
from examples.digits_vit.model import digits_vit
from examples.fashion_vit.model import fashion_vit
from mpcc import files
from mpcc.training.datasets import built_in
from tests.models.vit_lite import smooth_image

DOCS = Path(__file__).parents[1] / "docs"
JSON, PAGE = DOCS / "public-parameters.json", DOCS / "public-parameters.md"
STEM = ("patch*", "pos*", "cls*")
IMAGES, VIT_IMAGES = 256, 64
"""Of calibration, and of the test where there is one. A ViT-B takes minutes for each plan."""
RANK, TRAINED = 8, 0.02
"""Of an adapter, and the deviation of its last weights: LoRA begins with zeros."""


@dataclass(frozen=True)
class Row:
    """One model with one part of it public, calibrated on so many images. `agreement`: share of test images with the float
    model's top class, or None."""

    model: str
    secret: str
    public: tuple[str, ...]
    rounds: int
    bytes: int
    setup_bytes: int
    dealer_bytes: int
    calibration: int
    agreement: float | None
    run: tuple[int, int] | None
    """Rounds and bytes of a private run."""


class Lora(nn.Module):
    """x -> W x + B A x, as `peft` writes it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.Linear(base.in_features, RANK, bias=False)
        self.lora_B = nn.Linear(RANK, base.out_features, bias=False)
        nn.init.normal_(self.lora_B.weight, std=TRAINED)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.base_layer(x) + self.lora_B(self.lora_A(x))
        return found


class AdaptedAttention(nn.Module):
    """The same attention with layers of their own for queries, keys and values; adapters at the first and the last."""

    def __init__(self, given: Any) -> None:
        super().__init__()
        self.heads, width = given.heads, given.proj.in_features
        parts = []
        for place in range(3):
            rows = slice(place * width, (place + 1) * width)
            part = nn.Linear(width, width, bias=given.qkv.bias is not None)
            part.weight = nn.Parameter(given.qkv.weight[rows].detach().clone(), requires_grad=False)
            if given.qkv.bias is not None:
                part.bias = nn.Parameter(given.qkv.bias[rows].detach().clone(), requires_grad=False)
            parts.append(part)
        self.query, self.key, self.value = Lora(parts[0]), parts[1], Lora(parts[2])
        self.proj = given.proj

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        cut = (batch, tokens, self.heads, width // self.heads)
        query, key, value = (layer(x).reshape(cut).transpose(1, 2) for layer in (self.query, self.key, self.value))
        weights = (query @ key.transpose(-2, -1) * cut[-1] ** -0.5).softmax(dim=-1)
        found: Tensor = self.proj((weights @ value).transpose(1, 2).reshape(batch, tokens, width))
        return found


class Beside(nn.Module):
    """s -> s + U gelu(D (h + s)) for the features h of each block, and the head on the last features and s."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone, width = backbone, backbone.head.in_features
        self.adapter = nn.ModuleList(
            nn.Sequential(nn.Linear(width, RANK), nn.GELU(), nn.Linear(RANK, width)) for _ in backbone.blocks
        )
        for one in self.adapter:
            nn.init.normal_(one[-1].weight, std=TRAINED)  # type: ignore[index, arg-type]

    def forward(self, image: Tensor) -> Tensor:
        model = self.backbone
        h = model.patch_embed(image)
        h = torch.cat([model.cls_token.expand(h.shape[0], -1, -1), h], dim=1) + model.pos_embed
        s = torch.zeros_like(h)
        for block, adapter in zip(model.blocks, self.adapter, strict=True):
            h = block(h)
            s = s + adapter(h + s)
        found: Tensor = model.head(model.norm(h + s)[:, 0])
        return found


def with_lora(model: Any) -> nn.Module:
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for block in model.blocks:
        block.attn = AdaptedAttention(block.attn)
    model.head.requires_grad_(True)
    found: nn.Module = model.eval()
    return found


def beside(model: Any) -> nn.Module:
    torch.manual_seed(0)
    return Beside(model).eval()


def itself(model: nn.Module) -> nn.Module:
    return model


Part = tuple[str, tuple[str, ...], Callable[[Any], nn.Module]]


def parts(blocks: int) -> Iterator[Part]:
    """What is secret, the patterns that make the rest public, and what is made of the model for it."""
    yield "everything", (), itself
    yield "adapter in the q and v of every block, and head", ("frozen",), with_lora
    yield "adapter beside every block, and head", ("backbone.[!h]*",), beside
    yield "last two blocks and head", (*STEM, f"blocks.0-{blocks - 3}.*"), itself
    yield "last block and head", (*STEM, f"blocks.0-{blocks - 2}.*"), itself
    yield "head", (*STEM, "blocks.*", "norm.*"), itself


@dataclass(frozen=True)
class Subject:
    """A model, made anew for each row; images to calibrate with; images to test with, or none. `run`: also privately."""

    name: str
    build: Callable[[], Any]
    calibration: Tensor
    test: Tensor | None = None
    network: str | None = None
    run: bool = False


def trained(name: str, build: Callable[[], Any], data: str, run: bool) -> Subject:
    found = built_in(data)
    assert found.test is not None
    return Subject(name, lambda: build()[0].eval(), found.images[:IMAGES], found.test[0][:IMAGES], run=run)


def vit_b() -> Subject:
    images = torch.cat([smooth_image(224, seed=1000 + one) for one in range(VIT_IMAGES)])
    return Subject("ViT-B/16, random weights", lambda: transformer("base"), images, network="wan")


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "digits": lambda: trained("digits_vit", digits_vit, "digits", run=True),
    "fashion": lambda: trained("fashion_vit", fashion_vit, "fashion-mnist", run=False),
    "vit_b": vit_b,
}


def row(subject: Subject, part: Part) -> Row:
    secret, public, change = part
    model, example, images = change(subject.build()), subject.calibration[:1], subject.test
    more = {} if subject.network is None else {"network": subject.network}
    executable = mpcc.compile(model, (example,), calibration=subject.calibration, public=public, machine="reference", **more)
    assert isinstance(executable, mpcc.Executable)
    agreement, counted, cost = None, None, executable.program.cost
    if images is not None:
        found = executable.emulate(images, check=False)
        assert isinstance(found, Tensor)
        with torch.no_grad():
            agreement = float((found.argmax(-1) == model(images).argmax(-1)).double().mean())
    if subject.run:
        done = executable.run(example)
        counted = done.rounds, done.bytes
        if counted != (cost.rounds, cost.bytes):
            raise SystemExit(f"{subject.name}, {secret}: predicted {cost.rounds, cost.bytes}, measured {counted}")
    names = tuple(map(str, executable.plan.notes.get("public", ())))  # type: ignore[arg-type]
    return Row(
        subject.name, secret, names, cost.rounds, cost.bytes, cost.setup_bytes, cost.dealer_bytes,
        len(subject.calibration), agreement, counted,
    )


def page(found: Sequence[dict[str, Any]]) -> str:
    head = Path(__file__).with_name("public_prefix.md").read_text(encoding="utf-8")
    lines = [
        "| model | secret | rounds | MB | of all secret | set-up MB | images | top class as float |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    whole = {one["model"]: one for one in found if not one["public"]}
    for one in found:
        base = whole[one["model"]]
        share = f"{one['rounds'] / base['rounds']:.0%} / {one['bytes'] / base['bytes']:.2%}"
        agreement = "" if one["agreement"] is None else f"{one['agreement']:.1%}"
        sizes = f"{one['bytes'] / 1e6:.2f} | {share} | {one['setup_bytes'] / 1e6:.2f} | {one['calibration']}"
        lines.append(f"| {one['model']} | {one['secret']} | {one['rounds']} | {sizes} | {agreement} |")
    return head.replace("{table}", "\n".join(lines))


def keep(known: list[dict[str, Any]], new: Row) -> list[dict[str, Any]]:
    """The rows with one more, in the place of an earlier one."""
    rows = [asdict(new) if (one["model"], one["secret"]) == (new.model, new.secret) else one for one in known]
    return rows if any(one["secret"] == new.secret and one["model"] == new.model for one in known) else [*rows, asdict(new)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", action="append", choices=tuple(SUBJECTS), help="default: digits and fashion")
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page of the rows there are")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(JSON.read_text(encoding="utf-8")) if JSON.exists() else []
    for name in () if options.page else options.model or ("digits", "fashion"):
        subject = SUBJECTS[name]()
        for part in parts(len(subject.build().blocks)):
            new = row(subject, part)
            print(new.model, new.secret, new.rounds, new.bytes, new.setup_bytes, new.agreement, flush=True)
            rows = keep(rows, new)
            files.write(JSON, json.dumps(rows, indent=1) + "\n")
    files.write(PAGE, page(rows))


if __name__ == "__main__":
    main()
