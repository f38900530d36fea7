"""Text of an error, for use in a message."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its type if it has no text."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
