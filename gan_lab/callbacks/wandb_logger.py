"""Weights & Biases beside the files of the run. Whatever goes wrong with it, the training goes on."""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from gan_lab.utils.network import is_reachable


class WandbLogger:
    """One W&B run whose axis is the images seen. Made for rank 0 only; nothing is sent before ``start``."""

    def __init__(self, mode: str, folder: Path, experiment: str, run_id: str, config: dict[str, Any]) -> None:
        self.mode, self.folder, self.experiment, self.run_id, self.config = mode, folder, experiment, run_id, config
        self.id: str | None = None  # W&B's, kept in the checkpoint so that a resumed run is the same run
        self.run: Any = None

    def start(self) -> None:
        """Open the run: online where that was asked for or a key is present, and the host answers, else offline."""
        online = self.mode == "online" or (self.mode == "auto" and is_wanted())
        if online and not is_reachable(host(), 3.0):
            warnings.warn(f"{host()} does not answer: W&B records offline", stacklevel=2)
            online = False
        self._safely(lambda: self._init("online" if online else "offline"))

    def _init(self, mode: Literal["online", "offline"]) -> None:
        os.environ["WANDB_MODE"] = mode  # before the import: init(mode="offline") alone still looks up a host
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self.id = self.id or secrets.token_hex(4)
        settings = wandb.Settings(
            init_timeout=20, finish_timeout=20, x_transaction_log_flush_interval=1, console="off", x_disable_stats=True
        )
        self.run = wandb.init(
            project="gan-lab", group=self.experiment, name=self.run_id, id=self.id, resume="allow",
            dir=str(self.folder), mode=mode, config=self.config, settings=settings,
        )  # fmt: skip
        self.id = self.run.id  # an agent of a sweep gives it another
        self.run.define_metric("images")
        self.run.define_metric("*", step_metric="images")

    def log(self, row: dict[str, float]) -> None:
        """One row; ``images`` is its place on the axis."""
        if self.run is not None:
            self._safely(lambda: self.run.log(row))

    def alert(self, title: str, text: str) -> None:
        """A message to whoever watches the run."""
        if self.run is not None:
            self._safely(lambda: self.run.alert(title=title, text=text))

    def mark_preempted(self) -> None:
        """Say that the run will be continued: by the same job, once it is given machines again."""
        if self.run is not None:
            self._safely(lambda: self.run.mark_preempting())

    def finish(self, code: int = 0) -> None:
        """Close the run; never waits for longer than the time-out above."""
        if self.run is not None:
            self._safely(lambda: self.run.finish(exit_code=code))
            self.run = None

    def _safely(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # by design: W&B can never stop a training
            warnings.warn(f"W&B is off for the rest of this run: {error}", stacklevel=2)
            self.run = None


def host() -> str:
    """The address of the server."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def is_disabled(mode: str) -> bool:
    """True if nothing is to be recorded: ``log.wandb=off``, or WANDB_MODE=disabled where it says auto."""
    return mode == "off" or (mode == "auto" and os.environ.get("WANDB_MODE") == "disabled")


def is_wanted() -> bool:
    """True if runs are to be recorded online: WANDB_MODE does not say otherwise, and a key is present."""
    return os.environ.get("WANDB_MODE", "online") == "online" and key_is_present()


def key_is_present() -> bool:
    """True if the server would know the user, by WANDB_API_KEY or by ``wandb login``."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.path.expanduser(os.environ.get("NETRC", "~/.netrc")))  # as it is, for a user without a home
    try:
        return "wandb" in netrc.read_text(encoding="utf-8", errors="ignore")
    except OSError:
        return False
