"""A blind test for people: pairs of a truth and a member in random order, on one page; the answers lie in another file.

    python benchmarks/blind.py DATA MODEL [--pairs 40] [--calibrate]

MODEL is a folder that `finescale fit` wrote, such as those of texture.py, or a name. A quarter of the pairs is of MRMS
east of -90 degrees, and of each of three other networks: crops of 128² at 1x8, of one scale of colours.
Writes blind.html and blind_answers.json (for each pair, which side is the truth, and where it is from).
"""

from __future__ import annotations

import argparse
import base64
import io
import json
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import BoundaryNorm
from matplotlib.image import imsave
from one_step_systems import FACTOR, ensemble
from texture import crops_of, fields

import finescale
from finescale.config.load import load

PLACES = ("MRMS, east", "DWD", "FMI", "MCH")
CLASSES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
"""mm/h, between which colours change."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", help="a name or a folder")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--calibrate", action="store_true", help="on five earlier fields of each network")
    parser.add_argument("--seed", type=int, default=0, help="which crops, and their order")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    args.crops = args.pairs // len(PLACES)
    model, rng = load(args.model).at(FACTOR), np.random.default_rng(args.seed)
    pairs = []
    for place in PLACES:
        field, frames, few = fields(place, model.neighbours, args)
        batch = crops_of(field, frames, model, args, seed=1 + args.seed)
        if args.calibrate:
            finescale.calibrate(model, few, factor=FACTOR)
        drawn = ensemble(model, batch, 1)[0, :, 0]
        pairs += [(place, truth, member) for truth, member in zip(batch.fine[:, 0, 0].numpy(), drawn, strict=True)]
    order, sides = rng.permutation(len(pairs)), rng.integers(2, size=len(pairs))
    rows, answers = [], []
    for number, (index, side) in enumerate(zip(order, sides, strict=True), 1):
        place, *both = pairs[index]
        left, right = both if side == 0 else both[::-1]
        images = "".join(f'<img src="{_image(one)}" alt="{name}">' for one, name in ((left, "left"), (right, "right")))
        rows.append(f"<figure><figcaption>{number}</figcaption>{images}</figure>")
        answers.append({"pair": number, "truth": ("left", "right")[side], "place": place})
    legend = ", ".join(f"{low:g}" for low in CLASSES)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<title>Which is radar?</title><style>body{font:16px sans-serif;margin:1rem}figure{display:inline-block;"
        "margin:.5rem}img{width:min(48%,384px);image-rendering:pixelated;margin:2px}</style>"
        "<h1>Which is radar?</h1><p>Of each pair one is radar, the other made from its means of 8 × 8 cells. Note for "
        f"each number left or right. Colours change at {legend} mm/h. The answers: blind_answers.json.</p>"
        f"{''.join(rows)}</html>"
    )
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "blind.html").write_text(page)
    (args.results / "blind_answers.json").write_text(json.dumps(answers, indent=1) + "\n")


def _image(field: np.ndarray) -> str:
    """A field as a PNG in a data URL; dry cells are white."""
    classes = BoundaryNorm(CLASSES, 256)
    colours = colormaps["turbo"](classes(np.nan_to_num(field)))
    colours[~(np.nan_to_num(field) >= CLASSES[0])] = 1.0
    file = io.BytesIO()
    imsave(file, (255 * colours[::-1]).astype(np.uint8), format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    main()
