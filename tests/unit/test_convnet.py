from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lab import penalties
from gan_lab.networks.convnet import GROUP_CHANNELS, Block, Upsample
from tests.helpers.networks import convnet_discriminator as discriminator
from tests.helpers.networks import convnet_generator as generator
from tests.helpers.networks import draw, wake


def blocks_of(network: nn.Module) -> list[Block]:
    return [module for module in network.modules() if isinstance(module, Block)]


@pytest.mark.parametrize("blocks", [1, 3])
def test_each_size_has_the_blocks_that_were_asked_for_and_all_begin_as_the_identity(
    blocks: int,
) -> None:
    for network in (generator(blocks=blocks), discriminator(blocks=blocks)):
        assert len(blocks_of(network)) == 3 * blocks  # 28, 14 and 7 pixels
        for block in blocks_of(network):
            x = draw(1, 2, block.expand.in_channels, 7, 7)
            assert torch.equal(block(x), x)
            wake(block)
            assert not torch.allclose(block(x), x)


def test_first_two_convolutions_start_as_he_times_blocks_to_minus_quarter() -> None:
    D = discriminator(width=32, blocks=2)
    he = math.sqrt(2 / (1 + 0.2**2))
    for block in blocks_of(D):
        assert block.mix.groups == 2 * block.expand.in_channels // GROUP_CHANNELS
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
    h = functional.leaky_relu(
        functional.conv2d(h, block.mix.weight, block.mix.bias, padding=1), 0.2
    )
    assert torch.allclose(block(x), x + functional.conv2d(h, block.contract.weight), rtol=1e-12)


def test_odd_widths_have_groups_that_divide_them() -> None:
    assert [Block(channels).mix.groups for channels in (8, 12, 20, 64)] == [1, 3, 5, 8]


def test_the_logit_knows_no_bias() -> None:
    assert discriminator().judge.bias is None


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
    back = functional.avg_pool2d(Upsample()(ramp), 2)
    assert torch.allclose(back[..., 1:-1, 1:-1], ramp[..., 1:-1, 1:-1])
    x = draw(7, 1, 1, 6, 6)
    assert torch.allclose(
        functional.avg_pool2d(x, 2), functional.interpolate(x, scale_factor=0.5, mode="bilinear")
    )


def test_each_image_is_made_and_judged_by_itself() -> None:
    G, D = generator(), discriminator()
    for network, given in ((G, draw(8, 4, 8)), (D, draw(8, 4, 1, 28, 28))):
        wake(network)
        assert torch.allclose(network(given)[0], network(torch.cat([given[:1], 5 * given[1:]]))[0])


def test_penalties_reach_every_weight_of_the_discriminator_but_no_last_bias() -> None:
    """Also through grouped convolutions, by a finite difference of the penalty."""
    D, x = discriminator(width=16), draw(9, 2, 1, 28, 28)
    wake(D)
    penalties.zero_centered_penalty(D, x).backward()
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
        values.append(float(penalties.zero_centered_penalty(D, x).detach()))
        mix.weight.data -= sign * step * direction
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-4)


def test_labels_change_images() -> None:
    G, z = generator(classes=10), draw(11, 1, 8).expand(10, 8)
    assert len(G(z, torch.arange(10)).detach().flatten(1).unique(dim=0)) == 10
