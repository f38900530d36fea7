from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from gan_lab.networks.resnet import ClassNorm, DownBlock, UpBlock
from tests.helpers.networks import draw, wake
from tests.helpers.networks import resnet_discriminator as discriminator
from tests.helpers.networks import resnet_generator as generator


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }


@pytest.mark.parametrize("classes", [0, 10])
def test_every_layer_of_the_discriminator_has_spectral_norm_and_none_of_the_generator(
    classes: int,
) -> None:
    D, G = discriminator(classes=classes), generator(classes=classes)
    layers = layers_of(D)
    assert len(layers) == 3 * 3 + 1 + (
        classes > 0
    )  # blocks of three convolutions, the dense layer, the embedding
    assert all(parametrize.is_parametrized(layer, "weight") for layer in layers.values())
    assert not any(parametrize.is_parametrized(layer) for layer in G.modules())


def test_discriminator_weights_have_spectral_norm_one_after_some_passes() -> None:
    D = discriminator(classes=10)
    wake(D)
    with torch.no_grad():
        for _ in range(100):  # one power iteration each
            D(torch.zeros(1, 1, 28, 28).double(), torch.tensor([0]))
        D.eval()
        sizes = {
            name: float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2))
            for name, layer in layers_of(D).items()
        }  # type: ignore[operator]
    assert sizes == pytest.approx(dict.fromkeys(sizes, 1.0), abs=1e-3)


def test_a_discriminator_ten_times_as_large_judges_alike() -> None:
    """Spectral norm makes the size of a weight matter nothing: equation 8 of arXiv 1802.05957."""
    D = discriminator()
    larger = copy.deepcopy(D)
    for layer in layers_of(larger).values():
        layer.parametrizations.weight.original.data *= 10  # type: ignore[union-attr]
    x = draw(2, 3, 1, 28, 28)
    assert torch.allclose(D(x), larger(x), rtol=1e-9)


def test_evaluation_leaves_the_power_iteration_alone() -> None:
    D, x = discriminator(), draw(3, 2, 1, 28, 28)
    before = {name: value.clone() for name, value in D.named_buffers()}
    assert before
    first = D.eval()(x)
    assert torch.equal(D(x), first)
    assert all(torch.equal(value, before[name]) for name, value in D.named_buffers())
    D.train()(x)
    assert not all(torch.equal(value, before[name]) for name, value in D.named_buffers())


def test_features_are_sums_over_places_so_they_grow_with_the_map() -> None:
    D = discriminator(shape=(1, 32, 32)).eval()
    flat = torch.zeros(1, 1, 32, 32).double()
    with torch.no_grad():
        maps = D.blocks(flat)
        assert maps.shape[2:] == (4, 4)
        assert torch.allclose(D.features(flat), maps.mean(dim=(2, 3)) * 16)
        assert (maps >= 0).all()  # the last ReLU stands before the sum


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_classes_begin_alike_and_scale_and_shift_each_image_by_its_own(norm: Any) -> None:
    G, z, y = generator(classes=3, norm=norm), draw(5, 6, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    assert torch.allclose(G(z, y), G(z, y.flip(0)))
    wake(G)
    images = G.eval()(z, y)
    changed = G(z, torch.tensor([1, 1, 2, 0, 1, 2]))
    assert not torch.allclose(images[0], changed[0])
    assert torch.allclose(images[1:], changed[1:])


def test_class_norm_is_batch_norm_followed_by_the_scale_and_shift_of_the_class() -> None:
    torch.manual_seed(0)
    layer = ClassNorm(3, 2, "batch").double()
    assert layer.scale is not None
    assert layer.shift is not None
    x, y = draw(6, 4, 3, 5, 5), torch.tensor([0, 1, 1, 0])
    standard = functional.batch_norm(x, None, None, training=True)
    gamma, beta = 1 + layer.scale.weight.T[y], layer.shift.weight.T[y]
    expected = standard * gamma[:, :, None, None] + beta[:, :, None, None]
    assert torch.allclose(layer(x, functional.one_hot(y, 2).double()), expected, rtol=1e-12)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_norm_none_makes_each_image_of_its_own_latents_alone(norm: Any) -> None:
    G, z = generator(norm=norm), draw(7, 4, 8)
    other = torch.cat([z[:1], 5 * z[1:]])
    assert torch.allclose(G(z)[0], G(other)[0]) == (norm == "none")


def test_up_and_down_blocks_resample_both_paths_as_in_the_paper() -> None:
    """The shortcut's 1 x 1 convolution commutes with the resampling: no value changes."""
    torch.manual_seed(0)
    up, down = UpBlock(3, 2, 0, "none").double(), DownBlock(3, 2, first=False, halve=True).double()
    x = draw(8, 2, 3, 6, 6)
    upsample_bilinear, doubled_relu = (
        t.repeat_interleave(2, 2).repeat_interleave(2, 3) for t in (x, x.relu())
    )
    expected = up.conv_2(up.conv_1(doubled_relu).relu()) + up.shortcut(upsample_bilinear)
    assert torch.allclose(up(x, None), expected, rtol=1e-10)
    inside = down.conv_2(down.conv_1(x.relu()).relu()) + down.shortcut(x)
    assert torch.allclose(
        down(x), inside.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)), rtol=1e-10
    )


def test_the_first_block_reads_dark_pixels_too() -> None:
    """A ReLU on images in [-1, 1] would throw away half of them."""
    D = discriminator().eval()
    with torch.no_grad():
        assert not torch.allclose(
            D(-torch.ones(1, 1, 28, 28).double()), D(-0.5 * torch.ones(1, 1, 28, 28).double())
        )


def test_under_bf16_autocast_the_discriminator_stays_near_float32() -> None:
    D, x, y = discriminator(classes=10).float(), draw(10, 8, 1, 28, 28).float(), torch.arange(8)
    D.eval()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = D(x, y)
    exact = D(x, y)
    assert not torch.equal(mixed.float(), exact)
    assert torch.allclose(mixed.float(), exact, atol=0.05 * float(exact.detach().abs().max()))
