"""Weights & Biases: logs rows, images, the report and optionally the best checkpoint."""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from gan_lab.training.callbacks.tracker import (
    SAMPLE_COLUMNS,
    FinalSample,
    Tracker,
    build_sample_rows,
)
from gan_lab.utils.files import make_file_name
from gan_lab.utils.network import is_reachable


class WandbLogger(Tracker):
    """One W&B run; the step is the images seen.

    Args:
        mode: ``log.wandb``.
        folder: The run folder.
        experiment: Name of the experiment, the group of the run.
        run_id: Name of the run.
        config: The config as plain containers.
        files: Upload the best checkpoint.
        labels: Project, entity, tags and notes, unless W&B's environment variables set them.
    """

    name = "W&B"

    def __init__(
        self,
        mode: str,
        folder: Path,
        experiment: str,
        run_id: str,
        config: dict[str, Any],
        files: bool = False,
        labels: Mapping[str, Any] | None = None,
    ) -> None:
        self.mode = mode
        self.folder = folder
        self.experiment = experiment
        self.run_id = run_id
        self.config = config
        self.files = files
        self.labels = dict(labels or {})
        self.is_online = False

    def _open(self, images: int) -> None:
        """Open the run: online if requested or an API key is set, and the server responds."""
        online = self.mode == "online" or (self.mode == "auto" and is_wanted())
        if online and not is_reachable(host(), 3.0):
            warnings.warn(f"{host()} does not respond: logging to W&B offline", stacklevel=2)
            online = False
        self.is_online = online
        self._init("online" if online else "offline")

    def _describe(self) -> str:
        content = f"config, metrics, report page, {self.describe_images()}"
        if self.files:
            content += ", best checkpoint"
        if self.is_online:
            return f"Sending to W&B ({host()}, project {self.run.project}): {content}"
        folder = self.folder / "wandb"
        return f"W&B offline, in {folder}: {content}. Nothing is sent before `wandb sync`"

    def _init(self, mode: Literal["online", "offline"]) -> None:
        # before the import: init(mode="offline") alone still resolves a host name
        os.environ["WANDB_MODE"] = mode
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
        labels = {"group": self.experiment, "name": self.run_id, **self.labels}
        self.run = wandb.init(
            **drop_environment_labels(labels), id=self.id, resume="allow", dir=str(self.folder),
            mode=mode, config=self.config, settings=settings,
        )  # fmt: skip
        # a sweep agent overrides the id
        self.id = self.run.id
        self.run.define_metric("images")
        self.run.define_metric("*", step_metric="images")

    def _log(self, row: Mapping[str, float]) -> None:
        self.run.log(dict(row))

    def _log_image(self, title: str, path: Path, images: int) -> None:
        import wandb

        self.run.log({title: wandb.Image(str(path)), "images": images})

    def _log_report(self, path: Path, images: int) -> None:
        import wandb

        # inject=False keeps the page unchanged
        self.run.log({"report": wandb.Html(str(path), inject=False), "images": images})

    def _log_samples(self, samples: Sequence[FinalSample], images: int) -> None:
        import wandb

        rows = build_sample_rows(samples, wandb.Image)
        table = wandb.Table(columns=[*SAMPLE_COLUMNS], data=rows)
        with _copies_in(self.folder / "wandb"):
            self.run.log({"final_samples": table, "images": images})

    def _log_checkpoint(self, path: Path) -> None:
        import wandb

        if not self.files:
            return
        with _copies_in(self.folder / "wandb"):
            # artifact names may only contain these characters
            name = make_file_name(f"{self.experiment}-{self.run_id}", safe="A-Za-z0-9_.-")
            artifact = wandb.Artifact(name, type="model")
            artifact.add_file(str(path))
            self.run.log_artifact(artifact, aliases=["best"])

    def _alert(self, title: str, text: str, images: int) -> None:
        self.run.alert(title=title, text=f"{images:,} images: {text}")

    def _mark_preempted(self) -> None:
        self.run.mark_preempting()

    def _finish(self, code: int) -> None:
        # waits up to finish_timeout
        self.run.finish(exit_code=code)


@contextmanager
def _copies_in(folder: Path) -> Iterator[None]:
    """Let W&B stage uploads in this folder inside the context.

    By default they are staged in a folder of the user, where ``wandb sync`` may not find them.
    """
    before = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = before or str(folder.resolve())
    try:
        yield
    finally:
        if before is None:
            del os.environ["WANDB_DATA_DIR"]


def drop_environment_labels(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Return the labels that no environment variable sets: ``wandb.init`` would override it."""
    variables = {"group": "WANDB_RUN_GROUP"}
    return {
        name: value
        for name, value in labels.items()
        if value and not os.environ.get(variables.get(name, f"WANDB_{name.upper()}"))
    }


def host() -> str:
    """Return the URL of the W&B server."""
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def is_disabled(mode: str) -> bool:
    """Return whether W&B is disabled: ``log.wandb=off``, or ``auto`` and an environment variable.

    W&B reads WANDB_MODE=disabled, and many training scripts WANDB_DISABLED=true.
    """
    return mode == "off" or (mode == "auto" and is_disabled_by_environment())


def is_disabled_by_environment() -> bool:
    """Return whether WANDB_MODE=disabled, or WANDB_DISABLED is true."""
    disabled = os.environ.get("WANDB_DISABLED", "").strip().lower()
    return os.environ.get("WANDB_MODE", "").lower() == "disabled" or disabled in (
        "true",
        "yes",
        "on",
        "1",
    )


def is_wanted() -> bool:
    """Return whether ``auto`` logs online: an API key is set and no variable disables it."""
    is_online = os.environ.get("WANDB_MODE", "online").lower() == "online"
    return is_online and not is_disabled_by_environment() and key_is_present()


def key_is_present() -> bool:
    """Return whether there is an API key, from WANDB_API_KEY or ``wandb login``."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    # expanduser, unlike Path.expanduser, does not raise for a user without a home folder
    netrc = Path(os.path.expanduser(os.environ.get("NETRC", "~/.netrc")))
    try:
        return "wandb" in netrc.read_text(encoding="utf-8", errors="ignore")
    except OSError:
        return False
