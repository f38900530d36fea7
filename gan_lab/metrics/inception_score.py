"""Inception score: how confident and how diverse a classifier's predictions are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.utilities import dim_zero_cat

from gan_lab.metrics.extractors.base import ModuleExtractor
from gan_lab.metrics.image_set_metric import ImageSetMetric
from gan_lab.utils.errors import UserError

# torch-fidelity's seed, so that the splits and the values are the same.
SHUFFLE_SEED = 2020


def inception_score(logits: Tensor, splits: int) -> tuple[float, float]:
    """Compute exp(E[KL(p(y|x) ‖ p(y))]) for each of several random splits of the images.

    Args:
        logits: Logits [N, classes].
        splits: Number of splits, at most N.

    Returns:
        Mean and standard deviation over the splits.

    Source: Salimans et al. 2016 (arXiv 1606.03498), section 4; evaluated as in torch-fidelity.

    Raises:
        UserError: There are fewer images than splits.
    """
    n = len(logits)
    if n < splits:
        raise UserError(
            f"Too few images for an inception score of {splits} splits: {n}. Pass at least "
            f"{splits}."
        )
    order = np.random.RandomState(SHUFFLE_SEED).permutation(n)
    logits = logits[order, :].double()
    p, log_p = logits.softmax(dim=1), logits.log_softmax(dim=1)
    scores = []
    for i in range(splits):
        rows = slice(i * n // splits, (i + 1) * n // splits)
        marginal = p[rows].mean(dim=0, keepdim=True)
        divergence = (p[rows] * (log_p[rows] - marginal.log())).sum(dim=1)
        scores.append(divergence.mean().exp().item())
    return float(np.mean(scores)), float(np.std(scores))


class InceptionScore(ImageSetMetric):
    """Inception score of fake images, as a torchmetrics metric.

    Splits are drawn by index in the order of the ranks, so another distribution of images over
    ranks changes the value within its standard deviation.

    Args:
        extractor: "inception"; "digits" for the same formula on the lab's digit classifier; or a
            module that returns logits [N, classes]; see ``ImageSetMetric``.
        splits: Number of splits; None: the extractor's default, which is 10 for inception and a
            module and 1 for digits.
        **kwargs: See ``ImageSetMetric``.

    Raises:
        UserError: The extractor has no class logits.
    """

    higher_is_better = True
    fake_logits: list[Tensor]

    def __init__(
        self, extractor: str | nn.Module = "inception", *, splits: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(extractor, **kwargs)
        if self.extractor.score is None and not isinstance(self.extractor, ModuleExtractor):
            raise UserError(
                f"The extractor {self.extractor.name} has no class logits. Use inception, digits, "
                "or a module that returns logits."
            )
        self.splits = self.extractor.splits if splits is None else splits
        self.add_state("fake_logits", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, real: bool = False) -> None:
        """Add fake images [N, C, H, W]. Real images are ignored: the score does not use them."""
        if real:
            return
        features, logits = self.extract(images)
        if isinstance(self.extractor, ModuleExtractor):
            logits = features
        assert logits is not None
        self.fake_logits.append(logits.to(self.device))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation over the splits.

        Raises:
            UserError: There are fewer fake images than splits.
        """
        if len(self.fake_logits) == 0:
            raise UserError(
                "An inception score needs fake images. Call update(images, real=False) first."
            )
        mean, deviation = inception_score(dim_zero_cat(self.fake_logits).cpu(), self.splits)
        return torch.tensor(mean, device=self.device), torch.tensor(deviation, device=self.device)
