from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gan_lab.families.pix2pix import Pix2Pix, Pix2PixConfig
from gan_lab.images import Batch, ImageSpec
from gan_lab.seeding import Stream


def make_model(**changed: Any) -> Pix2Pix:
    torch.manual_seed(0)
    spec = ImageSpec(3, 16, 16, source_channels=1, pairs="all")
    return Pix2Pix(spec=spec, config=Pix2PixConfig(**({"width": 2, "layers": 1} | changed)))


def batch(n: int = 2) -> Batch:
    draws = torch.Generator().manual_seed(1)
    images, sources = (
        torch.rand(n, channels, 16, 16, generator=draws) * 2 - 1 for channels in (3, 1)
    )
    return Batch(images, None, sources)


class Constant(nn.Module):
    """Gives one value whatever it is shown, and remembers what that was."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value)
        self.shown: list[tuple[Tensor, ...]] = []

    def forward(self, *shown: Tensor) -> Tensor:
        self.shown.append(tuple(tensor.detach() for tensor in shown))
        return self.value.expand(len(shown[0]), *self.value.shape[1:])


def step(family: Any, of: Batch) -> list[float]:
    """The losses that one step would descend."""
    descended: list[float] = []
    family.minimize = lambda loss, optimizer: descended.append(float(loss.detach()))
    family.optimizer_list = lambda: ["d", "g"]
    family.toggled_optimizer = lambda optimizer: nullcontext()
    family.step(of)
    return descended


def test_the_losses_are_those_of_equations_1_3_and_4() -> None:
    family, real = make_model(l1_weight=7.0), batch()
    family.generator, family.discriminator = (
        Constant(torch.full((1, 3, 16, 16), 0.25)),
        Constant(torch.tensor([[0.6]])),
    )
    logit = torch.tensor(0.6)
    l1 = (real.images - 0.25).abs().mean()
    loss_d, loss_g = step(family, real)
    assert loss_d == pytest.approx(
        float(softplus(-logit) + softplus(logit)) / 2
    )  # halved: section 3.3
    assert loss_g == pytest.approx(float(softplus(-logit) + 7 * l1))
    assert float(family.logged_scalars["loss_l1"]) == pytest.approx(float(l1))


def test_the_discriminator_judges_images_beside_their_own_sources() -> None:
    family, real = make_model(), batch()
    fake = torch.full((1, 3, 16, 16), 0.25)
    family.generator, family.discriminator = Constant(fake), Constant(torch.tensor([[0.0]]))
    step(family, real)
    assert real.sources is not None
    for (images, sources), expected in zip(
        family.discriminator.shown, (real.images, fake, fake), strict=True
    ):
        assert torch.equal(images, expected.expand_as(images))
        assert torch.equal(sources, real.sources)
    assert len(family.generator.shown) == 1  # one draw of the dropout for both steps


def test_images_are_made_without_dropout() -> None:
    family, real = make_model().eval(), batch()
    first = family.generate(real, Stream(0, "one"))
    assert torch.equal(first, family.generate(real, Stream(1, "another")))
    assert not torch.equal(family.train().generate(real, Stream(0, "one")), first)


def test_the_picture_shows_source_generated_and_truth() -> None:
    family, real = make_model().eval(), batch()
    source, generated, truth = family.sample_grid(real, Stream(0, "grid"))
    assert real.sources is not None
    assert torch.equal(source, real.sources)
    assert torch.equal(generated, family.generate(real, Stream(0, "grid")))
    assert torch.equal(truth, real.images)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"source_channels": 0, "pairs": "none"}, "the data has no source images"),
        ({"source_channels": 3, "pairs": "none"}, "the data has no training pairs"),
        ({"source_channels": 3, "pairs": "held out"}, "the data has no training pairs"),
    ],
)
def test_data_without_pairs_are_refused(changed: dict[str, Any], reason: str) -> None:
    spec = ImageSpec(3, 16, 16, **changed)
    with pytest.raises(ValueError, match=rf"{reason}\. Choose data.name=pairs, .* family=cyclegan"):
        Pix2Pix(spec=spec, config=Pix2PixConfig())


def test_instance_norm_with_scale_and_shift_is_batch_norm_of_a_single_image() -> None:
    """The paper's remarks on batches of one (section 3.3): `pix2pix_256` may use instance norm."""
    made, spec = {}, ImageSpec(3, 16, 16, source_channels=1, pairs="all")
    for norm in ("batch", "instance"):
        torch.manual_seed(0)
        made[norm] = Pix2Pix(
            spec=spec, config=Pix2PixConfig(width=4, layers=1, dropout=0, norm=norm)
        ).double()  # type: ignore[arg-type]
    numbers = {
        norm: sum(weight.numel() for weight in family.parameters()) for norm, family in made.items()
    }
    assert numbers["batch"] == numbers["instance"]
    made["instance"].load_state_dict(
        {
            name: value
            for name, value in made["batch"].state_dict().items()
            if name in made["instance"].state_dict()
        }
    )
    x = torch.rand(1, spec.source_channels, *spec.shape[1:], dtype=torch.float64) * 2 - 1
    images = {norm: family.generator(x) for norm, family in made.items()}
    assert torch.allclose(images["batch"], images["instance"], atol=1e-9)
    logits = {norm: family.discriminator(images["batch"], x) for norm, family in made.items()}
    assert torch.allclose(logits["batch"], logits["instance"], atol=1e-9)
