"""What every data set keeps to; they are found, not listed."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gan_lab import data as data_sets
from gan_lab.config import loading
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.images import Batch

WITHOUT_SAMPLE = ("folder", "idx", "cifar10", "huggingface")  # which have tests of their own
SAMPLED = [name for name in data_sets.names() if name not in WITHOUT_SAMPLE]


def decode(name: str, root: Path) -> ArrayDataset:
    cfg = replace(
        loading.load("gan", [f"data.name={name}", "data.size=16"]).config.data,
        root=str(root),
        source="sample",
    )
    made: ArrayDataset = importlib.import_module(f"gan_lab.data.{name}").decode(cfg)
    return made


@pytest.mark.parametrize("name", SAMPLED)
def test_data_set_matches_its_spec_wherever_it_is_decoded(
    name: str, data_root: Path, tmp_path: Path
) -> None:
    first, again = decode(name, data_root), decode(name, tmp_path)
    assert first.fingerprint == again.fingerprint
    assert first.about
    spec, rows = first.spec, {}
    for part in ("train", "test"):
        images = np.asarray(
            getattr(first, f"{part}_images")[
                np.arange(min(500, len(getattr(first, f"{part}_images"))))
            ]
        )
        assert images.shape[1:] == spec.shape
        assert images.dtype == (np.float32 if spec.content == "points" else np.uint8)
        other = np.asarray(getattr(again, f"{part}_images")[np.arange(len(images))])
        assert np.array_equal(images, other)
        rows[part] = {image.tobytes() for image in images}
        labels, sources = getattr(first, f"{part}_labels"), getattr(first, f"{part}_sources")
        assert (labels is not None) == (spec.classes > 0)
        assert (sources is not None) == (spec.source_channels > 0)
        if labels is not None:
            assert labels.dtype == np.int64
            assert sorted(set(labels.tolist())) == list(range(spec.classes))
        if sources is not None:
            assert np.asarray(sources[np.arange(2)]).shape[1:] == (
                spec.source_channels,
                *spec.shape[1:],
            )
    assert not rows["train"] & rows["test"], "an image is both trained on and held out"


@pytest.mark.parametrize("name", SAMPLED)
def test_a_data_module_serves_its_batches_in_range(name: str, data_root: Path) -> None:
    cfg = replace(
        loading.load("gan", [f"data.name={name}", "data.size=16"]).config.data,
        root=str(data_root),
        source="sample",
    )
    served = data_sets.load(cfg, seed=0)
    (batch, *_) = served.reference(10, size=10)
    assert isinstance(batch, Batch)
    for images in batch.shown():
        assert images.dtype == torch.float32
        assert float(images.abs().max()) <= 1.0 + (
            0.2 if name == "toy" else 0
        )  # points of a Gaussian have tails
