"""StyleGAN2 against outputs of the authors' networks and against the equations, written naively."""

from __future__ import annotations

import copy
import json
import math
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import logsigmoid
from torch.testing import assert_close

from gan_lab import penalties
from gan_lab.families.stylegan2 import StyleGAN2, StyleGAN2Config, make_lazy_adam
from gan_lab.images import Batch, ImageSpec, to_gray
from gan_lab.networks.stylegan import (
    StyleGANDiscriminator,
    StyleGANGenerator,
    SynthesisLayer,
    ToRGB,
    minibatch_deviation,
    upsample,
)
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError

# written by this implementation after it had reproduced the large files; GOLDEN=write writes it
# again
SMALL_REFERENCE = Path(__file__).parents[1] / "golden" / "stylegan2_16.safetensors"
# outputs of the authors' networks, next to the repository; 3 MB, not part of it
AUTHORS = Path(__file__).parents[3] / "shared" / "stylegan2"
# of the largest absolute value of a tensor
TOLERANCE = 1e-5


def read_reference(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the sizes and tensors of a reference file."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        return json.loads(file.metadata()["config"]), tensors


def build(
    config: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[StyleGANGenerator, StyleGANDiscriminator]:
    """Build both networks of a reference file, with its weights under strict names."""
    shared: dict[str, Any] = {
        "shape": (config["ch"], config["res"], config["res"]),
        "classes": config["c"],
        "width": min(config["base"] // config["res"], config["cmax"]),
        "max_width": config["cmax"],
        "clamp": config["clamp"] or 0.0,
    }
    G = StyleGANGenerator(
        z_dim=config["z"], w_dim=config["w"], mapping_layers=config["layers"], **shared
    )
    D = StyleGANDiscriminator(group=config["group"], **shared)
    for network, prefix in ((G, "G."), (D, "D.")):
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        network.load_state_dict(own, strict=True)
    return G.eval(), D.eval()


def compute_outputs(
    G: StyleGANGenerator, D: StyleGANDiscriminator, tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Compute every ``out.*`` tensor of a reference file."""
    y, real = tensors.get("in.c"), tensors["in.real"].clone().requires_grad_()
    w, other = G.map_latents(tensors["in.z"], y), G.map_latents(tensors["in.z_other"], y)
    ws = G.repeat_w(w).detach().requires_grad_()
    image = G(tensors["in.z"], y)
    logits = D(real, y)
    (slope,) = torch.autograd.grad(logits.sum(), real, retain_graph=True)
    mixed = torch.cat([ws[:, :4], G.repeat_w(other)[:, 4:]], dim=1)
    return {
        "out.ws": ws,
        "out.ws_psi_0.7": G.repeat_w(w, 0.7),
        "out.ws_psi_0.5_cutoff_3": G.repeat_w(w, 0.5, cutoff=3),
        "out.image_noise_const": image,
        "out.image_noise_none": G.synthesis(ws, "none"),
        "out.image_psi_0.7": G.synthesis(G.repeat_w(w, 0.7)),
        "out.image_mixed_from_4": G.synthesis(mixed),
        "out.logits_real": logits.unsqueeze(1),
        "out.logits_fake": D(tensors.get("out.image_noise_const", image), y).unsqueeze(1),
        "out.r1_per_image": slope.square().flatten(1).sum(dim=1),
        "out.path_lengths": compute_path_lengths(G, ws, tensors),
    }


def compute_path_lengths(
    G: StyleGANGenerator, ws: Tensor, tensors: dict[str, Tensor], draws: int = 16
) -> Tensor:
    """Compute the path lengths that float32 allows, nearest to those of the reference.

    An activation within a rounding error of 0 has one slope or the other, which moves the path
    length of its image by up to 4e-4 from one processor to the next. So compute in float64, at
    ``ws`` and at ``ws`` changed by rounding errors of float32, and return the nearest per image.
    """
    G, noise = copy.deepcopy(G).double(), tensors["in.path_noise_unscaled"].double()
    generator = torch.Generator().manual_seed(0)
    ws = ws.detach().double()
    values = []
    for size in [0.0] + [5e-7] * draws:
        errors = torch.randn(ws.shape, generator=generator, dtype=ws.dtype)
        nearby = (ws * (1 + size * errors)).requires_grad_()
        values.append(penalties.path_lengths(G.synthesis, nearby, noise).detach())
    lengths = torch.stack(values)
    if "out.path_lengths" not in tensors:
        return lengths[0].float()
    nearest = (lengths - tensors["out.path_lengths"]).abs().argmin(dim=0, keepdim=True)
    return lengths.gather(0, nearest)[0]


def check_reference(path: Path) -> None:
    config, tensors = read_reference(path)
    outputs = compute_outputs(*build(config, tensors), tensors)
    assert outputs.keys() == {name for name in tensors if name.startswith("out.")}
    for name, value in outputs.items():
        expected = tensors[name]
        difference = float((value.detach() - expected).abs().max() / expected.abs().max())
        print(f"{path.name} {name}: {difference:.1e}")
        assert difference < TOLERANCE, name


def write_small_reference() -> None:
    """Write a file like the authors' ones: 16 pixels, color, 3 classes, activations clamped."""
    config = {"z": 5, "c": 3, "w": 6, "res": 16, "ch": 3, "layers": 2, "base": 64, "cmax": 6}
    config |= {"clamp": 1.5, "group": 4}
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    shared: dict[str, Any] = {"shape": (3, 16, 16), "classes": 3, "width": 4, "max_width": 6}
    torch.manual_seed(0)
    G = StyleGANGenerator(z_dim=5, w_dim=6, clamp=1.5, **shared)
    D = StyleGANDiscriminator(group=4, clamp=1.5, **shared)
    with torch.no_grad():
        for name, weight in [*G.named_parameters(), *D.named_parameters()]:
            if name.endswith(("bias", "noise_strength")):
                weight += 0.5 * draw(*weight.shape)
    G.mapping.w_avg.copy_(0.3 * draw(6))
    tensors = {f"G.{name}": value for name, value in G.state_dict().items()}
    tensors |= {f"D.{name}": value for name, value in D.state_dict().items()}
    tensors |= {
        "in.z": draw(8, 5),
        "in.z_other": draw(8, 5),
        "in.c": torch.eye(3)[torch.arange(8) % 3],
    }
    tensors |= {"in.real": draw(8, 3, 16, 16).tanh(), "in.path_noise_unscaled": draw(8, 3, 16, 16)}
    outputs = compute_outputs(G.eval(), D.eval(), tensors)
    tensors |= {name: value.detach().contiguous() for name, value in outputs.items()}
    save_file(tensors, SMALL_REFERENCE, {"config": json.dumps(config)})


def test_networks_reproduce_the_small_reference() -> None:
    if os.environ.get("GOLDEN") == "write":
        write_small_reference()
    check_reference(SMALL_REFERENCE)


@pytest.mark.skipif(not AUTHORS.is_dir(), reason=f"{AUTHORS} is not part of the repository")
@pytest.mark.parametrize("name", ["conditional32", "plain64"])
def test_networks_reproduce_the_authors_outputs(name: str) -> None:
    """Every output within 1e-5 of its largest value; ``pytest -s`` prints the differences."""
    check_reference(AUTHORS / f"{name}.safetensors")


def insert_zeros(x: Tensor) -> Tensor:
    """Insert a zero after each pixel."""
    n, channels, height, width = x.shape
    spread = x.new_zeros(n, channels, 2 * height, 2 * width)
    spread[:, :, ::2, ::2] = x
    return spread


def low_pass(x: Tensor, gain: float) -> Tensor:
    """Filter without padding, one channel after the other."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype)
    kernel = (gain * torch.outer(taps, taps) / 64).view(1, 1, 4, 4)
    return torch.cat([functional.conv2d(x[:, i : i + 1], kernel) for i in range(x.shape[1])], dim=1)


@pytest.mark.parametrize("up", [False, True])
def test_layer_equals_modulated_weights_per_image(up: bool) -> None:
    """Each image has weights of its own: scaled, divided by their norm, flipped to upsample."""
    torch.manual_seed(0)
    layer = SynthesisLayer(5, 3, 4, (12, 12) if up else (6, 6), 0.9, upsample=up).double()
    torch.nn.init.normal_(layer.noise_strength)
    torch.nn.init.normal_(layer.bias)
    x, w = torch.randn(2, 5, 6, 6).double(), torch.randn(2, 4).double()
    expected = []
    for image, style in zip(x, layer.affine(w), strict=True):
        weight = layer.weight * style.view(1, 5, 1, 1)
        weight = weight / weight.square().sum(dim=(1, 2, 3), keepdim=True).add(1e-8).sqrt()
        h = image.unsqueeze(0)
        if up:
            spread = functional.pad(insert_zeros(h), (3, 2, 3, 2))
            h = low_pass(functional.conv2d(spread, weight.flip(2, 3)), gain=4)
        else:
            h = functional.conv2d(h, weight, padding=1)
        h = h + layer.noise_const * layer.noise_strength + layer.bias.view(1, 3, 1, 1)
        h = torch.where(h > 0, h, 0.2 * h) * math.sqrt(2)
        expected.append(h.clamp(-0.9, 0.9))
    torch.testing.assert_close(layer(x, w, "const"), torch.cat(expected))


def test_upsampling_inserts_zeros_and_filters() -> None:
    x = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    kernel = torch.outer(*[torch.tensor([1.0, 3.0, 3.0, 1.0])] * 2) / 64
    expected = low_pass(functional.pad(insert_zeros(x), (2, 1, 2, 1)), gain=4)
    torch.testing.assert_close(upsample(x, kernel), expected)
    # a constant stays constant away from the border
    torch.testing.assert_close(
        upsample(torch.ones(1, 1, 4, 4), kernel)[..., 2:-2, 2:-2], torch.ones(1, 1, 4, 4)
    )


def test_minibatch_deviation_has_strided_groups() -> None:
    """Image i of 8 belongs to group i mod 2; images of another group change nothing."""
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    channel = minibatch_deviation(x, 4)
    assert channel.shape == (8, 1, 4, 4)
    for first in (0, 1):
        own = x[first::2]
        expected = own.var(dim=0, unbiased=False).add(1e-8).sqrt().mean()
        torch.testing.assert_close(channel[first::2], expected.expand(4, 1, 4, 4))
    # no group of 4 in 6 images: groups of 3
    torch.testing.assert_close(minibatch_deviation(x[:6], 4), minibatch_deviation(x[:6], 3))
    assert float(minibatch_deviation(x, 1).max()) == pytest.approx(1e-4)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 24, 28), (3, 8, 8)])
def test_other_sizes_start_at_four_to_seven_pixels(shape: tuple[int, int, int]) -> None:
    G = StyleGANGenerator(z_dim=3, shape=shape, w_dim=4, width=2, max_width=3)
    D = StyleGANDiscriminator(shape=shape, width=2, max_width=3)
    images = G(torch.randn(2, 3))
    assert images.shape == (2, *shape)
    assert D(images).shape == (2,)
    assert G.synthesis.block_names[0] == {28: "b7", 24: "b6", 8: "b4"}[shape[1]]


@torch.no_grad()
def test_initial_layers_preserve_the_variance() -> None:
    """The purpose of √2 and the equalized learning rate: activations of unit variance."""
    torch.manual_seed(0)
    G = StyleGANGenerator(z_dim=64, shape=(3, 16, 16), w_dim=64, width=64)
    w = G.map_latents(torch.randn(256, 64))
    assert float(w.square().mean()) == pytest.approx(1, abs=0.3)
    x = torch.randn(16, 64, 8, 8)
    h = SynthesisLayer(64, 64, 64, (8, 8), 0.0)(x, w[:16], "none")
    assert float(h.square().mean()) == pytest.approx(1, abs=0.3)


# -------------------------------------------------------------------------------------------------
# The training step


def make(classes: int = 0, **changed: Any) -> Any:
    """A family whose step updates nothing: ``minimized`` lists (optimizer, loss)."""
    torch.manual_seed(0)
    small = {"z_dim": 5, "w_dim": 6, "width": 3, "max_width": 4, "group": 2, "gamma": 3.0}
    family: Any = StyleGAN2(
        spec=ImageSpec(1, 8, 8, classes=classes), config=StyleGAN2Config(**{**small, **changed})
    ).double()
    family.minimized = []
    family.minimize = lambda loss, name: family.minimized.append((name, float(loss.detach())))
    family.optimizer_list = lambda: ["d", "g"]
    family.toggled_optimizer = lambda optimizer: nullcontext()
    family.stream = lambda purpose: Stream(0, purpose)
    family.mean_over_ranks = lambda value: value.detach()
    return family


def make_reals(n: int = 4) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("classes", [0, 3])
def test_step_minimizes_the_papers_losses(classes: int) -> None:
    """Logistic losses without mixing; 16 times γ/2 times R1, in the first iteration."""
    family, x = make(classes, mixing=0.0, path_weight=0.0), make_reals()
    y = torch.tensor([2, 0, 1, 1]) if classes else None
    G, D = family.generator, family.discriminator

    def fakes(purpose: str) -> Tensor:
        z = Stream(0, f"latent {purpose}").normal(4, 5, like=x)
        noise = G.sample_noise(Stream(0, f"noise {purpose}"), 4, like=x)
        return G.synthesis([G.map_latents(z, y)] * G.num_ws, noise)

    real = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(D(real, y).sum(), real)
    r1 = float(slope.square().sum()) / 4
    loss_d = -logsigmoid(D(x, y)).mean() - logsigmoid(-D(fakes("d"), y)).mean()
    loss_g = -logsigmoid(D(fakes("g"), y)).mean()
    family.step(Batch(x, y))
    expected = [("d", 16 * 1.5 * r1), ("d", float(loss_d.detach())), ("g", float(loss_g.detach()))]
    assert [name for name, _ in family.minimized] == [name for name, _ in expected]
    assert [loss for _, loss in family.minimized] == pytest.approx([loss for _, loss in expected])
    assert r1 > 0


def test_path_penalty_has_the_gradient_through_the_mean() -> None:
    """4 · 2 (length - a)² with a = a₀ + 0.01 (mean - a₀), differentiated through a."""
    family, x = make(mixing=0.0, gamma=0.0), make_reals()
    family.path_mean.fill_(0.3)
    G = family.generator
    z = Stream(0, "latent path").normal(2, 5, like=x)
    ws = G.repeat_w(G.map_latents(z))
    noise = G.sample_noise(Stream(0, "noise path"), 2, like=x)
    direction = Stream(0, "path direction").normal(2, 1, 8, 8, like=x)
    lengths = []
    for i in range(2):
        image = G.synthesis(ws[i : i + 1], [each[i : i + 1] for each in noise])
        (slope,) = torch.autograd.grad((image[0] * direction[i]).sum() / 8, ws, create_graph=True)
        lengths.append(slope[i].square().sum(dim=1).mean().sqrt())
    length = torch.stack(lengths)
    a = 0.3 + 0.01 * (length.mean() - 0.3)
    expected = (length - a).square().mean()
    penalty = family._penalize_path_lengths(x, None)
    assert float(penalty.detach()) == pytest.approx(float(expected.detach()))
    assert float(family.path_mean) == pytest.approx(float(a.detach()))
    weights = [*G.parameters()]
    for mine, theirs in zip(
        torch.autograd.grad(penalty, weights, allow_unused=True),
        torch.autograd.grad(expected, weights, allow_unused=True),
        strict=True,
    ):
        if theirs is None:
            assert mine is None
        else:
            torch.testing.assert_close(mine, theirs)


def test_lazy_penalties_come_in_their_iterations() -> None:
    family = make(r1_every=3, path_every=2, path_weight=1.0)
    family.log_scalars = lambda **_: None
    counts = []
    for iteration in range(6):
        family.iteration, family.minimized = iteration, []
        family.step(Batch(make_reals(), None))
        counts.append([name for name, _ in family.minimized])
    assert [names.count("d") for names in counts] == [2, 1, 1, 2, 1, 1]
    assert [names.count("g") for names in counts] == [2, 1, 2, 1, 2, 1]


def test_lazy_adam_scales_rate_and_betas() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    (group,) = make_lazy_adam([weight], 1e-2, (0.5, 0.99), every=4).param_groups
    assert group["lr"] == pytest.approx(0.8e-2)
    assert group["betas"] == pytest.approx((0.5**0.8, 0.99**0.8))
    (group,) = make_lazy_adam([weight], 1e-2, (0.5, 0.99), every=None).param_groups
    assert group["lr"] == 1e-2


def test_mixing_replaces_the_styles_of_later_layers() -> None:
    """Over iterations every crossover occurs; all images of a batch have the same."""
    family, x = make(mixing=0.8), make_reals()
    counts = []
    for i in range(60):
        family.stream = lambda purpose, i=i: Stream(0, purpose, i)
        ws = family._sample_ws("d", None, like=x)
        own = family.generator.map_latents(Stream(0, "latent d", i).normal(4, 5, like=x))
        same = (ws == own.unsqueeze(1)).all(dim=2)
        assert (same == same[:1]).all()
        counts.append(int(same[0].sum()))
        assert same[0, : counts[-1]].all()
    assert set(counts) == {1, 2, 3, 4}
    assert 3 <= counts.count(4) <= 21


def test_w_avg_follows_the_generators_batches() -> None:
    family, x = make(path_weight=0.0), make_reals()
    z = Stream(0, "latent g").normal(4, 5, like=x)
    expected = 0.005 * family.generator.map_latents(z).mean(dim=0)
    family.step(Batch(x, None))
    torch.testing.assert_close(family.generator.mapping.w_avg, expected.detach())


def test_automatic_gamma_is_that_of_the_global_batch() -> None:
    family = make(gamma=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StyleGAN2, "shares", [(1, 4)])
        assert family._get_gamma(make_reals()) == pytest.approx(0.0002 * 64 / 16)


def test_odd_micro_batches_are_refused_by_name() -> None:
    family = make()
    family.in_lab_loop = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StyleGAN2, "shares", [(0, 2)])
        with pytest.raises(UserError, match=r"model\.path_weight=2\.0 .* has 3\. Use an even"):
            family._penalize_path_lengths(make_reals(3), None)


@torch.no_grad()
def test_generate_clamps_images() -> None:
    """The network does not squash; scores and grids see [-1, 1]."""
    family = make()
    torch.nn.init.constant_(family.generator.synthesis.b8.torgb.bias, 3.0)
    assert float(family.generator(torch.randn(2, 5).double()).max()) > 1
    images = family.generate(Batch(make_reals(), None), Stream(0, "sample"))
    assert float(images.abs().max()) == 1


@torch.no_grad()
def test_weights_convert_between_color_and_gray_images() -> None:
    """A gray generator draws the luma of color images; its discriminator sees gray in RGB."""
    stream = Stream(0, "latents")
    names: tuple[Any, ...] = (StyleGANGenerator, StyleGANDiscriminator)
    keys: tuple[dict[str, Any], ...] = ({"z_dim": 8, "w_dim": 8}, {})

    def make_pair(channels: int) -> tuple[Any, Any]:
        torch.manual_seed(channels)
        G, D = (
            kind(shape=(channels, 16, 16), width=4, **more).double()
            for kind, more in zip(names, keys, strict=True)
        )
        for layer in G.modules():
            if isinstance(layer, ToRGB):
                nn.init.normal_(layer.bias)
        return G, D

    color, gray = make_pair(3), make_pair(1)
    z = color[0].sample_latents(stream, 5, like=torch.zeros(0, dtype=torch.float64))
    images = color[0](z)
    for network, source in zip(gray, color, strict=True):
        network.load_state_dict(network.convert_colors(source.state_dict()))
    assert_close(gray[0](z), to_gray(images))
    plane = to_gray(images)
    assert_close(gray[1](plane), color[1](plane.expand(-1, 3, -1, -1)))
    # and from gray to color
    back = make_pair(3)
    for network, source in zip(back, gray, strict=True):
        network.load_state_dict(network.convert_colors(source.state_dict()))
    assert_close(back[0](z), plane.expand(-1, 3, -1, -1))
    assert_close(back[1](images), gray[1](plane))
    for network in color:
        assert_close(network.convert_colors(network.state_dict()), dict(network.state_dict()))
