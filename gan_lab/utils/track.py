"""A progress bar for long computations on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich import progress
from rich.console import Console

T = TypeVar("T")


def track(
    items: Iterable[T], description: str, total: int | None = None, shown: bool = True
) -> Iterable[T]:
    """Iterate over items with a progress bar, if ``shown`` and stderr is a terminal."""
    console = Console(stderr=True, markup=False)
    if not (shown and console.is_terminal):
        # a disabled rich progress bar would still start a thread
        return items
    return progress.track(items, description, total, console=console, transient=True)
