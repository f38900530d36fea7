"""What every extractor keeps to; they are found, not listed."""

from __future__ import annotations

import pytest
import torch

from gan_lab.metrics import extractors

OFFLINE = [name for name in extractors.names() if name != "inception"]  # whose weights do not ship


@pytest.mark.parametrize("name", OFFLINE)
def test_an_extractor_reads_each_image_by_itself_and_twice_alike(name: str) -> None:
    extractor = extractors.load(name)
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
    assert torch.equal(extractors.load(name)(pixels)[0], features)
    near = {"rtol": 1e-4, "atol": 1e-5 * max(1.0, float(features.abs().max()))}  # sums of float32, up to so large
    torch.testing.assert_close(torch.cat([extractor(part)[0] for part in pixels.split(5)]), features, **near)
    assert extractor.protocol().keys() == {"extractor", "weights_sha256", "resize"}
    if name != "points":
        gray = pixels[:, :1]
        torch.testing.assert_close(extractor(gray)[0], extractor(gray.expand(-1, 3, -1, -1))[0], **near)
