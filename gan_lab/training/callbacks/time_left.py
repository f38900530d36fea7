"""Estimate the time left of a training, its evaluations and the final scores."""

from __future__ import annotations

import time

from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.progress import Progress
from gan_lab.utils.numbers import format_duration

# the speed is that of the last one to two of these, so that it follows the load of the machine
SPEED_WINDOW_S = 30.0
# sets of weights that the end of a training scores: best, last and raw; best has more metrics
FINAL_EVALUATIONS = 3


class TimeLeft:
    """Estimates the seconds that are left, from the speed of this session.

    Args:
        progress: The progress.
        evaluation: The evaluations, which measure their duration.
        final_fakes: Number of generated images of one final evaluation.
    """

    def __init__(self, progress: Progress, evaluation: Evaluation, final_fakes: int) -> None:
        self.progress = progress
        self.evaluation = evaluation
        self.final_fakes = final_fakes
        # pairs of seconds of training without evaluations, and images; the older one first
        self._marks: list[tuple[float, int]] = []

    def start(self) -> None:
        """Forget the speed of an earlier session. Call it before the first iteration."""
        self._marks = [self._now()]

    def _now(self) -> tuple[float, int]:
        return time.monotonic() - self.evaluation.total_s, self.progress.images

    @property
    def images_per_s(self) -> float:
        """Recent training speed without evaluations; 0 before the second iteration."""
        now, images = self._now()
        if not self._marks:
            self.start()
        if now - self._marks[-1][0] > SPEED_WINDOW_S:
            self._marks = [self._marks[-1], (now, images)]
        since, images_then = self._marks[0]
        return (images - images_then) / (now - since) if now > since else 0.0

    @property
    def training_s(self) -> float | None:
        """Seconds of training that are left, with its evaluations; None if the speed is unknown."""
        total = self.progress.iterations * self.progress.batch_size
        left = max(0, total - self.progress.images)
        speed = self.images_per_s
        if left and not speed:
            return None
        evaluations = self.evaluation.count_remaining()
        return (left / speed if left else 0.0) + evaluations * self.evaluation.last_s

    @property
    def scoring_s(self) -> float | None:
        """Seconds of the scores at the end; None before the first evaluation."""
        setting = self.evaluation.evaluator.setting
        if not self.evaluation.last_s:
            return None
        return FINAL_EVALUATIONS * self.evaluation.last_s * self.final_fakes / setting.fakes

    def __str__(self) -> str:
        training_s, scoring_s = self.training_s, self.scoring_s
        if training_s is None:
            return ""
        if not self.evaluation.evaluator.metrics:
            return f"{format_duration(training_s)} left"
        if scoring_s is None:
            return f"{format_duration(training_s)} left, then final scores"
        return f"{format_duration(training_s + scoring_s)} left with final scores"
