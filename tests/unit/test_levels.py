"""Images of more than 8 bits: one scale for a set, which belongs to the run, or a question."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from gan_lab.config.schema import DataConfig
from gan_lab.data import folder, horse2zebra, pairs
from gan_lab.data.image_reader import Levels
from gan_lab.data.levels import complete_levels
from gan_lab.inference import projection, translation
from gan_lab.utils.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAN_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))


def write(root: Path, *images: Any, dtype: str = "float32", suffix: str = ".tif") -> Path:
    """Write images [H, W] as files 0, 1, 2 ..."""
    root.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(np.asarray(image, dtype)).save(root / f"{i}{suffix}")
    return root


def ramp(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 64).reshape(8, 8)


def cfg(root: Path, **keys: Any) -> DataConfig:
    return DataConfig(**{"name": "folder", "root": str(root), "size": 8} | keys)


def read_all(made: Any) -> np.ndarray:
    parts = [made.train_images, made.test_images]
    return np.concatenate([part[np.arange(len(part))] for part in parts])


@pytest.mark.parametrize(
    ("low", "high", "dtype", "levels"),
    [
        (-1, 1, "float32", (-1, 1)),
        (-0.7, 0.9, "float32", (-1, 1)),
        (-1000, 3000, "float32", (-1000, 3000)),
        (-1000, 3000, "int32", (-1000, 3000)),
        (-1e-5, 1.0005, "float32", (0, 1)),
        (0, 1, "float32", (0, 1)),
        (0, 900, "uint16", (0, 1023)),
        (0, 1e6, "float32", (0, 1e6)),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_levels_of_a_range_keep_the_contrast(
    low: float, high: float, dtype: str, levels: tuple[float, float], lazy: bool, tmp_path: Path
) -> None:
    """Negative values are not black, and the line says what is black and white."""
    write(tmp_path, *[ramp(low, high)] * 6, dtype=dtype)
    made = folder.decode(cfg(tmp_path, cache_gb=0.0 if lazy else 1.0))
    values = np.asarray(ramp(low, high), dtype)
    black, white = levels
    expected = np.rint(((values - black) * (255 / (white - black))).clip(0, 255))
    assert np.abs(read_all(made)[0, 0] - expected).max() <= 1
    assert expected.max() - expected.min() > 200
    assert f"black to white: {black:g} to {white:g}" in made.about
    assert set(levels) <= {*made.levels}


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.4), (-0.2, 0.7), (-0.01, 0.9)])
def test_levels_that_are_not_clear_are_a_question(low: float, high: float, tmp_path: Path) -> None:
    """The error names the key, which settles it."""
    write(tmp_path, *[ramp(low, high)] * 6)
    with pytest.raises(UserError, match=r"neither clearly \[0, 1\] nor \[-1, 1\]. Set data.levels"):
        folder.decode(cfg(tmp_path))
    made = folder.decode(cfg(tmp_path, levels=[low, high]))
    assert {0, 255} <= {*read_all(made)[0].flat}


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("pixels", [1, 64])
def test_levels_ignore_a_file_that_is_not_finite(value: float, pixels: int, tmp_path: Path) -> None:
    """The file is named as unreadable; the others keep their contrast."""
    broken = ramp(0, 1)
    broken.flat[:pixels] = value
    write(tmp_path, *[ramp(0, 1)] * 6, broken)
    with pytest.warns(UserWarning, match=r"1 of 7 images are unreadable: 6.tif: contains NaN or I"):
        made = folder.decode(cfg(tmp_path, max_unreadable=0.5))
    assert read_all(made).std() > 60
    assert made.files is not None
    assert made.files.left_out == {"unreadable (6.tif)": 1}


@pytest.mark.parametrize("extreme", [1e30, -1e30, 5000])
def test_levels_of_an_outlier_do_not_blacken_the_others(extreme: float, tmp_path: Path) -> None:
    """One finite but extreme pixel would hide all other images: the file is named."""
    outlier = ramp(0, 1)
    outlier[0, 0] = extreme
    write(tmp_path, *[ramp(0, 1)] * 6, outlier)
    with pytest.raises(UserError, match=r"6 of 7 float images would be of one color .* 6.tif. Set"):
        folder.decode(cfg(tmp_path))
    assert read_all(folder.decode(cfg(tmp_path, levels=[0, 1]))).std() > 60


@pytest.mark.parametrize("values", [[1, 0], [0], [0, 1, 2], [0, float("inf")], [3, 3]])
def test_levels_that_are_no_range_are_refused(values: list[float], tmp_path: Path) -> None:
    """Black is below white."""
    write(tmp_path, *[ramp(0, 1)] * 6)
    with pytest.raises(UserError, match=r"are no black and white levels. Set two increasing"):
        folder.decode(cfg(tmp_path, levels=values))


@pytest.mark.parametrize("lazy", [False, True])
def test_levels_of_the_run_give_the_same_data(lazy: bool, tmp_path: Path) -> None:
    """A run's config has the inferred levels, and loads the same pixels; other levels do not."""
    write(tmp_path, *[ramp(0, 3000)] * 6, dtype="uint16")
    keys = {"cache_gb": 0.0 if lazy else 1.0}
    inferred = folder.decode(cfg(tmp_path, **keys))
    assert inferred.levels == (0, 4095, 0, 0)
    again = folder.decode(cfg(tmp_path, levels=[*inferred.levels], **keys))
    assert again.fingerprint == inferred.fingerprint
    other = folder.decode(cfg(tmp_path, levels=[0, 3000], **keys))
    assert other.fingerprint != inferred.fingerprint
    assert read_all(other).max() == 255


