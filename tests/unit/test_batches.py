"""Batches of a DataLoader: accepted forms give equal batches, and others are named errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from gan_lab.batches import BatchReader, collate_images
from gan_lab.images import Batch, ImageSpec, to_unit
from gan_lab.utils.errors import UserError

PIXELS = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)
SYMMETRIC = to_unit(PIXELS)  # the same images in [-1, 1]
UNIT = PIXELS.float() / 255
LABELS = torch.tensor([1, 0])


def reader(labels: str = "ignored", translation: bool = False, **options: Any) -> BatchReader:
    spec = ImageSpec(3, 4, 4, 2, source_channels=3 if translation else 0)
    return BatchReader(spec, labels, translation, **options)


def read(batch: Any, **options: Any) -> Batch:
    made = reader(**options).read(batch)
    return made.map(to_unit)


@pytest.mark.parametrize(
    "batch",
    [
        UNIT,
        PIXELS,
        SYMMETRIC,
        (UNIT,),
        [UNIT, LABELS],
        {"image": UNIT, "label": LABELS},
        {"pixel_values": PIXELS, "labels": LABELS},
        {"img": SYMMETRIC.double()},
    ],
    ids=["unit", "uint8", "symmetric", "tuple", "pair", "dict", "hugging face", "float64"],
)
def test_every_form_and_range_is_read_as_the_same_images(batch: Any) -> None:
    assert torch.allclose(read(batch).images.float(), SYMMETRIC, atol=1e-6)
    assert read(batch).labels is None


def test_labels_are_read_where_the_model_uses_them() -> None:
    for batch in ((UNIT, LABELS), {"image": UNIT, "label": LABELS.int()}):
        labels = read(batch, labels="required").labels
        assert labels is not None
        assert labels.tolist() == [1, 0]
        assert labels.dtype == torch.int64
    assert read((UNIT, torch.tensor([-1, 1])), labels="optional").labels is not None


@pytest.mark.parametrize(
    "batch",
    [
        (UNIT, PIXELS),
        {"source": UNIT, "target": PIXELS},
        {"A": UNIT, "B": PIXELS},
        {"A": [UNIT, LABELS], "B": (PIXELS, LABELS)},
        [[UNIT, LABELS], [PIXELS, LABELS]],
    ],
    ids=[
        "tuple",
        "source and target",
        "A and B",
        "dict of labeled loaders",
        "list of labeled loaders",
    ],
)
def test_translation_takes_two_images(batch: Any) -> None:
    made = read(batch, translation=True)
    assert made.sources is not None
    assert torch.allclose(made.sources, SYMMETRIC, atol=1e-6)
    assert torch.equal(made.images, SYMMETRIC)


def test_the_last_batches_of_two_loaders_are_cut_to_the_shorter() -> None:
    made = read([UNIT, UNIT[:1]], translation=True)
    assert made.sources is not None
    assert len(made.images) == len(made.sources) == 1


def test_gray_images_may_lack_the_channel_axis() -> None:
    gray = BatchReader(ImageSpec(1, 4, 4), "ignored", False)
    assert gray.read(PIXELS[:, 0]).images.shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    ("batch", "options", "sentence"),
    [
        (
            UNIT * 255,
            {},
            r"pixel values from 0 to 95, but must be uint8 or floats in \[0, 1\] or \[-1, 1\]",
        ),
        (UNIT * 4 - 2.1, {}, r"pixel values from -2\.1 to -0\.\d+, but must be uint8"),
        (torch.full((2, 3, 4, 4), torch.nan), {}, r"pixel values from nan to nan"),
        (UNIT * torch.inf, {}, r"pixel values from nan to"),
        (PIXELS.long(), {}, r"images have the type torch\.int64\. Convert them to uint8"),
        (
            UNIT[..., :3],
            {},
            r"images have the shape \(3, 4, 3\), but the model expects \(3, 4, 4\)",
        ),
        (torch.rand(2, 4, 4, 3), {}, r"\(4, 4, 3\).*Permute them to channels first"),
        (
            (UNIT,),
            {"labels": "required"},
            r"learns from labels, but the batches have none\. Yield \(images, labels\)\.$",
        ),
        ((UNIT,), {"labels": "optional"}, r"with -1 for unlabeled images\.$"),
        (
            (UNIT, LABELS.float()),
            {"labels": "required"},
            r"Labels have the type torch\.float32 \(2,\)\. Yield integers",
        ),
        (
            (UNIT, torch.eye(2).long()),
            {"labels": "required"},
            r"Labels have the type torch\.int64 \(2, 2\)",
        ),
        (
            (UNIT, LABELS + 1),
            {"labels": "required"},
            r"Labels range from 1 to 2, but .* num_classes=2\. .* 0 to 1",
        ),
        ((UNIT, LABELS - 1), {"labels": "required"}, r"Labels range from -1 to 0"),
        ((UNIT, LABELS[:1]), {"labels": "required"}, r"2 images but 1 labels"),
        (
            (UNIT, LABELS, LABELS),
            {},
            r"Cannot read a batch of type tuple of 3 \(Tensor, Tensor, Tensor\)",
        ),
        ({"x": UNIT}, {}, r"No key for images in a batch with the keys x\. Use 'image'"),
        ("images", {}, r"Cannot read a batch of type str"),
        (UNIT, {"translation": True}, r"For image-to-image translation, yield \(source, target\)"),
        (
            (UNIT, LABELS),
            {"translation": True},
            r"target images have the shape \(\)|target images have",
        ),
        (
            ([Image.new("RGB", (4, 4))], LABELS),
            {},
            r"images have the type list of 1 \(Image\)\. Add transforms\.ToTensor",
        ),
    ],
)
def test_what_would_be_misread_is_refused(
    batch: Any, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        reader(**options).read(batch)


def test_a_range_once_recognized_holds_for_all_batches() -> None:
    """A first batch in [0, 1] decides; one in [-1, 1] after it would otherwise be scaled twice."""
    known = reader()
    known.read(UNIT)
    with pytest.raises(UserError, match=r"floats in \[0, 1\] like the first batch"):
        known.read(SYMMETRIC)
    bright = reader(pixel_range=(-1.0, 1.0))
    assert torch.equal(bright.read(UNIT).images, UNIT)  # said to be [-1, 1], and kept


def test_pil_images_are_collated_into_uint8() -> None:
    class Pictures(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.fromarray(PIXELS[index].permute(1, 2, 0).numpy()), int(LABELS[index])

    (batch,) = DataLoader(Pictures(), batch_size=2, collate_fn=collate_images)
    assert torch.equal(batch[0], PIXELS)
    assert torch.equal(batch[1], LABELS)
    plain: Tensor = collate_images([np.float32(1.0), np.float32(2.0)])
    assert plain.tolist() == [1.0, 2.0]
