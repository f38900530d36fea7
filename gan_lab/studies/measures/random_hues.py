"""Scores of a translation of gray digits to colored ones whose hue the gray digit does not tell.

Hues are uniform on the color wheel. Each channel of a fully saturated color is 1 for a third of the
hues and 0 for a third, so its median, which has the least expected L1 error, is 1/2: gray. The
measure writes the pairs to the zip file ``data.root=`` of the arm, unless it exists.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from gan_lab.images import to_uint8
from gan_lab.seeding import Stream
from gan_lab.studies.measures import Arm, Values, colour
from gan_lab.studies.measures.sample_size import load_digits, read_images
from gan_lab.utils.files import atomic_path

SEED = 0
# black margin, since the networks halve the height and width several times: 28 + 2 * 2 = 32
MARGIN = 2


def compute_colors(hues: Tensor) -> Tensor:
    """Compute fully saturated colors [N, 3] in [0, 1] of hues [N] in [0, 1).

    Source: Smith 1978 (SIGGRAPH), the HSV model, with saturation and value 1.
    """
    distances = (6 * hues[:, None] - torch.tensor([0.0, 2.0, 4.0])).remainder(6)
    return (2 - torch.minimum(distances, 6 - distances)).clamp(0, 1)


def make_pairs(gray: Tensor, hues: Tensor) -> Tensor:
    """Make side-by-side pairs [N, 3, H, 2 W] in [-1, 1] of images [N, 1, H, W] in [-1, 1].

    The left half is gray, the right half has the same brightness in a color of the given hue.
    """
    value = (gray + 1) / 2
    colored = value * compute_colors(hues)[:, :, None, None]
    return 2 * torch.cat([value.expand_as(colored), colored], dim=3) - 1


def write_pairs(path: Path) -> None:
    """Write the bundled digits, each with one random hue, as a zip file of pairs."""
    data = load_digits()
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, split in (("train", data.train), ("test", data.test)):
            gray = pad(read_images(data, split), [MARGIN] * 4, value=-1)
            hues = Stream(SEED, f"hues of {name}").uniform(len(gray), like=gray)
            for i, pair in enumerate(to_uint8(make_pairs(gray, hues))):
                content = io.BytesIO()
                Image.fromarray(pair.permute(1, 2, 0).numpy()).save(content, "png")
                archive.writestr(f"{name}/{i:05}.png", content.getvalue())


def measure(arm: Arm) -> Values:
    """Return ``colourfulness``, relative to the ground truth, and the scores of the run.

    ``log_colourfulness`` is its logarithm.
    """
    path = Path(arm.text("data.root"))
    path.parent.mkdir(parents=True, exist_ok=True)
    # two workers of the study start with both arms at once
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.is_file():
            write_pairs(path)
    values = colour.measure(arm)
    return values | {"log_colourfulness": math.log(values["colourfulness"])}
