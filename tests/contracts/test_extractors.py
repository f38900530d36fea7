"""What every extractor keeps to; they are found, not listed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gan_lab.config.schema import MetricsConfig
from gan_lab.metrics import extractors
from tests.helpers.weights import write_weights

NAMES = [
    name for name in extractors.list_extractors() if name != "inception"
]  # large; test_inception.py has it
BY_FILE = ("clip", "dinov2")


def weights_of(name: str, folder: Path) -> MetricsConfig:
    return MetricsConfig(
        **{f"{name}_weights": str(write_weights(name, folder))} if name in BY_FILE else {}
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_extractor_reads_each_image_by_itself_and_twice_alike(name: str, tmp_path: Path) -> None:
    cfg = weights_of(name, tmp_path)
    extractor = extractors.load(name, cfg)
    generator = torch.Generator().manual_seed(0)
    if name == "points":
        pixels = torch.rand(12, 2, 1, 1, generator=generator)
    else:
        pixels = torch.randint(256, (12, 3, 32, 32), dtype=torch.uint8, generator=generator)
    features, logits = extractor(pixels)
    assert features.shape == (12, extractor.features)
    assert features.isfinite().all()
    assert len(features.unique(dim=0)) == 12
    assert (extractor.score is None) or logits is not None
    assert torch.equal(extractors.load(name, cfg)(pixels)[0], features)
    near = {
        "rtol": 1e-4,
        "atol": 1e-5 * max(1.0, float(features.abs().max())),
    }  # sums of float32, up to so large
    torch.testing.assert_close(
        torch.cat([extractor(part)[0] for part in pixels.split(5)]), features, **near
    )
    assert extractor.protocol().keys() == {"extractor", "weights_sha256", "resize"}
    if name != "points":
        gray = pixels[:, :1]
        torch.testing.assert_close(
            extractor(gray)[0], extractor(gray.expand(-1, 3, -1, -1))[0], **near
        )


@pytest.mark.parametrize("name", BY_FILE)
def test_extractor_with_missing_or_wrong_weights_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"metrics\.{name}_weights is not set\. Set it to a file; \S"
    ):
        extractors.load(name)
    with pytest.raises(
        ValueError, match=rf"metrics\.{name}_weights=/nowhere\.pt: there is no such file"
    ):
        extractors.load(name, MetricsConfig(**{f"{name}_weights": "/nowhere.pt"}))
    (tmp_path / "text.pt").write_text("no weights", encoding="utf-8")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    for file in ("text.pt", "other.pt"):
        with pytest.raises(
            ValueError, match=rf"^metrics\.{name}_weights=\S*{file} does not contain [^\n]+$"
        ):
            extractors.load(name, MetricsConfig(**{f"{name}_weights": str(tmp_path / file)}))
