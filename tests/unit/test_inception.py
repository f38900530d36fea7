from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
import torch_fidelity
from torch_fidelity import feature_extractor_inceptionv3 as fidelity

from gan_lab.config.schema import MetricsConfig
from gan_lab.images import Batch, ImageSpec
from gan_lab.metrics import extractors
from gan_lab.metrics.base import Setting
from gan_lab.metrics.evaluator import Tally
from gan_lab.metrics.extractors import inception as module
from gan_lab.metrics.feature_scores import FeatureScores
from gan_lab.scoring import score
from tests.helpers.pictures import smooth_noise

PHOTOS = ImageSpec(3, 64, 64)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of torch-fidelity's own network, in the layout of its file."""
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = fidelity.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
        for name, weight in network.named_parameters():
            if name.endswith("conv.weight"):
                torch.nn.init.kaiming_normal_(
                    weight
                )  # or nothing of the image is left after 94 layers
    torch.save(network.state_dict(), path)
    return path


def at_the_end(reals: int, **keys: Any) -> tuple[list[str], list[str]]:
    """The names of the final scores on photographs, and the reasons to omit others."""
    setting = Setting(PHOTOS, MetricsConfig(**keys), reals=reals, fakes=5000, final=True)
    names = [name for metric in FeatureScores.create(setting) for name in metric.names]
    return names, setting.notes


def inception(weights: Path, final: bool = True) -> FeatureScores:
    return FeatureScores(
        extractors.load("inception", MetricsConfig(inception_weights=str(weights))),
        False,
        10_000,
        final,
    )


def test_inception_on_gray_pixels_gives_what_torch_fidelitys_own_network_gives(
    weights: Path,
) -> None:
    pixels = torch.randint(
        0, 256, (3, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    features, logits = extractors.load("inception", MetricsConfig(inception_weights=str(weights)))(
        pixels
    )
    layers = ["2048", "logits_unbiased"]
    theirs = fidelity.FeatureExtractorInceptionV3("inception-v3-compat", layers, str(weights))(
        pixels.repeat(1, 3, 1, 1)
    )
    for got, expected in zip((features, logits), theirs, strict=True):
        assert expected.std(dim=0).max() > 1e-3  # otherwise any network would do
        assert torch.allclose(got, expected, atol=1e-4)


def eigenvalues(matrix: np.ndarray, rank: int) -> np.ndarray:
    """Those of a matrix of at most this rank that are not zero, by way of a basis of its range."""
    basis, _ = np.linalg.qr(matrix @ np.random.default_rng(0).standard_normal((len(matrix), rank)))
    return scipy.linalg.eigvals(basis.T @ matrix @ basis)


def test_eigenvalues_by_way_of_the_range_are_numpys() -> None:
    left, right = np.random.default_rng(1).standard_normal((2, 60, 8))
    matrix = left @ left.T @ right @ right.T
    found = np.sort(np.abs(np.linalg.eigvals(matrix)))[-8:]
    assert np.sort(np.abs(eigenvalues(matrix, 8))) == pytest.approx(found, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 299])
def test_fid_kid_and_is_are_those_of_torch_fidelity_on_the_same_png_files(
    size: int, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 10  # the inception score has ten splits
    monkeypatch.setattr(
        np.linalg, "eigvals", partial(eigenvalues, rank=2 * n)
    )  # all 2,048 take it ten seconds
    real, fake = (
        smooth_noise(tmp_path / name, seed, n, size) for seed, name in enumerate(("real", "fake"))
    )
    theirs = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "fake"), input2=str(tmp_path / "real"), cuda=False, isc=True,
        fid=True, kid=True, kid_subset_size=n // 2, feature_extractor_weights_path=str(weights),
        cache=False, verbose=False, batch_size=6, save_cpu_ram=True,
    )  # fmt: skip
    metric = inception(weights)
    tally = Tally(metric, 10_000)
    for i, images in enumerate(fake.split(5)):
        tally.add(5 * i, metric.update_fake({"generated": images}, Batch(images)))
    scores = metric.compute(metric.update_real(Batch(real)), tally.statistics())
    assert theirs["frechet_inception_distance"] > 1
    assert scores["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert scores["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert scores["kid_sd"] == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-4)
    assert scores["is"] == pytest.approx(theirs["inception_score_mean"], rel=1e-4)
    assert scores["is_sd"] == pytest.approx(theirs["inception_score_std"], rel=1e-4, abs=1e-6)
    if size == 299:
        return  # score() reads the same files into the same metric, and Inception is slow
    public = score(
        tmp_path / "fake", tmp_path / "real", ["fid", "kid", "is"], weights=weights, batch_size=5
    )
    assert public["fid"].value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert public["kid"].value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert public["kid"].spread == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-4)
    assert public["is"].value == pytest.approx(theirs["inception_score_mean"], rel=1e-4)
    assert public["is"].spread == pytest.approx(theirs["inception_score_std"], rel=1e-4, abs=1e-6)
    assert public["fid"].reference is not None


