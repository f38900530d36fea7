"""Translating image files: any size, both ways, nothing lost and nothing written over."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gan_lab import networks
from gan_lab.images import to_gray, to_uint8, to_unit
from gan_lab.inference import translation
from gan_lab.inference.translation import TrainedTranslator
from gan_lab.networks.resnet_translator import ResNetTranslator
from gan_lab.networks.unet import UNet
from gan_lab.utils.files import fold_case
from gan_lab.utils.output import list_visible
from tests.helpers.logs import logged


def checkpoint(folder: Path, **made: nn.Module) -> Path:
    """A run folder of these networks, whose weights are large enough that every pixel counts."""
    draws = torch.Generator().manual_seed(0)
    for network in made.values():
        with torch.no_grad():
            for tensor in network.parameters():
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=draws))
            for name, tensor in network.named_buffers():
                if "running" in name:
                    tensor.add_(0.2 * torch.rand(tensor.shape, generator=draws))
    state = {
        "iteration": 1,
        "ema": {name: network.state_dict() for name, network in made.items()},
        "recipes": {name: network.recipe for name, network in made.items()},
    }
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(state, folder / "checkpoints" / "best.ckpt")
    return folder


def resnet(channels: int = 3, sources: int = 3) -> ResNetTranslator:
    return ResNetTranslator(
        shape=(channels, 8, 8), source_channels=sources, width=2, blocks=1, norm="none"
    )


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with batch norm and dropout, both in evaluation mode; it needs multiples of 8."""
    torch.manual_seed(0)
    G = UNet(shape=(3, 16, 16), source_channels=3, width=2, depth=3, norm="batch")
    return checkpoint(tmp_path_factory.mktemp("run"), generator=G)


