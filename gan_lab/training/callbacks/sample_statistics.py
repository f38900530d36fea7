"""Statistics of a small set of images, which show collapse, lost colors, noise and overfitting.

All of them are pure functions of tensors on one device, without synchronization.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# A near copy is closer to another image than this fraction of the mean distance of real images to
# their nearest neighbor.
NEAR_COPY_FRACTION = 0.1


def rows_by_label(labels: Tensor) -> list[Tensor]:
    """Return the row indices of each label of labels [N], ordered by label."""
    return [(labels == label).nonzero().squeeze(1) for label in labels.unique()]


def mean_pairwise_distance(features: Tensor, groups: Sequence[Tensor] | None = None) -> Tensor:
    """Compute the mean distance between pairs of features [N, D].

    Args:
        features: The features.
        groups: Row indices; if given, only pairs within a group count.

    Returns:
        A scalar; 0 if there are no pairs.
    """
    parts = [features] if groups is None else [features[rows] for rows in groups]
    distances = torch.cat([torch.pdist(part) for part in parts]).double()
    return distances.sum() / max(1, len(distances))


def class_distances(features: Tensor, groups: Sequence[Tensor]) -> Tensor:
    """Compute the mean distance between pairs of each group, [groups]; 0 for a group of one."""
    return torch.stack([mean_pairwise_distance(features[rows]) for rows in groups])


def nearest_distances(features: Tensor, groups: Sequence[Tensor] | None = None) -> Tensor:
    """Compute the distance of each of the features [N, D] to its nearest neighbor.

    Args:
        features: The features.
        groups: Row indices; if given, neighbors are searched within the group.

    Returns:
        Distances in the order of the groups, without groups of one: [N] or fewer.
    """
    parts = [features] if groups is None else [features[rows] for rows in groups]
    distances = [
        torch.cdist(part, part, compute_mode="donot_use_mm_for_euclid_dist")
        for part in parts
        if len(part) > 1
    ]
    nearest = [pairs.fill_diagonal_(torch.inf).min(dim=1).values for pairs in distances]
    return torch.cat([features.new_zeros(0), *nearest])


def mean_nearest_distance(features: Tensor, groups: Sequence[Tensor] | None = None) -> Tensor:
    """Compute the mean of ``nearest_distances``, a scalar; 0 if there are no pairs."""
    nearest = nearest_distances(features, groups)
    return nearest.double().sum() / max(1, len(nearest))


def entropy(logits: Tensor) -> Tensor:
    """Compute the entropy in nats of the predicted classes of logits [N, classes]."""
    # bincount would synchronize with the device
    classes = torch.arange(logits.shape[1], device=logits.device)
    shares = (logits.argmax(dim=1, keepdim=True) == classes).double().mean(dim=0)
    return torch.special.entr(shares).sum()


def energy_distance(fake: Tensor, real: Tensor, real_distance: float) -> Tensor:
    """Compute the energy distance of two sets of features, relative to the spread of the reals.

    (2 E|x - y| - E|x - x'| - E|y - y'|) / E|y - y'| with fakes x and reals y, over different
    images: about 0 for samples of one distribution, and 1 for one typical real image repeated. It
    is an unbiased estimate, which may be negative.

    Args:
        fake: Features of fakes [N, D].
        real: Features of reals [M, D].
        real_distance: Mean distance between two different reals.

    Returns:
        A scalar.

    Source: Székely & Rizzo 2013 (doi 10.1016/j.jspi.2013.03.018), equation 2.2.
    """
    between = torch.cdist(fake, real, compute_mode="donot_use_mm_for_euclid_dist").double().mean()
    return (2 * between - mean_pairwise_distance(fake) - real_distance) / real_distance


def color_spread(images: Tensor) -> Tensor:
    """Compute the spread of the colors of RGB images [N, 3, H, W], independent of brightness.

    It is det(C)^(1/4), where C [2, 2] is the covariance of all pixels along two axes orthogonal to
    gray. Scaling the saturation by s scales it by s. It is 0 for gray images, and for images with a
    single tint, whether it is constant or proportional to the brightness.

    Returns:
        A scalar, in units of pixel values.
    """
    red, green, blue = images.double().unbind(dim=1)
    axes = torch.stack(
        [((red - green) / 2**0.5).flatten(), ((red + green - 2 * blue) / 6**0.5).flatten()]
    )
    centered = axes - axes.mean(dim=1, keepdim=True)
    covariance = centered @ centered.T / centered.shape[1]
    return torch.linalg.det(covariance).clamp(min=0) ** 0.25


def roughness(images: Tensor) -> Tensor:
    """Compute how unlike neighboring pixels of images [N, C, H, W] are.

    It is half the mean squared difference of neighbors, divided by the mean variance of an image:
    about 0 for smooth images, 1 for white noise and 2 for a checkerboard; 0 for images of a single
    color each.

    Returns:
        A scalar.

    Source: von Neumann 1941 (doi 10.1214/aoms/1177731677), in two dimensions.
    """
    pixels = images.double()
    rows = (pixels[:, :, 1:] - pixels[:, :, :-1]).square().mean()
    columns = (pixels[:, :, :, 1:] - pixels[:, :, :, :-1]).square().mean()
    variance = pixels.var(dim=(2, 3), unbiased=False).mean()
    ratio = (rows + columns) / 4 / variance
    return torch.where(variance > 0, ratio, torch.zeros_like(ratio))


def rank_probability(first: Tensor, second: Tensor) -> Tensor:
    """Compute the probability that a value of ``first`` [N] exceeds one of ``second`` [M].

    Ties count half, so that it is 0.5 for equal distributions. Multiplied by N M, it is the
    Mann-Whitney statistic.

    Returns:
        A scalar.
    """
    differences = first.double()[:, None] - second.double()[None, :]
    return (differences.sign().mean() + 1) / 2
