"""Formatting of numbers."""

from __future__ import annotations


def rounded(value: float, digits: int = 3, sign: str = "") -> str:
    """Format a number with ``digits`` significant digits, and large numbers without an exponent.

    >>> rounded(0.12345), rounded(7747.3), rounded(999.6)
    ('0.123', '7,747', '1,000')
    >>> rounded(-123.4, 2, "+"), rounded(0.00001234)
    ('-123', '1.23e-05')
    """
    return f"{value:{sign},.0f}" if abs(value) >= 10**digits - 0.5 else f"{value:{sign}.{digits}g}"


def mean_and_spread(mean: float, sd: float | None, digits: int = 3) -> str:
    """Format mean and standard deviation, as in 0.123 ± 0.045."""
    return rounded(mean, digits) + ("" if sd is None else f" ± {rounded(sd, 2)}")
