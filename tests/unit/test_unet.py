from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lab.networks import from_recipe
from gan_lab.networks.unet import UNet, max_halvings


def make(size: int = 32, **changed: Any) -> UNet:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "shape": (1, size, size),
        "source_channels": 1,
        "width": 4,
        "norm": "none",
    }
    return UNet(**(arguments | changed))


def image(size: int = 32, n: int = 1, channels: int = 1) -> Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_sides_halve_as_often_as_both_are_even() -> None:
    assert [max_halvings(side, side) for side in (1, 25, 28, 30, 32, 48, 64, 256)] == [
        0,
        0,
        2,
        1,
        5,
        4,
        6,
        8,
    ]
    assert max_halvings(64, 96) == 5


def test_the_papers_generator_has_its_layers() -> None:
    G = UNet(shape=(3, 256, 256), source_channels=3, width=8)  # 64 in the paper
    convolutions = [layer for layer in G.down.modules() if isinstance(layer, nn.Conv2d)]
    transposed = [layer for layer in G.up.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [c.out_channels for c in convolutions] == [8, 16, 32, 64, 64, 64, 64, 64]
    assert [c.in_channels for c in transposed] == [
        64,
        128,
        128,
        128,
        128,
        64,
        32,
        16,
    ]  # the U-Net decoder
    assert [c.out_channels for c in transposed] == [64, 64, 64, 64, 32, 16, 8, 3]
    assert [[type(layer) for layer in step].count(nn.Dropout) for step in G.up] == [
        1,
        1,
        1,
        0,
        0,
        0,
        0,
        0,
    ]
    assert [[type(layer) for layer in step].count(nn.BatchNorm2d) for step in G.down] == [
        0,
        1,
        1,
        1,
        1,
        1,
        1,
        0,
    ]
    assert [[type(layer) for layer in step].count(nn.BatchNorm2d) for step in G.up] == [
        1,
        1,
        1,
        1,
        1,
        1,
        1,
        0,
    ]
    assert all((c.kernel_size, c.stride) == ((4, 4), (2, 2)) for c in [*convolutions, *transposed])
    assert G.multiple == 256


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("size", [28, 48, 64])
def test_every_size_comes_back_in_range_and_every_pixel_of_the_source_counts(
    size: int, norm: str
) -> None:
    G = make(size, norm=norm, shape=(3, size, size)).eval()
    x = image(size).requires_grad_()
    y = G(30 * x)
    assert y.shape == (1, 3, size, size)
    assert y.abs().max() <= 1
    (gradient,) = torch.autograd.grad((y * torch.rand_like(y)).sum(), x)
    assert (gradient.abs() > 0).all()


def test_the_whole_image_reaches_every_pixel_through_the_innermost_point() -> None:
    G = make(32).double().eval()
    x = image().double().requires_grad_()
    (gradient,) = torch.autograd.grad(G(x)[0, 0, 0, 0], x)
    assert float(gradient[0, 0, -1, -1].abs()) > 0
    shallow = make(32, depth=2).double().eval()
    (gradient,) = torch.autograd.grad(shallow(x)[0, 0, 0, 0], x)
    assert float(gradient[0, 0, -1, -1].abs()) == 0


def test_each_doubling_but_the_first_sees_the_map_that_a_halving_made_at_its_size() -> None:
    G = make(32, norm="batch", dropout=0.0)
    seen: dict[Any, Any] = {}
    for i in range(5):
        G.down[i].register_forward_hook(
            lambda step, into, out, i=i: seen.__setitem__(("down", i), out)
        )
        G.up[i].register_forward_hook(
            lambda step, into, out, i=i: seen.__setitem__(("up", i), (into[0], out))
        )
    G(image(n=2))
    for i in range(1, 5):
        into, before, skip = seen["up", i][0], seen["up", i - 1][1], seen["down", 4 - i]
        assert torch.equal(into, torch.cat([before, skip], dim=1))


def test_dropout_is_noise_in_training_and_none_in_evaluation() -> None:
    G, x = make(16, dropout=0.5), image(16)
    torch.manual_seed(0)
    assert not torch.equal(G(x), G(x))
    torch.manual_seed(0)
    first = G(x)
    torch.manual_seed(0)
    assert torch.equal(first, G(x))
    assert torch.equal(G.eval()(x), G(x))
    still = make(16, dropout=0.0)
    assert torch.equal(still(x), still(x))


@pytest.mark.parametrize(("norm", "alone"), [("none", True), ("instance", True), ("batch", False)])
def test_only_batch_norm_ties_the_images_of_a_batch_together(norm: str, alone: bool) -> None:
    G = make(16, norm=norm, dropout=0.0)
    x = image(16, n=3).requires_grad_()
    (gradient,) = torch.autograd.grad((G(x)[0] * torch.rand(1, 16, 16)).sum(), x)
    assert (float(gradient[1:].abs().max()) == 0) == alone


def test_a_single_image_passes_the_innermost_point_in_training() -> None:
    """Batch norm of one pixel of one image would give zero, and torch refuses it."""
    for norm in ("batch", "instance"):
        assert float(make(16, norm=norm, dropout=0.0)(image(16)).detach().std()) > 0


def test_an_input_of_another_size_fits_if_it_is_a_multiple() -> None:
    G = make(32, depth=3).eval()
    assert G.multiple == 8
    wide = torch.rand(1, 1, 40, 72)
    assert G(wide).shape == wide.shape


def test_a_recipe_and_a_state_dict_make_the_same_network_again() -> None:
    G = make(28, norm="batch", shape=(3, 28, 28))
    G(image(28, n=4))
    again = from_recipe(G.recipe).eval()
    again.load_state_dict(G.state_dict())
    assert torch.equal(again(image(28)), G.eval()(image(28)))


def test_sides_that_cannot_be_halved_so_often_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"cannot halve images of 28 x 28 3 times\. Set model\.depth=2 or less"
    ):
        make(28, depth=3)
    with pytest.raises(ValueError, match=r"images of 25 x 25 1 times\. Choose an even data\.size"):
        make(25)
