from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, pad

from gan_lab.families.sgan import (
    SGAN,
    SGANConfig,
    labeled_cross_entropy,
    real_logit,
    split_labeled,
)
from gan_lab.images import Batch, ImageSpec
from gan_lab.networks import from_recipe
from gan_lab.networks.classifier import Classifier
from gan_lab.seeding import Stream

SPEC = ImageSpec(1, 8, 8, classes=3)
# alternating, as data.labels_per_class gives them
LABELS = torch.tensor([2, -1, 0, -1, 1, -1])


def test_missing_labels_are_left_out_of_the_mean() -> None:
    """The supervised loss is that of the labeled images alone, and 0 without any."""
    logits = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    known = LABELS >= 0
    expected = cross_entropy(logits[known], LABELS[known])
    assert torch.allclose(labeled_cross_entropy(logits, LABELS), expected)
    assert labeled_cross_entropy(logits, torch.full((6,), -1)) == 0


def make_model(**changed: Any) -> SGAN:
    torch.manual_seed(0)
    return SGAN(
        spec=SPEC, config=SGANConfig(**({"width": 3, "z_dim": 5, "norm": "none"} | changed))
    ).double()


def images(n: int = 6, seed: int = 1) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, 8, 8, generator=draws, dtype=torch.float64) * 2 - 1


def step(family: Any, of: Batch) -> dict[str, float]:
    """What one step would descend, by the network that it moves."""
    descended: dict[str, float] = {}
    family.minimize = lambda loss, name: descended.update({name: float(loss.detach())})
    family.optimizer_list = lambda: ["discriminator", "generator", "baseline"]
    family.toggled_optimizer = lambda optimizer: nullcontext()
    family.stream = lambda purpose: Stream(0, purpose)
    family.all_gather = lambda tensor, sync_grads: tensor
    family.step(of)
    return descended


def test_the_logit_of_being_real_is_that_of_k_classes_against_a_fake_class_of_logit_0() -> None:
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
    fake_class = log_softmax(pad(logits, (0, 1)), dim=1)[:, 3]
    assert torch.allclose(real_logit(logits).sigmoid(), 1 - fake_class.exp(), rtol=1e-12)
    Z = logits.exp().sum(dim=1)
    assert torch.allclose(real_logit(logits).sigmoid(), Z / (Z + 1), rtol=1e-12)


def test_the_losses_are_those_of_section_5_and_of_feature_matching() -> None:
    family, x = make_model(noise=0.0, unsupervised_weight=0.5), images()
    D, like = family.discriminator, torch.empty(0, dtype=torch.float64)
    with torch.no_grad():
        first, second = (
            family.generator(Stream(0, purpose).normal(3, 5, like=like))
            for purpose in ("latent d", "latent g")
        )
        real, fake = (log_softmax(pad(D(shown), (0, 1)), dim=1)[:, 3] for shown in (x[1::2], first))
        supervised = cross_entropy(D(x[::2]), torch.tensor([2, 0, 1]))
        unsupervised = -(1 - real.exp()).log().mean() - fake.mean()
        apart = D.features(x[1::2]).mean(dim=0) - D.features(second).mean(dim=0)
        baseline = cross_entropy(family.baseline(x[::2]), torch.tensor([2, 0, 1]))
    assert step(family, Batch(x, LABELS, alternating_labels=True)) == pytest.approx(
        {
            "discriminator": float(supervised + 0.5 * unsupervised),
            "generator": float(apart.square().mean()),
            "baseline": float(baseline),
        },
        rel=1e-10,
    )


def test_the_baseline_learns_from_the_labelled_images_alone() -> None:
    x = images()
    other = torch.where(LABELS.view(-1, 1, 1, 1) < 0, images(seed=2), x)
    one, two = (
        step(make_model(), Batch(x, LABELS, alternating_labels=True)),
        step(make_model(), Batch(other, LABELS, alternating_labels=True)),
    )
    assert one["baseline"] == two["baseline"]
    assert one["discriminator"] != two["discriminator"]
    assert one["generator"] != two["generator"]


