from __future__ import annotations

import math
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from typer.testing import CliRunner

import gan_lab
from gan_lab import networks
from gan_lab.cli import app
from gan_lab.images import Batch, ImageSpec, save_grid, to_uint8
from gan_lab.inference.sampling import TrainedGenerator, great_circle, load_generator
from gan_lab.networks.dcgan import DCGANGenerator
from gan_lab.networks.unet import UNet
from gan_lab.seeding import Stream
from gan_lab.utils.output import list_visible


def checkpoint(path: Path, classes: int, kind: str = "dcgan") -> Path:
    """A generator as after training: its running statistics are not the initial ones."""
    torch.manual_seed(0)
    G = networks.generator(
        kind, z_dim=8, shape=(1, 28, 28), width=16, norm="batch", classes=classes
    )  # type: ignore[arg-type]
    for name, tensor in G.state_dict().items():
        if "running" in name:
            tensor.add_(0.3 * torch.rand_like(tensor))
        elif tensor.is_floating_point():
            tensor.mul_(8)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "iteration": 1,
        "ema": {"generator": G.state_dict()},
        "recipes": {"generator": G.recipe},
    }
    torch.save(state, path)
    return path


class OneSided(DCGANGenerator):
    """A generator whose prior is not normal: uniform in [0, 1)."""

    def sample_latents(self, stream: Stream, n: int, like: torch.Tensor) -> torch.Tensor:
        return stream.uniform(n, 8, like=like)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> TrainedGenerator:
    return load_generator(
        checkpoint(tmp_path_factory.mktemp("runs") / "best.ckpt", classes=10), exact=True
    )


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory: pytest.TempPathFactory) -> TrainedGenerator:
    return load_generator(
        checkpoint(tmp_path_factory.mktemp("runs") / "best.ckpt", classes=0), exact=True
    )


@pytest.mark.parametrize("label", [None, 3])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_an_image_does_not_depend_on_the_batch_it_is_made_in(
    conditional: TrainedGenerator, batch_size: int, label: int | None
) -> None:
    images = conditional(12, label, seed=4)
    assert torch.equal(conditional(12, label, seed=4, batch_size=batch_size), images)
    assert len(images.flatten(1).unique(dim=0)) == 12
    assert images.dtype == torch.float32
    assert images.std() > 0.1


def test_images_are_a_prefix_of_any_larger_number_of_them(
    conditional: TrainedGenerator, unconditional: TrainedGenerator
) -> None:
    for generator in (conditional, unconditional):
        assert torch.equal(generator(30)[:7], generator(7))
        assert not torch.equal(generator(7, seed=1), generator(7))


def test_the_same_pixels_come_after_other_random_numbers_and_a_second_loading(
    tmp_path: Path,
) -> None:
    path = checkpoint(tmp_path / "best.ckpt", classes=0)
    first = load_generator(path)(4)
    torch.rand(100)
    assert torch.equal(load_generator(path)(4), first)


def test_it_is_the_averaged_network_in_evaluation_mode(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "best.ckpt", classes=0)
    generator, content = load_generator(path), torch.load(path, weights_only=True)
    again = networks.from_recipe(content["recipes"]["generator"])
    again.load_state_dict(content["ema"]["generator"])
    from gan_lab.seeding import Stream

    with torch.no_grad():
        expected = again.eval()(Stream(0, "sample").normal(5, 8, like=torch.empty(0)))
    assert torch.allclose(generator(5), expected, atol=1e-5)


def test_classes_are_gone_through_in_turn_unless_labels_are_given(
    conditional: TrainedGenerator,
) -> None:
    in_turn = conditional(12)
    assert torch.equal(conditional(12, [i % 10 for i in range(12)]), in_turn)
    assert torch.equal(conditional(12, 3)[3], in_turn[3])
    assert not torch.equal(conditional(12, 3)[4], in_turn[4])


@pytest.mark.parametrize("label", [10, -1, [0, 1], [0, 1, 10], [[0, 1, 2]]])
def test_a_label_that_is_none_is_refused(conditional: TrainedGenerator, label: object) -> None:
    with pytest.raises(ValueError, match="Use a number from 0 to 9, or 3 of them") as raised:
        conditional(3, label)  # type: ignore[arg-type]
    assert f"Invalid label: {label}." in str(raised.value)


