"""Output streams that survive a closed terminal or pipe, and logging."""

from __future__ import annotations

import io
import logging
import os
import sys


class ResilientStream(io.TextIOWrapper):
    """A stream that never fails: it discards its output once the reader is gone."""

    def write(self, text: str) -> int:
        """Write the text, or discard it if the stream is closed."""
        try:
            return super().write(text)
        except OSError:
            self._discard_output()
            return len(text)

    def flush(self) -> None:
        """Flush the stream, or discard its content if it is closed."""
        try:
            super().flush()
        except OSError:
            self._discard_output()

    def _discard_output(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        # replaces the file descriptor, which child processes inherit
        os.dup2(null, self.fileno())
        os.close(null)


def protect_streams() -> None:
    """Replace stdout and stderr by streams that never fail; unencodable characters become ``?``."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper:
            line_buffering = stream.line_buffering or name == "stderr"
            resilient = ResilientStream(
                stream.buffer, stream.encoding, "replace", line_buffering=line_buffering
            )
            setattr(sys, name, resilient)


class EchoHandler(logging.Handler):
    """Prints log records to the current ``sys.stdout``."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        print(self.format(record), flush=True)


def log_to_stdout() -> None:
    """Configure the lab's logger to print plain lines to stdout."""
    logger = logging.getLogger("gan_lab")
    logger.setLevel(logging.INFO)
    logger.handlers = [EchoHandler()]
