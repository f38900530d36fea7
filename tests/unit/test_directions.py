"""Latent directions: their search, their file, and moves along them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import gan_lab
from gan_lab.cli import app
from gan_lab.inference import direction_search
from gan_lab.inference.direction_search import (
    SampleClassifier,
    compute_first_layer,
    find_class_directions,
    find_components,
    find_directions,
)
from gan_lab.inference.export import export
from gan_lab.inference.sampling import load_generator
from gan_lab.metrics.digit_classifier import load_digit_classifier
from gan_lab.networks.classifier import Classifier
from gan_lab.networks.stylegan import StyleGANGenerator
from gan_lab.runs.directions import FILE_NAME, Direction, Directions, read_directions
from gan_lab.utils.errors import UserError
from tests.helpers.folders import run_folder
from tests.unit.test_sampling import checkpoint
from tests.unit.test_style_projection import save_generator

SCALES = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25]).double()


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def make_axes(seed: int = 0) -> Tensor:
    """Return five orthonormal rows [5, 5], whose largest coordinates are positive."""
    axes = torch.linalg.qr(draw(seed, 5, 5))[0].T
    return axes * axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()


def stack(directions: list[Direction]) -> Tensor:
    return torch.tensor([each.vector for each in directions]).double()


class Linear(nn.Module):
    """A linear generator whose first layer has singular values ``SCALES`` along ``axes``.

    The layer also reads an embedding of the label, which has a far larger effect.
    """

    def __init__(self, axes: Tensor, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, 2, bias=False).double()
        self.project = nn.Linear(7, outputs).double()
        left = torch.linalg.qr(draw(1, outputs, 5))[0]
        self.project.weight.data[:, :5] = left @ torch.diag(SCALES) @ axes
        self.project.weight.data[:, 5:] = 100

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        embedded = self.embedding(torch.nn.functional.one_hot(y, 3).double())
        images: Tensor = self.project(torch.cat([z, embedded], dim=1)).relu()
        return images


@torch.no_grad()
@pytest.mark.parametrize("outputs", [5, 40])
def test_components_of_a_linear_layer_are_its_singular_vectors(outputs: int) -> None:
    """With latents from N(0, I), shares of variance are those of squared singular values."""
    axes, z, y = make_axes(), draw(2, 30_000, 5), torch.arange(30_000) % 3
    coordinates = compute_first_layer(Linear(axes, outputs), z, y)
    found = find_components(z, coordinates, y, 4)
    assert [each.name for each in found] == ["pc1", "pc2", "pc3", "pc4"]
    torch.testing.assert_close(stack(found), axes[:4], rtol=0, atol=0.03)
    shares = torch.tensor([each.explained_variance for each in found])
    expected = SCALES.square() / SCALES.square().sum()
    torch.testing.assert_close(shares.double(), expected[:4], rtol=0.05, atol=0)
    assert [each.std for each in found] == pytest.approx([1] * 4, rel=0.02)


def test_components_of_w_are_the_axes_of_its_covariance() -> None:
    """Steps have the standard deviation along the axis, and signs are fixed."""
    axes = make_axes()
    w = 7 + draw(3, 30_000, 5) * SCALES @ axes
    found = find_components(w, w, None, 9)
    assert len(found) == 5
    torch.testing.assert_close(stack(found), axes, rtol=0, atol=0.03)
    assert [each.std for each in found] == pytest.approx(SCALES.tolist(), rel=0.03)
    mirrored = find_components(-w, -w, None, 5)
    torch.testing.assert_close(stack(mirrored), stack(found))
    # of rank 2: there are no other components
    assert len(find_components(w[:, :2] @ axes[:2], w[:, :2] @ axes[:2], None, 9)) == 2


def test_component_is_the_slope_of_a_regression() -> None:
    """Coordinates x of latents z = x b + noise give the direction b."""
    x, b = draw(4, 20_000, 1), torch.tensor([[0.0, 3.0, -4.0]]).double()
    z = x @ b + 0.3 * draw(5, 20_000, 3)
    (found,) = find_components(z, x, None, 3)
    torch.testing.assert_close(stack([found]), -b / 5, rtol=0, atol=0.01)


def test_equal_latents_have_no_directions() -> None:
    with pytest.raises(UserError, match="The latents of all samples are equal"):
        find_components(torch.ones(9, 2).double(), torch.ones(9, 2).double(), None, 2)


def test_planted_class_direction_is_found() -> None:
    """The normal of the boundary points to the class; a class without relation has accuracy 0.5."""
    z, normal = draw(6, 4_000, 6), torch.tensor([1.0, -2, 0, 0, 2, 0]).double() / 3
    planted = torch.where(z @ normal > 0.3, 1, 0)
    other, one = find_class_directions(z, planted, ["other", "one"])
    assert (other.name, one.name) == ("other", "one")
    assert float(stack([one])[0] @ normal) > 0.99
    assert float(stack([other])[0] @ normal) < -0.99
    assert one.accuracy is not None
    assert one.accuracy > 0.97
    assert one.std == pytest.approx(1, rel=0.05)
    chance, _ = find_class_directions(z, torch.arange(4_000) % 2, ["even", "odd"])
    assert chance.accuracy == pytest.approx(0.5, abs=0.06)
    # 10 images are too few
    rare = (torch.arange(4_000) < 10).long()
    assert find_class_directions(z, rare, ["all", "rare"]) == []


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("plain") / "best.ckpt", classes=0)


@pytest.fixture(scope="module")
def style(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_generator(tmp_path_factory.mktemp("style") / "best.ckpt")


def test_search_depends_on_its_seed_alone(plain: Path) -> None:
    first, again, other = (find_directions(plain, 3, n=500, seed=s) for s in (0, 0, 1))
    assert first == again
    assert first != other
    assert first.space == "z"
    for direction in first.directions:
        assert max(direction.vector, key=abs) > 0


def test_digits_label_the_samples_of_a_run_on_mnist(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classifier labels samples of the same latents."""

    def classify(generator: Any, classifier: Any, z: Tensor, classes: None) -> Tensor:
        images = generator.images_of(z, classes)
        return (images.flatten(1).mean(dim=1) > images.mean()).long() * 7

    monkeypatch.setattr(direction_search, "classify_samples", classify)
    found = find_directions(plain, 1, n=400, labels="digits").directions
    assert [each.name for each in found] == ["pc1", "digit 0", "digit 7"]
    assert found[2].accuracy is not None
    assert found[2].accuracy > 0.6
    torch.testing.assert_close(stack(found)[1], -stack(found)[2], rtol=0, atol=1e-3)


