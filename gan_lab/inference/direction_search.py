"""Find latent directions of a generator: principal components, and directions of classes.

Source: Härkönen et al. 2020 (arXiv 2004.02546), section 2, for principal components of W, or of the
first layer with a regression to the latents; Shen et al. 2020 (arXiv 1907.10786), section 2.2, for
the normal of a linear classifier's boundary. Differs from the papers: components are those within
classes, and logistic regression separates the classes.

Signs are fixed: the largest coordinate of a principal component in absolute value is positive, and
the direction of a class points to this class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

from gan_lab.device import exact_arithmetic
from gan_lab.inference.sampling import TrainedGenerator
from gan_lab.metrics.digit_classifier import load_digit_classifier
from gan_lab.networks.classifier import Classifier
from gan_lab.networks.stylegan import StyleGANGenerator
from gan_lab.runs.directions import Direction, Directions, describe
from gan_lab.runs.ema_networks import EMANetworks, load_ema_networks, name_classes
from gan_lab.utils.errors import UserError
from gan_lab.utils.track import track

LABEL_SOURCES = ("auto", "digits", "classifier", "none")
# classes of the digit classifier
NUM_DIGITS = 10
# images that a classifier labels
MAX_CLASSIFIED_IMAGES = 4_000
# images of a class, and of all others, that a direction needs
MIN_CLASS_IMAGES = 20
HELD_OUT_SHARE = 0.2
# components with less of the variance are rounding errors
MIN_VARIANCE_SHARE = 1e-10
BATCH_SIZE = 500


def find_directions(
    run: str | Path,
    count: int = 8,
    n: int = 10_000,
    seed: int = 0,
    labels: str = "auto",
    weights: str = "best",
) -> Directions:
    """Find latent directions of a trained generator.

    Args:
        run: A run folder, a checkpoint file, an export or a StyleGAN2 snapshot.
        count: Number of principal components, at most as many as the latents have dimensions.
        n: Number of latents.
        seed: Of the latents.
        labels: ``digits``: label samples by the lab's digit classifier. ``classifier``: by the
            classifier that was trained with the generator (``sgan``). ``auto``: the classes of a
            conditional StyleGAN2, whose w depend on them; ``digits`` for an unconditional run on
            MNIST; ``classifier`` for others that have one. ``none``: principal components alone.
        weights: Of a run folder: best, last, raw or a number of training images.

    Returns:
        The directions in W of StyleGAN2, in Z of others. ``load_generator(run).directions`` takes
        them.

    Raises:
        UserError: There is no such run, an argument is out of range, or the latents have codes.
    """
    loaded = load_ema_networks(Path(run).expanduser(), weights)
    chosen = choose_labels(loaded, labels)
    classifier = find_classifier(loaded)
    return search(TrainedGenerator(loaded), chosen, count, n, seed, classifier)


@dataclass(frozen=True)
class SampleClassifier:
    """A network that labels samples, with the names of the directions to its classes."""

    network: nn.Module
    names: list[str]


def find_classifier(loaded: EMANetworks) -> SampleClassifier | None:
    """Find the classifier that was trained with an unconditional generator, as in ``sgan``."""
    network = loaded.networks.get("discriminator")
    if not isinstance(network, Classifier):
        return None
    known = [str(name) for name in loaded.values.get("data.class_names") or []]
    names = name_classes(known, network.head.out_features)
    return SampleClassifier(network, [f"class {name}" for name in names])


def choose_labels(loaded: EMANetworks, labels: str) -> str:
    """Choose the labels of a search: digits, classifier, classes or none.

    Raises:
        UserError: ``labels`` is not one of ``LABEL_SOURCES``, or there is no classifier.
    """
    if labels not in LABEL_SOURCES:
        raise UserError(f"Unknown labels: {labels}. Use {', '.join(LABEL_SOURCES)}")
    if labels == "classifier" and find_classifier(loaded) is None:
        raise UserError(
            f"labels=classifier: {loaded.checkpoint} has no classifier. Use digits or none"
        )
    if labels != "auto":
        return labels
    network = loaded.networks["generator"]
    if network.recipe["arguments"].get("classes"):
        # without a mapping network, latents do not depend on the class
        return "classes" if isinstance(network, StyleGANGenerator) else "none"
    if loaded.values.get("data.name") == "mnist":
        return "digits"
    return "none" if find_classifier(loaded) is None else "classifier"


def search(
    generator: TrainedGenerator,
    labels: str = "none",
    count: int = 8,
    n: int = 10_000,
    seed: int = 0,
    classifier: SampleClassifier | None = None,
) -> Directions:
    """Find directions of a loaded generator, with labels as ``choose_labels`` returns them.

    ``classifier`` labels the samples if ``labels`` is "classifier".

    Raises:
        UserError: See ``find_directions``.
    """
    if count < 1 or n < 100:
        raise UserError(
            f"Out of range: count={count}, n={n}. Use at least 1 direction and 100 latents"
        )
    network = generator.network
    if network.codes:
        raise UserError(
            "The latents have codes, which are directions already (infogan). Use `gan-lab sample "
            "--code`"
        )
    z = generator.latents(n, seed)
    classes = generator.labels_of(n, None)
    with torch.no_grad(), exact_arithmetic(generator.device):
        on_device = [rows.to(generator.device) for rows in (z, classes) if rows is not None]
        if isinstance(network, StyleGANGenerator):
            space = "w"
            latents = coordinates = network.map_latents(*on_device).cpu().double()
        else:
            space = "z"
            latents = z.double()
            coordinates = compute_first_layer(network, *on_device).cpu().double()
    directions = find_components(latents, coordinates, classes, count)
    if labels != "none":
        if labels == "digits":
            digits = [f"digit {i}" for i in range(NUM_DIGITS)]
            classifier = SampleClassifier(load_digit_classifier(), digits)
        if labels != "classes":
            assert classifier is not None
            known = min(n, MAX_CLASSIFIED_IMAGES)
            numbers = classify_samples(
                generator, classifier, z[:known], None if classes is None else classes[:known]
            )
            names = classifier.names
        else:
            assert classes is not None
            numbers = classes
            names = [f"class {name}" for name in generator.class_names]
        directions += find_class_directions(latents[: len(numbers)], numbers, names)
    source = {**generator.record, "n": n, "seed": seed, "labels": labels}
    return Directions(space, directions, source)


def compute_first_layer(network: nn.Module, z: Tensor, labels: Tensor | None = None) -> Tensor:
    """Compute the outputs of the first dense layer in coordinates [n, D] of their span.

    The layer is Au + b with an input u that begins with the latents. With A = QR, whose Q has
    orthonormal columns, Ru has the same principal components as Au in at most as many dimensions as
    u, which are far fewer than the layer has outputs.

    Raises:
        UserError: No dense layer reads the latents.
    """
    found: list[tuple[nn.Linear, Tensor]] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        # an embedding of the labels is a dense layer too
        reads_latents = torch.equal(inputs[0][:, : z.shape[1]], z)
        if not found and isinstance(module, nn.Linear) and reads_latents:
            found.append((module, inputs[0]))
            raise _FirstLayerReachedError

    handles = [
        module.register_forward_pre_hook(keep)
        for module in network.modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        network(z, *([] if labels is None else [labels]))
    except _FirstLayerReachedError:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise UserError("No dense layer of this generator reads the latents")
    ((layer, inputs),) = found
    weight = layer.weight.double()
    if weight.shape[0] > weight.shape[1]:
        weight = torch.linalg.qr(weight, mode="r")[1]
    return inputs.double() @ weight.T


class _FirstLayerReachedError(Exception):
    """Ends the forward pass of a generator after its first layer."""


def find_components(
    latents: Tensor, coordinates: Tensor, classes: Tensor | None, count: int
) -> list[Direction]:
    """Find principal components of coordinates [n, C] as directions of latents [n, D].

    Each component's direction is the slope of the regression of the latents on it: itself, if the
    coordinates are the latents. Classes [n] are centered first, so that no component is only the
    difference of two classes.
    """
    x, z = _center(coordinates, classes), _center(latents, classes)
    variances, axes = torch.linalg.eigh(x.T @ x / len(x))
    variances, axes = variances.flip(0), axes.flip(1)
    total = float(variances.sum())
    if not (math.isfinite(total) and total > 0):
        raise UserError("The latents of all samples are equal. Train the generator longer")
    directions = []
    for i in range(min(count, latents.shape[1], len(variances))):
        share = float(variances[i]) / total
        if share < MIN_VARIANCE_SHARE:
            break
        vector = z.T @ (x @ axes[:, i])
        vector = vector / vector.norm()
        vector = vector * vector[vector.abs().argmax()].sign()
        std = float((z @ vector).square().mean().sqrt())
        directions.append(Direction(f"pc{i + 1}", vector.tolist(), std, explained_variance=share))
    return directions


def _center(x: Tensor, classes: Tensor | None) -> Tensor:
    """Subtract the mean, or that of each class, from vectors [n, D]."""
    if classes is None:
        return x - x.mean(dim=0)
    centered = x.clone()
    for label in classes.unique():
        members = classes == label
        centered[members] -= x[members].mean(dim=0)
    return centered


def find_class_directions(latents: Tensor, labels: Tensor, names: Sequence[str]) -> list[Direction]:
    """Find the direction to each class: the normal of the boundary of logistic regression.

    Args:
        latents: [n, D].
        labels: [n].
        names: Name of each class. Classes with fewer than ``MIN_CLASS_IMAGES`` are left out.

    Returns:
        Directions with their accuracy on the last ``HELD_OUT_SHARE`` of the latents.
    """
    centered = latents - latents.mean(dim=0)
    # one scale for all coordinates, because directions have the geometry of the latents
    x: np.ndarray = (centered / centered.square().mean().sqrt()).numpy()
    split = round((1 - HELD_OUT_SHARE) * len(x))
    directions = []
    for number, name in track(list(enumerate(names)), "classes"):
        y = (labels == number).numpy()
        if min(y[:split].sum(), (~y[:split]).sum()) < MIN_CLASS_IMAGES:
            continue
        model = LogisticRegression(class_weight="balanced", max_iter=2000)
        model.fit(x[:split], y[:split])
        predicted = model.predict(x[split:])
        vector = torch.from_numpy(model.coef_[0]).double()
        vector = vector / vector.norm()
        std = float((centered @ vector).square().mean().sqrt())
        accuracy = float(balanced_accuracy_score(y[split:], predicted))
        directions.append(Direction(name, vector.tolist(), std, accuracy=accuracy))
    return directions


def classify_samples(
    generator: TrainedGenerator, classifier: SampleClassifier, z: Tensor, classes: Tensor | None
) -> Tensor:
    """Label samples with latents [n, Z], [n]."""
    predicted = []
    for i in track(range(0, len(z), BATCH_SIZE), "labeling samples"):
        rows = slice(i, i + BATCH_SIZE)
        images = generator.images_of(z[rows], None if classes is None else classes[rows])
        with torch.no_grad():
            predicted.append(classifier.network(images.clamp(-1, 1)).argmax(dim=1))
    return torch.cat(predicted)


def draw_directions(
    generator: TrainedGenerator,
    directions: Directions,
    seed: int = 0,
    label: int | str | None = None,
    steps: int = 7,
    span: float = 3.0,
    layers: range | None = None,
) -> tuple[Tensor, list[str]]:
    """Draw the sample of a seed, moved along each direction in a row of ``steps`` images.

    Args:
        generator: The generator.
        directions: Its directions.
        seed: Of the sample.
        label: Its class.
        steps: Images in a row, with the sample itself in the middle.
        span: Steps to the left and right of it, in standard deviations of the latents.
        layers: Of StyleGAN2, the layers that are moved. Default: all.

    Returns:
        Images [directions * steps, C, H, W], and a caption of each row.

    Raises:
        UserError: ``steps`` or ``span`` is out of range, or there is no such label or layer.
    """
    if steps < 2 or not 0 < span < math.inf:
        raise UserError(
            f"Out of range: steps={steps}, span={span}. Use 2 steps and a positive span"
        )
    generator.set_directions(directions)
    rows = [
        generator(1, label, seed, move={each.name: float(amount)}, layers=layers)
        for each in directions.directions
        for amount in torch.linspace(-span, span, steps)
    ]
    return torch.cat(rows), [describe(each) for each in directions.directions]
