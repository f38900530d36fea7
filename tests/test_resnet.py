from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from gan_lab.networks import rebuild
from gan_lab.networks.resnet import ClassNorm, DownBlock, ResNetDiscriminator, ResNetGenerator, UpBlock

DRAWS = torch.Generator()


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=DRAWS.manual_seed(seed))


def generator(**arguments: Any) -> ResNetGenerator:
    torch.manual_seed(0)
    return ResNetGenerator(**{"z_dim": 8, "shape": (1, 28, 28), "width": 4, **arguments}).double()


def discriminator(**arguments: Any) -> ResNetDiscriminator:
    torch.manual_seed(0)
    return ResNetDiscriminator(**{"shape": (1, 28, 28), "width": 4, **arguments}).double()


def wake(network: nn.Module) -> None:
    """Weights as after some training: no class is like another."""
    torch.manual_seed(1)
    for weight in network.parameters():
        weight.data += 0.1 * torch.randn_like(weight)


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 1)])
def test_images_of_each_size_are_filled_in_range_and_every_pixel_is_judged(size: int, channels: int) -> None:
    G, D = generator(shape=(channels, size, size)), discriminator(shape=(channels, size, size))
    images = G(5 * draw(0, 3, 8))
    assert images.shape == (3, channels, size, size)
    assert 0.2 < float(images.detach().abs().max()) <= 1
    logits = D(images)
    assert logits.shape == (3,)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert (gradient.abs().sum(dim=(0, 1)) > 0).all()


def test_a_size_that_does_not_halve_to_4_to_7_is_refused() -> None:
    for make in (generator, discriminator):
        with pytest.raises(ValueError, match="cannot make images of 30 x 30"):
            make(shape=(1, 30, 30))


@pytest.mark.parametrize("classes", [0, 10])
def test_every_layer_of_the_discriminator_has_spectral_norm_and_none_of_the_generator(classes: int) -> None:
    D, G = discriminator(classes=classes), generator(classes=classes)
    layers = layers_of(D)
    assert len(layers) == 3 * 3 + 1 + (classes > 0)  # blocks of three convolutions, the dense layer, the embedding
    assert all(parametrize.is_parametrized(layer, "weight") for layer in layers.values())
    assert not any(parametrize.is_parametrized(layer) for layer in G.modules())


def test_after_some_passes_every_weight_matrix_of_the_discriminator_has_largest_singular_value_one() -> None:
    D = discriminator(classes=10)
    wake(D)
    with torch.no_grad():
        for _ in range(100):  # one power iteration each
            D(torch.zeros(1, 1, 28, 28).double(), torch.tensor([0]))
        D.eval()
        sizes = {
            name: float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2)) for name, layer in layers_of(D).items()
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


def test_the_projection_adds_the_scalar_product_of_features_and_embedding() -> None:
    """ψ(h) + yᵀVh: section 3 of arXiv 1802.05637."""
    D = discriminator(classes=10).eval()
    x, y = draw(4, 5, 1, 28, 28), torch.tensor([0, 3, 9, 3, 1])
    assert D.embedding is not None
    with torch.no_grad():
        h, V, psi = D.features(x), D.embedding.weight, D.judge.weight
        expected = torch.stack([psi[0] @ h[i] + V[:, y[i]] @ h[i] for i in range(5)]) + D.judge.bias
        assert torch.allclose(D(x, y), expected, rtol=1e-12)
        assert not torch.allclose(D(x, y), D(x, y.flip(0)))


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
    """The shortcut's 1 x 1 convolution changes places with the resampling, which may change no value."""
    torch.manual_seed(0)
    up, down = UpBlock(3, 2, 0, "none").double(), DownBlock(3, 2, first=False, halve=True).double()
    x = draw(8, 2, 3, 6, 6)
    doubled, doubled_relu = (t.repeat_interleave(2, 2).repeat_interleave(2, 3) for t in (x, x.relu()))
    expected = up.conv_2(up.conv_1(doubled_relu).relu()) + up.shortcut(doubled)
    assert torch.allclose(up(x, None), expected, rtol=1e-10)
    inside = down.conv_2(down.conv_1(x.relu()).relu()) + down.shortcut(x)
    assert torch.allclose(down(x), inside.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)), rtol=1e-10)


def test_the_first_block_reads_dark_pixels_too() -> None:
    """A ReLU on images in [-1, 1] would throw away half of them."""
    D = discriminator().eval()
    with torch.no_grad():
        assert not torch.allclose(D(-torch.ones(1, 1, 28, 28).double()), D(-0.5 * torch.ones(1, 1, 28, 28).double()))


@pytest.mark.parametrize("classes", [0, 10])
def test_recipe_state_and_deep_copy_make_the_same_networks_again(classes: int) -> None:
    y = torch.arange(4) if classes else None
    for network, given in ((generator(classes=classes), draw(9, 4, 8)), (discriminator(classes=classes), draw(9, 4, 1, 28, 28))):  # fmt: skip
        wake(network)
        again = rebuild(network.recipe).double()
        again.load_state_dict(network.state_dict())
        expected = network.eval()(given, y)
        assert torch.equal(again.eval()(given, y), expected)
        copied = copy.deepcopy(network)
        for weight in network.parameters():
            weight.data.zero_()
        assert torch.equal(copied(given, y), expected)


def test_missing_labels_are_asked_for() -> None:
    for network, given in ((generator(classes=10), draw(1, 2, 8)), (discriminator(classes=10), draw(1, 2, 1, 28, 28))):
        with pytest.raises(ValueError, match=r"conditional on 10 classes: it needs labels \[B\]"):
            network(given)


def test_under_bf16_autocast_the_discriminator_stays_near_float32() -> None:
    D, x, y = discriminator(classes=10).float(), draw(10, 8, 1, 28, 28).float(), torch.arange(8)
    D.eval()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = D(x, y)
    exact = D(x, y)
    assert not torch.equal(mixed.float(), exact)
    assert torch.allclose(mixed.float(), exact, atol=0.05 * float(exact.detach().abs().max()))