def test_classifier_of_the_run_labels_its_samples(tmp_path: Path, plain: Path) -> None:
    """A semi-supervised run without MNIST has a direction to the class that its classifier sees."""
    content = torch.load(plain, weights_only=True)
    classifier = Classifier(shape=(1, 28, 28), classes=3, width=4, hidden=4)
    images = load_generator(plain)(400, seed=0)
    with torch.no_grad():
        # class 2: more than the median of the first feature
        classifier.head.weight.zero_()[2, 0] = 1
        classifier.head.bias[:] = torch.tensor(
            [-1e9, classifier.features(images)[:, 0].median(), 0]
        )
    expected = classifier(images).argmax(dim=1)
    assert 100 < int((expected == 2).sum()) < 300
    content["recipes"]["discriminator"] = classifier.recipe
    content["ema"]["discriminator"] = classifier.state_dict()
    torch.save(content, tmp_path / "sgan.ckpt")
    found = find_directions(tmp_path / "sgan.ckpt", 1, n=400)
    assert found.source["labels"] == "classifier"
    assert [each.name for each in found.directions] == ["pc1", "class 1", "class 2"]
    latents = load_generator(plain).latents(400, 0).double()
    names = ["none", "class 1", "class 2"]
    assert found.directions[1:] == find_class_directions(latents, expected, names)
    with pytest.raises(UserError, match=r"labels=classifier: .* has no classifier"):
        find_directions(plain, 1, n=400, labels="classifier")


def test_classify_samples_recognizes_digits(sample: Any) -> None:
    """Real digits in place of samples."""

    class Replay:
        def images_of(self, z: Tensor, _: None) -> Tensor:
            return torch.from_numpy(sample.test_images[z[:, 0].long()]).float() / 127.5 - 1

    classifier = SampleClassifier(load_digit_classifier(), [])
    rows = torch.arange(600)[:, None]
    labels = direction_search.classify_samples(Replay(), classifier, rows, None)  # type: ignore[arg-type]
    correct = labels == torch.from_numpy(sample.test_labels[:600])
    assert float(correct.float().mean()) > 0.95


