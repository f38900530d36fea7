from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import softplus

from gan_lab.config import loading
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.families.vaegan import VAEGAN, VAEGANConfig
from gan_lab.images import Batch, ImageSpec, to_unit
from gan_lab.networks import from_recipe
from gan_lab.networks.encoder import Encoder, half_squared_distance, kl_from_standard_normal
from gan_lab.runs.run_folder import RunFolder
from gan_lab.seeding import Stream
from gan_lab.training import builder
from tests.helpers.families import small

SPEC = ImageSpec(1, 8, 8)


def make_model(**changed: Any) -> VAEGAN:
    torch.manual_seed(0)
    family = VAEGAN(
        spec=SPEC, config=VAEGANConfig(**({"width": 3, "z_dim": 5, "norm": "none"} | changed))
    ).double()
    with torch.no_grad():
        for parameter in family.parameters():  # large enough that every term counts
            parameter.add_(0.2 * torch.randn_like(parameter))
    return family


def batch(n: int = 4) -> Batch:
    draws = torch.Generator().manual_seed(1)
    return Batch(torch.rand(n, 1, 8, 8, generator=draws, dtype=torch.float64) * 2 - 1)


def gradients(family: Any, of: Batch) -> tuple[list[float], list[list[Tensor]]]:
    """The losses that a step descends and their gradients.

    Each network's weights are perturbed after its own gradient.
    """
    losses: list[float] = []
    found: list[list[Tensor]] = []

    def minimize(loss: Tensor, parameters: list[Tensor]) -> None:
        losses.append(float(loss.detach()))
        found.append(list(torch.autograd.grad(loss, parameters)))
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(1.0)

    family.minimize = minimize
    family.optimizer_list = lambda: [
        group.param_groups[0]["params"] for group in family.configure_optimizers()
    ]
    family.toggled_optimizer = lambda optimizer: nullcontext()
    family.stream = lambda purpose: Stream(0, purpose)
    family.step(of)
    return losses, found


def draw(purpose: str, n: int = 4) -> Tensor:
    return Stream(0, purpose).normal(n, 5, like=torch.empty(0, dtype=torch.float64))


def test_each_network_follows_its_gradient_of_algorithm_1_at_the_old_weights() -> None:
    family, real = make_model(gamma=0.3, variance=0.5), batch()
    E, G, D, x = family.encoder, family.generator, family.discriminator, real.images
    mean, log_variance = E(x)
    x_tilde, x_p = G(mean + (log_variance / 2).exp() * draw("posterior")), G(draw("prior"))
    l_prior = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum() / 4
    l_like = (D.features(x) - D.features(x_tilde)).square().sum() / (2 * 0.5) / 4
    loss_adv = (
        softplus(-D(x_tilde)) + softplus(-D(x_p))
    ).mean()  # -log D, where L_GAN has log(1 - D)
    l_gan = (softplus(-D(x)) + softplus(D(x_tilde)) + softplus(D(x_p))).mean()
    genuine, fakes = D(x), torch.cat([D(x_tilde), D(x_p)])  # reconstructions and samples are fakes
    verdict = {"d_real": genuine.mean(), "accuracy_real": (genuine > 0).double().mean()}
    verdict |= {"d_fake": fakes.mean(), "accuracy_fake": (fakes < 0).double().mean()}
    aims = [(l_prior + l_like, E), (0.3 * l_like + loss_adv, G), (l_gan, D)]
    expected = [
        torch.autograd.grad(aim, list(network.parameters()), retain_graph=True)
        for aim, network in aims
    ]

    _, found = gradients(family, real)
    for theirs, mine in zip(expected, found, strict=True):
        assert all(
            torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(theirs, mine, strict=True)
        )
        assert max(float(a.abs().max()) for a in theirs) > 1e-3
    recorded = {name: float(value) for name, value in family.logged_scalars.items()}
    terms = {
        "loss_prior": l_prior,
        "loss_like": l_like,
        "loss_d": l_gan,
        "loss_g": loss_adv,
    } | verdict
    assert recorded == pytest.approx({name: float(value.detach()) for name, value in terms.items()})


def test_the_plain_autoencoder_descends_minus_the_evidence_bound_of_a_normal_likelihood() -> None:
    family, real = make_model(adversarial=False, variance=0.25), batch()
    assert [name for name, _ in family.named_children()] == ["encoder", "generator"]
    mean, log_variance = family.encoder(real.images)
    posterior = Normal(mean, (log_variance / 2).exp())
    shown = family.generator(posterior.mean + posterior.stddev * draw("posterior"))
    constant = Normal(0.0, 0.5).log_prob(torch.tensor(0.0, dtype=torch.float64)) * 64
    likelihood = Normal(shown, 0.5).log_prob(real.images).sum() / 4 - constant
    bound = likelihood - kl_divergence(posterior, Normal(0.0, 1.0)).sum() / 4
    expected = torch.autograd.grad(-bound, list(family.parameters()))

    (loss,), (found,) = gradients(family, real)
    assert loss == pytest.approx(float(-bound.detach()))
    assert all(
        torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(expected, found, strict=True)
    )


