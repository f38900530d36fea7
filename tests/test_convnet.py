from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lab import penalties
from gan_lab.networks import rebuild
from gan_lab.networks.convnet import GROUP, Block, ConvNetDiscriminator, ConvNetGenerator, Double


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def generator(**arguments: Any) -> ConvNetGenerator:
    torch.manual_seed(0)
    return ConvNetGenerator(**{"z_dim": 8, "shape": (1, 28, 28), "width": 4, "blocks": 1, **arguments}).double()


def discriminator(**arguments: Any) -> ConvNetDiscriminator:
    torch.manual_seed(0)
    return ConvNetDiscriminator(**{"shape": (1, 28, 28), "width": 4, "blocks": 1, **arguments}).double()


def wake(network: nn.Module) -> None:
    """Weights as after some training: no block is the identity any more."""
    torch.manual_seed(1)
    for weight in network.parameters():
        weight.data += 0.1 * torch.randn_like(weight)


def blocks_of(network: nn.Module) -> list[Block]:
    return [module for module in network.modules() if isinstance(module, Block)]


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


@pytest.mark.parametrize("blocks", [1, 3])
def test_each_size_has_the_blocks_that_were_asked_for_and_all_begin_as_the_identity(blocks: int) -> None:
    for network in (generator(blocks=blocks), discriminator(blocks=blocks)):
        assert len(blocks_of(network)) == 3 * blocks  # 28, 14 and 7 pixels
        for block in blocks_of(network):
            x = draw(1, 2, block.expand.in_channels, 7, 7)
            assert torch.equal(block(x), x)
            wake(block)
            assert not torch.allclose(block(x), x)


def test_the_first_two_convolutions_of_a_branch_begin_as_he_times_the_number_of_blocks_to_the_minus_quarter() -> None:
    D = discriminator(width=32, blocks=2)
    he = math.sqrt(2 / (1 + 0.2**2))
    for block in blocks_of(D):
        assert block.mix.groups == 2 * block.expand.in_channels // GROUP
        for layer in (block.expand, block.mix):
            fan_in = layer.weight[0].numel()
            expected = he / math.sqrt(fan_in) * 6**-0.25
            assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=0.08)


def test_a_block_without_groups_is_x_plus_three_convolutions() -> None:
    torch.manual_seed(0)
    block = Block(4).double()
    wake(block)
    assert block.mix.groups == 1  # 8 channels inside: fewer than one group
    x = draw(2, 2, 4, 5, 5)
    h = functional.leaky_relu(functional.conv2d(x, block.expand.weight, block.expand.bias), 0.2)
    h = functional.leaky_relu(functional.conv2d(h, block.mix.weight, block.mix.bias, padding=1), 0.2)
    assert torch.allclose(block(x), x + functional.conv2d(h, block.contract.weight), rtol=1e-12)


def test_odd_widths_have_groups_that_divide_them() -> None:
    assert [Block(channels).mix.groups for channels in (8, 12, 20, 64)] == [1, 3, 5, 8]


def test_the_logit_knows_no_bias_and_the_projection_adds_to_it() -> None:
    D = discriminator(classes=10)
    wake(D)
    x, y = draw(3, 4, 1, 28, 28), torch.tensor([0, 3, 9, 3])
    assert D.embedding is not None
    with torch.no_grad():
        h, V, psi = D.features(x), D.embedding.weight, D.judge.weight
        expected = torch.stack([psi[0] @ h[i] + V[:, y[i]] @ h[i] for i in range(4)])
        assert torch.allclose(D(x, y), expected, rtol=1e-12)
        assert not torch.allclose(D(x, y), D(x, y.flip(0)))


def test_features_are_scalar_products_of_the_smallest_map_with_a_learned_one() -> None:
    D, x = discriminator(), draw(4, 2, 1, 28, 28)
    maps = D.layers(x)
    assert maps.shape[2:] == D.basis.shape[1:] == (7, 7)
    depthwise = functional.conv2d(maps, D.basis[:, None], groups=len(D.basis)).flatten(1)
    assert torch.allclose(D.features(x), depthwise, rtol=1e-10)


def test_the_generators_first_map_is_linear_in_the_latents() -> None:
    G = generator()
    seen: list[Tensor] = []
    G.layers[0].register_forward_hook(lambda layer, given, out: seen.append(given[0].detach()))
    z, w = draw(5, 2, 8), draw(6, 2, 8)
    for latents in (z, w, 2 * z - 3 * w):
        G(latents)
    assert torch.allclose(seen[2], 2 * seen[0] - 3 * seen[1], atol=1e-12)


def test_doubling_then_halving_keeps_a_slope_and_a_mean() -> None:
    ramp = torch.arange(6).double().view(1, 1, 1, 6).expand(1, 1, 6, 6)
    back = functional.avg_pool2d(Double()(ramp), 2)
    assert torch.allclose(back[..., 1:-1, 1:-1], ramp[..., 1:-1, 1:-1])
    x = draw(7, 1, 1, 6, 6)
    assert torch.allclose(functional.avg_pool2d(x, 2), functional.interpolate(x, scale_factor=0.5, mode="bilinear"))


def test_each_image_is_made_and_judged_by_itself() -> None:
    G, D = generator(), discriminator()
    for network, given in ((G, draw(8, 4, 8)), (D, draw(8, 4, 1, 28, 28))):
        wake(network)
        assert torch.allclose(network(given)[0], network(torch.cat([given[:1], 5 * given[1:]]))[0])


def test_penalties_reach_every_weight_of_the_discriminator_but_no_last_bias() -> None:
    """Through convolutions in groups as well, by the closed form: a finite difference of the penalty."""
    D, x = discriminator(width=16), draw(9, 2, 1, 28, 28)
    wake(D)
    penalties.zero_centred(D, x).backward()
    for name, weight in D.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
    mix = blocks_of(D)[-1].mix
    assert mix.groups > 1
    direction, step = draw(10, *mix.weight.shape), 1e-6
    assert mix.weight.grad is not None
    slope = float((mix.weight.grad * direction).sum())
    values = []
    for sign in (1, -1):
        mix.weight.data += sign * step * direction
        values.append(float(penalties.zero_centred(D, x).detach()))
        mix.weight.data -= sign * step * direction
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("classes", [0, 10])
def test_recipe_state_and_deep_copy_make_the_same_networks_again(classes: int) -> None:
    y = torch.arange(4) if classes else None
    for network, given in ((generator(classes=classes), draw(9, 4, 8)), (discriminator(classes=classes), draw(9, 4, 1, 28, 28))):  # fmt: skip
        wake(network)
        again = rebuild(network.recipe).double()
        again.load_state_dict(network.state_dict())
        expected = network(given, y)
        assert torch.equal(again(given, y), expected)
        copied = copy.deepcopy(network)
        for weight in network.parameters():
            weight.data.zero_()
        assert torch.equal(copied(given, y), expected)


def test_labels_change_images_and_missing_ones_are_asked_for() -> None:
    G, z = generator(classes=10), draw(11, 1, 8).expand(10, 8)
    assert len(G(z, torch.arange(10)).detach().flatten(1).unique(dim=0)) == 10
    for network, given in ((G, z), (discriminator(classes=10), draw(1, 2, 1, 28, 28))):
        with pytest.raises(ValueError, match=r"conditional on 10 classes: it needs labels \[B\]"):
            network(given)
