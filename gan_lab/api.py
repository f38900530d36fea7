"""Train from Python, as ``gan-lab train`` does, with any data set."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lab.config import loading
from gan_lab.config.values import format_overrides
from gan_lab.data.from_python import usual_size
from gan_lab.runs.run import Run
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import loop
from gan_lab.training.callbacks.notebook_display import in_notebook
from gan_lab.utils import terminal
from gan_lab.utils.errors import UserError, first_line


def train(
    experiment: str,
    data: Any = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    test: Any = None,
) -> Run:
    """Train an experiment, or resume it, and score it.

    Args:
        experiment: A name of configs/experiment, such as ``"sngan"``, or the path of a YAML file.
        data: A map-style data set that replaces that of the experiment: torchvision,
            ``torch.utils.data``, Hugging Face ``datasets``, a list of PIL images, NumPy arrays or
            tensors of images, or ``(images, labels)``. It is split into training, validation and
            test images like a folder of images.
        overrides: ``key=value`` overrides and config groups, as on the command line:
            ``["run.images=20000", "augment=ada"]``; or a mapping, nested or with dotted keys, such
            as ``{"run": {"images": 20000}}`` or the OmegaConf config of a Hydra program.
        test: A data set of test images; by default 10% of ``data``.

    Returns:
        The run with its scores, history, samples and files. Calling again with the same arguments
        resumes the training, or returns the finished run immediately.

    Raises:
        UserError: The config is invalid, or the training diverged.
        KeyboardInterrupt: The training was interrupted with a checkpoint. Call ``train`` again to
            resume.
    """
    overrides = _list_overrides(overrides)
    if data is not None:
        overrides = _with_data(data, experiment, overrides)
    elif test is not None:
        raise UserError("test= is for a data set that was passed as data=")
    loaded = loading.load(experiment, overrides)
    if in_notebook() and loaded.config.run.devices not in (None, "1"):
        raise UserError(
            f"run.devices={loaded.config.run.devices}: a notebook trains in one process. Use a "
            "script or `gan-lab train`"
        )
    if not logging.getLogger("gan_lab").handlers:
        terminal.log_to_stdout()
    code = loop.train(loaded, overrides, dataset=data, test=test)
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code:
        sys.exit(code)
    return Run(RunFolder.of(loaded).path)


def _list_overrides(overrides: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Return overrides as ``key=value``."""
    if isinstance(overrides, str):
        raise UserError(
            f"overrides={overrides!r}: pass a list, such as overrides=['run.images=20000']"
        )
    if OmegaConf.is_config(overrides):
        try:
            container: Any = OmegaConf.to_container(overrides, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise UserError(f"overrides: {error.full_key}: {first_line(error)}") from None
        overrides = container
    if isinstance(overrides, Mapping):
        values = loading.flatten(overrides)
        return format_overrides({k: "null" if v is None else v for k, v in values.items()})
    return list(overrides)


def _with_data(data: Any, experiment: str, overrides: list[str]) -> list[str]:
    """Return the overrides that select a data set from Python, and by default its size."""
    keys = {override.partition("=")[0] for override in overrides}
    if "data.name" in keys or "data" in keys:
        raise UserError("both data= and the override data.name select the data. Remove one of them")
    result = ["data.name=python"]
    if "data.size" not in keys:
        result.append(f"data.size={usual_size(data)}")
    return [*result, *overrides]
