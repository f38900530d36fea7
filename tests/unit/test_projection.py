"""Residual and modern networks: image sizes and projection of labels."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from gan_lab.networks import from_recipe
from tests.helpers.networks import (
    convnet_discriminator,
    convnet_generator,
    draw,
    resnet_discriminator,
    resnet_generator,
    wake,
)  # fmt: skip

both = pytest.mark.parametrize(
    ("generator", "discriminator"),
    [(convnet_generator, convnet_discriminator), (resnet_generator, resnet_discriminator)],
    ids=["convnet", "resnet"],
)


@both
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 1)])
def test_resnets_support_each_image_size(
    generator: Any, discriminator: Any, size: int, channels: int
) -> None:
    """Generators fill images of each size, and the logit depends on every pixel."""
    G, D = generator(shape=(channels, size, size)), discriminator(shape=(channels, size, size))
    images = G(5 * draw(0, 3, 8))
    assert images.shape == (3, channels, size, size)
    assert 0.2 < float(images.detach().abs().max()) <= 1
    logits = D(images)
    assert logits.shape == (3,)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert (gradient.abs().sum(dim=(0, 1)) > 0).all()


@both
def test_a_size_that_does_not_halve_to_4_to_7_is_refused(
    generator: Any, discriminator: Any
) -> None:
    for make in (generator, discriminator):
        with pytest.raises(ValueError, match="Image size 30 x 30 is not supported"):
            make(shape=(1, 30, 30))


@both
def test_projection_adds_features_times_embedding(generator: Any, discriminator: Any) -> None:
    """ψ(h) + yᵀVh: section 3 of arXiv 1802.05637."""
    D = discriminator(classes=10)
    wake(D)
    D.eval()
    x, y = draw(4, 5, 1, 28, 28), torch.tensor([0, 3, 9, 3, 1])
    with torch.no_grad():
        h, V, psi = D.features(x), D.embedding.weight, D.judge.weight
        expected = torch.stack([psi[0] @ h[i] + V[:, y[i]] @ h[i] for i in range(5)])
        expected = expected if D.judge.bias is None else expected + D.judge.bias
        assert torch.allclose(D(x, y), expected, rtol=1e-12)
        assert not torch.allclose(D(x, y), D(x, y.flip(0)))


@both
@pytest.mark.parametrize("classes", [0, 10])
def test_recipe_and_deep_copy_rebuild_networks(
    generator: Any, discriminator: Any, classes: int
) -> None:
    """Recipe and state dict, and a deep copy, rebuild the same networks."""
    y = torch.arange(4) if classes else None
    for network, given in (
        (generator(classes=classes), draw(9, 4, 8)),
        (discriminator(classes=classes), draw(9, 4, 1, 28, 28)),
    ):
        wake(network)
        again = from_recipe(network.recipe).double()
        again.load_state_dict(network.state_dict())
        expected = network.eval()(given, y)
        assert torch.equal(again.eval()(given, y), expected)
        copied = copy.deepcopy(network)
        for weight in network.parameters():
            weight.data.zero_()
        assert torch.equal(copied(given, y), expected)


@both
def test_missing_labels_raise(generator: Any, discriminator: Any) -> None:
    """Missing labels are an error."""
    for network, given in (
        (generator(classes=10), draw(1, 2, 8)),
        (discriminator(classes=10), draw(1, 2, 1, 28, 28)),
    ):
        with pytest.raises(ValueError, match=r"conditional on 10 classes\. Pass labels \[B\]"):
            network(given)