@pytest.mark.parametrize(
    ("keys", "n", "reason"),
    [
        ({"inception_weights": "off"}, 5000, "metrics.inception_weights=off"),
        ({}, 2048, "the Inception weights are not on this machine and cannot be downloaded"),
        ({"allow_small_n": True}, 9, "the Inception weights are not on this machine"),
    ],
)
def test_without_inception_one_line_says_why(
    keys: dict[str, object], n: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_reachable", lambda url: False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    names, (why,) = at_the_end(n, **keys)
    assert "fid" not in names
    assert re.match("Skipping fid, kid and is: " + reason, why)


def test_inception_that_was_asked_for_and_is_not_at_hand_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_reachable", lambda url: False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        ValueError,
        match=r"The extractor inception is not available: .* metrics\.inception_weights=",
    ):
        extractors.load("inception")


@pytest.mark.parametrize("on_disk", [True, False])
def test_inception_is_made_when_its_weights_are_here_or_can_be_had(
    on_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    monkeypatch.setattr(
        module, "is_reachable", lambda url: not on_disk and url == fidelity.URL_INCEPTION_V3
    )
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        fidelity,
        "load_state_dict_from_url",
        lambda url, **_: torch.load(weights, weights_only=True),
    )
    if on_disk:
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / fidelity.URL_INCEPTION_V3.rpartition("/")[2]).touch()
    names, notes = at_the_end(2048)
    assert notes == []
    assert {"fid", "is", "fd_lite0_mid"} <= set(names)
    names, notes = at_the_end(2048, extractors=["inception"])
    assert (names.count("fid"), notes) == (1, [])
    assert {"fid", "kid", "is"} <= set(
        at_the_end(650)[0]
    )  # few images are no reason to leave them out


def test_a_download_that_breaks_off_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(url: str, **_: object) -> None:
        raise OSError("connection reset")

    monkeypatch.setattr(module, "is_reachable", lambda url: True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(fidelity, "load_state_dict_from_url", broken)
    names, (why,) = at_the_end(2048)
    assert "fid" not in names
    assert "the Inception weights cannot be downloaded (OSError)" in why


def test_a_weights_file_that_is_missing_or_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"metrics.inception_weights=/nowhere/w.pth: there is no such file"
    ):
        inception(Path("/nowhere/w.pth"))
    page, other = tmp_path / "page.pth", tmp_path / "other.pth"
    page.write_text("<html>Quota exceeded</html>")
    torch.save({"w": torch.zeros(2)}, other)
    empty = tmp_path / "empty.pth"
    empty.touch()
    for path in (page, other, empty):
        with pytest.raises(
            ValueError, match=f"{path} does not contain torch-fidelity's weights: ."
        ) as raised:
            inception(path)
        assert "\n" not in str(raised.value)


def test_code_in_a_weights_file_is_not_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> object:
            return (tmp_path / "victim").touch, ()

    torch.save({"w": Hostile()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="does not contain torch-fidelity's weights"):
        inception(tmp_path / "w.pth")
    assert not (tmp_path / "victim").exists()
