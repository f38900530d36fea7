from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional
from torchvision.utils import make_grid

from gan_lab import images
from gan_lab.images import (
    GRID_LEVEL,
    Batch,
    ImageSpec,
    grid,
    interleave,
    mirror,
    pil_to_tensor,
    save_grid,
    scatter,
    tile,
    to_gray,
    to_uint8,
    to_unit,
)
from gan_lab.utils import output
from gan_lab.utils.provenance import GRID_PADDING

CELL = 8 + 2  # an 8-pixel image and the padding before it


def one_white(index: int, n: int = 6) -> torch.Tensor:
    pictures = torch.full((n, 1, 8, 8), -1.0)
    pictures[index] = 1.0
    return pictures


def test_values_out_of_range_become_white_and_black_and_never_wrap() -> None:
    assert to_uint8(torch.tensor([1.01, 9.0, -1.01, -9.0])).tolist() == [255, 255, 0, 0]


def test_pixels_are_rounded_to_the_nearest_level() -> None:
    levels = torch.tensor([99.6, 100.0, 100.4])
    assert to_uint8(levels / 127.5 - 1).tolist() == [100, 100, 100]


def test_every_level_survives_the_way_to_floats_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    unit = to_unit(levels)
    assert torch.equal(to_uint8(unit), levels)
    assert unit.dtype == torch.float32
    assert (float(unit[0]), float(unit[255])) == (-1, 1)


def test_floats_are_in_range_already_and_the_pixels_given_are_not_changed() -> None:
    points = torch.tensor([0.25, -0.5], dtype=torch.float64)
    assert torch.equal(to_unit(points), points)
    pixels = torch.tensor([0, 255], dtype=torch.uint8)
    to_unit(pixels)
    assert pixels.tolist() == [0, 255]


def test_the_shape_of_a_spec_is_channels_height_width() -> None:
    assert ImageSpec(3, 64, 48).shape == (3, 64, 48)


@pytest.mark.parametrize(("index", "row", "column"), [(0, 0, 0), (2, 0, 2), (3, 1, 0), (5, 1, 2)])
def test_the_grid_is_filled_row_by_row(index: int, row: int, column: int) -> None:
    picture = grid(one_white(index), columns=3)
    white = (picture == 1).all(dim=0).nonzero()
    top, left = 2 + row * CELL, 2 + column * CELL
    assert picture.shape == (3, 2 + 2 * CELL, 2 + 3 * CELL)
    assert white.min(dim=0).values.tolist() == [top, left]
    assert white.max(dim=0).values.tolist() == [top + 7, left + 7]
    assert len(white) == 64


@pytest.mark.parametrize("shape", [(1, 1, 5, 4), (2, 1, 5, 4), (7, 3, 4, 5)])
@pytest.mark.parametrize("columns", [1, 3, 8])
def test_tile_equals_make_grid_of_torchvision(shape: tuple[int, ...], columns: int) -> None:
    tiles = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    expected = make_grid(tiles, nrow=columns, padding=GRID_PADDING, pad_value=GRID_LEVEL)
    assert torch.equal(tile(tiles, columns), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I"])
def test_pil_to_tensor_equals_that_of_torchvision(mode: str) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    image = Image.fromarray(values).convert(mode)
    expected = functional.pil_to_tensor(image)
    assert torch.equal(pil_to_tensor(image), expected)
    assert pil_to_tensor(image).dtype == expected.dtype


def test_draw_grid_equals_to_pil_image_of_torchvision() -> None:
    batch = torch.rand(5, 3, 6, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = functional.to_pil_image(images.grid(batch, 3).add(0.5 / 255))
    assert images.draw_grid(batch, 3) == expected


def test_points_are_drawn_with_x_to_the_right_and_y_upwards() -> None:
    right_top, left_bottom = torch.tensor([1.0, 1.0]), torch.tensor([-1.0, -1.0])
    picture = grid(torch.stack([right_top, left_bottom]).view(2, 2, 1, 1), columns=1)
    assert (picture[0] < 1).nonzero().tolist() == [[0, 255], [255, 0]]
    below = scatter(torch.tensor([0.0, -0.5]).view(1, 2, 1, 1))
    ((row, column),) = (below[0] < 1).nonzero().tolist()
    assert abs(column - 127.5) < 1
    assert row == pytest.approx(255 * 0.75, abs=1)


def test_points_that_fall_together_are_darker_and_outside_ones_lie_on_the_edge() -> None:
    twice = scatter(
        torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.5, 0.0], [7.0, 0.0]]).view(4, 2, 1, 1)
    )[0]
    dark = sorted(float(value) for value in twice[twice < 1])
    assert dark == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert (twice[:, 255] < 1).sum() == 1


def test_a_saved_grid_holds_the_pixels_that_were_asked_for(tmp_path: Path) -> None:
    level = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1) * 23
    pictures = to_unit(level.expand(12, 3, 8, 8))
    path = tmp_path / "deep" / "grid.png"
    save_grid(pictures, 4, path)
    read = np.asarray(Image.open(path))
    for i in range(12):
        top, left = 2 + i // 4 * CELL, 2 + i % 4 * CELL
        assert (read[top : top + 8, left : left + 8] == i * 23).all()
    assert [file.name for file in path.parent.iterdir()] == ["grid.png"]


