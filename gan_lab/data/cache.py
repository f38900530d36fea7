"""A data set is decoded once, into arrays that every later start maps into memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from filelock import FileLock

Arrays = dict[str, np.ndarray]


def file_hash(paths: Iterable[Path]) -> str:
    """SHA-256 over the contents of the files, hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def cache_folder(root: Path) -> Path:
    """The folder of decoded arrays: ``cache`` under the data folder, or the value of GAN_LAB_CACHE.

    A folder of the user's own photos is no place for it: for these, root is the lab's own ``data``.
    """
    return Path(os.path.expanduser(os.environ.get("GAN_LAB_CACHE") or root / "cache"))


def decoded_once(
    root: Path, name: str, key: str, build: Callable[[], Arrays]
) -> tuple[Arrays, str]:
    """The arrays that ``build`` makes, memory-mapped, and their fingerprint (16 hexadecimal digits of SHA-256).

    ``key`` says all that the arrays depend on: the hash of the source and the transform. Processes that start together
    build one cache; a half-built one is never seen, because the folder gets its name when it is complete. The mapping
    is copy-on-write: nothing that is written to an array reaches the file.
    """
    cache = cache_folder(root)
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    with FileLock(cache / f".{folder.name}.lock"):
        if not (folder / "about.json").is_file():
            arrays = build()
            digest = hashlib.sha256()
            unfinished = Path(tempfile.mkdtemp(dir=cache, prefix=".unfinished-"))
            try:
                _check_room(cache, sum(array.nbytes for array in arrays.values()))
                for part, array in arrays.items():
                    if not part.startswith("_"):  # what is only said of them
                        digest.update(f"{part}{array.shape}{array.dtype}".encode())
                        digest.update(
                            np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
                        )  # no copy of it
                    np.save(unfinished / f"{part}.npy", array)
                about = {"key": key, "fingerprint": digest.hexdigest()[:16], "parts": list(arrays)}
                (unfinished / "about.json").write_text(
                    json.dumps(about, indent=1), encoding="utf-8"
                )
                shutil.rmtree(folder, ignore_errors=True)
                unfinished.rename(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    return {part: np.load(folder / f"{part}.npy", mmap_mode="c") for part in about["parts"]}, about[
        "fingerprint"
    ]


def _check_room(cache: Path, needed: int) -> None:
    """Raise OSError, in one line, if so many bytes have no room."""
    free = shutil.disk_usage(cache).free
    if free < needed + 2**20:
        raise OSError(
            f"no room in {cache}: the decoded images take {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free. "
            "GAN_LAB_CACHE=<folder> keeps them elsewhere, data.cache_gb=0 decodes folders of images as they are read"
        )
