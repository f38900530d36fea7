"""Pictures as data URIs, within a budget of bytes for the whole page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from gan_lab.utils.errors import UserError

BUDGET = 5_000_000  # bytes of all pictures of a page, which are a third more in the page
MAX_GRIDS = 60  # of a slider
MAX_LARGE_GRIDS = 24  # of a slider whose grids are larger than the budget
RUNGS = (
    (1400, 85),
    (1400, 60),
    (700, 60),
    (350, 50),
)  # longest side in pixels and WebP quality, from large to small


def even(items: Sequence[int], most: int) -> list[int]:
    """Select up to ``most`` of the items, evenly spaced, with the first and the last.

    >>> even(range(10), 4)
    [0, 3, 6, 9]
    >>> even([5, 7], 4)
    [5, 7]
    """
    if len(items) <= most:
        return list(items)
    if most < 2:
        return [items[-1]]
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def picture(path: Path, budget: int, rung: int = -1) -> tuple[bytes, int]:
    """Read a picture, compressed to the budget if possible; also return its rung of ``RUNGS``, -1 if unchanged.

    ``rung`` is the first one to try. Raises UserError if the picture cannot be read.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if rung < 0 and path.stat().st_size <= budget:
                return path.read_bytes(), -1
            small = image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    for i in range(max(0, rung), len(RUNGS)):
        side, quality = RUNGS[i]
        small.thumbnail((side, side))
        file = io.BytesIO()
        small.save(file, "WEBP", quality=quality, method=2)
        if file.tell() <= budget or i == len(RUNGS) - 1:
            return file.getvalue(), i
    raise AssertionError("the last rung is taken in any case")


def uri(data: bytes) -> str:
    """Encode a picture as a data URI."""
    kind = "webp" if data[:4] == b"RIFF" else "png" if data[:4] == b"\x89PNG" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def within(paths: Sequence[Path], budget: int) -> tuple[dict[int, str], str]:
    """Encode pictures as data URIs by their index, and describe how they were reduced to stay within the budget.

    Pictures that cannot be read are left out and counted.
    """
    kept = even(range(len(paths)), MAX_GRIDS)
    fits = sum(paths[i].stat().st_size for i in kept) <= budget
    if not fits:
        kept = even(kept, MAX_LARGE_GRIDS)
    share = budget if fits else budget // max(1, len(kept))
    encoded, rung = {}, -1
    for i in reversed(
        kept
    ):  # the last one has the most to show: what it needs the others need at most
        try:
            encoded[i], rung = picture(paths[i], share, rung)
        except UserError:
            continue
    notes = [f"{len(kept)} of {len(paths)} grids, evenly spaced"] if len(kept) < len(paths) else []
    notes += (
        ["large ones compressed as WebP"]
        if any(data[:4] == b"RIFF" for data in encoded.values())
        else []
    )
    notes += [f"{len(kept) - len(encoded)} could not be read"] if len(encoded) < len(kept) else []
    return {i: uri(encoded[i]) for i in kept if i in encoded}, "; ".join(notes)