def test_a_grid_that_cannot_be_written_whole_leaves_the_one_before(
    tmp_path: Path, monkeypatch: object
) -> None:
    path = tmp_path / "grid.png"
    save_grid(one_white(0), 3, path)
    before = path.read_bytes()

    def torn(picture: object, where: Path, **_: object) -> None:
        Path(where).write_bytes(before[:50])
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", torn)
    with pytest.raises(OSError, match="no space left"):
        save_grid(one_white(1), 3, path)
    assert path.read_bytes() == before
    with pytest.raises(OSError, match="no space left"):
        save_grid(one_white(1), 3, tmp_path / "new.png")
    assert not (tmp_path / "new.png").exists()


def test_gray_is_the_luma_of_bt_601_and_gray_images_stay_as_they_are() -> None:
    primaries = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [-1, -1, -1]]).view(
        5, 3, 1, 1
    )
    assert to_gray(primaries).flatten().tolist() == pytest.approx([0.299, 0.587, 0.114, 1, -1])
    pixels = torch.randint(
        256, (1, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    ours = to_uint8(to_gray(to_unit(pixels)))[0, 0].int()
    pillow = np.asarray(Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).convert("L")).astype(
        int
    )
    assert abs(ours.numpy() - pillow).max() <= 1  # Pillow's coefficients are rounded
    gray = primaries[:, :1]
    assert to_gray(gray) is gray


def test_only_the_chosen_images_are_mirrored_and_a_second_time_brings_them_back() -> None:
    ramps = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    made = mirror(ramps, torch.tensor([False, True]))
    assert torch.equal(made[0], ramps[0])
    for column in range(5):
        assert torch.equal(made[1, :, :, column], ramps[1, :, :, 4 - column])
    assert torch.equal(mirror(made, torch.tensor([False, True])), ramps)


@pytest.mark.parametrize(("sets", "abreast"), [(2, 4), (3, 2), (6, 1), (9, 1)])
def test_image_i_of_each_set_stands_side_by_side_in_eight_rows(sets: int, abreast: int) -> None:
    given = [100 * number + torch.arange(40.0).view(40, 1, 1, 1) for number in range(sets)]
    images, columns = interleave(given, columns=8)
    assert columns == abreast * sets
    rows = images.flatten().view(8, columns)
    for row in range(8):
        expected = [
            100 * number + row * abreast + i for i in range(abreast) for number in range(sets)
        ]
        assert rows[row].tolist() == expected
    few, _ = interleave([part[:3] for part in given], columns=8)
    assert len(few) == 3 * sets


def test_one_set_is_shown_as_it_is_and_gray_beside_colour_becomes_gray_colour() -> None:
    colour, gray = torch.rand(4, 3, 2, 2), torch.rand(4, 1, 2, 2)
    images, columns = interleave([colour], columns=10)
    assert images is colour
    assert columns == 10
    both, _ = interleave([gray, colour], columns=10)
    assert torch.equal(both[0::2], gray.repeat(1, 3, 1, 1))
    assert torch.equal(both[1::2], colour)


def test_a_batch_changes_images_and_sources_alike_and_never_its_labels() -> None:
    labels = torch.tensor([3, -1])
    batch = Batch(torch.ones(2, 3, 4, 4), labels, torch.full((2, 1, 4, 4), 2.0))
    upsample_bilinear = batch.map(lambda images: 2 * images)
    assert float(upsample_bilinear.images.mean()) == 2
    assert float(upsample_bilinear.sources.mean()) == 4
    assert upsample_bilinear.labels is labels
    moved = batch.to_device(torch.device("cpu"), torch.float64)
    assert moved.images.dtype == moved.sources.dtype == torch.float64
    assert moved.labels.dtype == torch.int64
    alone = Batch(torch.ones(2, 1, 4, 4)).to_device(torch.device("cpu"), torch.float64)
    assert alone.labels is alone.sources is None


def test_names_stand_beside_the_rows_of_a_grid_which_stays_as_it_was(tmp_path: Path) -> None:
    shown = torch.rand(6, 1, 20, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images.save_grid(shown, 3, tmp_path / "plain.png")
    images.save_grid(
        shown, 3, tmp_path / "named.png", ["ant", "a name that is longer than a margin should be"]
    )
    plain, named = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("plain", "named"))
    margin = named.shape[1] - plain.shape[1]
    assert np.array_equal(named[:, margin:], plain)
    ink = (named[:, :margin].min(axis=2) < 128).reshape(2, -1, margin).sum(axis=(1, 2))
    assert 10 < ink[0] < ink[1]
    assert margin < 200


@pytest.mark.parametrize(("function", "calls"), [("hash_file", 3 * 20), ("_read_manifest", 2)])
def test_save_each_overwrite_does_linear_work(
    function: str, calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is hashed for the folder, as old and as new file; the manifest is read twice."""
    pictures = torch.zeros(20, 1, 4, 4)
    images.save_each(pictures, tmp_path, seed=0)
    counted = Mock(side_effect=getattr(output, function))
    monkeypatch.setattr(output, function, counted)
    images.save_each(pictures, tmp_path, seed=0, overwrite=True)
    assert counted.call_count == calls


def test_save_each_keeps_class_names_distinct(tmp_path: Path) -> None:
    """Letters of every alphabet stay in the name, and unsafe characters add a hash."""
    images.save_each(torch.zeros(3, 1, 4, 4), tmp_path, seed=0, classes=["猫", "a b", "a_b"])
    names = sorted(path.name for path in tmp_path.glob("*.png"))
    assert names[0] == "00000-seed0-class猫.png"
    assert names[1].startswith("00001-seed0-classa_b-")
    assert names[2] == "00002-seed0-classa_b.png"
