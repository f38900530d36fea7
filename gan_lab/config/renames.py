"""Keys of older runs: the format number of ``config.yaml``, and the current names of old keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gan_lab import __version__
from gan_lab.utils.errors import UserError

# written to config.yaml as ``format``; a run without it is of format 1. Increase it whenever a key
# is renamed or removed, or a value changes its meaning, and store a run of that format in
# tests/older_runs
RUN_FORMAT = 3
# a key that was split has two current names
RENAMED_KEYS = {
    "data.gray_input": ("data.degradation",),
    "data.max_bad": ("data.max_unreadable",),
    "metrics.cap": ("metrics.max_features_kept",),
    "metrics.n": ("metrics.num_fakes", "metrics.num_reals"),
    "metrics.num_images": ("metrics.num_fakes", "metrics.num_reals"),
    "run.accumulate": ("run.micro_batches",),
    "run.evaluate_every": ("run.evaluate_every_images",),
    "run.timeout": ("run.timeout_s",),
    "log.bar": ("log.progress_bar",),
    "log.every": ("log.log_every_images",),
    "log.images_every": ("log.grid_every_images",),
    "model.burn_in": ("model.decay_images",),
    "model.burnt_in": ("model.decay_to",),
    "model.final_factor": ("model.decay_to",),
    "model.lr": ("model.lr_d", "model.lr_g"),
    "model.pool": ("model.pool_size",),
}
# by current key and by old value as text
RENAMED_VALUES = {
    ("data.degradation", "false"): "none",
    ("data.degradation", "true"): "gray",
    ("metrics.split", "held_out"): "test",
}


def pop_format(tree: dict[str, Any], path: Path, default: int) -> int:
    """Remove the format number from the config of a run, and return it.

    Args:
        tree: The config, with Python values.
        path: Its file, for the error message.
        default: The format of a file without a number.

    Raises:
        UserError: This version cannot read the format.
    """
    number = tree.pop("format", default)
    if isinstance(number, bool) or number not in range(1, RUN_FORMAT + 1):
        raise UserError(
            f"{path} has the format {number}, but this is gan-lab {__version__}, which reads "
            f"formats up to {RUN_FORMAT}. Update the lab"
        )
    return int(number)


def rename_keys(values: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return the flat config of an older run with the current names of its keys.

    Args:
        values: The config.
        known: The keys of this version. An old name that is a key again, such as ``model.lr`` of
            vaegan, is not renamed.
    """
    renamed: dict[str, Any] = {}
    for key, value in values.items():
        names = (key,) if key in known else RENAMED_KEYS.get(key, (key,))
        for name in names:
            # a current name in the same file wins
            if name == key or name not in values:
                # a config has text at this point, a record in JSON has booleans
                text = str(value).lower() if isinstance(value, str | bool) else ""
                renamed[name] = RENAMED_VALUES.get((name, text), value)
    return renamed