def test_a_label_for_a_generator_without_labels_is_refused(unconditional: TrainedGenerator) -> None:
    with pytest.raises(ValueError, match="Unconditional generator: label=3"):
        unconditional(2, 3)


@pytest.mark.parametrize(("n", "batch_size"), [(0, 64), (3, 0)])
def test_no_images_and_empty_batches_are_refused(
    unconditional: TrainedGenerator, n: int, batch_size: int
) -> None:
    with pytest.raises(
        ValueError, match=f"n={n}, batch_size={batch_size}. Both must be at least 1"
    ):
        unconditional(n, batch_size=batch_size)


def test_a_run_is_found_by_its_folder_and_what_is_missing_is_named(tmp_path: Path) -> None:
    for name, classes in (("best", 10), ("last", 0)):
        checkpoint(tmp_path / "checkpoints" / f"{name}.ckpt", classes)
    assert gan_lab.load_generator(tmp_path).classes == 10
    assert gan_lab.load_generator(str(tmp_path), "last").classes == 0
    with pytest.raises(
        ValueError,
        match=r"There is no checkpoint .*nowhere\. Name a folder such as runs",
    ):
        load_generator(tmp_path / "nowhere")
    torch.save({"iteration": 1, "ema": {}, "recipes": {"translator": {}}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other.ckpt has no generator. Its networks: translator"):
        load_generator(tmp_path / "other.ckpt")


def test_points_of_a_great_circle_have_equal_angles_between_them_and_its_length() -> None:
    draws = torch.Generator().manual_seed(0)
    start, end = torch.nn.functional.normalize(
        torch.randn(2, 5, 16, dtype=torch.float64, generator=draws), dim=2
    )
    points = great_circle(start, end, torch.linspace(0, 1, 9, dtype=torch.float64))
    assert torch.allclose(points[:, 0], start)
    assert torch.allclose(points[:, -1], end)
    assert torch.allclose(points.norm(dim=2), torch.ones(5, 9, dtype=torch.float64))
    steps = (points[:, 1:] * points[:, :-1]).sum(dim=2).acos()
    whole = (start * end).sum(dim=1).acos()
    assert torch.allclose(steps, (whole / 8).unsqueeze(1).expand(5, 8))


def test_at_right_angles_a_great_circle_is_cosine_and_sine_and_without_an_angle_a_line() -> None:
    x, y = (
        torch.tensor([[3.0, 0.0]], dtype=torch.float64),
        torch.tensor([[0.0, 2.0]], dtype=torch.float64),
    )
    share = torch.linspace(0, 1, 5, dtype=torch.float64)
    angle = share * math.pi / 2
    assert torch.allclose(
        great_circle(x, y, share)[0], torch.stack([3 * angle.cos(), 2 * angle.sin()], dim=1)
    )
    for end in (5 * x, -x):  # along, and opposite, where no circle is the shortest
        line = x + share.unsqueeze(1) * (end - x)
        assert torch.allclose(great_circle(x, end, share)[0], line)


def test_each_walk_begins_where_the_one_before_ended(unconditional: TrainedGenerator) -> None:
    images = unconditional.walk(4, 3, seed=2).unflatten(0, (4, 3))
    ends = unconditional(5, seed=2)
    assert torch.allclose(images[:, 0], ends[:4], atol=1e-6)
    assert torch.allclose(images[:, -1], ends[1:], atol=1e-6)
    z = unconditional.latents(5, 2)
    halfway = great_circle(z[:-1], z[1:], torch.tensor([0.5], dtype=z.dtype)).flatten(0, 1)
    assert torch.allclose(images[:, 1], unconditional.network(halfway).float(), atol=1e-6)
    assert not torch.equal(unconditional.walk(4, 3, seed=3).unflatten(0, (4, 3)), images)


def test_a_walk_with_a_label_keeps_it(conditional: TrainedGenerator) -> None:
    images = conditional.walk(3, 4, label=7).unflatten(0, (3, 4))
    ends = conditional(4, 7)
    assert torch.allclose(images[:, 0], ends[:3], atol=1e-6)
    assert torch.allclose(images[:, -1], ends[1:], atol=1e-6)


def test_every_second_walk_keeps_its_latent_and_goes_from_its_class_to_the_next(
    conditional: TrainedGenerator,
) -> None:
    images = conditional.walk(10, 3).unflatten(0, (10, 3))
    begin = conditional(11, [*range(10), 0])
    end = conditional(11, [(i + 1) % 10 for i in range(11)])
    assert torch.allclose(images[:, 0], begin[:10], atol=1e-6)
    assert torch.allclose(images[1::2, -1], end[1:11:2], atol=1e-6)  # the last one from 9 to 0
    stayed = conditional(11, [max(0, i - 1) for i in range(11)])  # latent i + 1 with class i
    assert torch.allclose(images[0::2, -1], stayed[1:11:2], atol=1e-6)
    half = torch.zeros(1, 10, dtype=torch.float64)
    half[0, 3] = half[0, 4] = 0.5
    z = conditional.latents(11, 0)[3:4]
    assert torch.allclose(images[3, 1], conditional.network(z, half)[0].float(), atol=1e-6)


@pytest.mark.parametrize(("walks", "steps"), [(0, 3), (2, 1), (2, -4)])
def test_a_walk_of_no_steps_is_refused(
    unconditional: TrainedGenerator, walks: int, steps: int
) -> None:
    with pytest.raises(ValueError, match=f"walks={walks}, steps={steps}"):
        unconditional.walk(walks, steps)


def test_a_walk_along_a_label_that_is_none_is_refused(
    conditional: TrainedGenerator, unconditional: TrainedGenerator
) -> None:
    with pytest.raises(ValueError, match=r"Invalid label: 10\. Use a number from 0 to 9"):
        conditional.walk(2, 2, label=10)
    with pytest.raises(ValueError, match="Unconditional generator: label=0"):
        unconditional.walk(2, 2, label=0)


def test_a_generator_that_makes_images_of_images_is_no_generator_of_latents(tmp_path: Path) -> None:
    G = UNet(shape=(1, 8, 8), source_channels=1, width=2)
    state = {
        "iteration": 1,
        "ema": {"generator": G.state_dict()},
        "recipes": {"generator": G.recipe},
    }
    torch.save(state, tmp_path / "best.ckpt")
    with pytest.raises(ValueError, match=r"Not a latent-to-image generator: .*best\.ckpt"):
        load_generator(tmp_path / "best.ckpt")


def test_a_generator_with_a_prior_of_its_own_is_sampled_from_it_by_its_family_and_without(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    G = OneSided(z_dim=8, shape=(1, 28, 28), width=4, norm="none").double()
    path = tmp_path / "best.ckpt"
    torch.save(
        {"iteration": 1, "ema": {"generator": G.state_dict()}, "recipes": {"generator": G.recipe}},
        path,
    )
    z = Stream(3, "sample").uniform(5, 8, like=torch.empty(0, dtype=torch.float64))
    drawn = load_generator(path)(5, seed=3)
    torch.testing.assert_close(drawn, G(z).float(), rtol=0, atol=1e-6)
    walked = load_generator(path).walk(2, 3, seed=3)
    torch.testing.assert_close(walked[::3], drawn[:2], rtol=0, atol=1e-6)

    from gan_lab.families.gan import GAN, GANConfig

    family = GAN(
        spec=ImageSpec(1, 28, 28), config=GANConfig(network="dcgan", z_dim=8, width=4, norm="none")
    ).double()
    family.generator = G
    like = Batch(torch.zeros(5, 1, 28, 28, dtype=torch.float64))
    torch.testing.assert_close(
        family.generate(like, Stream(3, "sample")).float(), drawn, rtol=0, atol=1e-6
    )


def test_every_generator_of_latents_has_its_latents_from_its_own_prior(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For every generator class: with a prior of zeros the images have no randomness left."""
    from gan_lab.config import loading

    for name in loading.families():
        made = loading.family_class(name)
        if made.image_to_image:
            continue
        family = made(spec=ImageSpec(1, 28, 28, classes=10), config=made.Config()).eval()
        batch = Batch(torch.zeros(2, 1, 28, 28), torch.tensor([3, 3]))
        one, other = (family.generate(batch, Stream(seed, "any")) for seed in (0, 1))
        assert not torch.equal(one, other), name
        prior = family.generator.sample_latents
        monkeypatch.setattr(
            family.generator,
            "sample_latents",
            lambda *given, prior=prior, **like: torch.zeros_like(prior(*given, **like)),
        )
        one, other = (family.generate(batch, Stream(seed, "any")) for seed in (0, 1))
        assert torch.equal(one, other), name


def test_samples_are_written_one_by_one_with_their_seed_and_class_in_the_name(
    tmp_path: Path,
) -> None:
    path = checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt", classes=3)
    (tmp_path / "run" / "config.yaml").write_text(
        "data: {class_names: [cat, sea lion, ../x]}\n", encoding="utf-8"
    )
    command = ["sample", str(path), "--n", "4", "--seed", "5", "--folder", str(tmp_path / "out")]
    assert CliRunner().invoke(app, command).exit_code == 0
    names = sorted(list_visible(tmp_path / "out"))
    assert names == [
        "00000-seed5-classcat.png", "00001-seed5-classsea_lion-50b4b63afe.png",
        "00002-seed5-class.._x-dfa30535dd.png", "00003-seed5-classcat.png",
    ]  # fmt: skip
    expected = to_uint8(load_generator(path, exact=True)(4, seed=5))
    for name, pixels in zip(names, expected, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / name)), pixels[0].numpy())
    again = CliRunner().invoke(app, command)
    assert isinstance(again.exception, ValueError)
    assert "out is not empty" in str(again.exception)
    walk = CliRunner().invoke(app, [*command[:-1], str(tmp_path / "walk"), "--interpolate", "4"])
    assert "--folder and --interpolate exclude each other" in str(walk.exception)


def test_truncated_latents_are_shorter_and_make_images_more_alike(
    unconditional: TrainedGenerator, tmp_path: Path
) -> None:
    whole, half, little = (
        unconditional(16, seed=2, truncation=share) for share in (1.0, 0.5, 1e-6)
    )
    assert torch.equal(whole, unconditional(16, seed=2))
    shorter = unconditional.images_of(0.5 * unconditional.latents(16, 2), None, 64)
    assert torch.equal(half, shorter)
    spreads = [images.std(dim=0).mean() for images in (whole, half, little)]
    assert spreads[0] > spreads[1] > 100 * spreads[2]
    path = checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt", classes=0)
    for word in ("0", "1.5"):
        refused = CliRunner().invoke(app, ["sample", str(path), "--truncation", word])
        assert f"truncation={float(word)}" in str(refused.exception)
    refused = CliRunner().invoke(
        app, ["sample", str(path), "--truncation", "0.5", "--interpolate", "4"]
    )
    assert "--truncation does not apply to --interpolate" in str(refused.exception)


@pytest.mark.parametrize("truncation", [1.0, 0.5])
def test_a_film_begins_with_the_samples_moves_little_and_ends_where_it_began(
    conditional: TrainedGenerator, truncation: float
) -> None:
    frames = list(conditional.film(5, 3, 8, seed=4, truncation=truncation))
    assert len(frames) == 24
    assert torch.equal(frames[0], conditional(5, seed=4, truncation=truncation))
    steps = torch.stack(
        [(b - a).abs().mean() for a, b in zip(frames, [*frames[1:], frames[0]], strict=True)]
    )
    apart = (frames[0] - frames[8]).abs().mean()  # two latents
    assert steps.max() < apart / 2
    assert steps.min() > 0


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_a_film_is_written_that_others_can_read(tmp_path: Path, ending: str) -> None:
    path, out = (
        checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt", classes=0),
        tmp_path / f"walk.{ending}",
    )
    done = CliRunner().invoke(app, ["sample", str(path), "--n", "4", "--video", str(out)])
    assert done.exit_code == 0, done.exception
    if ending == "gif":
        with Image.open(out) as film:
            shown = [
                np.asarray(frame.convert("L"), np.float32) for frame in ImageSequence.Iterator(film)
            ]
            assert film.info["loop"] == 0
            assert film.info["duration"] == 40
    else:
        with av.open(str(out)) as film:
            shown = [
                frame.to_ndarray(format="gray").astype(np.float32) for frame in film.decode(video=0)
            ]
            assert film.streams.video[0].average_rate == 25
    assert len(shown) == 4 * 24
    assert min(shown[0].shape) >= 256
    for number, images in enumerate(load_generator(path).film(4)):
        save_grid(images, 2, tmp_path / "frame.png")
        with Image.open(tmp_path / "frame.png") as picture:
            width, height = picture.size
            expected = np.asarray(picture.convert("L"), np.float32)
        times = shown[number].shape[0] // height
        found = shown[number][: height * times, : width * times][
            times // 2 :: times, times // 2 :: times
        ]
        assert np.abs(found - expected).mean() < 4, number  # of 255: a palette, or a codec


def test_a_film_of_another_kind_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt", classes=0)
    refused = CliRunner().invoke(app, ["sample", str(path), "--video", str(tmp_path / "walk.avi")])
    assert str(refused.exception).endswith("walk.avi. Use a path that ends in .gif or .mp4.")
    monkeypatch.setitem(sys.modules, "av", None)
    refused = CliRunner().invoke(app, ["sample", str(path), "--video", str(tmp_path / "walk.mp4")])
    assert (
        "walk.mp4 (a .gif needs no package): the package av is not installed: make extras"
        in str(refused.exception)
    )
    assert not list(tmp_path.glob("*walk*"))


def test_float32_is_close_to_the_exact_mode_and_no_more(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "best.ckpt", classes=0)
    exact, fast = load_generator(path, exact=True), load_generator(path)
    assert exact.dtype == torch.float64
    assert fast.dtype == torch.float32
    assert torch.allclose(fast(9), exact(9), rtol=0, atol=1e-5)
    assert not torch.equal(fast(9), exact(9))


@pytest.fixture
def numbered_run(tmp_path: Path) -> Path:
    """A run whose classes are named 1, 2 and 3, as class folders often are."""
    checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt", classes=3)
    (tmp_path / "run" / "config.yaml").write_text("data: {class_names: ['1', '2', '3']}\n")
    return tmp_path / "run"


def test_label_as_text_is_a_name_and_as_integer_an_index(numbered_run: Path) -> None:
    generator = load_generator(numbered_run)
    with pytest.warns(UserWarning, match=r"label='2' is the class named 2 \(index 1\)$"):
        assert generator.names_of(1, "2") == ["2"]
    with pytest.warns(UserWarning, match=r"label=2 is the class with index 2 \(named 3\)\. For"):
        assert generator.names_of(1, 2) == ["3"]
    # no class is named 0, so there is nothing to confuse
    assert generator.names_of(1, 0) == ["1"]
    for text in ("0", "4", "-1"):
        with pytest.raises(ValueError, match=rf"unknown class '{text}'.* Available: 1, 2, 3"):
            generator.names_of(1, text)


def test_class_option_means_the_name_in_both_interfaces(numbered_run: Path) -> None:
    out = [numbered_run / "a.png", numbered_run / "b.png"]
    command = ["sample", str(numbered_run), "-n", "1", "--class", "3", "--out", str(out[0])]
    with pytest.warns(UserWarning, match="label='3' is the class named 3"):
        assert CliRunner().invoke(app, command).exit_code == 0
    with pytest.warns(UserWarning, match="label=2 is the class with index 2"):
        save_grid(load_generator(numbered_run, exact=True)(1, 2), 1, out[1])
    with Image.open(out[0]) as one, Image.open(out[1]) as other:
        assert one.tobytes() == other.tobytes()


def test_text_is_an_index_if_no_class_has_a_number_for_a_name(tmp_path: Path) -> None:
    checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt", classes=3)
    (tmp_path / "run" / "config.yaml").write_text("data: {class_names: [no, 01a, yes]}\n")
    generator = load_generator(tmp_path / "run")
    assert generator.names_of(1, "1") == ["01a"]
    assert generator.names_of(1, "no") == ["no"]
    assert generator.names_of(1, "yes") == ["yes"]


def test_sample_replaces_unrecorded_file_in_a_run_folder_only(tmp_path: Path) -> None:
    """The default path in a run folder is the lab's; next to a checkpoint file it is the user's."""
    path = checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt", classes=0)
    for folder, source in ((tmp_path / "run", tmp_path / "run"), (path.parent, path)):
        picture = folder / "sample-n1-seed0.png"
        picture.write_text("no record")
        ended = CliRunner().invoke(app, ["sample", str(source), "--n", "1"])
        is_run = source.is_dir()
        assert (ended.exit_code == 0) == is_run
        assert (picture.read_bytes() == b"no record") != is_run
