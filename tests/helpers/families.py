"""Every family with its experiment and settings that are small enough for a test."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from gan_lab.config import loading

SMALL = {"width": 4, "blocks": 1, "decay_from": 10**9}  # whose rate has come to zero, moves no more
EXPERIMENTS: dict[str, list[str]] = {
    family: [] for family in loading.families()
}  # of each family, by their names
for name in loading.experiments():
    EXPERIMENTS[loading.load(name).config.family].append(name)
FAMILIES = [
    family for family, mine in EXPERIMENTS.items() if mine
]  # test_families says which has none
every_family = pytest.mark.parametrize("family", FAMILIES)


def keys_of(family: str) -> set[str]:
    """The keys of a family under ``model:``."""
    return {item.name for item in fields(loading.family_class(family).Config)}


def model_words(family: str, **values: object) -> list[str]:
    """Words for those of the values whose keys a family has under ``model:``."""
    return [f"model.{key}={value}" for key, value in values.items() if key in keys_of(family)]


def experiment_of(family: str) -> str:
    """The first experiment of a family: the one of its own name, if there is one."""
    mine = EXPERIMENTS[family]
    return family if family in mine else mine[0]


def batch_of(family: str) -> int:
    """Return 4 for networks that cost several times as much for each image, else 16."""
    is_residual = family == "stylegan2" or any(key.endswith("blocks") for key in keys_of(family))
    return 4 if is_residual or loading.family_class(family).image_to_image else 16


def augmented(family: str) -> list[str]:
    """Words for ADA whose probability moves, for a family of latents; of others none."""
    words = ["augment.policy=ada", "augment.p=0.3", "augment.speed_images=2000"]
    return [] if loading.family_class(family).image_to_image else words


def degraded(family: str) -> list[str]:
    """Words for inputs with random holes, for a family of pairs; of others none."""
    words = ["data.degradation=mask", "data.mask_shape=irregular", "model.output=fill"]
    return words if loading.family_class(family).paired else []


def image_by_image(family: str, **values: object) -> list[str]:
    """Overrides that make a network see each image alone.

    No norm, no dropout, groups of one; and other ``values``.
    """
    return model_words(family, **{"norm": "none", "dropout": 0, "group": 1, **values})


def small(family: str, root: Path, data_root: Path, *more: str) -> list[str]:
    """Overrides for a quick run on digits: narrow networks, batches of 16, no tracker, no bar.

    Translators read the gray image.
    """
    made = loading.family_class(family)
    words = ["data.batch_size=16", "log.progress_bar=false", "log.wandb=off",
             "metrics.num_fakes=100", "metrics.num_reals=100", "metrics.allow_small_n=true",
             f"run.root={root}", f"data.root={data_root}", "data.source=sample"]  # fmt: skip
    words += ["data.name=mnist", "data.size=28"]
    words += ["data.degradation=gray"] if made.image_to_image else []
    return [*words, *model_words(family, **SMALL), *more]