def test_matching_means_is_not_matching_images() -> None:
    family = make_model(noise=0.0)
    reals = images(8)
    family.generator = Given(reals[torch.randperm(8, generator=torch.Generator().manual_seed(0))])
    labelled = Batch(
        reals.repeat_interleave(2, dim=0), torch.tensor([0, -1] * 8), alternating_labels=True
    )
    assert step(family, labelled)["generator"] == pytest.approx(0, abs=1e-20)
    family.generator = Given(reals[:1].expand(8, -1, -1, -1))
    assert step(family, labelled)["generator"] > 1e-6


class Given(nn.Module):
    """Makes these images, whatever the latents."""

    def __init__(self, made: Tensor) -> None:
        super().__init__()
        self.made = made

    def sample_latents(self, stream: object, n: int, like: Tensor) -> Tensor:
        return like.new_zeros(n, 1)

    def forward(self, z: Tensor) -> Tensor:
        return self.made


def test_every_other_row_shows_its_label_and_the_rest_are_the_unlabelled_images() -> None:
    x = images()
    x_l, y_l, x_u = split_labeled(Batch(x, LABELS, alternating_labels=True))
    assert torch.equal(x_l, x[[0, 2, 4]])
    assert y_l.tolist() == [2, 0, 1]
    assert torch.equal(x_u, x[[1, 3, 5]])


def test_where_all_are_labelled_all_serve_as_unlabelled_too() -> None:
    x, y = images(), torch.tensor([2, 1, 0, 0, 1, 2])
    x_l, y_l, x_u = split_labeled(Batch(x, y))
    assert torch.equal(x_l, x)
    assert torch.equal(y_l, y)
    assert torch.equal(x_u, x)


def test_noise_is_drawn_anew_for_each_use_and_has_the_spread_that_was_asked_for() -> None:
    family: Any = make_model(noise=0.25)
    family.stream = lambda purpose: Stream(0, purpose)
    blank = torch.zeros(400, 1, 8, 8, dtype=torch.float64)
    one, other = (
        family.add_instance_noise(blank, "real d"),
        family.add_instance_noise(blank, "fake d"),
    )
    assert not torch.equal(one, other)
    assert float(one.std()) == pytest.approx(0.25, rel=0.03)


def test_data_without_labels_is_refused() -> None:
    with pytest.raises(
        ValueError, match="sgan learns to classify from labels, but the data has 0 classes"
    ):
        SGAN(spec=ImageSpec(1, 8, 8), config=SGANConfig())


def test_the_two_classifiers_are_of_one_architecture_and_begin_apart() -> None:
    family = make_model()
    D, B = family.discriminator, family.baseline
    assert D.recipe == B.recipe
    assert not torch.equal(D.head.weight, B.head.weight)
    assert [
        group["lr"]
        for optimizer in family.configure_optimizers()[::2]
        for group in optimizer.param_groups
    ] == [family.cfg.lr_d] * 2


def test_outputs_are_the_two_classifiers_logits_of_the_images() -> None:
    family, x = make_model(), images()
    with torch.no_grad():
        shown = family.outputs(Batch(x), Stream(0, "evaluate"))
        assert torch.equal(shown["logits"], family.discriminator(x))
        assert torch.equal(shown["baseline_logits"], family.baseline(x))
    assert shown.keys() == set(family.output_names)


def test_the_classifier_is_rebuilt_from_its_recipe_reads_its_features_and_keeps_images_apart() -> (
    None
):
    torch.manual_seed(0)
    network = Classifier(shape=(1, 8, 8), classes=3, width=4, hidden=6)
    again = from_recipe(network.recipe)
    again.load_state_dict(network.state_dict())
    x = images().float()
    with torch.no_grad():
        assert torch.equal(again(x), network(x))
        assert torch.equal(network.head(network.features(x)), network(x))
        assert torch.allclose(network(torch.cat([x[:1], 5 * x[1:]]))[:1], network(x)[:1], atol=1e-6)


def test_the_classifiers_maps_begin_with_a_spread_that_neither_dies_nor_explodes() -> None:
    torch.manual_seed(0)
    network = Classifier(shape=(1, 64, 64), classes=10, width=16, hidden=64)
    x = torch.randn(64, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert 0.5 < float(network.features(x).square().mean().sqrt()) < 2.0
