"""Evaluate at intervals of images, and track the best scores."""

from __future__ import annotations

import math
import time
from typing import Any

from lightning.pytorch import Trainer

from gan_lab.families.base import Family
from gan_lab.metrics.evaluator import Evaluator
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.ema import EMA
from gan_lab.training.callbacks.progress import Progress


class Evaluation(FamilyCallback):
    """Evaluates the EMA weights at intervals.

    Attributes:
        scores: Scores of the latest evaluation.
        best: All scores of the evaluation with the best headline score.
        evaluated_at: Iteration of the latest evaluation.
        best_at: Iteration of the best headline score.
        best_baselines: Best value of each baseline, and its iteration.
        last_s: Seconds of the latest evaluation; 0: none in this session.
        total_s: Seconds of all evaluations of this session.
    """

    def __init__(
        self, evaluator: Evaluator, headline: str | None, every: int, ema: EMA, progress: Progress
    ) -> None:
        self.evaluator = evaluator
        self.headline = headline
        self.every = every
        self.ema = ema
        self.progress = progress
        self.scores: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.evaluated_at = self.best_at = -1
        self.best_baselines: dict[str, list[float]] = {}
        self.last_s = self.total_s = 0.0

    @property
    def evaluated(self) -> bool:
        """True if the current iteration was evaluated."""
        return self.evaluated_at == self.progress.iteration

    @property
    def improved(self) -> bool:
        """True if the current iteration was evaluated and has the best headline score."""
        return self.best_at == self.progress.iteration

    @property
    def own_best(self) -> list[str]:
        """Baselines that reached their best score in the current iteration."""
        return [
            name for name, (_, at) in self.best_baselines.items() if at == self.progress.iteration
        ]

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        if not (self.progress.has_crossed(self.every) or self.progress.spent):
            return
        started = time.monotonic()
        with self.ema.applied(family):
            self.scores = self.evaluator(family)
        self.last_s = time.monotonic() - started
        self.total_s += self.last_s
        self.evaluated_at = self.progress.iteration
        if self._is_best():
            self.best, self.best_at = dict(self.scores), self.progress.iteration
        for name in self.scores.keys() & self.evaluator.own_best:
            value, higher = self.scores[name], self.evaluator.own_best[name]
            best = self.best_baselines.get(name)
            if best is None or is_better(value, best[0], higher):
                self.best_baselines[name] = [value, self.progress.iteration]

    def count_remaining(self) -> int:
        """Count the evaluations that are still to come."""
        total = self.progress.iterations * self.progress.batch_size
        at_multiples = total // self.every - self.progress.images // self.every
        # the last iteration is evaluated, too
        is_extra = total % self.every >= self.progress.batch_size and not self.progress.spent
        iterations_left = self.progress.iterations - self.progress.iteration
        return min(at_multiples + is_extra, iterations_left)

    def _is_best(self) -> bool:
        """Compare with the best evaluation: equal headlines by the other scores, then by time."""
        if self.headline is None or not self.best:
            return True
        directions = self.evaluator.higher_is_better
        for name in dict.fromkeys([self.headline, *self.scores]):
            higher = directions.get(name)
            is_comparable = name in self.best and higher is not None
            if is_comparable and self.scores[name] != self.best[name]:
                return is_better(self.scores[name], self.best[name], higher)
        return True

    def state_dict(self) -> dict[str, Any]:
        # The keys are part of the checkpoint format.
        return {
            "scores": self.scores,
            "best": self.best,
            "evaluated_at": self.evaluated_at,
            "best_at": self.best_at,
            "yardsticks": self.best_baselines,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, "best_baselines" if name == "yardsticks" else name, value)


def is_better(now: float, before: float, higher: bool | None) -> bool:
    """Return whether a score is strictly better than before; every number is better than NaN."""
    if math.isnan(before):
        return not math.isnan(now)
    return now > before if higher else now < before
