"""The contract of a feature extractor: pixels in, features and perhaps logits out."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gan_lab.device import exact_arithmetic
from gan_lab.utils.errors import UserError


class Extractor(ABC):
    """A frozen network whose features two sets of images are compared by.

    It is no ``nn.Module``: held by a callback or a family it could end up in a checkpoint.
    """

    name: ClassVar[str]  # in the names of scores: fd_<name>, kd_<name>, precision_<name> ...
    score: ClassVar[str | None] = None  # what the inception-score formula on its logits is called
    splits: ClassVar[int] = 1  # the score is the mean over so many parts of the images
    features: int  # D: a Fréchet distance of fewer images is meaningless
    resize: str  # what it does to images of another size, for the protocol
    weights_key: ClassVar[str | None] = None  # of ``metrics.``, which names its weights: what it is made from, then
    sigma: ClassVar[float | None] = None  # of a Gaussian kernel on features of unit length; None: (x·y/D + 1)³
    at_once: ClassVar[int | None] = None  # images at a time on a CPU, whose caches hold the maps of few
    network: nn.Module

    @abstractmethod
    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features [B, D] and logits [B, classes], if it has any, of pixels uint8 [B, C, H, W] (points: float)."""

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """``forward`` on the device of the pixels, in full float32; 1-channel images are repeated to three."""
        self.network.to(pixels.device)
        size = self.at_once if self.at_once and pixels.device.type == "cpu" else len(pixels)
        with exact_arithmetic(pixels.device):
            features, logits = zip(*map(self.forward, pixels.split(size)), strict=True)
        return torch.cat(features), None if logits[0] is None else torch.cat(logits)

    @property
    def distance(self) -> str:
        """Name of the Fréchet distance of its features."""
        return f"fd_{self.name}"

    @property
    def kernel(self) -> str:
        """Name of the kernel distance of its features."""
        return f"kd_{self.name}"

    def protocol(self) -> dict[str, Any]:
        """Protocol entries of a value: the extractor, the hash of its weights, the resize."""
        return {"extractor": self.name, "weights_sha256": weights_hash(self.network), "resize": self.resize}


def colour(pixels: Tensor) -> Tensor:
    """Images of one channel repeated to three; others as they are."""
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels


def named_file(key: str, path: str, source: str) -> Path:
    """The file of weights that ``metrics.<key>`` names. Raises UserError if there is none; ``source`` has it."""
    if not path:
        raise UserError(f"metrics.{key} names no file: {source}")
    if not Path(path).is_file():
        raise UserError(f"metrics.{key}={path}: there is no such file")
    return Path(path)


def weights_hash(network: nn.Module) -> str:
    """16 hexadecimal digits of SHA-256 over all weights and buffers of a network."""
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
