"""Pictures as data URIs, within a budget of bytes for the whole page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

BUDGET = 5_000_000  # bytes of all pictures of a page, which are a third more in the page
MOST = 60  # grids of a slider
SIDE = 1400  # pixels of a picture that is made smaller


def even(items: Sequence[int], most: int) -> list[int]:
    """At most so many of the items, first and last among them, evenly spaced.

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


def picture(path: Path, budget: int) -> bytes | None:
    """A picture as it is if it is within the budget, else smaller and as WebP; None if it cannot be read."""
    try:
        with Image.open(path) as image:
            image.load()
            if path.stat().st_size <= budget:
                return path.read_bytes()
            small = image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return None
    data = b""
    for side, quality in ((SIDE, 85), (SIDE, 60), (SIDE // 2, 60), (SIDE // 4, 50)):
        small.thumbnail((side, side))
        file = io.BytesIO()
        small.save(file, "WEBP", quality=quality, method=2)
        data = file.getvalue()
        if len(data) <= budget:
            break
    return data


def uri(data: bytes) -> str:
    """The picture as text that stands for it in a page."""
    kind = "webp" if data[:4] == b"RIFF" else "png" if data[:4] == b"\x89PNG" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def within(paths: Sequence[Path], budget: int) -> tuple[dict[int, str], str]:
    """Data URIs of the pictures by their number, and what had to be done to stay within the budget, in words.

    Pictures that cannot be read are left out and named as such.
    """
    kept = even(range(len(paths)), MOST)
    total = sum(paths[i].stat().st_size for i in kept)
    share = budget if total <= budget else budget // max(1, len(kept))
    made = {i: picture(paths[i], share) for i in kept}
    good = {i: data for i, data in made.items() if data is not None}
    said = []
    if len(kept) < len(paths):
        said.append(f"{len(kept)} of {len(paths)} grids, evenly spaced")
    if any(data[:4] == b"RIFF" for data in good.values()):
        said.append("large ones compressed as WebP")
    if len(good) < len(made):
        said.append(f"{len(made) - len(good)} could not be read")
    return {i: uri(data) for i, data in good.items()}, "; ".join(said)
