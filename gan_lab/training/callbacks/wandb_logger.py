"""Weights & Biases: rows, pictures, the page of the run and, where that is wanted, the best checkpoint."""

from __future__ import annotations

import os
import re
import secrets
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from gan_lab.training.callbacks.tracker import Tracker
from gan_lab.utils.network import is_reachable


class WandbLogger(Tracker):
    """One W&B run whose axis is the images seen; ``files``: with the best checkpoint as an artifact."""

    name = "W&B"

    def __init__(
        self,
        mode: str,
        folder: Path,
        experiment: str,
        run_id: str,
        config: dict[str, Any],
        files: bool = False,
    ) -> None:
        self.mode, self.folder, self.experiment, self.run_id, self.config = (
            mode,
            folder,
            experiment,
            run_id,
            config,
        )
        self.files = files

    def _open(self, images: int) -> None:
        """Open the run: online where that was asked for or a key is present, and the host answers, else offline."""
        online = self.mode == "online" or (self.mode == "auto" and is_wanted())
        if online and not is_reachable(host(), 3.0):
            warnings.warn(f"{host()} does not answer: W&B records offline", stacklevel=2)
            online = False
        self._init("online" if online else "offline")

    def _init(self, mode: Literal["online", "offline"]) -> None:
        os.environ["WANDB_MODE"] = (
            mode  # before the import: init(mode="offline") alone still looks up a host
        )
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self.id = self.id or secrets.token_hex(4)
        settings = wandb.Settings(
            init_timeout=20,
            finish_timeout=20,
            x_transaction_log_flush_interval=1,
            console="off",
            x_disable_stats=True,
        )
        self.run = wandb.init(
            project="gan-lab", group=self.experiment, name=self.run_id, id=self.id, resume="allow",
            dir=str(self.folder), mode=mode, config=self.config, settings=settings,
        )  # fmt: skip
        self.id = self.run.id  # an agent of a sweep gives it another
        self.run.define_metric("images")
        self.run.define_metric("*", step_metric="images")

    def _log(self, row: Mapping[str, float]) -> None:
        self.run.log(dict(row))

    def _log_image(self, title: str, path: Path, images: int) -> None:
        import wandb

        self.run.log({title: wandb.Image(str(path)), "images": images})

    def _log_report(self, path: Path, images: int) -> None:
        import wandb

        self.run.log(
            {"report": wandb.Html(str(path), inject=False), "images": images}
        )  # the very page

    def _log_checkpoint(self, path: Path) -> None:
        import wandb

        if not self.files:
            return
        with _copies_in(self.folder / "wandb"):
            name = re.sub(
                r"[^\w.-]", "-", f"{self.experiment}-{self.run_id}", flags=re.ASCII
            )  # no others are allowed
            artifact = wandb.Artifact(name[:128], type="model")
            artifact.add_file(str(path))
            self.run.log_artifact(artifact, aliases=["best"])

    def _alert(self, title: str, text: str, images: int) -> None:
        self.run.alert(title=title, text=f"{images:,} images: {text}")

    def _mark_preempted(self) -> None:
        self.run.mark_preempting()

    def _finish(self, code: int) -> None:
        self.run.finish(exit_code=code)  # never waits for longer than the time-out above


@contextmanager
def _copies_in(folder: Path) -> Iterator[None]:
    """Inside, W&B copies what is to be sent into this folder: by default it is one of the user's, which ``sync`` may not find."""
    before = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = before or str(folder.resolve())
    try:
        yield
    finally:
        if before is None:
            del os.environ["WANDB_DATA_DIR"]


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
    netrc = Path(
        os.path.expanduser(os.environ.get("NETRC", "~/.netrc"))
    )  # as it is, for a user without a home
    try:
        return "wandb" in netrc.read_text(encoding="utf-8", errors="ignore")
    except OSError:
        return False
