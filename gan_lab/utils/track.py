"""Show the progress of long computations: a bar on a terminal, lines in a log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich import progress
from rich.console import Console

from gan_lab.utils.numbers import format_duration

T = TypeVar("T")
# shorter computations print no line
FIRST_LINE_S = 10.0
LINE_INTERVAL_S = 30.0
# between two updates of a bar that belongs to someone else
STAGE_INTERVAL_S = 0.5
logger = logging.getLogger("gan_lab")
_show_stage: Callable[[str], None] | None = None


def show_in(show_stage: Callable[[str], None] | None) -> None:
    """Show the progress of ``track`` in another display, such as the bar of a training.

    Args:
        show_stage: A function that shows a text, and nothing for an empty one; None: show bars and
            lines again.
    """
    global _show_stage
    _show_stage = show_stage


def track(
    items: Iterable[T], description: str, total: int | None = None, shown: bool = True
) -> Iterable[T]:
    """Iterate over items, and show progress and time left.

    A terminal shows a bar on stderr. Otherwise the lab's logger gets a line after
    ``FIRST_LINE_S`` and then every ``LINE_INTERVAL_S``.

    Args:
        items: The items.
        description: What is done, such as "scoring fakes".
        total: Number of items; by default the length of ``items``.
        shown: False: show nothing.
    """
    if not shown:
        return items
    if total is None and isinstance(items, Sized):
        total = len(items)
    if _show_stage is not None:
        return _track_in_display(items, description, total, _show_stage)
    console = Console(stderr=True, markup=False)
    if not console.is_terminal:
        # a disabled rich progress bar would still start a thread
        return _track_in_log(items, description, total)
    return progress.track(items, description, total, console=console, transient=True)


def _track_in_log(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    started = time.monotonic()
    next_line = started + FIRST_LINE_S
    for done, item in enumerate(items):
        now = time.monotonic()
        if now >= next_line:
            line = _describe(description, done, total, now - started)
            logger.info(line[0].upper() + line[1:])
            next_line = now + LINE_INTERVAL_S
        yield item


def _track_in_display(
    items: Iterable[T], description: str, total: int | None, show_stage: Callable[[str], None]
) -> Iterator[T]:
    started = time.monotonic()
    next_update = started + STAGE_INTERVAL_S
    is_shown = False
    try:
        for done, item in enumerate(items):
            now = time.monotonic()
            if now >= next_update:
                show_stage(_describe(description, done, total, now - started))
                next_update = now + STAGE_INTERVAL_S
                is_shown = True
            yield item
    finally:
        if is_shown:
            show_stage("")


def _describe(description: str, done: int, total: int | None, elapsed_s: float) -> str:
    if total is None:
        return f"{description}: {format_duration(elapsed_s)} so far"
    left = f", {format_duration(elapsed_s / done * (total - done))} left" if done else ""
    return f"{description}: {done / max(1, total):.0%}{left}"


@contextmanager
def stage(description: str, shown: bool = True) -> Iterator[None]:
    """Log that a step of unknown duration is running, if it takes longer than ``FIRST_LINE_S``."""
    if not shown:
        yield
        return
    finished = threading.Event()
    started = time.monotonic()

    def log_lines() -> None:
        wait = FIRST_LINE_S
        while not finished.wait(wait):
            elapsed_s = time.monotonic() - started
            logger.info(f"{description}: {format_duration(elapsed_s)} so far")
            wait = LINE_INTERVAL_S

    thread = threading.Thread(target=log_lines, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
