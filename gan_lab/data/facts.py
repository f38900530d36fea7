"""Facts about a data set that other modules need without its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gan_lab.images import ImageSpec

DUPLICATE_LINKS = "links to images that are used anyway"


@dataclass(frozen=True)
class FileCounts:
    """An account of the files of a data set: seen = used + left out + duplicates.

    ``left_out`` has the number of files for each reason. ``duplicates`` are links to files that are
    used under another path. Files in ``unsearched`` folders (their number for each reason) are not
    among those seen.
    """

    seen: int
    used: int
    left_out: Mapping[str, int]
    duplicates: int = 0
    unsearched: Mapping[str, int] = field(default_factory=dict)

    def list_rows(self) -> list[tuple[str, str]]:
        """List the counts for a table: what they count, and the number with its reason."""
        rows = [("seen", f"{self.seen:,} files"), ("used", f"{self.used:,}")]
        rows += [("left out", f"{count:,} {reason}") for reason, count in self.left_out.items()]
        if self.duplicates:
            rows.append(("duplicates", f"{self.duplicates:,} {DUPLICATE_LINKS}"))
        rows += [("not searched", f"{n:,} {reason}") for reason, n in self.unsearched.items()]
        return rows

    def __str__(self) -> str:
        parts = [f"{count:,} {reason}" for reason, count in self.left_out.items()]
        text = f"{self.seen:,} files: {self.used:,} used" if self.seen != self.used else ""
        text = text or f"all {self.seen:,} files are used"
        if parts:
            text += f"; left out: {', '.join(parts)}"
        if self.duplicates:
            text += f"; {self.duplicates:,} {DUPLICATE_LINKS}"
        if self.unsearched:
            parts = [f"{count:,} {reason}" for reason, count in self.unsearched.items()]
            text += f"; not searched: {', '.join(parts)}"
        return text


@dataclass(frozen=True)
class DataFacts:
    """Facts about a data set as it is served to a run.

    ``counts`` has the number of images of ``train``, ``learned`` (the subset of ``train`` that the
    model is trained on, see ``data.images``), ``validation`` and ``test``.
    """

    spec: ImageSpec
    counts: Mapping[str, int]
    # In the order of the labels; empty for an unlabeled set.
    class_names: tuple[str, ...]
    # "full" or "sample".
    source: str
    # One line for the user.
    about: str
    # Hash of the pixels and labels.
    fingerprint: str
    # Empty if unknown.
    license: str = ""
    # Black and white levels of images with more than 8 bits, see ``DataConfig.levels``.
    levels: tuple[float, ...] = ()
    # The files under data.root; None if the set does not consist of image files.
    files: FileCounts | None = None
