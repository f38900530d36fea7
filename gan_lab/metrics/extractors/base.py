"""The contract of a feature extractor: pixels in, features and optionally logits out."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gan_lab.device import exact_arithmetic
from gan_lab.utils.errors import UserError


class Extractor(ABC):
    """A frozen network whose features are used to compare two sets of images.

    It is not an ``nn.Module``, because the weights of a module that is an attribute of a callback,
    a family or a metric would be saved in checkpoints.

    Attributes:
        name: Suffix of score names: fd_<name>, kd_<name>, precision_<name> ...
        score: Name of the inception score of its logits; None: it has no logits.
        splits: Splits of the inception score.
        features: Number of features D. A Fréchet distance needs many more images than features.
        resize: Description of how images are resized, for the protocol.
        weights_key: Key under ``metrics:`` that names the file of its weights, the argument of its
            constructor; None: the weights ship with it.
        sigma: Width of a Gaussian kernel on features of unit length; None: polynomial kernel.
        cpu_batch_size: Images at a time on a CPU, whose caches fit few feature maps; None: the
            whole batch.
    """

    name: ClassVar[str]
    score: ClassVar[str | None] = None
    splits: ClassVar[int] = 1
    features: int
    resize: str
    weights_key: ClassVar[str | None] = None
    sigma: ClassVar[float | None] = None
    cpu_batch_size: ClassVar[int | None] = None
    network: nn.Module

    @abstractmethod
    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Extract features [B, D] and, if there are any, logits [B, classes].

        Args:
            pixels: uint8 [B, C, H, W]; points: float [B, 2, 1, 1].
        """

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Call ``forward`` on the device of the pixels, in full float32."""
        self.network.to(pixels.device)
        on_cpu = pixels.device.type == "cpu"
        size = self.cpu_batch_size if self.cpu_batch_size and on_cpu else len(pixels)
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
        """Return the protocol entries of a value: extractor, hash of its weights, resize."""
        return {
            "extractor": self.name,
            "weights_sha256": weights_hash(self.network),
            "resize": self.resize,
        }


class ModuleExtractor(Extractor):
    """A user's module that maps images to features [B, D].

    It works on a copy in evaluation mode, so that neither training the module nor its dropout or
    batch norm changes the features. The images are passed to it unchanged.

    Args:
        module: The module.
    """

    name = "custom"
    # Inception's default, for a module that returns the logits of an inception score.
    splits = 10
    resize = "none"

    def __init__(self, module: nn.Module) -> None:
        self.network = copy.deepcopy(module).eval().requires_grad_(False)
        # The first batch sets it.
        self.features = 0

    def forward(self, pixels: Tensor) -> tuple[Tensor, None]:
        """Extract features [B, D].

        Raises:
            UserError: The module does not return a tensor with a row for each image.
        """
        features = self.network(pixels)
        if not isinstance(features, Tensor) or len(features) != len(pixels) or features.ndim < 2:
            shape = (
                list(features.shape) if isinstance(features, Tensor) else type(features).__name__
            )
            raise UserError(
                f"The module {type(self.network).__name__} returned {shape} for {len(pixels)} "
                "images. Return features [N, D]."
            )
        features = features.flatten(1)
        self.features = features.shape[1]
        return features, None


def expand_gray(pixels: Tensor) -> Tensor:
    """Repeat a single channel three times. Images with three channels are returned unchanged."""
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels


def require_weights_file(key: str, path: str, source: str) -> Path:
    """Return the path of the weights that ``metrics.<key>`` names.

    Args:
        key: The key.
        path: Its value.
        source: Where to get the file, for the error.

    Raises:
        UserError: The path is empty, or there is no such file.
    """
    if not path:
        raise UserError(f"metrics.{key} is not set. Set it to a file; {source}.")
    if not Path(path).is_file():
        raise UserError(f"metrics.{key}={path}: there is no such file. Set it to a file; {source}.")
    return Path(path)


def weights_hash(network: nn.Module) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of all parameters and buffers of a network."""
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
