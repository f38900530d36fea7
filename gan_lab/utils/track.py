"""A bar on the terminal while something takes long; in a log file there is none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich import progress
from rich.console import Console

T = TypeVar("T")


def track(
    items: Iterable[T], description: str, total: int | None = None, shown: bool = True
) -> Iterable[T]:
    """Go through items, of which there are ``total``, with a bar if it is ``shown`` and standard error is a terminal."""
    console = Console(stderr=True, markup=False)
    if not (shown and console.is_terminal):
        return items  # a bar that is disabled has a thread all the same
    return progress.track(items, description, total, console=console, transient=True)