def test_levels_of_pairs_are_common_to_both_domains(tmp_path: Path) -> None:
    """A dark input stays dark next to a bright target."""
    write(tmp_path / "A", *[ramp(0, 900)] * 6, dtype="uint16", suffix=".png")
    write(tmp_path / "B", *[ramp(0, 60_000)] * 6, dtype="uint16", suffix=".png")
    made = pairs.decode(cfg(tmp_path, name="pairs"))
    assert made.levels == (0, 65535, 0, 0)
    assert made.train_sources[np.arange(1)].max() == round(900 / 65535 * 255)  # type: ignore[index]


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_levels_of_unpaired_domains_are_their_own(direction: Any, tmp_path: Path) -> None:
    """The config has those of the inputs, then those of the targets."""
    write(tmp_path / "A", *[ramp(0, 900)] * 6, dtype="uint16", suffix=".png")
    write(tmp_path / "B", *[ramp(-1, 1)] * 6)
    made = horse2zebra.decode(cfg(tmp_path, name="horse2zebra", direction=direction))
    a, b = (0, 1023, 0, 0), (0, 0, -1, 1)
    assert tuple(made.levels) == ((*a, *b) if direction == "AtoB" else (*b, *a))
    keys = {"name": "horse2zebra", "direction": direction, "levels": [*made.levels]}
    assert horse2zebra.decode(cfg(tmp_path, **keys)).fingerprint == made.fingerprint


@pytest.mark.parametrize(
    ("configured", "expected"),
    [([0, 65535, 0, 0], [233, 117, 4]), ([], [233, 117, 4]), ([0, 900], [255, 255, 255])],
)
def test_translate_uses_one_scale_for_all_files(
    configured: list[float], expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale of the run, or of all files together: never that of each file."""
    write(
        tmp_path / "in",
        *(ramp(0, peak) for peak in (60_000, 30_000, 900)),
        dtype="uint16",
        suffix=".png",
    )
    peaks: list[int] = []

    class Identity:
        levels = configured
        record: ClassVar[dict[str, Any]] = {}
        fills_holes = False

        def __init__(self, folder: Path, direction: str, weights: str) -> None:
            assert weights == "best"

        def __call__(self, images: Any, hole: Any) -> Any:
            peaks.append(round(float((images.max() + 1) * 127.5)))
            return images

    monkeypatch.setattr(translation, "TrainedTranslator", Identity)
    translation.translate(tmp_path, tmp_path / "in", tmp_path / "out")
    assert peaks == expected


def test_complete_levels_keeps_those_of_the_run(tmp_path: Path) -> None:
    """Only the kind of image that the run does not know is inferred."""
    write(tmp_path, ramp(0, 1), ramp(-1, 1))
    paths = sorted(tmp_path.iterdir())
    assert complete_levels([0, 4095, 0, 0], tmp_path, paths) == Levels(0, 0, -1, 1)
    assert complete_levels([0, 0, 0, 3], tmp_path, paths) == Levels(0, 0, 0, 3)
    assert complete_levels([], tmp_path, []) is None


def test_complete_levels_of_an_ambiguous_range_name_the_folder(tmp_path: Path) -> None:
    """The keys of a run cannot be set where it is used, so the remedy is not data.levels."""
    write(tmp_path, ramp(-0.5, 0.4))
    with pytest.raises(UserError) as raised:
        complete_levels([], tmp_path, [*tmp_path.iterdir()])
    assert str(raised.value).startswith(f"{tmp_path}: 1 float images have values from -0.5 to 0.4,")
    assert str(raised.value).endswith(
        "Scale the values of all images to [0, 1], or save them with 8 bits."
    )
    # Levels of the run for both kinds: no file is opened.
    assert complete_levels([0, 1, 0, 1], tmp_path, [Path("missing")]) == Levels(0, 1, 0, 1)


def test_project_uses_the_scale_of_the_run(tmp_path: Path) -> None:
    """Of an unpaired run, that of the targets."""
    write(tmp_path, ramp(0, 900), ramp(0, 30_000), dtype="uint16", suffix=".png")
    generator = SimpleNamespace(recipe={"arguments": {"shape": (1, 8, 8)}})

    def read_peaks(*levels: float) -> list[int]:
        loaded = SimpleNamespace(
            networks={"generator": generator}, values={"data.fit": "crop"}, levels=[*levels]
        )
        images = [image for _, image in projection._read_files(loaded, tmp_path)]  # type: ignore[arg-type]
        return [round(float((image.max() + 1) * 127.5)) for image in images]

    assert read_peaks(0, 65535, 0, 0) == [4, 117]
    assert read_peaks(0, 900, 0, 0, 0, 65535, 0, 0) == [4, 117]
    assert read_peaks() == [7, 233]