def test_classes_of_w_separate_and_its_components_do_not(style: Path) -> None:
    """W depends on the class; components are those within classes."""
    found = find_directions(style, 4, n=2_000)
    assert found.space == "w"
    assert [each.name for each in found.directions[-2:]] == ["class 0", "class 1"]
    assert found.directions[-1].accuracy is not None
    assert found.directions[-1].accuracy > 0.6
    generator = load_generator(style)
    network = generator.network
    assert isinstance(network, StyleGANGenerator)
    z, y = generator.latents(2_000, 0), generator.labels_of(2_000, None)
    assert y is not None
    w = network.map_latents(z, y).double()
    within = torch.cat([w[y == label] - w[y == label].mean(dim=0) for label in (0, 1)])
    expected = torch.linalg.eigvalsh(within.T @ within / 2_000).flip(0)
    stds = torch.tensor([each.std for each in found.directions[:4]]).double()
    torch.testing.assert_close(stds, expected[:4].sqrt(), rtol=1e-6, atol=0)


def test_move_adds_standard_deviations_to_latents(plain: Path) -> None:
    generator = load_generator(plain)
    with pytest.raises(UserError, match="No directions of these weights to move along: pc1"):
        generator(2, move={"pc1": 1})
    found = find_directions(plain, 2, n=500)
    generator.set_directions(found)
    first, second = found.directions
    shift = 2 * first.std * stack([first])[0] - second.std * stack([second])[0]
    z = generator.latents(2, 3)
    moved = generator(2, seed=3, move={"pc1": 2, "pc2": -1})
    torch.testing.assert_close(moved, generator(latents=z + shift.float()))
    assert not torch.allclose(moved, generator(2, seed=3))
    assert torch.equal(generator(2, seed=3, move={}), generator(2, seed=3))
    with pytest.raises(UserError, match=r"unknown direction 'pc3'.*Available: pc1, pc2"):
        generator(2, move={"pc3": 1})
    with pytest.raises(UserError, match="Invalid step along pc1: nan"):
        generator(2, move={"pc1": math.nan})
    with pytest.raises(UserError, match="Layers apply to a move or mixture of stylegan2"):
        generator(2, move={"pc1": 1}, layers=range(2))


@torch.no_grad()
def test_move_in_w_moves_the_given_layers(style: Path) -> None:
    generator = load_generator(style)
    found = find_directions(style, 1, n=500)
    generator.set_directions(found)
    network = generator.network
    assert isinstance(network, StyleGANGenerator)
    shift = 3 * found.directions[0].std * stack(found.directions[:1])[0].float()
    ws = network.repeat_w(network.map_latents(generator.latents(2, 0), torch.ones(2).long()), 0.7)
    ws[:, 2:4] += shift
    moved = generator(2, label=1, truncation=0.7, move={"pc1": 3}, layers=range(2, 4))
    torch.testing.assert_close(moved, generator.synthesize(ws))
    with pytest.raises(UserError, match="Layers out of range: use some of 0 to 5"):
        generator(2, move={"pc1": 3}, layers=range(4, 9))


def test_directions_of_other_weights_are_refused(plain: Path, style: Path, tmp_path: Path) -> None:
    generator, found = load_generator(style), find_directions(plain, 1, n=200)
    with pytest.raises(UserError, match=r"The directions are those of other weights: best\.ckpt"):
        generator.set_directions(found)
    file = tmp_path / FILE_NAME
    found.save(file)
    with pytest.raises(UserError, match="are those of other weights"):
        export(style, tmp_path / "out", directions_file=file)
    assert not (tmp_path / "out").exists()
    wrong = Directions("w", [Direction("pc1", [1.0], 1.0)], found.source)
    with pytest.raises(UserError, match="The directions do not have the 8 dimensions of z"):
        load_generator(plain).set_directions(wrong)


