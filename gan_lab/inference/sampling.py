"""Sample from a trained generator without its family; needs torch, but neither Lightning nor W&B."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from gan_lab import networks
from gan_lab.config.extensions import explain_unknown_name
from gan_lab.config.loading import family_class
from gan_lab.device import exact_arithmetic
from gan_lab.runs.checkpoints import explain_mismatch, find_checkpoint, read_checkpoint
from gan_lab.seeding import Stream


class TrainedGenerator:
    """The averaged generator of a run in evaluation mode.

    On a CPU it computes in float64, so that an image does not depend on the images that share its batch; elsewhere in
    float32, much faster, and then an image may differ in its last bits.
    """

    def __init__(self, checkpoint: Path, device: str | torch.device = "cpu") -> None:
        content, config = read_checkpoint(checkpoint), read_config_beside(checkpoint)
        import_family(config)
        with explain_mismatch(checkpoint):
            recipe = content["recipes"].get("generator")
            if recipe is None:
                raise ValueError(f"{checkpoint} has no generator: it has {', '.join(content['recipes'])}")
            if "z_dim" not in recipe["arguments"]:
                raise ValueError(f"the generator of {checkpoint} makes images of images, not of latents: use translate")
            self.z_dim: int = recipe["arguments"]["z_dim"]
            self.classes: int = recipe["arguments"].get("classes", 0)
            self.class_names = class_names_in(config, self.classes)
            self.network = networks.from_recipe(recipe)
            self.network.load_state_dict(content["ema"]["generator"])
        self.device = torch.device(device)
        self.dtype = torch.float64 if self.device.type == "cpu" else torch.float32
        self.network.to(self.device, self.dtype).requires_grad_(False).eval()

    def __call__(
        self, n: int = 1, label: int | str | Sequence[int | str] | None = None, seed: int = 0, batch_size: int = 64
    ) -> Tensor:
        """n images [n, C, H, W], float32 in [-1, 1]; image i is a function of (seed, i, its label) alone.

        ``label`` is one class, by name or number, for all or one for each; without it a conditional generator goes
        through its classes in turn. Raises ValueError for a label that the generator does not have.
        """
        if n < 1 or batch_size < 1:
            raise ValueError(f"n={n} and batch_size={batch_size} must be at least 1")
        return self._images(self._latents(n, seed), self._labels(n, label), batch_size)

    def walk(self, walks: int = 8, steps: int = 8, label: int | str | None = None, seed: int = 0) -> Tensor:
        """``walks`` ways through the latent space of ``steps`` images each, [walks * steps, C, H, W], way by way.

        A way leads along the great circle from one latent to the next; it keeps its class. Without ``label`` every
        second way of a conditional generator keeps its latent instead and goes from its class to the next one.

        Source: White 2016 (arXiv 1609.04468), section 2.1, for the great circle.
        """
        if walks < 1 or steps < 2:
            raise ValueError(f"a walk needs 2 steps at least, and there must be one: walks={walks}, steps={steps}")
        z = self._latents(walks + 1, seed)
        share = torch.linspace(0, 1, steps, dtype=z.dtype)
        if self.network.codes:  # a straight line, for the prior is a cube and no ball
            ways = torch.lerp(z[:-1].unsqueeze(1), z[1:].unsqueeze(1), share.view(1, -1, 1))
        else:
            ways = great_circle(z[:-1], z[1:], share)
        if self.classes == 0:
            return self._images(ways.flatten(0, 1), self._labels(walks * steps, label), 64)
        starts = self._labels(walks, label)
        assert starts is not None
        classes = torch.eye(self.classes, dtype=z.dtype)
        rows = classes[starts].unsqueeze(1).repeat(1, steps, 1)
        if label is None:
            ends = classes[(starts[1::2] + 1) % self.classes].unsqueeze(1)
            rows[1::2] += share.view(1, -1, 1) * (ends - rows[1::2])
            ways[1::2] = z[1:-1:2].unsqueeze(1)
        return self._images(ways.flatten(0, 1), rows.flatten(0, 1), 64)

    def vary_code(self, code: int = 0, rows: int = 8, seed: int = 0) -> tuple[Tensor, int]:
        """Rows of images that differ in one code alone, [rows * columns, C, H, W], and the number of columns.

        Code 0 is the category. Raises ValueError for a generator that has no such code.
        """
        if not self.network.codes:
            raise ValueError(f"code={code}: this generator has no codes, as those of family infogan have")
        varied = self.network.vary_code(self._latents(rows, seed), code)  # type: ignore[operator]
        return self._images(varied.flatten(0, 1), None, 64), varied.shape[1]

    def _latents(self, n: int, seed: int) -> Tensor:
        return self.network.sample_latents(Stream(seed, "sample"), n, like=torch.empty(0, dtype=self.dtype))

    def _images(self, z: Tensor, labels: Tensor | None, batch_size: int) -> Tensor:
        parts = []
        for i in range(0, len(z), batch_size):
            inputs = [z] if labels is None else [z, labels]
            with exact_arithmetic(self.device):
                parts.append(self.network(*(rows[i : i + batch_size].to(self.device) for rows in inputs)).cpu())
        return torch.cat(parts).float()

    def _labels(self, n: int, label: int | str | Sequence[int | str] | None) -> Tensor | None:
        if self.classes == 0:
            if label is not None:
                raise ValueError(f"label={label}: this generator was trained without labels")
            return None
        if label is None:
            return torch.arange(n) % self.classes
        every = [label] * n if isinstance(label, int | str) else [*label]
        labels = torch.as_tensor([self._number(one) if isinstance(one, str) else one for one in every])
        if labels.shape != (n,) or labels.min() < 0 or labels.max() >= self.classes:
            raise ValueError(f"label={label}: a label is one number from 0 to {self.classes - 1}, or {n} of them")
        return labels

    def _number(self, label: str) -> int:
        if label in self.class_names:
            return self.class_names.index(label)
        if not label.removeprefix("-").isdecimal():
            raise ValueError(explain_unknown_name("class", label, self.class_names))
        return int(label)


def read_config_beside(checkpoint: Path) -> Any:
    """The config of the run to which a checkpoint belongs, as it lies there; empty if it does not say."""
    path = checkpoint.parent.parent / "config.yaml"
    return OmegaConf.load(path) if path.is_file() else OmegaConf.create()


def import_family(config: Any) -> None:
    """Import the module of a run's family if that lies outside the lab: its networks may do so too."""
    family = OmegaConf.select(config, "family")
    if family and "." in family:
        family_class(family)


