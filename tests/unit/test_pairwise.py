"""Scores image by image, against closed forms and scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage import metrics as skimage
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from gan_lab.config.schema import DataConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.base import GANDataModule
from gan_lab.images import Batch, ImageSpec
from gan_lab.metrics.base import Statistics
from gan_lab.metrics.classifier_accuracy import ClassifierAccuracy
from gan_lab.metrics.psnr import psnr, squared_error
from gan_lab.metrics.reconstruction import Reconstruction
from gan_lab.metrics.translation_scores import Translation

BOTH_WAYS = ("generated", "back", "cycled", "back_cycled")


def pixels(seed: int, *shape: int, low: int = 0, high: int = 256) -> Tensor:
    return torch.randint(
        low, high, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def scored(
    metric: Translation, outputs: dict[str, Tensor], batch: Batch, size: int = 100
) -> dict[str, float]:
    """The scores of images that are observed in batches of this size."""
    parts: list[Statistics] = []
    for i in range(0, len(batch.images), size):
        rows = slice(i, i + size)
        part = Batch(
            batch.images[rows], None, None if batch.sources is None else batch.sources[rows]
        )
        parts.append(
            metric.update_fake({name: images[rows] for name, images in outputs.items()}, part)
        )
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return metric.compute({}, joined)


def test_squared_errors_are_of_pixels_and_never_wrap() -> None:
    black, white = (
        torch.zeros(2, 1, 2, 3, dtype=torch.uint8),
        torch.full((2, 1, 2, 3), 255, dtype=torch.uint8),
    )
    assert (
        squared_error(black, white).tolist()
        == squared_error(white, black).tolist()
        == [[6 * 255.0**2, 6]] * 2
    )
    a, b = pixels(0, 3, 3, 5, 7), pixels(1, 3, 3, 5, 7)
    expected = ((a.numpy().astype(float) - b.numpy()) ** 2).sum(axis=(1, 2, 3))
    assert squared_error(a, b)[:, 0].tolist() == expected.tolist()
    assert squared_error(a, b)[:, 1].tolist() == [3 * 5 * 7] * 3
    gray = a[:, :1]
    assert torch.equal(squared_error(gray, b), squared_error(gray.expand(-1, 3, -1, -1), b))


def test_a_region_and_the_rest_add_up_to_the_whole() -> None:
    a, b, where = pixels(0, 4, 3, 6, 6), pixels(1, 4, 3, 6, 6), pixels(2, 4, 1, 6, 6, high=2).bool()
    inside, outside = squared_error(a, b, where), squared_error(a, b, ~where)
    assert torch.allclose(inside + outside, squared_error(a, b))
    assert inside[:, 1].tolist() == (3 * where.flatten(1).sum(dim=1)).tolist()


@pytest.mark.parametrize("off", [1, 10, 100])
def test_the_psnr_of_images_that_are_off_by_a_constant_is_the_closed_form(off: int) -> None:
    a = pixels(0, 4, 3, 8, 8, high=150)
    assert psnr(squared_error(a + off, a)) == pytest.approx(20 * math.log10(255 / off))


def test_the_psnr_is_that_of_all_pixels_together_at_most_100() -> None:
    a, b = pixels(0, 4, 3, 8, 8), pixels(1, 4, 3, 8, 8)
    assert psnr(squared_error(a, b)) == pytest.approx(
        skimage.peak_signal_noise_ratio(a.numpy(), b.numpy())
    )
    half = torch.cat([a[:2], b[2:]])  # two images right, two wrong: no mean of decibels would do
    assert psnr(squared_error(half, b)) == pytest.approx(
        skimage.peak_signal_noise_ratio(half.numpy(), b.numpy())
    )
    assert psnr(squared_error(a, a)) == 100
    assert psnr(torch.zeros(3, 2)) == 100  # nothing was compared


@pytest.mark.parametrize(("channels", "side"), [(3, 32), (1, 28), (3, 11)])
def test_the_similarity_of_structures_is_that_of_torchmetrics(channels: int, side: int) -> None:
    truth = pixels(0, 3, channels, side, side, high=200)
    made = truth + pixels(1, 3, channels, side, side, high=50)
    pair = made.double() / 255, truth.double() / 255
    _, similarity = structural_similarity_index_measure(
        *pair, data_range=1.0, sigma=1.5, reduction="none", return_full_image=True
    )
    expected = similarity[
        ..., 5 : side - 5, 5 : side - 5
    ].mean()  # where the whole window lies in the image
    metric = Translation(("generated",), inside=False, gray=False)
    scores = scored(metric, {"generated": made}, Batch(truth, None, truth))
    assert scores["ssim"] == pytest.approx(float(expected), abs=1e-6)
    assert scored(metric, {"generated": truth}, Batch(truth, None, truth))["ssim"] == pytest.approx(
        1
    )
    assert metric.protocol("ssim", 3)["window"] == "Gaussian, sigma 1.5"
    small = truth[..., :8, :8]
    assert scored(metric, {"generated": small}, Batch(small, None, small))["ssim"] == pytest.approx(
        1
    )
    assert (
        0 < scored(metric, {"generated": made[..., :8, :8]}, Batch(small, None, small))["ssim"] < 1
    )


def animals() -> tuple[Batch, Tensor]:
    """Images and sources that differ in a square, and the square."""
    where = torch.zeros(4, 1, 16, 16, dtype=torch.bool)
    where[:, :, 4:10, 5:12] = True
    images = pixels(0, 4, 3, 16, 16, low=100, high=200)
    return Batch(images, None, torch.where(where, images - 50, images)), where


def test_doing_nothing_gains_nothing_and_the_truth_gains_all_there_is() -> None:
    batch, where = animals()
    metric = Translation(("generated",), inside=True, gray=False)
    nothing = scored(metric, {"generated": batch.sources}, batch)
    assert nothing["gain_inside"] == 0
    assert nothing["psnr_inside"] == pytest.approx(20 * math.log10(255 / 50))
    assert nothing["psnr_outside"] == 100
    share = float(where.double().mean())
    assert nothing["psnr"] == pytest.approx(10 * math.log10(255**2 / (share * 50**2)))
    perfect = scored(metric, {"generated": batch.images}, batch)
    assert perfect["psnr"] == perfect["psnr_inside"] == perfect["psnr_outside"] == 100
    assert perfect["gain_inside"] == pytest.approx(100 - 20 * math.log10(255 / 50))


def test_what_is_wrong_around_the_animal_counts_outside_alone_and_inside_the_other_way_round() -> (
    None
):
    batch, where = animals()
    metric = Translation(("generated",), inside=True, gray=False)
    around = scored(
        metric, {"generated": torch.where(where, batch.images, batch.images + 20)}, batch
    )
    assert around["psnr_inside"] == 100
    assert around["psnr_outside"] == pytest.approx(20 * math.log10(255 / 20))
    worse = scored(
        metric, {"generated": torch.where(where, batch.images - 100, batch.images)}, batch
    )
    assert worse["gain_inside"] == pytest.approx(
        20 * math.log10(50 / 100)
    )  # twice as wrong as doing nothing
    assert worse["psnr_outside"] == 100


def test_the_way_back_is_measured_against_the_source_and_each_cycle_against_where_it_began() -> (
    None
):
    batch, where = animals()
    assert batch.sources is not None
    outputs = {
        "generated": batch.images,
        "back": torch.where(where, batch.sources + 5, batch.sources),
        "cycled": batch.sources + 2,
        "back_cycled": batch.images + 8,
    }
    metric = Translation(BOTH_WAYS, inside=True, gray=False)
    scores = scored(metric, outputs, batch)
    assert scores["psnr"] == 100
    assert scores["back_psnr_inside"] == pytest.approx(20 * math.log10(255 / 5))
    assert scores["back_gain_inside"] == pytest.approx(20 * math.log10(50 / 5))
    assert scores["back_psnr_outside"] == 100
    assert scores["cycle_psnr"] == pytest.approx(20 * math.log10(255 / 2))
    assert scores["back_cycle_psnr"] == pytest.approx(20 * math.log10(255 / 8))
    assert set(scores) == set(metric.names)


def test_scores_do_not_depend_on_the_batches_they_are_made_in() -> None:
    batch, _ = animals()
    made = {name: pixels(number, 4, 3, 16, 16) for number, name in enumerate(BOTH_WAYS)}
    metric = Translation(BOTH_WAYS, inside=True, gray=False)
    assert scored(metric, made, batch, size=1) == pytest.approx(scored(metric, made, batch, size=3))


def test_colouring_by_the_mean_colour_gains_nothing_and_gray_less_than_nothing() -> None:
    gray = pixels(0, 6, 1, 8, 8, low=60, high=180)
    tint = torch.tensor([20, -10, 30]).view(1, 3, 1, 1)
    noise = (2 * pixels(1, 3, 3, 8, 8, high=2).int() - 1) * 7
    true = (gray.int() + tint + torch.cat([noise, -noise])).to(
        torch.uint8
    )  # the mean color is the tint exactly
    batch = Batch(true, None, gray)
    metric = Translation(("generated",), inside=False, gray=True)

    def gain(made: Tensor) -> float:
        return scored(metric, {"generated": made.to(torch.uint8)}, batch, size=4)[
            "gain_over_mean_colour"
        ]

    baseline = 20 * math.log10(255 / 7)
    assert gain(gray.int() + tint) == pytest.approx(0, abs=1e-9)
    assert gain(true) == pytest.approx(100 - baseline)
    assert gain(gray.expand(-1, 3, -1, -1)) == pytest.approx(
        10 * math.log10(49 / (49 + (400 + 100 + 900) / 3))
    )
    assert metric.names == ("psnr", "ssim", "gain_over_mean_colour")


def test_a_reconstruction_keeps_the_digit_or_not(sample: ArrayDataset) -> None:
    images, labels = (
        torch.from_numpy(np.asarray(part[::10]))
        for part in (sample.test_images, sample.test_labels)
    )
    metric = Reconstruction(digits=True)

    def compute(made: Tensor, given: Tensor | None) -> dict[str, float]:
        return metric.compute({}, metric.update_fake({"reconstructed": made}, Batch(images, given)))

    same = compute(images, labels)
    assert same["reconstruction_psnr"] == 100
    assert same["reconstruction_accuracy"] > 0.94
    assert (
        compute(images, (labels + 1) % 10)["reconstruction_accuracy"] < 0.03
    )  # the labels say what there was
    assert (
        compute(images, None)["reconstruction_accuracy"] == 1
    )  # without labels, what was read before
    others = images[(labels + 1) % 10 * 10]  # ten of each digit, sorted
    assert compute(others, labels)["reconstruction_accuracy"] < 0.05
    shifted = compute(images // 2, labels)["reconstruction_psnr"]
    expected = skimage.peak_signal_noise_ratio(images.numpy(), (images // 2).numpy())
    assert shifted == pytest.approx(expected)
    assert tuple(same) == metric.names
    photos = Reconstruction(digits=False)
    assert (
        tuple(photos.compute({}, photos.update_fake({"reconstructed": images}, Batch(images))))
        == photos.names
    )


def test_accuracy_is_the_share_of_labels_that_are_read_right() -> None:
    labels = torch.tensor([0, 1, 2, 2])
    right = torch.eye(3)[labels]
    one_wrong = torch.eye(3)[torch.tensor([0, 1, 2, 1])]
    batch = Batch(torch.zeros(4, 1, 2, 2), labels)
    metric = ClassifierAccuracy(("generated", "logits", "baseline_logits"))
    fake = metric.update_fake({"logits": one_wrong, "baseline_logits": 1 - right}, batch)
    assert metric.compute({}, fake) == {"accuracy": 0.75, "baseline_accuracy": 0.0}
    alone = ClassifierAccuracy(("generated", "logits"))
    assert alone.compute({}, alone.update_fake({"logits": right}, batch)) == {"accuracy": 1.0}


def test_baselines_are_the_input_as_it_is_and_the_answer_to_the_nearest_training_input() -> None:
    inputs, answers = pixels(0, 6, 3, 8, 8).numpy(), pixels(1, 6, 3, 8, 8).numpy()
    near = np.clip(inputs[[4, 1, 1]].astype(np.int16) + 1, 0, 255).astype(
        np.uint8
    )  # of the held-out ones
    truth = np.clip(answers[[4, 1, 1]].astype(np.int16) + 3, 0, 255).astype(np.uint8)
    spec = ImageSpec(3, 8, 8, source_channels=3, pairs="all")
    made = ArrayDataset(
        spec, answers, None, truth, None, "full", "", "x", inputs, near, validation=np.array([0])
    )
    data = GANDataModule(made, DataConfig(size=8, batch_size=2), seed=0)
    reals = data.reference(2, size=1)
    shown = torch.from_numpy(truth[1:]), torch.from_numpy(near[1:])
    metric = Translation(("generated", "back"), inside=False, gray=False, pairs=True)
    found = metric.baselines(data, reals)
    assert set(found) == set(metric.baseline_names)
    of_input = psnr(squared_error(shown[1], shown[0]))
    assert found["psnr_of_input"] == found["back_psnr_of_input"] == pytest.approx(of_input)
    nearest = psnr(squared_error(torch.from_numpy(answers[[1, 1]]), shown[0]))
    assert found["psnr_of_nearest"] == pytest.approx(nearest)
    assert 20 * math.log10(255 / 3) <= nearest < 40
    back = psnr(squared_error(torch.from_numpy(inputs[[1, 1]]), shown[1]))
    assert found["back_psnr_of_nearest"] == pytest.approx(back)
    hidden = Translation(("generated",), inside=False, gray=False)
    assert set(hidden.baselines(data, reals)) == {
        "psnr_of_input"
    }  # nobody knows the answers of the training
