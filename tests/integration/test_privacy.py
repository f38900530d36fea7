"""Of a user's own images only generated ones reach a tracker, unless the config says otherwise."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan_lab.batches import Batch
from gan_lab.config import loading
from gan_lab.config.schema import DataConfig
from gan_lab.images import save_grid
from gan_lab.report.pictures import write_generated
from gan_lab.training.callbacks.sample_grids import SampleGrids
from gan_lab.training.callbacks.tracker import Tracker
from gan_lab.utils.provenance import crop_generated, read_record, save_png
from tests.helpers import processes
from tests.helpers.families import small
from tests.helpers.pictures import noise

SIDE = 28
URI = re.compile(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)")


def list_tiles(picture: Image.Image) -> Iterator[bytes]:
    """Yield the pixels of each image of a grid without captions."""
    pixels = np.asarray(picture.convert("L"))
    for top in range(2, pixels.shape[0] - SIDE + 1, SIDE + 2):
        for left in range(2, pixels.shape[1] - SIDE + 1, SIDE + 2):
            yield pixels[top : top + SIDE, left : left + SIDE].tobytes()


def list_sent(run: Path) -> Iterator[tuple[str, Image.Image]]:
    """Yield each image in the files of W&B and TensorBoard: pictures, and those in the page."""
    (record,) = (run / "wandb").glob("offline-run-*")
    for path in (record / "files" / "media").rglob("*.*"):
        # the table of final samples names its images, which are files too
        if path.suffix == ".json":
            continue
        if path.suffix == ".html":
            for number, uri in enumerate(URI.findall(path.read_text(encoding="utf-8"))):
                yield f"page {number}", Image.open(io.BytesIO(base64.b64decode(uri)))
        else:
            yield path.name, Image.open(path)
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()
    for tag in events.Tags()["images"]:
        for event in events.Images(tag):
            yield f"event {tag}", Image.open(io.BytesIO(event.encoded_image_string))


@pytest.mark.slow
@pytest.mark.parametrize("reals", ["false", "true"])
def test_trackers_get_no_real_images_of_own_data(
    reals: str, tmp_path: Path, data_root: Path
) -> None:
    """In the files of an offline W&B run and in event files, tile by tile, by their pixels."""
    (tmp_path / "photos").mkdir()
    for i in range(40):
        noise(SIDE, SIDE, seed=i).convert("L").save(tmp_path / "photos" / f"{i}.png")
    words = [word for word in small("pix2pix", tmp_path, data_root)
             if not word.startswith(("data.", "log.wandb"))]  # fmt: skip
    words += ["data.name=folder", f"data.root={tmp_path / 'photos'}", "data.degradation=edges",
              "data.size=28", "data.batch_size=16", "run.images=32", "run.evaluate_every_images=32",
              "log.wandb=offline", "log.tensorboard=true", f"log.wandb_reals={reals}",
              "run.id=r"]  # fmt: skip
    assert processes.train("pix2pix", words, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    run, said = tmp_path / "pix2pix" / "r", (tmp_path / "log").read_text()
    photos = set()
    for path in (tmp_path / "photos").iterdir():
        with Image.open(path) as photo:
            photos.add(np.asarray(photo.convert("L")).tobytes())
    names, real, generated = set(), 0, 0
    for name, picture in list_sent(run):
        tiles = list(list_tiles(picture))
        names.add(name.partition(" ")[0].partition("_")[0])
        real += sum(tile in photos for tile in tiles)
        generated += sum(tile not in photos for tile in tiles)
    assert {"samples", "page", "event"} <= names
    assert generated > 0
    assert (real > 0) == (reals == "true")
    assert ("reals" in names) == (reals == "true")
    # the first lines say so, and the page on this machine shows everything
    for line in (r"W&B offline, in \S+wandb: config, metrics, report page", "TensorBoard files in"):
        kind = "sample grids and real images" if reals == "true" else "generated images only"
        assert re.search(f"{line}.*{kind}", said), said
    assert "Contact sheet of real training images" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("name", "source", "is_own"),
    [
        ("folder", "full", True),
        ("pairs", "auto", True),
        ("huggingface", "auto", True),
        ("python", "full", True),
        ("mine.faces", "auto", True),
        ("horse2zebra", "full", True),
        ("horse2zebra", "sample", False),
        ("mnist", "full", False),
        ("celeba", "full", False),
        ("emoji", "sample", False),
    ],
)
def test_own_data_are_those_that_nobody_published(name: str, source: str, is_own: bool) -> None:
    assert DataConfig(name=name, source=source).is_own == is_own  # type: ignore[arg-type]
    assert loading.load("gan").config.log.wandb_reals is False


class Recording(Tracker):
    """Keeps what it is given."""

    sends_reals = False

    def __init__(self) -> None:
        self.run = self
        self.logged: list[tuple[str, tuple[int, int]]] = []

    def _log_image(self, title: str, path: Path, images: int) -> None:
        with Image.open(path) as picture:
            self.logged.append((title, picture.size))


def test_tracker_without_reals_skips_what_it_does_not_know(tmp_path: Path) -> None:
    """Nearest neighbors, contact sheets, and images without a record are not sent."""
    tracker, path = Recording(), tmp_path / "x.png"
    for record in ({"output": "nearest training images"}, {"output": "real images"}, {}):
        save_png(noise(), path, record)
        tracker.log_image("x", path, 0)
    noise().save(path)
    tracker.log_image("x", path, 0)
    assert tracker.logged == []
    # of source, generated, real one column in three
    grid = {
        "output": "training grid",
        "tile": [8, 8],
        "columns": 6,
        "sets": ["real", "generated", "real"],
    }
    images = torch.linspace(-1, 1, 12).view(12, 1, 1, 1).expand(12, 1, 8, 8)
    save_grid(images, 6, path, ["a", "b"], record=grid)
    tracker.log_image("x", path, 0)
    cropped = crop_generated(path)
    assert cropped is not None
    with Image.open(path) as whole:
        captions = whole.width - 62
    assert tracker.logged == [("x", (captions + 22, 22))]
    levels = np.asarray(cropped)[:, captions:, 0]
    shown = [[int(levels[6 + 10 * row, 6 + 10 * i]) for i in range(2)] for row in range(2)]
    assert shown == [[round(k * 255 / 11) for k in row] for row in ([1, 4], [7, 10])]
    # a grid of reals alone is nothing
    save_grid(images, 6, path, record={**grid, "sets": ["real"]})
    assert crop_generated(path) is None
    assert read_record(path) is not None


def test_reconstructions_in_grids_are_not_sent(tmp_path: Path) -> None:
    """A near copy of a photo is neither real, pixel by pixel, nor generated."""
    photos, samples = torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
    data: Any = SimpleNamespace(grid_batch=lambda **_: (Batch(photos), 2), class_names=[])
    progress: Any = SimpleNamespace(images=16, iteration=1, iterations=2)
    ema: Any = SimpleNamespace(applied_here=lambda _: nullcontext())
    family: Any = SimpleNamespace(
        device=torch.device("cpu"),
        dtype=torch.float32,
        sample_grid=lambda batch, _: [batch.images, batch.images + 0.01, samples],
        reconstructed_sets=(1,),
    )
    (tmp_path / "samples").mkdir()
    SampleGrids(tmp_path, 1, 1, data, False, 0, ema, progress).write(family)
    (path,) = (tmp_path / "samples").iterdir()
    record = read_record(path)
    assert record is not None
    assert record["sets"] == ["real", "reconstructed", "generated"]
    cropped = crop_generated(path)
    assert cropped is not None
    # dark padding and white samples, no gray of a photo
    assert {level for _, level in cropped.convert("L").getcolors() or []} == {64, 255}


def test_grid_by_class_records_its_labels(tmp_path: Path) -> None:
    """The player of a page opens a tile of the grid by its latent and its class."""
    photos, samples = torch.zeros(3, 1, 8, 8), torch.ones(3, 1, 8, 8)
    batch = Batch(photos, torch.tensor([4, 7, 7]))
    data: Any = SimpleNamespace(grid_batch=lambda **_: (batch, 2), class_names=[])
    progress: Any = SimpleNamespace(images=16, iteration=1, iterations=2)
    ema: Any = SimpleNamespace(applied_here=lambda _: nullcontext())
    family: Any = SimpleNamespace(
        device=torch.device("cpu"),
        dtype=torch.float32,
        sample_grid=lambda batch, _: [samples],
        reconstructed_sets=(),
    )
    (tmp_path / "samples").mkdir()
    SampleGrids(tmp_path, 1, 1, data, True, 0, ema, progress).write(family)
    record = read_record(next((tmp_path / "samples").iterdir())) or {}
    assert (record["count"], record["labels"]) == (3, [4, 7, 7])


def test_grid_narrower_than_its_columns_is_cropped(tmp_path: Path) -> None:
    """A grid of few images records its own columns; a record that does not fit is left out."""
    grids: Any = SimpleNamespace(
        _list_labels=lambda count: [],
        folder=tmp_path / "gan" / "r",
        progress=SimpleNamespace(images=16),
        _are_real=lambda images: bool(images.flatten()[0] == 0),
    )
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8) % 2
    path = tmp_path / "000000016.png"
    record = SampleGrids.describe(grids, images, 2, 8)
    save_grid(images, 8, path, record=record)
    cropped = crop_generated(path)
    assert cropped is not None
    assert cropped.width == 2 * 10 + 2
    assert np.asarray(cropped)[2:10, 2:10].min() == 255
    save_grid(images, 8, path, record={**record, "columns": 8})
    assert write_generated([(16, path)], tmp_path, only_generated=False) == []