def test_the_divergence_from_the_prior_is_that_of_torch_and_zero_at_the_prior() -> None:
    draws = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 6, 5, generator=draws, dtype=torch.float64)
    theirs = (
        kl_divergence(Normal(mean, log_variance.exp().sqrt()), Normal(0.0, 1.0)).sum(dim=1).mean()
    )
    assert float(kl_from_standard_normal(mean, log_variance)) == pytest.approx(
        float(theirs), rel=1e-12
    )
    assert float(kl_from_standard_normal(torch.zeros(3, 2), torch.zeros(3, 2))) == 0


def test_the_distance_is_summed_over_an_image_and_averaged_over_the_batch() -> None:
    a = torch.tensor([[[3.0, 0.0]], [[1.0, 1.0]]])
    b = torch.tensor([[[0.0, 4.0]], [[1.0, 0.0]]])
    assert float(half_squared_distance(a, b)) == (25 / 2 + 1 / 2) / 2


def test_reconstructions_come_from_the_posteriors_mean_and_samples_from_the_prior_alone() -> None:
    family, real = make_model(), batch()
    with torch.no_grad():
        one, other = (family.outputs(real, Stream(seed, "evaluate")) for seed in (0, 1))
        mean, _ = family.encoder(real.images)
        blank = family.outputs(Batch(torch.zeros_like(real.images)), Stream(0, "evaluate"))
        picture = family.sample_grid(real, Stream(0, "evaluate"))
    assert torch.equal(one["reconstructed"], family.generator(mean))
    assert torch.equal(one["reconstructed"], other["reconstructed"])
    assert not torch.equal(one["generated"], other["generated"])
    assert torch.equal(one["generated"], blank["generated"])
    assert one.keys() == set(family.output_names)
    shown = [real.images, one["reconstructed"], one["generated"]]
    assert all(torch.equal(a, b) for a, b in zip(picture, shown, strict=True))
    assert [picture[i] is picture[1] for i in family.reconstructed_sets] == [True]


def test_the_encoder_is_rebuilt_from_its_recipe_and_reads_its_features() -> None:
    torch.manual_seed(0)
    encoder = Encoder(z_dim=3, shape=(1, 8, 8), width=4, norm="batch")
    again = from_recipe(encoder.recipe)
    again.load_state_dict(encoder.state_dict())
    x = batch().images.float()
    mean, log_variance = encoder.eval()(x)
    assert all(
        torch.equal(a, b) for a, b in zip(again.eval()(x), (mean, log_variance), strict=True)
    )
    dense = encoder.body.layers[-1]
    assert torch.equal(dense(encoder.features(x)), torch.cat([mean, log_variance], dim=1))


def test_the_decoders_recipe_says_how_many_latents_it_has() -> None:
    assert make_model().generator.recipe["arguments"]["z_dim"] == 5


def test_the_plain_autoencoder_trains_with_its_single_optimizer(
    tmp_path: Path, data_root: Path
) -> None:
    loaded = loading.load(
        "vae",
        small("vaegan", tmp_path, data_root, "run.images=32", "run.evaluate_every_images=100000"),
    )
    (tmp_path / "checkpoints").mkdir()
    built = builder.build(*builder.load_data(loaded.config), RunFolder(tmp_path))
    before = {name: value.clone() for name, value in built.family.named_parameters()}
    built.trainer.fit(built.family, datamodule=built.data)
    after = dict(built.family.named_parameters())
    assert {name.partition(".")[0] for name in after} == {"encoder", "generator"}
    assert all(not torch.equal(before[name], after[name]) for name in after)
    assert built.family.iteration == 2


@torch.no_grad()
def test_a_darker_reconstruction_is_far_from_its_image_in_features_that_have_batch_norm(
    sample: ArrayDataset,
) -> None:
    """Normalized by its own batch, it would look nearly the same, also to the likelihood."""
    digits = to_unit(torch.from_numpy(np.asarray(sample.train_images[::37])))[:96]  # type: ignore[index]
    x, other, drawn_ones = digits[::3], digits[1::3], digits[2::3]
    darker = others = 0.0
    # the features of one random network vary: 0.44 to 0.88 of the distance of other digits
    for seed in range(4):
        torch.manual_seed(seed)
        family: Any = VAEGAN(spec=ImageSpec(1, 28, 28), config=VAEGANConfig())
        network = family.discriminator
        darker += float(family.discriminate(network, x, x / 2, drawn_ones)[1])
        others += float(family.discriminate(network, x, other, drawn_ones)[1])
    assert darker >= others / 2
