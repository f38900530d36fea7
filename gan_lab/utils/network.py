"""Reachability of network hosts."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from http.client import HTTPException


def is_reachable(url: str, seconds: float = 5.0) -> bool:
    """Return whether a server responds in time.

    Runs in a thread, since name resolution has no timeout of its own.
    """
    answers: list[bool] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(
                urllib.request.Request(url, method="HEAD"), timeout=seconds
            ).close()
            answers.append(True)
        except urllib.error.HTTPError:
            # an HTTP error is a response
            answers.append(True)
        except (OSError, HTTPException):
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answers)
