"""Projection in W and W+ of StyleGAN2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from gan_lab.cli import app
from gan_lab.images import save_grid
from gan_lab.inference import style_projection
from gan_lab.inference.projection import project
from gan_lab.inference.sampling import TrainedGenerator, load_generator
from gan_lab.networks.stylegan import StyleGANGenerator
from gan_lab.utils.errors import UserError
from tests.unit.test_sampling import checkpoint

STEPS = 40


def save_generator(path: Path) -> Path:
    """Write the checkpoint of a small conditional generator, with noise that is visible."""
    torch.manual_seed(3)
    G = StyleGANGenerator(z_dim=8, w_dim=8, shape=(1, 16, 16), classes=2, width=8, max_width=16)
    with torch.no_grad():
        for name, weight in G.named_parameters():
            if name.endswith("noise_strength"):
                weight.fill_(0.02)
            elif name.endswith("bias"):
                weight.add_(0.3 * torch.randn(weight.shape))
    recipes = {"generator": G.recipe}
    torch.save({"iteration": 1, "ema": {"generator": G.state_dict()}, "recipes": recipes}, path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_generator(tmp_path_factory.mktemp("style") / "best.ckpt")


@pytest.fixture(scope="module")
def generator(run: Path) -> TrainedGenerator:
    return load_generator(run)


def test_own_image_is_found_in_w_and_closer_in_w_plus(generator: TrainedGenerator) -> None:
    """40 steps reduce the error from 45 levels of 255 to 6.4 in W and 5.4 in W+."""
    image = generator(2, seed=77)[1]
    in_w, in_w_plus = (
        project(generator, image, space=space, steps=STEPS) for space in (None, "w+")
    )
    assert in_w.errors[0] > 40
    assert in_w_plus.errors[-1] < in_w.errors[-1] < 10
    # in W+ from the result in W
    assert in_w_plus.errors[3] == pytest.approx(in_w.errors[-1])
    for result, space in ((in_w, "w"), (in_w_plus, "w+")):
        assert (result.space, result.label, result.z) == (space, 1, None)
        assert result.ws is not None
        noise = [each[None, None] for each in result.noise]
        torch.testing.assert_close(generator.synthesize(result.ws[None], noise)[0], result.way[-1])
        for each in result.noise:
            assert float(each.mean()) == pytest.approx(0, abs=1e-5)
            assert float(each.square().mean()) == pytest.approx(1, rel=1e-4)
        assert (result.ws[0] == result.ws).all() == (space == "w")


def test_projection_in_w_depends_on_its_seed_alone(generator: TrainedGenerator) -> None:
    image = generator(1)[0]
    first, other, again = (
        project(generator, image, label=0, space="w+", steps=3, seed=seed) for seed in (1, 2, 1)
    )
    assert first.ws is not None
    assert other.ws is not None
    assert again.ws is not None
    assert torch.equal(first.ws, again.ws)
    assert all(map(torch.equal, first.noise, again.noise))
    assert not torch.equal(first.ws, other.ws)


def test_statistics_of_w_are_those_of_the_class(generator: TrainedGenerator) -> None:
    network = generator.network
    assert isinstance(network, StyleGANGenerator)
    z = torch.randn(20_000, 8, generator=torch.Generator().manual_seed(0))
    w = network.map_latents(z, torch.ones(len(z)).long())
    mean, scale = style_projection.measure_w(network, 1, seed=0)
    torch.testing.assert_close(mean, w.mean(dim=0), rtol=0, atol=0.03)
    assert scale == pytest.approx(float((w - mean).square().sum(dim=1).mean().sqrt()), rel=0.02)


def test_autocorrelation_of_known_images() -> None:
    """A constant c has c⁴ per direction and level, and 2c at the next level."""
    ones = torch.ones(1, 1, 16, 16)
    assert float(style_projection.measure_autocorrelation(ones)) == pytest.approx(2 + 2 * 2**4)
    assert float(style_projection.measure_autocorrelation(ones[..., :8, :8])) == pytest.approx(2)
    # its average over 2 x 2 pixels is 0
    checkerboard = (torch.arange(16) % 2 * 2 - 1).float()
    checkerboard = (checkerboard[:, None] * checkerboard)[None, None]
    assert float(style_projection.measure_autocorrelation(checkerboard)) == pytest.approx(2)
    noise = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    assert float(style_projection.measure_autocorrelation(noise)) < 0.1


@pytest.mark.parametrize(
    ("share", "factor"), [(0, 0), (0.025, 0.5), (0.05, 1), (0.75, 1), (0.875, 0.5), (1, 0)]
)
def test_learning_rate_rises_and_falls(share: float, factor: float) -> None:
    assert style_projection.compute_ramp(share) == pytest.approx(factor, abs=1e-9)


def test_project_command_writes_styles(
    run: Path, generator: TrainedGenerator, tmp_path: Path
) -> None:
    """The files reproduce the image."""
    image, out = tmp_path / "x.png", tmp_path / "out" / "p.png"
    save_grid(generator(1), 1, image)
    words = ["project", str(run), str(image), "--space", "w+", "--steps", "3", "--out", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.exception
    tensors = load_file(out.with_suffix(".safetensors"))
    noise = [tensors[f"noise.{i}"] for i in range(5)]
    assert generator.synthesize(tensors["ws"], noise).shape == (1, 1, 16, 16)
    (latents,) = json.loads(out.with_suffix(".json").read_text())
    assert latents["space"] == "w+"
    torch.testing.assert_close(torch.tensor(latents["w"]), tensors["ws"][0])
    default = CliRunner().invoke(app, ["project", str(run), str(image), "--steps", "1"])
    assert default.exit_code == 0, default.exception
    assert (run.parent / "project.safetensors").is_file()


def test_spaces_that_do_not_exist_are_refused(generator: TrainedGenerator, tmp_path: Path) -> None:
    plain = load_generator(checkpoint(tmp_path / "best.ckpt", classes=0))
    with pytest.raises(UserError, match=r"Unknown latent space: s\. Use z, w, w\+"):
        project(generator, generator(1)[0], space="s")
    with pytest.raises(UserError, match=r"No latent space w: only generators of stylegan2"):
        project(plain, plain(1)[0], space="w")
    with pytest.raises(UserError, match=r"ws has the shape \(1, 8\): pass \[n, 6, 8\]"):
        generator.synthesize(torch.zeros(1, 8))
    with pytest.raises(UserError, match="synthesize needs a generator of stylegan2"):
        plain.synthesize(torch.zeros(1, 6, 8))
