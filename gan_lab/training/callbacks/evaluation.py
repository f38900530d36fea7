"""Evaluate at intervals counted in images, and remember the best."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer

from gan_lab.families.base import Family
from gan_lab.metrics.evaluator import Evaluator
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.ema import EMA
from gan_lab.training.callbacks.progress import Progress


class Evaluation(FamilyCallback):
    """Evaluates the averaged generator; ``improved`` says whether the iteration just ended has the best headline.

    A yardstick has a best iteration of its own: ``own_best`` names those that it has just reached.
    """

    def __init__(
        self, evaluator: Evaluator, headline: str | None, every: int, ema: EMA, progress: Progress
    ) -> None:
        self.evaluator, self.headline, self.every = evaluator, headline, every
        self.ema, self.progress = ema, progress
        self.scores: dict[str, float] = {}  # of the latest evaluation
        self.best: dict[str, float] = {}  # all scores of the best one
        self.evaluated_at = self.best_at = -1  # iterations
        self.yardsticks: dict[
            str, list[float]
        ] = {}  # of each its best value, and the iteration of it

    @property
    def evaluated(self) -> bool:
        """True if the iteration just ended was evaluated."""
        return self.evaluated_at == self.progress.iteration

    @property
    def improved(self) -> bool:
        """True if the iteration just ended was evaluated and is the best so far."""
        return self.best_at == self.progress.iteration

    @property
    def own_best(self) -> list[str]:
        """The yardsticks of which the iteration just ended is the best so far."""
        return [name for name, (_, at) in self.yardsticks.items() if at == self.progress.iteration]

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        if not (self.progress.has_crossed(self.every) or self.progress.spent):
            return
        with self.ema.applied(family):
            self.scores = self.evaluator(family)
        self.evaluated_at = self.progress.iteration
        if self._is_best():
            self.best, self.best_at = dict(self.scores), self.progress.iteration
        for name in self.scores.keys() & self.evaluator.own_best:
            value, higher = self.scores[name], self.evaluator.own_best[name]
            if name not in self.yardsticks or is_better(value, self.yardsticks[name][0], higher):
                self.yardsticks[name] = [value, self.progress.iteration]

    def _is_best(self) -> bool:
        if self.headline is None or not self.best:
            return True
        higher = self.evaluator.higher_is_better[self.headline]
        return is_better(self.scores[self.headline], self.best[self.headline], higher)

    def state_dict(self) -> dict[str, Any]:
        return {
            "scores": self.scores,
            "best": self.best,
            "evaluated_at": self.evaluated_at,
            "best_at": self.best_at,
            "yardsticks": self.yardsticks,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)


def is_better(now: float, before: float, higher: bool | None) -> bool:
    """True if a score is better than it was; as good is not better."""
    return now > before if higher else now < before
