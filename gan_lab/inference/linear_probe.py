"""Linear probe of a trained network: logistic regression on its features.

Raw pixels and the features of an untrained network are the baselines.

Source: Radford et al. 2015 (arXiv 1511.06434), section 5.1, for the features of a discriminator.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from gan_lab import networks, seeding
from gan_lab.data.base import GANDataModule
from gan_lab.data.split import Subset
from gan_lab.images import to_unit
from gan_lab.runs.run import Run
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import write_text
from gan_lab.utils.track import stage, track

INVERSE_PENALTIES = np.logspace(
    -4, 2, 7
)  # inverse strengths of the penalty, chosen by cross-validation


def probe(
    folder: Path,
    labels: int = 100,
    weights: str = "last",
    seed: int = 0,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Measure the held-out accuracy of each set of features with this many labels.

    Also writes it to ``probe.json``. The features are those of the encoder if the family has one,
    else of the discriminator. Raises UserError if the data has no labels, if the network reads them
    itself, or if there are too few.
    """
    restored = Run(folder).restore(overrides, weights=None)
    data, family = restored.data, restored.family
    iteration = restored.load(weights)
    family.float()  # the images are float32 at any run.precision
    name = "encoder" if hasattr(family, "encoder") else "discriminator"
    network: Any = getattr(family, name, None)
    if not hasattr(network, "features"):
        raise UserError(
            f"No image features: the {name} of {folder}. Use a run whose {name} "
            "has a method features"
        )
    if data.spec.classes == 0:
        raise UserError(f"No labels: the data of {folder}. A linear probe needs a labeled data set")
    if network.recipe["arguments"].get("classes"):
        raise UserError(
            f"Labels are an input: the {name} of {folder}. Its features would contain them; use an "
            "unconditional run"
        )
    rows = choose_rows(data.train, data.spec.classes, labels, seed)
    with torch.random.fork_rng():
        seeding.seed_torch(restored.config.run.seed, "untrained")
        untrained = networks.from_recipe(network.recipe).to(family.device).eval()
    kinds = {name: network, f"untrained {name}": untrained, "pixels": None}
    state = {
        "labels": len(rows),
        "held_out": len(data.test),
        "seed": seed,
        "iteration": iteration,
        "data": data.decoded.about,
        "accuracy": {
            kind: accuracy(data, rows, features_of) for kind, features_of in kinds.items()
        },
    }
    write_text(folder / "probe.json", json.dumps(state, indent=1))
    return state


def choose_rows(split: Subset, classes: int, labels: int, seed: int) -> list[int]:
    """Choose rows of labeled images, balanced over the classes."""
    assert split.labels is not None
    per_class = labels // classes
    order = seeding.permutation(seed, "probe", 0, len(split))
    rows = [order[split.labels[order] == label][:per_class] for label in range(classes)]
    fewest = min(len(members) for members in rows)
    if per_class < 5:
        raise UserError(
            f"Too few labels for cross-validation: labels={labels} of {classes} classes. Use at "
            f"least {5 * classes}"
        )
    if fewest < per_class:
        raise UserError(
            f"Too few labeled images: labels={labels} needs {per_class} of each class, and one has "
            f"{fewest}. Use up to {fewest * classes} labels"
        )
    return [int(row) for row in np.concatenate(rows)]


def accuracy(data: GANDataModule, rows: list[int], network: nn.Module | None) -> float:
    """Held-out accuracy of standardized logistic regression.

    5-fold cross-validation chooses its penalty.
    """
    x, y = features(data.train, rows, network)
    test_x, test_y = features(data.test, list(range(len(data.test))), network)
    model = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        {"logisticregression__C": INVERSE_PENALTIES},
        cv=5,
    )
    with stage("Fitting logistic regressions"), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # from the weakest penalties, which validation does not choose
        model.fit(x, y)
    return float(model.score(test_x, test_y))


@torch.no_grad()
def features(
    split: Subset, rows: list[int], network: Any, size: int = 250
) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, F] of these rows (raw pixels if the network is None) and their labels [N]."""
    parts: list[Tensor] = []
    labels: list[Tensor] = []
    for i in track(range(0, len(rows), size), "computing features"):
        batch = split.__getitems__(rows[i : i + size])
        images = to_unit(batch.images)
        if network is not None:
            images = network.features(images.to(next(network.parameters()).device))
        parts.append(images.flatten(1).cpu())
        assert batch.labels is not None
        labels.append(batch.labels)
    return torch.cat(parts).numpy(), torch.cat(labels).numpy()
