"""Write sample grids of fixed latents during training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from gan_lab.data.base import GANDataModule
from gan_lab.families.base import Family
from gan_lab.images import Batch, interleave, save_grid
from gan_lab.runs import point_frames
from gan_lab.runs.run_folder import name_run
from gan_lab.seeding import Stream
from gan_lab.training.callbacks.base import FamilyCallback, evaluation_mode
from gan_lab.training.callbacks.ema import EMA
from gan_lab.training.callbacks.grid_schedule import GridSchedule
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.tracker import Tracker


class SampleGrids(FamilyCallback):
    """Writes ``reals.png`` once, and ``samples/<images>.png`` of the EMA weights on rank 0.

    Of 2-D points also ``samples/<images>.npz``, see ``runs/point_frames.py``.

    Grids are drawn before the first iteration and after the last one; in between every
    ``grid_every`` images, or, if that is None, by ``GridSchedule`` and at each evaluation.

    Attributes:
        drawn_at: Iteration of the latest grid; -1: none.
        cost_s: Seconds that the latest grid took, and the page that shows it.
        schedule: The schedule; not used if ``grid_every`` is a number.
    """

    def __init__(
        self,
        folder: Path,
        grid_every: int | None,
        evaluate_every: int,
        data: GANDataModule,
        by_class: bool,
        seed: int,
        ema: EMA,
        progress: Progress,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self.folder = folder
        self.grid_every = grid_every
        self.evaluate_every = evaluate_every
        self.data = data
        self.by_class = by_class
        self.seed = seed
        self.ema = ema
        self.progress = progress
        self.trackers = trackers
        self.batch, self.columns = data.grid_batch(held_out=True, by_class=by_class)
        # rows of digits need no titles
        are_digits = list(data.class_names) == [str(i) for i in range(len(data.class_names))]
        has_titles = by_class and data.class_names and not are_digits
        self.rows = [data.class_names[i] for i in data.grid_classes] if has_titles else []
        self.schedule = GridSchedule(progress.iterations)
        self.drawn_at = -1
        self.cost_s = 0.0
        self._started_s = 0.0
        # seconds and iteration from which the speed is measured; None: from the next iteration on
        self._since: tuple[float, int] | None = None

    def on_train_start(self, trainer: Trainer, family: Family) -> None:
        if trainer.is_global_zero:
            self._remove_later_grids()
            if not (self.folder / "reals.png").exists():
                self._write_reals()
            if self.progress.iteration == 0:
                self.write(family)
        self._started_s = time.monotonic()
        self._since = (self._started_s, self.progress.iteration)
        self.schedule.begin = self.progress.iteration

    def _write_reals(self) -> None:
        reals, columns = self.data.grid_batch(held_out=False, by_class=self.by_class)
        images, columns = interleave(reals.shown(), columns)
        record = {"output": "real images", "run": name_run(self.folder)}
        save_grid(images, columns, self.folder / "reals.png", self.rows, record)
        for tracker in self.trackers:
            tracker.log_image("reals", self.folder / "reals.png", self.progress.images)

    def _remove_later_grids(self) -> None:
        """Remove the grids of iterations after the checkpoint, which will be repeated."""
        for path in (self.folder / "samples").glob("*.*"):
            is_grid = path.suffix in (".png", point_frames.SUFFIX)
            if is_grid and path.stem.isdecimal() and int(path.stem) > self.progress.images:
                path.unlink()

    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        # the other ranks do not take part: their clocks would decide differently
        if not trainer.is_global_zero:
            return
        if self._is_due() or self.progress.spent:
            self.write(family)

    def _is_due(self) -> bool:
        if self.grid_every is not None:
            return self.progress.has_crossed(self.grid_every)
        now, iteration = time.monotonic(), self.progress.iteration
        if self._since is None:
            # after the previous grid, its page, and the evaluation and checkpoint that may follow
            self._since = (now, iteration)
        is_due = self.schedule.is_due(iteration, now - self._started_s)
        if is_due and iteration > self._since[1]:
            iteration_s = (now - self._since[0]) / (iteration - self._since[1])
            self.schedule.adapt(iteration, iteration_s, self.cost_s)
        return is_due or self.progress.has_crossed(self.evaluate_every)

    def count_images_until_next(self) -> int:
        """Return the number of training images until the next grid; 0 if it is not known."""
        images = self.progress.images
        left = self.progress.iterations * self.progress.batch_size - images
        if self.grid_every is not None:
            gap = self.grid_every - images % self.grid_every
        else:
            gap = self.schedule.count_until_next(self.progress.iteration) * self.progress.batch_size
            gap = min(gap, self.evaluate_every - images % self.evaluate_every)
        return max(0, min(gap, left))

    def describe(
        self, images: Tensor, sets: int, columns: int, reconstructed: Sequence[int] = ()
    ) -> dict[str, Any]:
        """Describe a grid for its record: which columns are real, reconstructed or generated.

        Args:
            images: The images of ``interleave`` on the CPU.
            sets: Number of interleaved sets.
            columns: Images in a row.
            reconstructed: Indices of the sets that reconstruct real images.
        """
        kinds = [
            "real"
            if self._are_real(images[i::sets])
            else "reconstructed"
            if i in reconstructed
            else "generated"
            for i in range(sets)
        ]
        return {
            "output": "training grid",
            "run": name_run(self.folder),
            "images": self.progress.images,
            # a grid of fewer images than columns is narrower
            "columns": min(columns, len(images)),
            "tile": list(images.shape[-2:]),
            # of each set
            "count": len(images) // sets,
            "labels": self._list_labels(len(images) // sets),
            "sets": kinds,
        }

    def _list_labels(self, count: int) -> list[int]:
        """List the classes of the images of a grid by class; empty for other grids."""
        if not self.by_class or self.batch.labels is None:
            return []
        labels: list[int] = self.batch.labels[:count].tolist()
        return labels

    def _are_real(self, images: Tensor) -> bool:
        """Return whether images are those of the grid's batch, perhaps in more channels."""
        for reals in self.batch.shown():
            known = reals[: len(images)].to(images.dtype)
            if known.shape[2:] == images.shape[2:] and known.shape[1] in (1, images.shape[1]):
                known = known.expand(-1, images.shape[1], -1, -1)
                if known.shape == images.shape and bool((known == images).all()):
                    return True
        return False

    @torch.no_grad()
    def write(self, family: Family) -> None:
        """Write a grid of the current EMA weights; nothing if they are NaN or Inf.

        The trackers get the same picture. No other rank is needed.
        """
        started = time.monotonic()
        with self.ema.applied_here(family):
            path = self.folder / "samples" / f"{self.progress.images:09d}.png"
            batch = self.batch.to_device(family.device, family.dtype)
            sets = family.sample_grid(batch, Stream(self.seed, "samples"))
        images, columns = interleave(sets, self.columns)
        # the only moment at which the CPU waits for the device
        images = images.cpu()
        # the check that stops a diverged training comes later than some grids
        if images.isfinite().all():
            record = self.describe(images, len(sets), columns, family.reconstructed_sets)
            save_grid(images, columns, path, self.rows, record)
            for tracker in self.trackers:
                tracker.log_image("samples", path, self.progress.images)
            # as images.grid recognizes points
            if images.shape[1:] == (2, 1, 1) and "generated" in record["sets"]:
                points = sets[record["sets"].index("generated")].cpu()
                point_frames.write_frame(
                    path.with_suffix(point_frames.SUFFIX),
                    points,
                    self._rate_lattice(family),
                    family.adversarial_loss,
                )
            self.drawn_at = self.progress.iteration
        self.cost_s = time.monotonic() - started
        self._since = None

    def _rate_lattice(self, family: Family) -> Tensor | None:
        """Compute the discriminator's logits on the lattice of ``point_frames``, [side²].

        A conditional discriminator rates each point as a member of each class; the highest logit
        counts. None without a discriminator, or with one that is called in another way.
        """
        lattice = Batch(point_frames.make_lattice()).to_device(family.device, family.dtype).images
        labels: Sequence[int | None] = range(family.spec.classes) if family.conditional else [None]
        rated = []
        try:
            with evaluation_mode(family, ["discriminator"]):
                for label in labels:
                    each = (
                        None if label is None else lattice.new_full((len(lattice),), label).long()
                    )
                    logits = family.rate_reals(Batch(lattice, each))
                    if logits is None:
                        return None
                    rated.append(logits.view(len(lattice)))
            highest = torch.stack(rated).amax(0)
        # the family of a user may call its discriminator in any other way
        except Exception:
            return None
        return highest if bool(highest.isfinite().all()) else None

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.schedule.first, "interval": self.schedule.interval}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.schedule.first = state_dict["first"]
        self.schedule.interval = state_dict["interval"]
