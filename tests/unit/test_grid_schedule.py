"""The schedule of sample grids, on a clock that the tests set."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gan_lab.training.callbacks import grid_schedule
from gan_lab.training.callbacks.grid_schedule import GridSchedule
from gan_lab.training.callbacks.live_page import LivePage
from gan_lab.training.callbacks.sample_grids import SampleGrids

pytestmark = pytest.mark.usefixtures("grids_by_the_clock")


def draw(
    schedule: GridSchedule, iterations: int, iteration_s: float, cost_s: float = 0.0, begin: int = 0
) -> list[tuple[int, float]]:
    """Run a training at constant speed; return iteration and training time of each grid."""
    grids = []
    schedule.begin = begin
    for iteration in range(begin + 1, iterations + 1):
        elapsed_s = (iteration - begin) * iteration_s
        if schedule.is_due(iteration, elapsed_s):
            schedule.adapt(iteration, iteration_s, cost_s)
            grids.append((iteration, elapsed_s))
    return grids


@pytest.mark.parametrize("iteration_s", [0.002, 0.013, 0.4])
def test_schedule_doubles_from_first_second_to_interval(iteration_s: float) -> None:
    """Grids come after about 1, 2, 4, ... seconds, and then at equal intervals of 30 to 60 s."""
    iterations = round(600 / iteration_s)
    times = [seconds for _, seconds in draw(GridSchedule(iterations), iterations, iteration_s)]
    assert grid_schedule.FIRST_GRID_S <= times[0] < grid_schedule.FIRST_GRID_S + iteration_s
    gaps = [later - earlier for earlier, later in pairwise(times)]
    doubling = [gap for gap in gaps if gap < grid_schedule.GRID_INTERVAL_S]
    assert doubling == pytest.approx([times[0] * 2**k for k in range(len(doubling))])
    rest = gaps[len(doubling) :]
    assert rest == pytest.approx([rest[0]] * len(rest))
    assert grid_schedule.GRID_INTERVAL_S <= rest[0] < 2 * grid_schedule.GRID_INTERVAL_S + 1


@pytest.mark.parametrize("cost_s", [0.1, 2.0, 9.0])
def test_schedule_cost_stays_below_share(cost_s: float) -> None:
    """The more a grid and its page cost, the rarer they are."""
    grids = draw(GridSchedule(50_000), 50_000, 0.1, cost_s)
    late = [seconds for _, seconds in grids if seconds > 600]
    gaps = [later - earlier for earlier, later in pairwise(late)]
    assert gaps
    assert cost_s <= grid_schedule.MAX_COST_SHARE * min(gaps)


def test_schedule_of_long_training_draws_few_grids() -> None:
    """A training of several days has about as many grids as one of hours."""
    grids = draw(GridSchedule(300_000), 300_000, 1.0)
    doublings = math.ceil(math.log2(300_000))
    assert grid_schedule.MAX_GRIDS / 2 < len(grids) <= grid_schedule.MAX_GRIDS + doublings


@pytest.mark.parametrize("killed_at", [500, 10_000, 40_000])
def test_schedule_resumes_at_iterations_of_uninterrupted_run(killed_at: int) -> None:
    """With the state of a checkpoint, a faster or slower machine draws the same iterations."""
    whole = [iteration for iteration, _ in draw(GridSchedule(60_000), 60_000, 0.01)]
    before = GridSchedule(60_000)
    found = [iteration for iteration, _ in draw(before, killed_at, 0.01)]
    after = GridSchedule(60_000)
    after.first, after.interval = before.first, before.interval
    found += [iteration for iteration, _ in draw(after, 60_000, 0.013, begin=killed_at)]
    assert found == whole


def test_schedule_follows_change_of_speed() -> None:
    """Iterations that become ten times as slow do not make a reader wait ten times as long."""
    schedule = GridSchedule(1_000_000)
    draw(schedule, 50_000, 0.01)
    slow = draw(schedule, 100_000, 0.1, begin=50_000)
    gaps = [later - earlier for (_, earlier), (_, later) in pairwise(slow)]
    assert gaps[-1] <= grid_schedule.MAX_INTERVAL_RATIO * max(
        grid_schedule.GRID_INTERVAL_S, 0.1 * 1_000_000 / grid_schedule.MAX_GRIDS
    )


def test_schedule_of_late_start_soon_reaches_interval() -> None:
    """A run of an older version resumes without a schedule, and does not wait for a doubling."""
    schedule = GridSchedule(2_000_000)
    times = [seconds for _, seconds in draw(schedule, 1_060_000, 0.01, begin=1_000_000)]
    assert times[0] < 1.1
    assert times[1] < 2 * 0.01 * 2_000_000 / grid_schedule.MAX_GRIDS + 1


def test_count_until_next_is_the_gap_of_the_grids() -> None:
    """While grids double, and at the interval of a training of days, which is far above 30 s."""
    schedule = GridSchedule(300_000)
    assert schedule.count_until_next(0) == 0
    announced: dict[int, int] = {}
    for iteration in range(1, 20_000):
        if schedule.is_due(iteration, float(iteration)):
            schedule.adapt(iteration, 1.0, 0.0)
            announced[iteration] = schedule.count_until_next(iteration)
    drawn = list(announced)
    assert [later - earlier for earlier, later in pairwise(drawn)] == list(announced.values())[:-1]
    assert schedule.interval >= 1500


@pytest.mark.parametrize(
    ("cost_s", "speed", "next_s"),
    [(0.0, 16.0, 2048.0), (0.0, 0.0, 30.0), (1e9, 16.0, 250_000.0)],
    ids=["interval of the grids", "unknown speed", "no time for another page"],
)
def test_live_page_announces_next_page_by_schedule(
    cost_s: float, speed: float, next_s: float
) -> None:
    """A page of a long training must not say after a minute that the training has stopped."""
    grids: Any = SampleGrids.__new__(SampleGrids)
    grids.grid_every, grids.evaluate_every = None, 10**9
    grids.schedule = GridSchedule(300_000)
    grids.schedule.first, grids.schedule.interval = 1, 2048
    grids.progress = SimpleNamespace(
        images=20_480 * 16, iteration=20_480, iterations=300_000, batch_size=16, spent=False
    )
    time_left: Any = SimpleNamespace(training_s=250_000.0, images_per_s=speed)
    page = LivePage(Path(), [], Any, grids.progress, grids, time_left)  # type: ignore[arg-type]
    page.cost_s = cost_s
    assert page._describe().next_s == next_s
    grids.grid_every = 6400
    if speed and not cost_s:
        assert page._describe().next_s == (6400 - 20_480 * 16 % 6400) / speed
