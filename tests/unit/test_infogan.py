"""InfoGAN: the prior with codes, the bound on mutual information, learned categories."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from gan_lab import cli, load_generator
from gan_lab.families.infogan import InfoGAN, InfoGANConfig
from gan_lab.images import Batch, ImageSpec
from gan_lab.metrics.code_accuracy import CodeAccuracy
from gan_lab.networks.coded import CodedGenerator
from gan_lab.seeding import Stream

LIKE = torch.empty(0, dtype=torch.float64)


@pytest.fixture(scope="module")
def coded() -> CodedGenerator:
    torch.manual_seed(0)
    return CodedGenerator(
        z_dim=5, categories=4, continuous=2, shape=(1, 8, 8), width=4, norm="none"
    ).double()


@pytest.fixture(scope="module")
def run(coded: CodedGenerator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "checkpoints").mkdir()
    state = {
        "iteration": 1,
        "ema": {"generator": coded.state_dict()},
        "recipes": {"generator": coded.recipe},
    }
    torch.save(state, folder / "checkpoints" / "best.ckpt")
    return folder


def test_the_prior_is_uniform_noise_a_uniform_category_and_uniform_codes_all_independent(
    coded: CodedGenerator,
) -> None:
    z = coded.sample_latents(Stream(0, "any"), 4000, like=LIKE)
    category, codes = coded.split_codes(z)
    assert z.shape == (4000, 5 + 4 + 2)
    assert torch.equal(z[:, 5:9].sum(dim=1), torch.ones(4000, dtype=torch.float64))
    assert stats.chisquare(np.bincount(category, minlength=4)).pvalue > 1e-4
    numbers = torch.cat([z[:, :5], codes], dim=1)
    for column in numbers.T:
        assert stats.kstest(column, stats.uniform(-1, 2).cdf).pvalue > 1e-4
    everything = torch.cat([numbers, category.unsqueeze(1)], dim=1)
    correlation = np.corrcoef(everything.T) - np.eye(8)
    assert np.abs(correlation).max() < 0.075  # 4.7 standard deviations


def family(**keys: float) -> InfoGAN:
    torch.manual_seed(0)
    cfg = InfoGANConfig(z_dim=5, categories=4, continuous=2, width=4, norm="none", **keys)  # type: ignore[arg-type]
    return InfoGAN(spec=ImageSpec(1, 8, 8), config=cfg).double()


def test_the_loss_is_the_cross_entropy_of_the_code_and_a_normal_one_of_variance_one() -> None:
    made = family()
    z = made.generator.sample_latents(Stream(0, "any"), 64, like=LIKE)
    category, codes = made.generator.split_codes(z)
    blind = torch.cat([torch.zeros(64, 4, dtype=torch.float64), codes], dim=1)
    assert float(made.information_loss(z, blind)) == pytest.approx(
        math.log(4), abs=1e-12
    )  # the entropy: no information
    sure = torch.cat([1e3 * torch.nn.functional.one_hot(category, 4), codes], dim=1)
    assert float(made.information_loss(z, sure)) == pytest.approx(0.0, abs=1e-12)
    off = torch.cat([sure[:, :4], codes + torch.tensor([0.5, -1.0])], dim=1)
    normal = -torch.distributions.Normal(off[:, 4:], 1.0).log_prob(codes).sum(
        dim=1
    ).mean() - math.log(2 * math.pi)
    assert float(made.information_loss(z, off)) == pytest.approx(float(normal), abs=1e-12)
    assert float(normal) == pytest.approx(0.5 * (0.25 + 1.0), abs=1e-12)


def test_the_information_moves_the_generator_and_the_weight_says_how_much() -> None:
    made = family()
    z = made.generator.sample_latents(Stream(0, "any"), 16, like=LIKE)
    _, q = made.split_outputs(made.discriminator(made.generator(z)))
    gradients = torch.autograd.grad(made.information_loss(z, q), list(made.generator.parameters()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_a_varied_code_changes_nothing_else(coded: CodedGenerator) -> None:
    z = coded.sample_latents(Stream(0, "any"), 3, like=LIKE)
    categories = coded.vary_code(z, 0)
    assert categories.shape == (3, 4, 11)
    assert torch.equal(categories[:, :, 5:9].argmax(dim=2), torch.arange(4).expand(3, 4))
    second = coded.vary_code(z, 2, steps=5)
    assert torch.equal(second[1, :, 10], torch.linspace(-1, 1, 5, dtype=torch.float64))
    for varied, kept in ((categories, [*range(5), 9, 10]), (second, range(10))):
        assert all(
            torch.equal(varied[:, i][:, list(kept)], z[:, list(kept)])
            for i in range(varied.shape[1])
        )
    with pytest.raises(
        ValueError,
        match=r"code=3 does not exist\. This generator has the codes 0 \(category\) to 2",
    ):
        coded.vary_code(z, 3)


def test_sampling_draws_the_prior_of_the_family_and_varies_a_code_along_a_row(
    run: Path, coded: CodedGenerator
) -> None:
    generator, made = load_generator(run), family()
    made.generator = coded
    like = Batch(torch.zeros(3, 1, 8, 8, dtype=torch.float64))
    drawn = generator(3, seed=4)
    torch.testing.assert_close(
        made.generate(like, Stream(4, "sample")).float(), drawn, rtol=0, atol=1e-6
    )
    images, columns = generator.vary_code(1, rows=3, seed=4)
    z = coded.sample_latents(Stream(4, "sample"), 3, like=LIKE)
    torch.testing.assert_close(
        images, coded(coded.vary_code(z, 1).flatten(0, 1)).float(), rtol=0, atol=1e-6
    )
    assert columns == 10
    walked = generator.walk(2, 3, seed=4).view(2, 3, 1, 8, 8)
    torch.testing.assert_close(walked[:, 0], drawn[:2], rtol=0, atol=1e-6)
    torch.testing.assert_close(walked[:, 2], drawn[1:], rtol=0, atol=1e-6)


def test_the_command_writes_one_row_for_each_noise_and_one_column_for_each_category(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gan-lab", "sample", str(run), "-n", "20", "--code", "0"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    path = run / "code0-n20-seed0.png"
    assert capsys.readouterr().out.strip() == str(path)
    with Image.open(path) as image:
        assert image.size == (4 * 10 + 2, 2 * 10 + 2)


@pytest.mark.parametrize(
    ("category", "label", "expected"),
    [
        ([0, 1, 2, 0, 1, 2], [2, 0, 1, 2, 0, 1], 1.0),  # other names, the same classes
        ([0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 2], 0.5),  # one category stands for one class
        ([0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 1, 1], 4 / 6),  # and a class is that of one category
        ([0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 1, 1], 2 / 6),
    ],
)
def test_a_code_is_right_where_its_category_stands_for_the_class(
    category: list[int], label: list[int], expected: float
) -> None:
    labels: Tensor = torch.tensor(label)
    batch = Batch(torch.zeros(6, 1, 1, 1), labels)
    logits = torch.nn.functional.one_hot(torch.tensor(category), 6).float()
    metric = CodeAccuracy()
    assert metric.compute({}, metric.update_fake({"code_logits": logits}, batch)) == {
        "code_accuracy": pytest.approx(expected)
    }
