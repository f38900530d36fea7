"""Keep a training alive when its terminal, pipe or log file fails, and explain errors in one line."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys

NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "Cannot allocate memory", "bad_alloc")


class Lasting(io.TextIOWrapper):
    """A stream that shows what it can: unknown characters as ``?``, and nothing once its reader has gone."""

    def write(self, text: str) -> int:
        """Write, or go on in silence where that is not possible any more."""
        try:
            return super().write(text)
        except OSError:
            self._fall_silent()
            return len(text)

    def flush(self) -> None:
        """As ``write``."""
        try:
            super().flush()
        except OSError:
            self._fall_silent()

    def _fall_silent(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())  # also for what this process starts
        os.close(nowhere)


def make_lasting() -> None:
    """Replace standard output and standard error by streams that cannot end a training."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper:
            lines = stream.line_buffering or name == "stderr"
            setattr(sys, name, Lasting(stream.buffer, stream.encoding, "replace", line_buffering=lines))


class EchoHandler(logging.Handler):
    """Prints what is logged on standard output, as it is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        print(self.format(record), flush=True)


def log_to_stdout() -> None:
    """Let the lab's logger print plain lines."""
    logger = logging.getLogger("gan_lab")
    logger.setLevel(logging.INFO)
    logger.handlers = [EchoHandler()]


def no_memory(error: BaseException) -> bool:
    """True if this error says that the memory, of the machine or of a GPU, is used up."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def flat(sentence: object) -> str:
    """A text without line breaks, which a file's name may hold."""
    return "\\n".join(str(sentence).splitlines())


def in_one_line(error: Exception) -> str | None:
    """Explain an error and its remedy in one line; None for a fault of the lab, whose traceback is wanted."""
    sentence = " ".join(str(error).partition("\nOriginal Traceback")[2].rpartition("Error: ")[2].split()) or " ".join(
        str(error).split()
    )  # of what was raised in a loader's process the last line
    if no_memory(error):
        return (f"the memory is used up ({sentence[:160] or type(error).__name__}): try a smaller data.batch_size, data.size or "
                "model.width, or fewer images at a time; `gan-lab dry-run` says what an iteration takes")  # fmt: skip
    if "more than 1 value per channel" in sentence:
        return (f"batch norm needs two images or more in each process ({sentence}): try a larger data.batch_size, or "
                "model.norm=none")  # fmt: skip
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return f"{sentence}: this shell allows too few open files, `ulimit -n 1024` allows more"
    return sentence if isinstance(error, ValueError | OSError) else None
