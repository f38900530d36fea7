"""The ablations of a discriminator: no effect by default, and the stated formula otherwise."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lab import losses
from gan_lab.families.gan import GAN, GANConfig
from gan_lab.images import Batch, ImageSpec
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError
from tests.contracts.test_families import GOLDEN, fit, weights

SPEC = ImageSpec(1, 16, 16)


def make_model(**changed: Any) -> GAN:
    """A family in float64 outside of a training, at iteration 3."""
    torch.manual_seed(0)
    family: Any = GAN(
        spec=SPEC,
        config=GANConfig(
            **({"network": "dcgan", "width": 2, "z_dim": 3, "norm": "none"} | changed)
        ),
    )
    family.double()
    with torch.no_grad():
        for parameter in family.parameters():  # large enough that every term counts
            parameter.add_(0.2 * torch.randn_like(parameter))
    family.iteration = 3
    family.stream = lambda purpose: Stream(0, purpose, family.iteration)
    return family


def step(family: Any, x: Tensor, then: Callable[[Tensor, Any], None]) -> None:
    """One step in which ``then`` is called with each loss and its optimizer."""
    family.minimize = then
    family.optimizer_list = family.configure_optimizers
    family.toggled_optimizer = lambda optimizer: nullcontext()
    family.step(Batch(x))


def images(n: int = 6) -> Tensor:
    return (
        torch.rand(n, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        * 2
        - 1
    )


def draw(purpose: str, *shape: int) -> Tensor:
    return Stream(0, purpose, 3).normal(*shape, like=torch.empty(0, dtype=torch.float64))


def test_without_tricks_five_iterations_follow_the_golden_trace_to_the_last_digit(
    tmp_path: Path, data_root: Path
) -> None:
    off = ["model.label_smoothing=0", "model.instance_noise=0", "model.instance_noise_images=1",
           "model.weight_decay=0", "model.dropout=0", "model.pretrain_images=0"]  # fmt: skip
    built, _ = fit("gan", tmp_path, data_root, "run.images=80", "run.precision=64-true", *off)
    golden = json.loads((GOLDEN / "gan.json").read_text())["norms"]
    assert {name: float(w.norm()) for name, w in weights(built.family).items()} == pytest.approx(
        golden, rel=1e-9
    )


@pytest.mark.parametrize("loss", ["nonsaturating", "minimax", "least_squares"])
def test_label_smoothing_is_in_the_discriminators_loss_alone(loss: str) -> None:
    x, told = images(), []
    family = make_model(loss=loss, label_smoothing=0.2)
    G, D = family.generator, family.discriminator
    step(family, x, lambda value, optimizer: told.append(float(value.detach())))
    with torch.no_grad():
        fake_d, fake_g = G(draw("latent d", 6, 3)), G(draw("latent g", 6, 3))
        smoothed = getattr(losses, f"{loss}_d")(D(x), D(fake_d), 0.2)
        plain = getattr(losses, f"{loss}_d")(D(x), D(fake_d))
        assert told == pytest.approx(
            [float(smoothed), float(getattr(losses, f"{loss}_g")(D(fake_g)))]
        )
    assert abs(float(smoothed - plain)) > 1e-3


def test_a_hinge_has_no_target_to_smooth() -> None:
    with pytest.raises(
        ValueError, match=r"model\.label_smoothing=0\.1: the hinge loss has no target"
    ):
        make_model(loss="hinge", label_smoothing=0.1)


@pytest.mark.parametrize(
    ("seen", "left"), [(0, 1.0), (250, 0.75), (999, 0.001), (1000, 0.0), (5000, 0.0)]
)
def test_instance_noise_falls_in_a_line_to_nothing(seen: int, left: float) -> None:
    family, x = make_model(instance_noise=0.5, instance_noise_images=1000), images()
    family.images_seen = seen
    expected = x + 0.5 * left * draw("noise real", 6, 1, 16, 16)
    assert torch.allclose(family.add_instance_noise(x, "noise real"), expected, atol=1e-12)
    if left == 0:
        assert family.add_instance_noise(x, "noise real") is x


def test_every_image_that_the_discriminator_sees_has_noise_of_its_own() -> None:
    family, x = make_model(instance_noise=0.5, instance_noise_images=1000), images()
    seen: list[Tensor] = []
    family.discriminator.register_forward_hook(
        lambda network, given, out: seen.append(given[0].detach())
    )
    step(family, x, lambda value, optimizer: None)
    with torch.no_grad():
        fake_d, fake_g = (family.generator(draw(f"latent {part}", 6, 3)) for part in "dg")
    noise = [
        made_noisy - clean for made_noisy, clean in zip(seen, (x, fake_d, fake_g), strict=True)
    ]
    for one in noise:
        assert float(one.std()) == pytest.approx(0.5, rel=0.15)  # 1,536 numbers
    together = torch.corrcoef(torch.stack([one.flatten() for one in noise]))
    assert (together - torch.eye(3)).abs().max() < 0.2
    family.iteration = 4
    assert not torch.equal(family.add_instance_noise(x, "noise real"), seen[0])


def test_the_generators_gradient_goes_through_the_noise_to_the_generator() -> None:
    family, x = make_model(instance_noise=0.5), images()
    found: list[Tensor] = []

    def minimize(value: Tensor, optimizer: Any) -> None:
        found.append(torch.autograd.grad(value, optimizer.param_groups[0]["params"])[0])

    step(family, x, minimize)
    assert all(gradient.abs().max() > 0 for gradient in found)
    assert len(found) == 2


def test_weight_decay_shrinks_the_discriminator_by_rate_times_decay_and_not_the_generator() -> None:
    family = make_model(weight_decay=0.1, lr_d=0.01, lr_g=0.01)
    before = {name: weight.clone() for name, weight in weights(family).items()}
    for optimizer in family.configure_optimizers():
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    after = weights(family)
    assert torch.allclose(
        after["discriminator"], before["discriminator"] * (1 - 0.01 * 0.1), rtol=1e-12
    )
    assert torch.equal(after["generator"], before["generator"])


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_dropout_follows_each_rectifier_of_the_discriminator_and_of_nothing_else(
    network: str,
) -> None:
    family = make_model(network=network, dropout=0.3)

    def kinds(of: nn.Module) -> list[str]:
        return [type(layer).__name__ for layer in of.modules() if not list(layer.children())]

    layers = kinds(family.discriminator)
    assert layers.count("Dropout") == layers.count("LeakyReLU") == 2
    assert all(layers[i + 1] == "Dropout" for i, kind in enumerate(layers) if kind == "LeakyReLU")
    assert {
        layer.p for layer in family.discriminator.modules() if isinstance(layer, nn.Dropout)
    } == {0.3}
    assert "Dropout" not in kinds(family.generator) + kinds(
        make_model(network=network).discriminator
    )
    x = images()
    assert not torch.equal(family.discriminator(x), family.discriminator(x))
    family.discriminator.eval()
    same = dict(
        zip(
            make_model(network=network).discriminator.state_dict(),
            family.discriminator.state_dict().values(),
            strict=True,
        )
    )
    plain = make_model(network=network).discriminator
    plain.load_state_dict(same)
    assert torch.equal(family.discriminator(x), plain(x))


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_pack_joins_channels_of_images(
    network: str,
) -> None:
    packed, plain = make_model(network=network, pack=3), make_model(network=network)
    x = images(8)  # two packs; the last two images do not fill one
    logits = packed.discriminator(x)
    triples = torch.stack([torch.cat([x[0], x[1], x[2]]), torch.cat([x[3], x[4], x[5]])])
    inner = packed.discriminator.network
    assert isinstance(inner, nn.Module)
    assert torch.equal(logits, inner(triples))
    shapes = {name: weight.shape for name, weight in inner.named_parameters()}
    changed = {
        name
        for name, weight in plain.discriminator.named_parameters()
        if shapes[name] != weight.shape
    }
    first = next(name for name, _ in inner.named_parameters())
    assert changed == {first}
    assert shapes[first][1] == 3 * dict(plain.discriminator.named_parameters())[first].shape[1]


def test_pack_keeps_reals_and_fakes_apart() -> None:
    family, x, losses_of_steps = make_model(pack=2), images(), []
    G, D = family.generator, family.discriminator
    step(family, x, lambda value, optimizer: losses_of_steps.append(float(value.detach())))
    with torch.no_grad():
        fake_d, fake_g = G(draw("latent d", 6, 3)), G(draw("latent g", 6, 3))
        pairs = [images_.reshape(3, 2, 16, 16) for images_ in (x, fake_d, fake_g)]
        real_logits, logits_d, logits_g = (D.network(pair) for pair in pairs)
        expected = [
            float(losses.nonsaturating_d(real_logits, logits_d)),
            float(losses.nonsaturating_g(logits_g)),
        ]
    assert losses_of_steps == pytest.approx(expected)


def test_r1_with_packs_is_mean_over_images() -> None:
    """The penalty of a pack is the squared norm of its gradient, and each image has a share."""
    family, x, losses_of_steps = make_model(pack=2, r1_weight=3.0), images(), []
    D = family.discriminator
    step(family, x, lambda value, optimizer: losses_of_steps.append(float(value.detach())))
    pairs = x.reshape(3, 2, 16, 16).requires_grad_()
    real_logits = D.network(pairs)
    (gradient,) = torch.autograd.grad(real_logits.sum(), pairs)
    r1_of_packs = float(gradient.square().sum(dim=(1, 2, 3)).mean())
    with torch.no_grad():
        fake_logits = D(family.generator(draw("latent d", 6, 3)))
        loss = float(losses.nonsaturating_d(real_logits, fake_logits))
    assert losses_of_steps[0] == pytest.approx(loss + 0.5 * 3.0 * r1_of_packs / 2)


def test_pack_must_divide_batches_of_all_processes(tmp_path: Path, data_root: Path) -> None:
    with pytest.raises(UserError, match=r"model\.pack=3 does not divide a batch of 16 images"):
        fit("gan", tmp_path, data_root, "run.images=32", "model.pack=3")
    with pytest.raises(UserError, match=r"model\.pack=3 does not divide a batch of 8 images"):
        fit("gan", tmp_path / "2", data_root, "model.pack=3", "run.micro_batches=2")
    # a user's own Trainer has no check before the step
    with pytest.raises(UserError, match=r"model\.pack=3 needs as many images, but .* has 2"):
        make_model(pack=3).discriminator(images(2))


@pytest.mark.parametrize("pretrained", [0, 3])
def test_n_critic_is_number_of_discriminator_steps(pretrained: int) -> None:
    """The generator is updated in every third iteration, after a head start."""
    family = make_model(n_critic=3, pretrain_images=6 * pretrained)
    updated: list[str] = []

    def minimize(value: Tensor, optimizer: Any) -> None:
        # only the discriminator has AdamW
        network = "D" if isinstance(optimizer, torch.optim.AdamW) else "G"
        updated.append(f"{network}{family.iteration}")

    for iteration in range(6):
        family.iteration, family.images_seen = iteration, 6 * iteration
        step(family, images(), minimize)
    expected = ["D0", "D1", "D2", "G2", "D3", "D4", "D5", "G5"]
    assert updated == [each for each in expected if each != "G2" or not pretrained]


def test_a_head_start_moves_the_discriminator_alone_for_so_many_images(
    tmp_path: Path, data_root: Path
) -> None:
    _, watch = fit(
        "gan",
        tmp_path,
        data_root,
        "run.images=96",
        "log.log_every_images=16",
        "model.pretrain_images=40",
    )
    both = {"generator", "discriminator"}
    assert (
        watch.moved == [{"discriminator"}] * 3 + [both] * 3
    )  # 0, 16 and 32 images were seen before the first three
    with (tmp_path / "gan" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["loss_g"]) for row in rows] == [False] * 3 + [True] * 3
    assert all(row["loss_d"] for row in rows)


def test_a_head_start_changes_neither_the_draws_nor_the_steps_that_follow() -> None:
    """The generator's first step is the same function of weights and iteration as without it."""
    told: dict[int, list[float]] = {}
    for pretrain in (0, 40):
        family: Any = make_model(pretrain_images=pretrain)
        family.images_seen = 48
        told[pretrain] = []
        step(
            family,
            images(),
            lambda value, optimizer, said=told[pretrain]: said.append(float(value.detach())),
        )
    assert told[0] == told[40]
    assert len(told[40]) == 2
    assert float(family.logged_scalars["loss_g"]) == told[40][1]
