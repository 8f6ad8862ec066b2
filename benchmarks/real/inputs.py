"""What the models are asked: photographs, rendered words, sentences, files. Fixed, so that every run sees the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .packages import unpacked

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FOOLBOX, SKIMAGE = "foolbox==3.3.4", "scikit-image==0.26.0"
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
FACES = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono-Bold", "DejaVuSans-Oblique", "DejaVuSerif-Bold")
WORDS = (
    "harbour 1924 PRIVATE ledger window Seventh 07:45 copper bridge North-East payment yellow Station 58.20 morning "
    "garden ZEBRA quartz island 3rd Winter sugar RESULT planet 12%"
).split(), (
    "Lantern 2031 SECRET marble orchard Twelfth 19:30 silver tunnel South-West receipt violet Market 64.75 evening forest"
).split()  # fmt: skip
"""For calibration, and for the answers that are compared."""
SENTENCES = (
    "the ferry crosses the bay twice a day when the weather is calm enough for the crew to work",
    "she planted tomatoes beside the fence and watered them every morning before leaving for the office",
    "our train was delayed for an hour because a tree had fallen on the tracks near the river",
    "the committee will publish its report on the new bridge at the end of next month they say",
    "a good recipe for bread needs only flour water salt yeast and a little patience from the baker",
    "the patient was asked to return in two weeks for a second examination of the left knee joint",
    "prices of copper rose sharply after the mine in the north had to close for several weeks again",
    "he repaired the old radio with parts that he found in a drawer of his late uncle's workshop",
    "the children built a castle of sand and the tide took it away before the sun went down",
    "two banks announced that they will share their network of cash machines from the first of june",
    "the museum shows paintings of the sea by artists who had never left the mountains in their lives",
    "after the storm volunteers cleared branches from the roads so that the ambulances could pass through again",
), (
    "the boat to the island leaves at noon and comes back late in the evening if the sea is quiet",
    "my neighbour grows beans and carrots in a small garden behind the church at the end of the road",
    "because of snow on the line the express to the coast arrived more than two hours behind its schedule",
    "the council decided to repair the stone bridge before the winter although the money is not there yet",
    "mix the flour with warm water and let the dough rest for half a day in a cool place",
    "the doctor told him to rest his ankle for ten days and to come back if it still hurts",
    "the price of wheat fell again after the harvest turned out to be much better than was expected",
    "an old clock in the hall has not worked since the day when my grandfather moved to the city",
    "at low tide the girls collected shells and drew long lines in the wet sand with a stick",
    "the company moved its savings to another bank after the fees had been raised for the third time",
)  # fmt: skip


def photos() -> tuple[list[Image.Image], list[Image.Image]]:
    """20 of ImageNet for calibration; for the answers five others, and the lower right of each."""
    files = sorted((unpacked(FOOLBOX) / "foolbox" / "data").glob("imagenet_*.jpg"))
    folder = unpacked(SKIMAGE) / "skimage" / "data"
    names = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
    others = [Image.open(folder / name).convert("RGB") for name in names]
    half = [one.crop((one.width // 4, one.height // 4, one.width, one.height)) for one in others]
    return [Image.open(file).convert("RGB") for file in files], [*others, *half]


def picture(image: Image.Image, side: int) -> Tensor:
    """[1, 3, side, side] of a photo: its longer side scaled to `side`, padded with black, normalised as ImageNet's are."""
    scale = side / max(image.size)
    width, height = (max(1, round(size * scale)) for size in image.size)
    canvas = Image.new("RGB", (side, side))
    canvas.paste(image.resize((width, height), Image.Resampling.BOX), ((side - width) // 2, (side - height) // 2))
    mean, deviation = (torch.tensor(values).reshape(3, 1, 1) for values in IMAGENET)
    return ((pixels(canvas) - mean) / deviation).unsqueeze(0)


def word(text: str, number: int, height: int, width: int, *, turned: bool = False) -> Tensor:
    """[1, 3, height, width] in [-1, 1]: a word in one of five faces, dark on light or light on dark, with a little noise."""
    generator = np.random.default_rng(number)
    face = ImageFont.truetype(str(FONTS / f"{FACES[number % len(FACES)]}.ttf"), 40)
    left, top, right, bottom = face.getbbox(text)
    dark, light = (tuple(int(v) for v in generator.integers(low, low + 60, 3)) for low in (0, 190))
    paper, ink = (light, dark) if number % 3 else (dark, light)
    line = Image.new("RGB", (int(right - left) + 16, int(bottom - top) + 16), paper)
    ImageDraw.Draw(line).text((8 - left, 8 - top), text, font=face, fill=ink)
    line = line.transpose(Image.Transpose.ROTATE_180) if turned else line
    wide = min(width, max(1, round(line.width * height / line.height)))
    found = pixels(line.resize((wide, height), Image.Resampling.BILINEAR)) * 255
    found = (found + torch.from_numpy(generator.normal(0, 4, found.shape))).clamp(0, 255).float()
    drawn = torch.zeros(1, 3, height, width)
    drawn[..., :wide] = (found.flip(0) / 255 - 0.5) / 0.5  # the recognisers were trained on blue, green, red
    return drawn


def pixels(image: Image.Image) -> Tensor:
    """[3, height, width] in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def tokens(sentence: str, vocabulary: Sequence[str], length: int) -> Tensor:
    """[length] ids by BERT's WordPiece: of each word the longest pieces that are known. The sentence is cut to the length."""
    number = {piece: place for place, piece in enumerate(vocabulary)}
    found = [number["[CLS]"]]
    for text in re.findall(r"\w+|[^\w\s]", sentence.lower()):
        start = 0
        while start < len(text):
            ends = (end for end in range(len(text), start, -1) if ("##" if start else "") + text[start:end] in number)
            end = next(ends, len(text))
            found.append(number.get(("##" if start else "") + text[start:end], number["[UNK]"]))
            start = end
    if len(found) < length - 1:
        raise ValueError(f"the sentence {sentence!r} is too short for {length} tokens")
    return torch.tensor([*found[: length - 1], number["[SEP]"]])


def file_features(file: Path, length: int = 1024) -> Tensor:
    """[1, 2 * length] of a file: its first and last bytes without blanks at the ends, 256 where there are none (Magika)."""
    content = file.read_bytes()
    first, last = content[:4096].lstrip()[:length], content[-4096:].rstrip()[-length:]
    ahead = [*first, *[256] * (length - len(first))]
    return torch.tensor([[*ahead, *[256] * (length - len(last)), *last]])
