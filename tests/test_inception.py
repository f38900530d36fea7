from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch_fidelity import feature_extractor_inceptionv3 as fidelity

from gan_lab.images import Batch
from gan_lab.metrics import evaluate
from gan_lab.schema import MetricsConfig


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
                torch.nn.init.kaiming_normal_(weight)  # or nothing of the image is left after 94 layers
    torch.save(network.state_dict(), path)
    return path


def test_inception_on_gray_pixels_gives_what_torch_fidelitys_own_network_gives(weights: Path) -> None:
    pixels = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    measure, why = evaluate.inception(MetricsConfig(inception_weights=str(weights)), 2048)
    assert measure is not None
    assert why == ""
    mine = measure.reference(Batch(pixels))
    layers = ["2048", "logits_unbiased"]
    theirs = fidelity.FeatureExtractorInceptionV3("inception-v3-compat", layers, str(weights))(
        pixels.repeat(1, 3, 1, 1)
    )
    for got, expected in zip((mine["features"], mine["logits"]), theirs, strict=True):
        assert expected.std(dim=0).max() > 1e-3  # otherwise any network would do
        assert torch.allclose(got, expected, atol=1e-4)
    scores = measure.scores(mine, mine)
    assert scores["fid"] < 1e-3
    assert 1 <= scores["is"] < 3


@pytest.mark.parametrize(
    ("keys", "n", "reason"),
    [
        ({"inception_weights": "off"}, 5000, "fid and is skipped: metrics.inception_weights=off"),
        ({}, 2047, "fid and is skipped: 2047 images are fewer than the 2048 features, .* metrics.allow_small_n=true"),
        ({}, 2048, "fid and is skipped: the Inception weights are not on this machine and cannot be downloaded"),
        ({"allow_small_n": True}, 9, "fid and is skipped: the Inception weights are not on this machine"),
    ],
)
def test_without_inception_one_line_says_why(
    keys: dict[str, object], n: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "reachable", lambda url: False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    measure, why = evaluate.inception(MetricsConfig(**keys), n)  # type: ignore[arg-type]
    assert measure is None
    assert re.match(reason, why)


@pytest.mark.parametrize("on_disk", [True, False])
def test_inception_is_made_when_its_weights_are_here_or_can_be_had(
    on_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr(evaluate, "Inception", lambda weights: made.append(weights) or "inception")
    monkeypatch.setattr(evaluate, "reachable", lambda url: not on_disk and url == fidelity.URL_INCEPTION_V3)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    if on_disk:
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / fidelity.URL_INCEPTION_V3.rpartition("/")[2]).touch()
    assert evaluate.inception(MetricsConfig(), 2048) == ("inception", "")
    assert made == [None]


def test_a_weights_file_that_is_missing_or_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"metrics.inception_weights=/nowhere/w.pth: there is no such file"):
        evaluate.inception(MetricsConfig(inception_weights="/nowhere/w.pth"), 2048)
    page, other = tmp_path / "page.pth", tmp_path / "other.pth"
    page.write_text("<html>Quota exceeded</html>")
    torch.save({"w": torch.zeros(2)}, other)
    empty = tmp_path / "empty.pth"
    empty.touch()
    for path in (page, other, empty):
        with pytest.raises(ValueError, match=f"{path} does not hold torch-fidelity's weights: .") as raised:
            evaluate.inception(MetricsConfig(inception_weights=str(path)), 2048)
        assert "\n" not in str(raised.value)


def test_code_in_a_weights_file_is_not_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> object:
            return (tmp_path / "victim").touch, ()

    torch.save({"w": Hostile()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="does not hold torch-fidelity's weights"):
        evaluate.inception(MetricsConfig(inception_weights=str(tmp_path / "w.pth")), 2048)
    assert not (tmp_path / "victim").exists()
