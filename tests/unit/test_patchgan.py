from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gan_lab.networks import from_recipe
from gan_lab.networks.patchgan import PatchDiscriminator


def seen_by_one_logit(layers: int, size: int) -> tuple[int, int]:
    """Height and width of the pixels that move the logit in the middle."""
    torch.manual_seed(0)
    D = PatchDiscriminator(shape=(1, size, size), width=2, layers=layers, norm="none").double()
    x = torch.rand(1, 1, size, size, dtype=torch.double, requires_grad=True)
    logits = D(x)
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], x)
    rows, columns = gradient[0, 0].abs().nonzero().T
    return int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)


@pytest.mark.parametrize(("layers", "patch"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_a_logit_sees_exactly_its_patch(layers: int, patch: int) -> None:
    assert seen_by_one_logit(layers, 2 * patch) == (patch, patch)


def test_the_papers_discriminator_has_its_layers_and_its_map_of_30_x_30_logits() -> None:
    D = PatchDiscriminator(shape=(3, 256, 256), source_channels=3)
    convolutions = [layer for layer in D.modules() if isinstance(layer, nn.Conv2d)]
    assert [
        (c.in_channels, c.out_channels, c.stride[0], c.kernel_size[0]) for c in convolutions
    ] == [
        (6, 64, 2, 4), (64, 128, 2, 4), (128, 256, 2, 4), (256, 512, 1, 4), (512, 1, 1, 4),
    ]  # fmt: skip
    assert (
        sum(p.numel() for p in D.parameters()) == 2_768_705
    )  # with batch norm's scales and shifts
    small = PatchDiscriminator(shape=(3, 256, 256), width=2)
    assert small(torch.zeros(1, 3, 256, 256)).shape == (1, 1, 30, 30)


def test_more_layers_widen_it_eightfold_at_most() -> None:
    D = PatchDiscriminator(shape=(1, 96, 96), width=2, layers=5)
    assert [c.out_channels for c in D.modules() if isinstance(c, nn.Conv2d)] == [
        2,
        4,
        8,
        16,
        16,
        16,
        1,
    ]


def test_logits_move_with_the_image_by_whole_strides() -> None:
    torch.manual_seed(0)
    D = PatchDiscriminator(shape=(1, 96, 96), width=2, layers=2, norm="none").eval()
    x = torch.rand(1, 1, 96, 96)
    with torch.no_grad():
        here, moved = D(x), D(x.roll(8, dims=3))
    assert torch.allclose(here[..., 6:-8], moved[..., 8:-6], atol=1e-6)
    assert here.std() > 0


@pytest.mark.parametrize(
    ("norm", "alone"), [("none", True), ("instance", True), ("layer", True), ("batch", False)]
)
def test_only_batch_norm_lets_an_image_be_judged_by_its_neighbours(norm: str, alone: bool) -> None:
    torch.manual_seed(0)
    D = PatchDiscriminator(shape=(1, 32, 32), width=2, layers=2, norm=norm)  # type: ignore[arg-type]
    x = torch.rand(3, 1, 32, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(D(x)[0].sum(), x)
    assert float(gradient[0].abs().max()) > 0
    assert (float(gradient[1:].abs().max()) == 0) == alone


def test_the_norm_stands_between_the_layers_and_not_at_the_ends() -> None:
    for norm, kind in (
        ("batch", nn.BatchNorm2d),
        ("instance", nn.InstanceNorm2d),
        ("layer", nn.GroupNorm),
    ):
        D = PatchDiscriminator(shape=(1, 64, 64), width=2, norm=norm)  # type: ignore[arg-type]
        order = [type(layer) for layer in D.stack]
        assert order.count(kind) == 3
        assert order[:3] == [nn.Conv2d, nn.LeakyReLU, nn.Conv2d]
        assert order[-2:] == [nn.LeakyReLU, nn.Conv2d]


def paired() -> tuple[PatchDiscriminator, Tensor, Tensor]:
    torch.manual_seed(0)
    D = PatchDiscriminator(shape=(3, 32, 32), source_channels=1, width=2, layers=2, norm="none")
    return D, torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32)


def test_a_conditional_discriminator_hears_the_source() -> None:
    D, y, x = paired()
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(D(y, x).sum(), x)
    assert (gradient.abs().sum(dim=(0, 1)) > 0).all()
    assert torch.equal(D(y, x), rebuilt(D)(y, x))


def rebuilt(network: PatchDiscriminator) -> nn.Module:
    again = from_recipe(network.recipe)
    again.load_state_dict(network.state_dict())
    return again


def test_a_conditional_discriminator_asks_for_a_missing_source() -> None:
    D, y, _ = paired()
    with pytest.raises(ValueError, match=r"Pass sources \[B, C', H, W\]"):
        D(y)


@pytest.mark.parametrize(("layers", "size"), [(1, 6), (2, 12), (3, 24)])
def test_the_smallest_image_gives_one_logit_and_a_smaller_one_is_refused(
    layers: int, size: int
) -> None:
    D = PatchDiscriminator(shape=(1, size, size), width=2, layers=layers, norm="instance")
    assert D(torch.zeros(1, 1, size, size)).shape == (1, 1, 1, 1)
    with pytest.raises(
        ValueError, match=rf"Image size 40 x {size - 1} is too small .* data.size to {size} or more"
    ):
        PatchDiscriminator(shape=(1, 40, size - 1), layers=layers)
