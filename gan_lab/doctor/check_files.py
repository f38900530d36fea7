"""Checks of folders that must be writable, and of files that must exist."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from gan_lab.config.schema import Config
from gan_lab.doctor.finding import GB, HOST_TIMEOUT_S, REINSTALL_ADVICE, Finding

# for the checkpoints of a shipped experiment and its decoded data
MIN_FREE_BYTES = 5 * GB


def folder(path: Path, needed: bool = True) -> Finding:
    """Check that a folder is writable, or can be created, and has enough free space."""
    path = path.absolute()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    text = f"{path}{'' if existing == path else ' (will be created)'}, {free / GB:,.0f} GB free"
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"written")
    except OSError as error:
        return Finding(
            "FAIL" if needed else "warn",
            f"{path} cannot be written ({error.strerror})",
            "choose another folder with run.root=, data.root= or GAN_LAB_CACHE",
        )
    if free < MIN_FREE_BYTES:
        return Finding("warn", text, "free some space: a run fails if its checkpoint does not fit")
    return Finding("ok", text)


def runs(config: Config) -> Finding:
    """Check the folder of the runs."""
    return folder(Path(config.run.root))


def data(config: Config) -> Finding:
    """Check the folder of the data, which may be read-only."""
    return folder(Path(config.data.root), needed=False)


def cache(config: Config) -> Finding:
    """Check the folder of the decoded-image cache."""
    from gan_lab.data.cache import cache_folder

    return folder(cache_folder(Path(config.data.root)))


def samples(config: Config) -> Finding:
    """Check the sample images of the dependencies, and the digit classifier of the lab."""
    from safetensors import safe_open
    from skimage import data as images

    from gan_lab.data import mnist

    digits = len(mnist.read_bundled_digits()[1])
    faces, horse = images.lfw_subset(), images.horse()
    with safe_open(
        Path(__file__).parent.parent / "metrics" / "digits.safetensors", "numpy"
    ) as weights:
        tensors = len(list(weights.keys()))
    if digits != 5000 or len(faces) != 200 or horse.ndim != 2 or not tensors:
        return Finding(
            "FAIL", f"{digits} digits, {len(faces)} faces: not the shipped data", REINSTALL_ADVICE
        )
    return Finding("ok", "sample images and digit classifier are readable")


def inception(config: Config) -> Finding:
    """Check that the Inception weights exist and are the published ones."""
    from torch.hub import get_dir
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    from gan_lab.utils.network import is_reachable

    chosen = config.metrics.inception_weights
    if chosen == "off":
        return Finding("ok", "metrics.inception_weights=off: fid, kid and is are skipped")
    published = URL_INCEPTION_V3.rpartition("/")[2]
    # torch.hub file names end with the beginning of their SHA-256
    prefix = Path(published).stem.rpartition("-")[2]
    path = Path(get_dir()) / "checkpoints" / published if chosen == "auto" else Path(chosen)
    if path.is_file():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[: len(prefix)]
        text = f"{path}, SHA-256 {digest}..."
        if digest == prefix:
            return Finding("ok", text)
        if chosen == "auto":
            return Finding(
                "FAIL", f"{text} instead of {prefix}...", "delete it: the download is incomplete"
            )
        return Finding(
            "warn",
            f"{text}, not the published {prefix}...",
            "scores made with it are not comparable to published ones",
        )
    if chosen != "auto":
        return Finding(
            "FAIL",
            f"metrics.inception_weights={chosen}: file not found",
            "use auto to find or download them",
        )
    if is_reachable(URL_INCEPTION_V3, HOST_TIMEOUT_S):
        return Finding("ok", f"not downloaded yet; the first fid downloads them to {path}")
    return Finding(
        "warn",
        "not downloaded, and the server does not respond: fid, kid and is will be skipped",
        f"save {URL_INCEPTION_V3} as {path}",
    )
