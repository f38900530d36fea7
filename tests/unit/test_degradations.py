"""Degraded inputs: closed forms, and the same numbers for any batch, process and restart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_lab.config.schema import DataConfig, MetricsConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.base import GANDataModule
from gan_lab.degradations import (
    Degradation,
    cut_hole,
    draw_blobs,
    draw_boxes,
    draw_edges,
    shrink,
    upsample,
)
from gan_lab.families.cut import CUT
from gan_lab.families.cyclegan import CycleGAN
from gan_lab.families.gan import GAN
from gan_lab.families.pix2pix import Pix2Pix
from gan_lab.images import Batch, ImageSpec, to_uint8, to_unit
from gan_lab.metrics.base import Setting
from gan_lab.metrics.restoration_scores import Restoration, find_hole, restore
from gan_lab.metrics.translation_scores import Translation
from gan_lab.networks.unet import UNet
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError
from tests.helpers.trainers import attach

RANDOM = [
    {"degradation": "mask", "mask_shape": "box"},
    {"degradation": "mask", "mask_shape": "irregular"},
    {"degradation": "noise"},
]
FIXED = [
    {"degradation": "mask", "mask_shape": "center"},
    {"degradation": "downsample", "downsample_factor": 4},
    {"degradation": "edges"},
    {"degradation": "gray"},
]


def pixels(n: int, seed: int = 0, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(n, 3, size, size), dtype=np.uint8)


def module(keys: dict[str, str], **more: object) -> GANDataModule:
    made = ArrayDataset(
        ImageSpec(3, 16, 16), pixels(8), None, pixels(6, 1), None, "full", "noise", "0"
    )
    return GANDataModule(made, DataConfig(batch_size=8, **keys, **more), seed=5)  # type: ignore[arg-type]


def trained_on(
    keys: dict[str, str],
    iteration: int = 0,
    rank: int = 0,
    world: int = 1,
    parts: int = 1,
    **more: object,
) -> Batch:
    """The batch of all training images at an iteration, or the share of a rank."""
    data = module(keys, **more)
    attach(data, iteration, rank=rank, world=world, parts=parts)
    rows = list(range(8))[rank * 8 // world : (rank + 1) * 8 // world]
    return data.on_after_batch_transfer(data.train.__getitems__(rows))


@pytest.mark.parametrize("keys", RANDOM, ids=str)
def test_training_degradation_is_random_exact_and_shared_by_ranks(keys: dict[str, str]) -> None:
    """Another iteration draws other numbers, a restart the same, two ranks those of one process."""
    whole = trained_on(keys, 3)
    assert torch.equal(trained_on(keys, 3).sources, whole.sources)
    shares = [trained_on(keys, 3, rank, 2).sources for rank in range(2)]
    assert torch.equal(torch.cat(shares), whole.sources)
    # two micro-batches of one rank
    assert torch.equal(trained_on(keys, 3, parts=2).sources, whole.sources)
    other = trained_on(keys, 4).sources
    assert all(not torch.equal(a, b) for a, b in zip(whole.sources, other, strict=True))


@pytest.mark.parametrize("keys", [*RANDOM, *FIXED], ids=str)
def test_evaluation_degradation_is_fixed_for_each_image(keys: dict[str, str]) -> None:
    """It depends on neither the batch, nor the seed, nor what is drawn elsewhere."""
    data = module(keys)
    whole = next(iter(data.reference(6, size=6, split="test")))
    parts = [part.sources for part in data.reference(6, size=2, split="test")]
    assert torch.equal(torch.cat(parts), whole.sources)
    again = GANDataModule(data.decoded, data.cfg, seed=9).reference(6, split="test")[0]
    assert torch.equal(again.sources, whole.sources)
    assert torch.equal(data.reference(6, split="test").conditions(0).sources, whole.sources)
    grid, _ = data.grid_batch(held_out=True, by_class=False)
    same = [i for i, image in enumerate(grid.images) if torch.equal(image, whole.images[0])]
    assert torch.equal(grid.sources[same[0]], whole.sources[0])
    assert whole.sources.shape == (3, data.spec.source_channels, 16, 16)
    assert whole.sources.abs().max() <= 1


@pytest.mark.parametrize("keys", FIXED, ids=str)
def test_fixed_degradation_is_that_of_evaluations_after_a_flip(keys: dict[str, str]) -> None:
    batch = trained_on(keys, flip=True)
    degradation = Degradation.from_config(DataConfig(**keys))  # type: ignore[arg-type]
    assert torch.equal(batch.sources, degradation.degrade(batch.images, []))
    assert not torch.equal(batch.images, to_unit(torch.from_numpy(pixels(8))))


def test_hole_is_zero_and_all_other_pixels_are_known() -> None:
    batch = trained_on({"degradation": "mask", "mask_shape": "irregular"})
    image, mask = batch.source_images, batch.source_mask
    assert mask is not None
    assert set(mask.unique().tolist()) == {-1.0, 1.0}
    where = mask.expand(-1, 3, -1, -1) > 0
    assert image[where].abs().max() == 0
    assert torch.equal(image[~where], batch.images[~where])
    assert [tuple(part.shape) for part in batch.shown()] == [(8, 3, 16, 16)] * 2


@pytest.mark.parametrize("share", [0.01, 0.25, 0.6, 0.95])
def test_box_and_blobs_have_their_share_of_the_image(share: float) -> None:
    numbers = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    images = torch.zeros(500, 1, 40, 64)
    masks = draw_boxes(images, numbers, share)
    # each side is rounded to whole pixels
    assert float(masks.float().mean()) == pytest.approx(share, rel=0.1)
    rows, columns = masks.any(dim=3).sum(dim=2), masks.any(dim=2).sum(dim=2)
    assert torch.equal(rows * columns, masks.sum(dim=(2, 3)))
    # random positions: each corner is in a hole about as often
    corners = masks[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]].float().mean(dim=0)
    assert float(corners.max() - corners.min()) < 0.15
    blobs = draw_blobs(torch.rand(9, 1, 6, 6), (40, 64), share)
    assert set(blobs.sum(dim=(1, 2, 3)).tolist()) == {round(share * 40 * 64)}


def test_center_hole_is_a_square_in_the_middle() -> None:
    degradation = Degradation("mask", "center", 0.25)
    made = degradation.degrade(torch.ones(2, 3, 16, 16), [])
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[4:12, 4:12] = True
    assert torch.equal(made[0, 3] > 0, expected)
    assert torch.equal(made, cut_hole(torch.ones(2, 3, 16, 16), expected[None, None]))


@pytest.mark.parametrize("factor", [2, 4])
def test_small_image_and_its_enlargement_are_those_of_pillow(factor: int) -> None:
    """The kernel is the one that users have in Pillow; it rounds after each of its two passes."""
    image = pixels(1, 2, 32)
    small = to_uint8(shrink(to_unit(torch.from_numpy(image)), factor))
    bicubic = Image.Resampling.BICUBIC
    picture = Image.fromarray(image[0].transpose(1, 2, 0))
    expected = picture.resize((32 // factor, 32 // factor), bicubic)
    assert np.abs(_rows(small) - np.asarray(expected, np.int64)).max() <= 1
    large = to_uint8(upsample(to_unit(small), factor))
    again = Image.fromarray(_rows(small).astype(np.uint8)).resize((32, 32), bicubic)
    assert np.abs(_rows(large) - np.asarray(again, np.int64)).max() <= 1


def _rows(images: Tensor) -> np.ndarray:
    return images[0].permute(1, 2, 0).numpy().astype(np.int64)


def test_noise_has_its_standard_deviation_in_gray_levels() -> None:
    gray = torch.full((4, 3, 64, 64), 128, dtype=torch.uint8)
    gray += torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1)
    made = Degradation("noise", sigma=10.0).degrade_fixed(to_unit(gray), gray)
    noise = (made - to_unit(gray)) * 127.5
    assert float(noise.std()) == pytest.approx(10, rel=0.03)
    assert float(noise.mean()) == pytest.approx(0, abs=0.3)
    assert not torch.equal(noise[0], noise[1])


def test_edge_of_a_full_step_is_black_and_a_flat_area_white() -> None:
    image = torch.full((1, 3, 8, 8), -1.0)
    image[..., 4:] = 1.0
    lines = draw_edges(image)[0, 0]
    assert torch.allclose(lines[:, 3:5], torch.full((8, 2), -1.0))
    assert torch.allclose(lines[:, [0, 1, 6, 7]], torch.ones(8, 4))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"degradation": "downsample", "downsample_factor": 3}, "downsample_factor=3 does not div"),
        ({"degradation": "noise", "paired": False}, "paired=false does not apply to .*=noise"),
    ],
)
def test_degradation_that_does_not_fit_the_data_is_refused(
    keys: dict[str, str], message: str
) -> None:
    data = {**keys, "paired": True} if "paired" not in keys else keys
    made = ArrayDataset(
        ImageSpec(3, 16, 16, source_channels=3, pairs="all"),
        *[pixels(4), None] * 2, "full", "noise", "0", pixels(4), pixels(4),
    )  # fmt: skip
    with pytest.raises(UserError, match=message):
        GANDataModule(made, DataConfig(**data), seed=0)  # type: ignore[arg-type]


def test_values_of_an_older_run_have_the_default_parameters() -> None:
    made = Degradation.from_values({"data.degradation": "mask", "data.mask_share": 0.1})
    assert made == Degradation("mask", "box", 0.1)
    assert not Degradation.from_values({})
    assert made.describe() == "mask (box, 10% of the image)"


def quantized(degradation: Degradation, images: Tensor) -> Batch:
    """A batch as metrics see it."""
    sources = degradation.degrade_fixed(to_unit(images), images)
    return Batch(images, None, to_uint8(sources))


def test_mean_fill_has_the_error_of_the_mean_of_known_pixels() -> None:
    """An image of two halves whose hole is in one of them: the error has a closed form."""
    images = torch.full((2, 3, 16, 16), 100, dtype=torch.uint8)
    degradation = Degradation("mask", "center", 0.25)
    images[..., 4:12, 4:12] = 160
    batch = quantized(degradation, images)
    metric = Restoration(degradation)
    half_right = images.clone()
    half_right[..., 4:12, 4:12] = 130
    values = metric.compute({}, metric.update_fake({"generated": half_right}, batch))
    expected = 10 * math.log10(255**2 / 60**2)
    assert values["psnr_inside_of_mean_fill"] == pytest.approx(expected)
    # a quarter of the pixels has the error
    assert values["psnr_of_mean_fill"] == pytest.approx(expected + 10 * math.log10(4))
    assert values["gain_over_mean_fill"] == pytest.approx(20 * math.log10(2))


def test_trivial_enlargements_are_those_of_pillow() -> None:
    images = torch.from_numpy(pixels(2, 3, 32))
    degradation = Degradation("downsample", factor=2)
    batch = quantized(degradation, images)
    small = to_uint8(shrink(to_unit(images), 2))
    nearest = restore("nearest_pixel", batch, 2)
    assert torch.equal(nearest, small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    assert torch.equal(restore("bicubic", batch, 2), to_uint8(upsample(to_unit(small), 2)))


def test_median_filter_removes_single_pixels_and_keeps_edges() -> None:
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    images[..., 4:] = 200
    noisy = images.clone()
    noisy[0, 0, 2, 1] = 255
    batch = Batch(images, None, noisy)
    assert torch.equal(restore("median_filter", batch, 1), images)
    metric = Restoration(Degradation("noise"))
    values = metric.compute({}, metric.update_fake({"generated": noisy}, batch))
    assert values["psnr_of_noisy"] == pytest.approx(10 * math.log10(64))
    assert values["gain_over_median_filter"] == pytest.approx(values["psnr_of_noisy"] - 100)


def test_scores_of_a_hole_are_of_its_pixels_alone() -> None:
    """A perfect fill of a wrong image, and a wrong fill of a perfect one."""
    images = torch.from_numpy(pixels(3, 4))
    degradation = Degradation("mask", "box", 0.25)
    batch = quantized(degradation, images)
    spec = degradation.describe_sources(ImageSpec(3, 16, 16))
    (metric,) = Translation.create(Setting(spec, MetricsConfig(), degradation=degradation))
    assert {"psnr_inside", "psnr_outside"} <= metric.higher_is_better.keys()
    assert "gain_inside" not in metric.higher_is_better
    hole = find_hole(batch)
    inside_right = torch.where(hole, images, 255 - images)
    values = metric.compute({}, metric.update_fake({"generated": inside_right}, batch))
    assert values["psnr_inside"] == 100 > values["psnr_outside"]
    outside_right = torch.where(hole, 255 - images, images)
    values = metric.compute({}, metric.update_fake({"generated": outside_right}, batch))
    assert values["psnr_outside"] == 100 > values["psnr_inside"]


@pytest.mark.parametrize("output", ["residual", "fill"])
def test_output_of_an_untrained_network_begins_at_its_input(output: str) -> None:
    channels = 3 if output == "residual" else 4
    network = UNet(shape=(3, 16, 16), source_channels=channels, width=2, output=output).eval()  # type: ignore[arg-type]
    kind = "noise" if output == "residual" else "mask"
    images = to_unit(torch.from_numpy(pixels(2)))
    sources = Degradation(kind).degrade_fixed(images, torch.from_numpy(pixels(2)))
    with torch.no_grad():
        network.up[-1][1].weight.zero_()
        network.up[-1][1].bias.zero_()
        assert torch.equal(network(sources), sources[:, :3])
        network.up[-1][1].bias.fill_(9.0)
        made = network(sources)
    if output == "residual":
        assert torch.allclose(made, (sources + 1).clamp(-1, 1), atol=1e-6)
    else:
        hole = (sources[:, 3:] > 0).expand_as(made)
        assert torch.allclose(made[hole], torch.ones(int(hole.sum())))
        assert torch.equal(made[~hole], images[~hole])


@pytest.mark.parametrize(("output", "channels"), [("residual", 1), ("residual", 4), ("fill", 3)])
def test_output_that_does_not_fit_the_sources_is_refused(output: str, channels: int) -> None:
    with pytest.raises(UserError, match=rf"model\.output={output} .*Set data\.degradation="):
        UNet(shape=(3, 16, 16), source_channels=channels, width=2, output=output)  # type: ignore[arg-type]


def test_family_without_inputs_refuses_a_degradation() -> None:
    spec = Degradation("noise").describe_sources(ImageSpec(3, 32, 32))
    with pytest.raises(UserError, match=r"gan has no inputs, so data\.degradation=noise does not"):
        GAN(spec=spec, width=2)


@pytest.mark.parametrize("family", [CUT, CycleGAN, Pix2Pix])
def test_restored_images_count_as_reconstructed(family: Any) -> None:
    """They are nearly the held-out images, which stay on the machine."""
    spec = Degradation("noise").describe_sources(ImageSpec(3, 32, 32))
    restored = family(spec=spec, width=2)
    batch = Batch(torch.zeros(1, 3, 32, 32), sources=torch.zeros(1, 3, 32, 32))
    sets = len(restored.eval().sample_grid(batch, Stream(0, "grid")))
    assert {*range(sets)} <= {*restored.reconstructed_sets}


def test_unpaired_family_refuses_a_mask() -> None:
    spec = Degradation("mask").describe_sources(ImageSpec(3, 16, 16))
    with pytest.raises(UserError, match=r"cyclegan translates in both directions.*mask"):
        CycleGAN(spec=spec, width=2)
