from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lab.networks import from_recipe
from gan_lab.networks.layers import ReflectConv2d
from gan_lab.networks.resnet_translator import Residual, ResNetTranslator


def make(size: int = 32, **changed: Any) -> ResNetTranslator:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "shape": (1, size, size),
        "source_channels": 1,
        "width": 4,
        "blocks": 1,
    }
    return ResNetTranslator(**(arguments | changed))


def image(height: int = 32, width: int = 32, n: int = 1) -> Tensor:
    return torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_papers_generator_has_its_layers() -> None:
    G = ResNetTranslator(shape=(3, 256, 256), source_channels=3, blocks=6)
    convolutions = [
        layer for layer in G.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    assert [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in convolutions] == [
        (64, 7, 1), (128, 3, 2), (256, 3, 2), *[(256, 3, 1)] * 12, (128, 3, 2), (64, 3, 2),
        (3, 7, 1),
    ]  # fmt: skip
    assert [type(c) for c in convolutions[-3:]] == [
        nn.ConvTranspose2d,
        nn.ConvTranspose2d,
        ReflectConv2d,
    ]
    assert sum(isinstance(layer, Residual) for layer in G.modules()) == 6
    assert (
        sum(isinstance(layer, nn.InstanceNorm2d) for layer in G.modules()) == len(convolutions) - 1
    )
    reflected = [c for c in convolutions if isinstance(c, ReflectConv2d)]
    assert len(reflected) == 14  # the 7 x 7 ones and those of the blocks
    assert (
        sum(p.numel() for p in ResNetTranslator(shape=(3, 64, 64), source_channels=3).parameters())
        == 11_372_931
    )


@pytest.mark.parametrize("norm", ["instance", "layer", "none"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (28, 28), (40, 24)])
def test_images_of_each_size_come_back_in_range_and_every_pixel_counts(
    height: int, width: int, norm: str
) -> None:
    G = make(norm=norm, shape=(3, height, width)).double()
    x = image(height, width).double().requires_grad_()
    y = G(30 * x)
    assert y.shape == (1, 3, height, width)
    assert y.abs().max() <= 1
    (gradient,) = torch.autograd.grad((y * torch.rand_like(y)).sum(), x)
    assert (gradient.abs() > 0).all()


def test_it_adapts_to_any_multiple_of_four() -> None:
    assert make(32).multiple == 4
    assert make(32)(image(20, 44)).shape == (1, 1, 20, 44)


def test_each_image_is_translated_by_itself() -> None:
    G, x = make().eval(), image(n=3)
    with torch.no_grad():
        assert torch.allclose(G(x), torch.cat([G(x[i : i + 1]) for i in range(3)]), atol=1e-6)


def test_instance_norm_is_blind_to_brightness_and_contrast() -> None:
    G, x = make().eval(), image()
    with torch.no_grad():
        assert torch.allclose(G(0.5 * x + 0.2), G(x), atol=1e-3)


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_the_other_norms_see_brightness_and_colour(norm: str) -> None:
    G = make(norm=norm, shape=(3, 32, 32), source_channels=3).eval()
    x = 0.2 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for other in (x + 0.5, x + torch.tensor([0.5, 0, 0]).view(3, 1, 1)):
            assert not torch.allclose(G(other), G(x), rtol=0.1, atol=0)


def test_a_mirrored_image_in_a_mirrored_network_is_the_mirrored_translation() -> None:
    """Padding by reflection has no side of its own; the stride of 2 has, so there is none here."""
    torch.manual_seed(0)
    block, x = Residual(3, "instance"), torch.rand(2, 3, 9, 9)
    mirrored = Residual(3, "instance")
    mirrored.load_state_dict({name: weight.flip(-1) for name, weight in block.state_dict().items()})
    with torch.no_grad():
        assert torch.allclose(mirrored(x.flip(-1)), block(x).flip(-1), atol=1e-5)


def test_a_residual_block_whose_second_convolution_is_zero_changes_nothing() -> None:
    block, x = Residual(3, "none"), torch.rand(2, 3, 8, 8)
    last = block.inner[-1]
    assert isinstance(last, nn.Conv2d)
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
    assert torch.equal(block(x), x)


def test_a_recipe_and_a_state_dict_make_the_same_network_again() -> None:
    G = make(28, shape=(3, 28, 28), blocks=2)
    again = from_recipe(G.recipe)
    again.load_state_dict(G.state_dict())
    assert torch.equal(again(image(28, 28)), G(image(28, 28)))


@pytest.mark.parametrize(("height", "width"), [(30, 32), (32, 30), (4, 32), (7, 7)])
def test_sides_that_do_not_halve_twice_are_refused(height: int, width: int) -> None:
    with pytest.raises(
        ValueError,
        match=f"{height} x {width} is not supported: "
        "both sides must be multiples of 4 .* 28, 32 or 64",
    ):
        make(shape=(1, height, width))