@pytest.fixture(scope="module")
def both_ways(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gray to color with ``generator`` and color to gray with ``generator_back``."""
    torch.manual_seed(0)
    return checkpoint(
        tmp_path_factory.mktemp("run"), generator=resnet(3, 1), generator_back=resnet(1, 3)
    )


def best(folder: Path) -> Path:
    return folder / "checkpoints" / "best.ckpt"


def photo(height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    return (
        torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 2
        - 1
    )


def rebuilt(folder: Path, name: str = "generator") -> nn.Module:
    content = torch.load(best(folder), weights_only=True)
    network = networks.from_recipe(content["recipes"][name])
    network.load_state_dict(content["ema"][name])
    return network.eval()


@pytest.mark.parametrize("size", [(16, 16), (24, 40)])
def test_images_of_fitting_sides_are_what_the_averaged_network_makes_of_them(
    unet: Path, size: tuple[int, int]
) -> None:
    translator, x = TrainedTranslator(best(unet)), photo(*size)
    with torch.no_grad():
        assert torch.allclose(translator(x), rebuilt(unet)(x), atol=1e-6)
    assert torch.equal(translator(x), translator(x))
    assert float(translator(x).std()) > 1e-3


@pytest.mark.parametrize("size", [(17, 16), (30, 50), (1, 1), (2, 3), (1, 9), (9, 1), (16, 200)])
def test_other_sizes_are_reflected_to_the_next_multiple_and_cropped_again(
    unet: Path, size: tuple[int, int]
) -> None:
    translator, x = TrainedTranslator(best(unet)), photo(*size)
    height, width = (max(16, -(-side // 8) * 8) for side in size)
    wider = [(0, 0), (0, 0), (0, height - size[0]), (0, width - size[1])]
    padded = torch.from_numpy(np.pad(x.numpy(), wider, mode="reflect"))
    with torch.no_grad():
        expected = rebuilt(unet)(padded)[..., : size[0], : size[1]]
    made = translator(x)
    assert made.shape == x.shape
    assert torch.allclose(made, expected, atol=1e-6)


def test_each_direction_has_its_network_and_its_channels(both_ways: Path) -> None:
    there, back = TrainedTranslator(best(both_ways)), TrainedTranslator(best(both_ways), "BtoA")
    colour = photo(8, 12)
    with torch.no_grad():
        assert torch.allclose(there(colour), rebuilt(both_ways)(to_gray(colour)), atol=1e-6)
        assert torch.allclose(back(colour), rebuilt(both_ways, "generator_back")(colour), atol=1e-6)
        gray = to_gray(colour)
        assert torch.allclose(
            back(gray), rebuilt(both_ways, "generator_back")(gray.repeat(1, 3, 1, 1)), atol=1e-6
        )
        assert not torch.allclose(there(colour), rebuilt(both_ways)(colour[:, :1]), atol=1e-3)
    assert (there(colour).shape[1], back(colour).shape[1]) == (3, 1)


def test_runs_and_directions_that_cannot_translate_are_refused(
    unet: Path, both_ways: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"No BtoA generator: .*best\.ckpt"):
        TrainedTranslator(best(unet), "BtoA")
    with pytest.raises(ValueError, match=r"Unknown direction: BtoC\. Choose AtoB or BtoA"):
        TrainedTranslator(best(both_ways), "BtoC")
    latent = networks.generator("mlp", z_dim=3, shape=(1, 8, 8), width=2, norm="batch")
    with pytest.raises(ValueError, match="Not an image-to-image generator: "):
        TrainedTranslator(best(checkpoint(tmp_path, generator=latent)))
    torch.save({"iteration": 1, "ema": {}, "recipes": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="has no generator"):
        TrainedTranslator(tmp_path / "other.ckpt")


def saved(path: Path, seed: int, height: int = 20, width: int = 12) -> np.ndarray:
    """Write a lossless photo; its pixels [3, H, W]."""
    pixels = to_uint8(photo(height, width, seed=seed))[0].numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.transpose(1, 2, 0)).save(path)
    return pixels


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).transpose(2, 0, 1)


def translate_pixels(folder: Path, pixels: np.ndarray) -> np.ndarray:
    """What a run makes of pixels."""
    return to_uint8(TrainedTranslator(best(folder))(to_unit(torch.from_numpy(pixels)[None])))[
        0
    ].numpy()


def test_a_folder_keeps_its_names_its_folders_and_the_size_of_every_image(
    unet: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    pixels = {
        "one.bmp": saved(source / "one.bmp", 0),
        "deep/er/two.v2.png": saved(source / "deep" / "er" / "two.v2.png", 1, 9, 31),
        "three.TIFF": saved(source / "three.TIFF", 2, 16, 16),
    }
    (source / "notes.txt").write_text("no image")
    assert translation.translate(unet, source, out) == (3, 0)
    made = {str(path.relative_to(out)) for path in out.rglob("[!.]*") if path.is_file()}
    assert made == {"one.png", "deep/er/two.v2.png", "three.png"}
    for name, given in pixels.items():
        assert np.array_equal(read((out / name).with_suffix(".png")), translate_pixels(unet, given))


def test_what_cannot_be_read_is_named_and_the_rest_is_translated(
    unet: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    saved(source / "a.png", 0)
    saved(source / "c.png", 1)
    (source / "b.png").write_bytes((source / "a.png").read_bytes()[:100])
    with logged() as said:
        assert translation.translate(unet, source, tmp_path / "out") == (2, 1)
    assert len(said) == 1
    assert said[0].startswith(f"Skipping {source / 'b.png'}: ")
    assert list_visible(tmp_path / "out") == {"a.png", "c.png"}


def test_translated_images_inside_the_folder_are_not_translated_again(
    unet: Path, tmp_path: Path
) -> None:
    saved(tmp_path / "a.bmp", 0)
    for _ in range(2):
        assert translation.translate(unet, tmp_path, tmp_path / "made") == (1, 0)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("[!.]*.*")) == [
        "a.bmp",
        "made/a.png",
    ]


def test_images_of_one_name_and_different_endings_are_all_kept(unet: Path, tmp_path: Path) -> None:
    pixels = [
        saved(tmp_path / "in" / name, i) for i, name in enumerate(("a.bmp", "a.png", "b.png"))
    ]
    assert translation.translate(unet, tmp_path / "in", tmp_path / "out") == (3, 0)
    for name, given in zip(("a.bmp.png", "a.png.png", "b.png"), pixels, strict=True):
        assert np.array_equal(read(tmp_path / "out" / name), translate_pixels(unet, given))


def test_one_image_is_translated_into_a_folder(unet: Path, tmp_path: Path) -> None:
    pixels = saved(tmp_path / "in" / "a.bmp", 0)
    saved(tmp_path / "in" / "b.bmp", 1)
    assert translation.translate(unet, tmp_path / "in" / "a.bmp", tmp_path / "out") == (1, 0)
    assert list_visible(tmp_path / "out") == {"a.png"}
    assert np.array_equal(read(tmp_path / "out" / "a.png"), translate_pixels(unet, pixels))


@pytest.mark.parametrize("source", ["", "a.png"])
def test_no_image_is_written_over_by_its_translation(
    unet: Path, source: str, tmp_path: Path
) -> None:
    saved(tmp_path / "a.png", 0)
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(ValueError, match=r"would be overwritten: .* Choose another folder"):
        translation.translate(unet, tmp_path / source, tmp_path)
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_folder_without_images_is_answered_with_what_it_holds(unet: Path, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.pdf"):
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=r"no images in .* \(found: 2 \.txt, 1 \.pdf\)"):
        translation.translate(unet, tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match=r"nowhere does not exist\. Pass an image"):
        translation.translate(unet, tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ValueError, match=r"no image was translated: .*a\.txt: the file is empty"):
        translation.translate(unet, tmp_path / "a.txt", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_gray_results_are_written_as_gray_pixels(both_ways: Path, tmp_path: Path) -> None:
    pixels = saved(tmp_path / "a.png", 0, 9, 11)
    assert translation.translate(both_ways, tmp_path / "a.png", tmp_path / "out", "BtoA") == (1, 0)
    made = read(tmp_path / "out" / "a.png")
    expected = to_uint8(
        TrainedTranslator(best(both_ways), "BtoA")(to_unit(torch.from_numpy(pixels)[None]))
    )[0].numpy()
    assert np.array_equal(made, np.broadcast_to(expected, made.shape))


@pytest.mark.parametrize("side", [8, 16])
def test_an_image_of_the_training_size_is_translated_as_the_network_translates_it(
    side: int, tmp_path: Path
) -> None:
    """With more reflection a U-Net would see another innermost map than in its training."""
    torch.manual_seed(0)
    network = UNet(
        shape=(3, side, side), source_channels=3, width=2, norm="instance", dropout=0.0
    ).eval()
    translator = object.__new__(TrainedTranslator)
    translator.channels, translator.network, translator.device = 3, network, torch.device("cpu")
    images = torch.rand(2, 3, side, side) * 2 - 1
    with torch.no_grad():
        assert torch.equal(translator(images), network(images))


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        ("a.jpg a.png a.jpg.png", ["a.png.png"]),
        ("a.jpg A.jpg b.jpg", ["b.png"]),
        ("A.jpg a.png", ["A.jpg.png", "a.png.png"]),
        ("Cat/1.png cat/1.png cat/2.png", ["cat/2.png"]),
        ("\N{LATIN SMALL LETTER E WITH ACUTE}.png e\N{COMBINING ACUTE ACCENT}.png", []),
        ("strasse.png straße.png STRASSE.PNG x", ["x.png"]),
    ],
)
def test_targets_are_distinct_where_case_is_ignored(
    names: str, kept: list[str], tmp_path: Path
) -> None:
    """The other images keep their names, and the same folder gives the same names."""
    out = tmp_path / "out"
    paths = [tmp_path / name for name in names.split()]
    targets = translation._choose_targets(paths, tmp_path, out)
    assert len({fold_case(target) for target in targets}) == len(paths)
    assert {target.relative_to(out).as_posix() for target in targets} >= {*kept}
    assert targets[::-1] == translation._choose_targets(paths[::-1], tmp_path, out)
    assert all(target.suffix == ".png" for target in targets)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, pixels in (("TILE", 96), ("MARGIN", 32), ("SEAM", 8)):
        monkeypatch.setattr(translation, name, pixels)


@pytest.mark.parametrize(("length", "multiple"), [(96, 4), (97, 4), (130, 8), (333, 1), (1000, 16)])
def test_tiles_cover_all_and_their_weights_add_up_to_one(
    length: int, multiple: int, small_tiles: None
) -> None:
    every = translation.tiles(length, multiple)
    assert (len(every) == 1) == (length <= 96)
    total = torch.zeros(length)
    for start, stop in every:
        assert start % multiple == 0
        assert stop - start <= 96
        total[start:stop] += translation.fade(start, stop, length)
    assert total.min() > 0.99  # where a last tile overlaps more, it is divided by what there is
    assert torch.equal(translation.fade(0, 96, 96), torch.ones(96))
    inner = translation.fade(64, 160, 1000)
    assert inner[:32].max() == inner[-32:].max() == 0  # the margin is thrown away


@pytest.mark.parametrize(("height", "width"), [(200, 230), (97, 60), (60, 301)])
def test_tiles_of_a_network_that_sees_no_further_are_the_untiled_image(
    height: int, width: int, both_ways: Path, small_tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    translator, image, seen = TrainedTranslator(best(both_ways)), photo(height, width), []
    whole = TrainedTranslator._whole
    monkeypatch.setattr(
        TrainedTranslator,
        "_whole",
        lambda self, part: seen.append(part.shape[-2:]) or whole(self, part),
    )
    tiled = translator(image)
    assert len(seen) > 1
    assert max(max(shape) for shape in seen) <= 96
    monkeypatch.setattr(translation, "TILE", 1000)
    torch.testing.assert_close(tiled, translator(image), rtol=0, atol=1e-5)


class Mean(nn.Module):
    """Its output depends on the whole image."""

    multiple, min_side = 4, 8

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3), keepdim=True).expand_as(images)


def test_a_seam_is_faded_where_a_network_answers_by_all_that_it_sees(
    both_ways: Path, small_tiles: None
) -> None:
    translator = TrainedTranslator(best(both_ways))
    translator.network, translator.channels = Mean(), 3
    ramp = torch.linspace(-1, 1, 300).expand(1, 3, 96, 300)  # no two tiles are equally light
    row = translator(ramp)[0, 0, 40]
    every = translation.tiles(300, 4)
    light = [float(ramp[..., start:stop].mean()) for start, stop in every]
    assert float(row[0]) == pytest.approx(light[0], abs=1e-4)
    assert float(row[-1]) == pytest.approx(light[-1], abs=1e-4)
    steps = (row[1:] - row[:-1]).abs()
    largest = max(b - a for a, b in itertools.pairwise(light))
    assert float(steps.max()) == pytest.approx(
        largest / 9, rel=0.01
    )  # nine steps across the eight pixels of a seam
