"""Names of scores that belong together."""

from __future__ import annotations

# Generators without a network, with their description in the protocol of their scores, such as
# fd_digits_of_replay.
TRIVIAL_GENERATORS = {
    "replay": "the images that the run learned from, repeated",
    "mean_image": "the mean of the images that the run learned from, repeated",
}


def is_trivial_score(name: str) -> bool:
    """Return whether a score is that of one of the ``TRIVIAL_GENERATORS``."""
    return name.endswith(tuple(f"_of_{kind}" for kind in TRIVIAL_GENERATORS))


def list_trivial_scores(score: str) -> list[str]:
    """Return the names of a score's trivial scores, as in "fd_digits_of_replay"."""
    return [f"{score}_of_{kind}" for kind in TRIVIAL_GENERATORS]
