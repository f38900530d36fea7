"""Output streams that survive a closed terminal or pipe, logging, and error messages."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import sysconfig
import traceback
from pathlib import Path

from gan_lab.utils.errors import UserError
from gan_lab.utils.files import PACKAGE

# messages of out-of-memory errors
OUT_OF_MEMORY_MESSAGES = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
    "bad_alloc",
)


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


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the machine or a GPU is out of memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(
        text in str(error) for text in OUT_OF_MEMORY_MESSAGES
    )


def escape_line_breaks(text: object) -> str:
    """Escape the line breaks of a text, such as a file name."""
    return "\\n".join(str(text).splitlines())


def explain_error(error: Exception) -> str | None:
    """Return a one-line message for an error that the user can fix, None for bugs.

    Users can fix a ``UserError``, a lack of memory, and an ``OSError`` such as a full disk, unless
    it was raised by user code: then the traceback is needed.
    """
    # an error from a DataLoader worker contains its traceback, and ends with the original message
    original = str(error).partition("\nOriginal Traceback")[2].rpartition("Error: ")[2]
    sentence = " ".join(original.split()) or " ".join(str(error).split())
    if is_out_of_memory(error):
        return (
            f"out of memory ({sentence[:160] or type(error).__name__}). Try run.micro_batches=2 "
            "or more, a smaller data.batch_size, data.size or model.width, or fewer images at a "
            "time; `gan-lab dry-run` reports the memory of an iteration"
        )
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return f"{sentence}. Raise the limit of open files: `ulimit -n 1024`"
    if isinstance(error, UserError) or (isinstance(error, OSError) and not find_user_frame(error)):
        return sentence
    return None


def find_user_frame(error: BaseException) -> traceback.FrameSummary | None:
    """Return the innermost frame of a traceback in user code, if any."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame for frame in reversed(frames) if _is_user_file(frame.filename)), None)


def _is_user_file(filename: str) -> bool:
    """Return whether a file is outside the lab, installed packages and the standard library."""
    path = Path(filename)
    # <string>, <frozen importlib>
    if not path.is_file():
        return False
    libraries = {
        Path(sysconfig.get_path(name)).resolve()
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    return not any(
        path.resolve().is_relative_to(folder)
        for folder in (PACKAGE, *libraries, Path(sys.prefix).resolve())
    )


def explain_bug(error: BaseException) -> str:
    """Return the line to print below a traceback: whose code raised, and what to do about it."""
    frame = find_user_frame(error)
    if frame:
        location = f"{frame.filename}, line {frame.lineno}, in {frame.name}"
        message = f"{type(error).__name__}: {escape_line_breaks(error)}"
        return f"error in your code: {location}: {message}"
    return (
        f"This is a bug in the lab, not in your command: {type(error).__name__}. Please report it "
        "with the traceback above, the command and the output of `gan-lab doctor`."
    )
