"""When to draw sample grids of a training that is watched: often at first, then at intervals."""

from __future__ import annotations

# training time of the first grid; the following ones come after twice the iterations each
FIRST_GRID_S = 1.0
# minimum time between two grids after that
GRID_INTERVAL_S = 30.0
# grids and pages take no larger share of the training time
MAX_COST_SHARE = 0.02
# of a whole training: long ones have longer intervals, so that their pictures do not fill the disk
MAX_GRIDS = 200
# the interval changes only if the speed has changed by more than noise
MIN_INTERVAL_RATIO = 0.7
MAX_INTERVAL_RATIO = 4.0


class GridSchedule:
    """Grids at ``first`` iterations, twice as many, four times as many, ..., then at an interval.

    Both numbers are measured once: ``first`` is the iteration at ``FIRST_GRID_S``, and the doubling
    ends when the next grid would be further away than ``GRID_INTERVAL_S``. From then on the grids
    depend on the iteration alone, and the checkpoint contains both numbers, so a resumed run draws
    its grids at the iterations of an uninterrupted one. The clock decides only which iterations are
    drawn: a grid changes no weight and draws from its own random stream, so the weights of a run do
    not depend on it.

    Attributes:
        iterations: The budget of the training.
        begin: Iteration at which this session began.
        first: Iterations until the first grid; 0: not decided yet.
        interval: Iterations between two grids, a multiple of ``first``; 0: the grids still double.
    """

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        self.begin = 0
        self.first = 0
        self.interval = 0

    def is_due(self, iteration: int, elapsed_s: float) -> bool:
        """Return whether to draw a grid now.

        Args:
            iteration: Number of iterations of the run.
            elapsed_s: Seconds since training began or resumed.
        """
        if not self.first:
            if elapsed_s < FIRST_GRID_S:
                return False
            self.first = iteration - self.begin
            return True
        if self.interval:
            return iteration % self.interval == 0
        return iteration == self._next_doubling(iteration - 1)

    def count_until_next(self, iteration: int) -> int:
        """Return the number of iterations until the next grid; 0 if it is not known."""
        if self.interval:
            return self.interval - iteration % self.interval
        return self._next_doubling(iteration) - iteration if self.first else 0

    def adapt(self, iteration: int, iteration_s: float, cost_s: float) -> None:
        """Set the interval, or change it if a grid costs too much or the speed has changed.

        Args:
            iteration: Number of iterations of the run, at which a grid was drawn.
            iteration_s: Seconds per iteration.
            cost_s: Seconds that the grid and the page took.
        """
        minimum_s = max(GRID_INTERVAL_S, cost_s / MAX_COST_SHARE)
        if not self.interval:
            gap = self._next_doubling(iteration) - iteration
            if gap * iteration_s < minimum_s or gap * MAX_GRIDS < self.iterations:
                return
            self.interval = self.first
        elif (
            MIN_INTERVAL_RATIO * minimum_s
            <= self.interval * iteration_s
            <= MAX_INTERVAL_RATIO * minimum_s
        ):
            return
        # powers of two times the first, so that the grids of a shorter interval include these
        interval = self.first
        while interval * iteration_s < minimum_s or interval * MAX_GRIDS < self.iterations:
            interval *= 2
        self.interval = interval

    def _next_doubling(self, iteration: int) -> int:
        """Return the first of ``first``, twice, four times, ... after an iteration."""
        following = self.first
        while following <= iteration:
            following *= 2
        return following
