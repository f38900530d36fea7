"""Formatting of numbers."""

from __future__ import annotations


def format_rounded(value: float, digits: int = 3, sign: str = "") -> str:
    """Format a number with ``digits`` significant digits, and large numbers without an exponent.

    >>> format_rounded(0.12345), format_rounded(7747.3), format_rounded(999.6)
    ('0.123', '7,747', '1,000')
    >>> format_rounded(-123.4, 2, "+"), format_rounded(0.00001234)
    ('-123', '1.23e-05')
    """
    return f"{value:{sign},.0f}" if abs(value) >= 10**digits - 0.5 else f"{value:{sign}.{digits}g}"


def format_duration(seconds: float) -> str:
    """Format seconds in the unit that gives one to three digits.

    >>> format_duration(0.4), format_duration(45), format_duration(700)
    ('1 s', '45 s', '12 min')
    >>> format_duration(9_000), format_duration(400_000)
    ('2.5 h', '4.6 days')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        return f"{format_rounded(seconds / 3600, 2)} h"
    return f"{format_rounded(seconds / 86400, 2)} days"


def format_count(number: int, noun: str) -> str:
    """Format a number with its noun in the right form.

    >>> format_count(1, "evaluation"), format_count(1200, "image")
    ('1 evaluation', '1,200 images')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def mean_and_spread(mean: float, sd: float | None, digits: int = 3) -> str:
    """Format mean and standard deviation, as in 0.123 ± 0.045."""
    return format_rounded(mean, digits) + ("" if sd is None else f" ± {format_rounded(sd, 2)}")
