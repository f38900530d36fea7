"""The cache of decoded data sets: arrays that are computed once and memory-mapped afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from filelock import FileLock

from gan_lab.utils.errors import UserError

Arrays = dict[str, np.ndarray]
# Where ``cache_folder`` starts, for data of the user.
USER_DATA_CACHE = Path("data")


def file_hash(paths: Iterable[Path]) -> str:
    """Compute the hexadecimal SHA-256 of the contents of the files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def describe_states(paths: Iterable[str | Path]) -> dict[str, str]:
    """Return a line with the absolute path, size and modification time of each file."""
    states = {}
    prefix = os.path.join(os.getcwd(), "")
    for path in [os.fspath(path) for path in paths]:
        status = os.stat(path)
        start = "" if path.startswith(os.sep) else prefix
        states[path] = f"{start}{path}\0{status.st_size}\0{status.st_mtime_ns}\n"
    return states


def hash_file_stats(paths: Iterable[str | Path], known: Mapping[str, str] | None = None) -> str:
    """Hash the path, size and modification time of files, to detect changes.

    Args:
        paths: The files.
        known: What ``describe_states`` returned for them, or for some.
    """
    files = [os.fspath(path) for path in paths]
    known = known or {}
    states = {**known, **describe_states(path for path in files if path not in known)}
    lines = "".join(states[path] for path in files)
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def cache_folder(root: Path) -> Path:
    """Return the folder of decoded arrays: ``cache`` under the data folder, or GAN_LAB_CACHE.

    Nothing is written into a folder of the user's own photos: for these, pass ``data`` as root. A
    read-only data folder has its cache in ``data``, too.
    """
    if chosen := os.environ.get("GAN_LAB_CACHE"):
        return Path(os.path.expanduser(chosen))
    cache = root / "cache"
    existing = next((path for path in (cache, *cache.parents) if path.exists()), root)
    return cache if os.access(existing, os.W_OK) else USER_DATA_CACHE / "cache"


def create_cache(cache: Path) -> None:
    """Create the folder of the cache. Raises UserError with the remedy if it cannot be written."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(cache, os.W_OK) else "no permission to write"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    if reason:
        raise UserError(
            f"the cache {cache} cannot be written: {reason}. Set GAN_LAB_CACHE to another folder"
        )


def decoded_once(
    root: Path, name: str, key: str, build: Callable[[], Arrays]
) -> tuple[Arrays, str]:
    """Return the arrays of ``build``, memory-mapped, from the cache if they are there.

    One of several processes builds the cache, and the folder is renamed when it is complete, so
    that nobody reads half of it. The mapping is copy-on-write: writing to an array does not change
    the file.

    Args:
        root: The data folder, see ``cache_folder``.
        name: The start of the folder's name.
        key: Everything that the arrays depend on: the hash of the source and the transform.
        build: Computes the arrays. Names with an underscore are not part of the fingerprint.

    Returns:
        The arrays, and their fingerprint (16 hexadecimal digits of SHA-256).
    """
    cache = cache_folder(root)
    create_cache(cache)
    folder = cache / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    with FileLock(cache / f".{folder.name}.lock"):
        if not (folder / "about.json").is_file():
            arrays = build()
            digest = hashlib.sha256()
            unfinished = Path(tempfile.mkdtemp(dir=cache, prefix=".unfinished-"))
            try:
                _check_free_space(cache, sum(array.nbytes for array in arrays.values()))
                for part, array in arrays.items():
                    if not part.startswith("_"):
                        digest.update(f"{part}{array.shape}{array.dtype}".encode())
                        # ``data`` is a view: no copy of a large array.
                        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
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
    arrays = {part: np.load(folder / f"{part}.npy", mmap_mode="c") for part in about["parts"]}
    return arrays, about["fingerprint"]


def _check_free_space(cache: Path, needed: int) -> None:
    """Raise OSError with a hint if the disk has fewer free bytes than needed."""
    free = shutil.disk_usage(cache).free
    if free < needed + 2**20:
        raise OSError(
            f"no space left in {cache}: the decoded images take {needed / 1e6:,.0f} MB, "
            f"{free / 1e6:,.0f} MB are free. Set GAN_LAB_CACHE to another folder, or decode image "
            "folders on the fly with data.cache_gb=0."
        )
