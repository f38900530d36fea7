"""A trained generator without its family: needs torch, but neither Lightning nor the tracker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gan_lab import networks
from gan_lab.runs import fitting, read
from gan_lab.seeding import Stream


class TrainedGenerator:
    """The averaged generator of a run, on the CPU in evaluation mode.

    It computes in float64, so that an image does not depend on the images that share its batch.
    """

    def __init__(self, checkpoint: Path) -> None:
        content = read(checkpoint)
        with fitting(checkpoint):
            recipe = content["recipes"].get("generator")
            if recipe is None:
                raise ValueError(f"{checkpoint} has no generator of latents: it has {', '.join(content['recipes'])}")
            self.z_dim: int = recipe["arguments"]["z_dim"]
            self.classes: int = recipe["arguments"].get("classes", 0)
            self.network = networks.rebuild(recipe)
            self.network.load_state_dict(content["ema"]["generator"])
        self.network.double().requires_grad_(False).eval()

    def __call__(
        self, n: int = 1, label: int | Sequence[int] | None = None, seed: int = 0, batch_size: int = 64
    ) -> Tensor:
        """n images [n, C, H, W], float32 in [-1, 1]; image i is a function of (seed, i, its label) alone.

        ``label`` is one class for all or one for each; without it a conditional generator goes through its classes in
        turn. Raises ValueError for a label that the generator does not have.
        """
        if n < 1 or batch_size < 1:
            raise ValueError(f"n={n} and batch_size={batch_size} must be at least 1")
        labels = self._labels(n, label)
        z = Stream(seed, "sample").normal(n, self.z_dim, like=torch.empty(0, dtype=torch.float64))
        parts = []
        for i in range(0, n, batch_size):
            y = None if labels is None else labels[i : i + batch_size]
            parts.append(
                self.network(z[i : i + batch_size], y) if y is not None else self.network(z[i : i + batch_size])
            )
        return torch.cat(parts).float()

    def _labels(self, n: int, label: int | Sequence[int] | None) -> Tensor | None:
        if self.classes == 0:
            if label is not None:
                raise ValueError(f"label={label}: this generator was trained without labels")
            return None
        if label is None:
            return torch.arange(n) % self.classes
        labels = torch.full((n,), label) if isinstance(label, int) else torch.as_tensor(label)
        if labels.shape != (n,) or labels.min() < 0 or labels.max() >= self.classes:
            raise ValueError(f"label={label}: a label is one number from 0 to {self.classes - 1}, or {n} of them")
        return labels


def load_generator(run: str | Path, weights: str = "best") -> TrainedGenerator:
    """The generator of a run folder (``weights``: best or last) or of a checkpoint file.

    Raises ValueError if there is no such run or its checkpoint cannot be used.
    """
    path = Path(run)
    if path.is_dir():
        path = path / "checkpoints" / f"{weights}.ckpt"
    if not path.is_file():
        raise ValueError(
            f"there is no checkpoint {path}: train the run first, or name its folder runs/<experiment>/<id>"
        )
    return TrainedGenerator(path)