def test_export_includes_directions_that_fit(plain: Path, style: Path, tmp_path: Path) -> None:
    """An export draws the same moved images; directions of other weights are left out."""
    found, other = find_directions(plain, 2, n=500), find_directions(style, 2, n=500)
    found.save(tmp_path / FILE_NAME)
    exported = export(plain, tmp_path / "exported", directions_file=tmp_path / FILE_NAME)
    generator = load_generator(plain)
    generator.set_directions(found)
    moved = generator(2, move={"pc2": 1.5})
    assert FILE_NAME in json.loads((exported / "config.json").read_text())["files"]
    assert "`pc1`, `pc2`" in (exported / "README.md").read_text()
    torch.testing.assert_close(load_generator(exported)(2, move={"pc2": 1.5}), moved)
    other.save(exported / FILE_NAME)
    assert load_generator(exported).directions is None
    assert not (export(exported, tmp_path / "again") / FILE_NAME).exists()


def change(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def apply(content: dict[str, Any]) -> Any:
        return {**content, key: value}

    return apply


def change_first(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def apply(content: dict[str, Any]) -> Any:
        first, *others = content["directions"]
        return {**content, "directions": [{**first, key: value}, *others]}

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: [],
        lambda _: {},
        change("format", "gan-lab directions 9"),
        change("space", "s"),
        change("directions", []),
        change("directions", 5),
        change("source", 5),
        change_first("vector", [1.0]),
        change_first("vector", [2.0, 0.0]),
        change_first("vector", [math.nan, 0.0]),
        change_first("vector", "ab"),
        change_first("std", math.inf),
        change_first("std", [1]),
        change_first("name", "b"),
        change_first("vector", [1e200, 0.0]),
        change_first("std", 10**400),
        change_first("name", "a\n\n# b"),
        change_first("name", "a" * 201),
    ],
)
def test_damaged_file_is_refused(damage: Callable[[Any], Any], tmp_path: Path) -> None:
    directions = [Direction("a", [1.0, 0.0], 1.0, 0.5), Direction("b", [0.6, -0.8], 2.0)]
    written = Directions("z", directions, {"digest": "0"})
    path = tmp_path / FILE_NAME
    written.save(path)
    assert read_directions(path) == written
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(UserError, match=r"is not a usable file of directions: .+ Write one with"):
        read_directions(path)


def test_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_directions(tmp_path / "none")
    path = tmp_path / FILE_NAME
    path.write_text("[" * 100_000)
    with pytest.raises(UserError, match="is not a usable file"):
        read_directions(path)
    monkeypatch.setattr("gan_lab.runs.directions.MAX_FILE_BYTES", 10)
    with pytest.raises(UserError, match="more than 10 bytes"):
        read_directions(path)


def test_directions_command_serves_sample_and_export(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files in the run folder are found by the other commands."""
    run = run_folder("gan", tmp_path, data_root)
    monkeypatch.setattr(direction_search, "MAX_CLASSIFIED_IMAGES", 100)

    def call(*words: str) -> str:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, result.exception
        return result.output

    said = call("directions", str(run), "-n", "200", "--count", "2", "--steps", "3").splitlines()
    assert said[0].startswith("pc1: ")
    assert said[-1] == str(run / "directions.png")
    found = read_directions(run / FILE_NAME)
    assert found.source["labels"] == "digits"
    call("sample", str(run), "-n", "2", "--move", "pc1=2", "--move", "pc2=-1")
    assert (run / "sample-n2-seed0-pc1=2-pc2=-1.png").is_file()
    call("export", str(run))
    generator = gan_lab.load_generator(run / "export")
    assert generator.directions == found
    for words, message in (
        (["--move", "pc1"], "--move pc1 is invalid. Write a direction and steps"),
        (["--move", "pc1=2", "--interpolate", "3"], "--move does not apply to --interpolate"),
        (["--layers", "0-1"], "--layers 0-1 applies to --mix and --move"),
    ):
        refused = CliRunner().invoke(app, ["sample", str(run), *words])
        assert message in str(refused.exception)


def test_arguments_out_of_range_are_refused(plain: Path, tmp_path: Path, data_root: Path) -> None:
    with pytest.raises(UserError, match="Out of range: count=0, n=200"):
        find_directions(plain, 0, n=200)
    with pytest.raises(UserError, match=r"Unknown labels: x\. Use auto, digits, classifier, none"):
        find_directions(plain, labels="x")
    with pytest.raises(UserError, match="The latents have codes"):
        find_directions(run_folder("infogan", tmp_path, data_root))
    found = find_directions(plain, 1, n=200)
    with pytest.raises(UserError, match="Out of range: steps=1, span=3"):
        direction_search.draw_directions(load_generator(plain), found, steps=1)