def class_names_in(config: Any, classes: int) -> list[str]:
    """The classes of a run; their numbers, if its config does not say."""
    names = OmegaConf.select(config, "data.class_names")
    return [str(name) for name in names] if names and len(names) == classes else [str(i) for i in range(classes)]


def load_generator(run: str | Path, weights: str = "best", device: str | torch.device = "cpu") -> TrainedGenerator:
    """The generator of a run folder (``weights``: best or last) or of a checkpoint file, on a device; images come to
    the CPU.

    Raises ValueError if there is no such run or its checkpoint cannot be used.
    """
    return TrainedGenerator(find_checkpoint(Path(run), weights), device)


def great_circle(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Points on the great circles from ``start`` to ``end`` [N, D], at these shares of the angle [S]: [N, S, D].

    sin((1 - t) θ) / sin θ · start + sin(t θ) / sin θ · end, with θ the angle between them; a line if there is none.
    """
    cosine = torch.nn.functional.cosine_similarity(start, end, dim=1).clamp(-1, 1)
    angle, t = cosine.acos().view(-1, 1, 1), share.view(1, -1, 1)
    straight = angle.sin() < 1e-6
    sine = torch.where(straight, 1.0, angle.sin())
    weights = (torch.where(straight, 1 - t, ((1 - t) * angle).sin() / sine),
               torch.where(straight, t, (t * angle).sin() / sine))  # fmt: skip
    return weights[0] * start.unsqueeze(1) + weights[1] * end.unsqueeze(1)
