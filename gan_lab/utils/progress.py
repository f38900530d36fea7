"""A bar on the terminal while something takes long; in a log file there is none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich import progress
from rich.console import Console

T = TypeVar("T")


def track(items: Iterable[T], description: str, total: int | None = None, least: int = 1) -> Iterable[T]:
    """Go through items, with a bar if standard error is a terminal and there are ``least`` of them (``total``, if known)."""
    console, many = Console(stderr=True, markup=False), total is None or total >= least
    return progress.track(
        items, description, total, console=console, transient=True, disable=not (many and console.is_terminal)
    )
