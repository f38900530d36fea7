"""Files of weights in the layout of their authors, small and random: the real ones do not ship."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_clip import VisionTransformer

WIDTH, LAYERS = 128, 2  # two heads of 64


def dinov2_weights(grid: int = 37) -> dict[str, Tensor]:
    """The tensors of a DINOv2 by its authors' names."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) / shape[-1] ** 0.5

    weights = {
        "cls_token": draw(1, 1, WIDTH),
        "mask_token": draw(1, WIDTH),
        "pos_embed": draw(1, 1 + grid**2, WIDTH),
        "patch_embed.proj.weight": draw(WIDTH, 3, 14, 14),
        "patch_embed.proj.bias": draw(WIDTH),
    }
    for layer in range(LAYERS):
        parts = {"norm1": (WIDTH,), "attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH),
                 "norm2": (WIDTH,), "mlp.fc1": (4 * WIDTH, WIDTH),
                 "mlp.fc2": (WIDTH, 4 * WIDTH)}  # fmt: skip
        for name, shape in parts.items():
            weights[f"blocks.{layer}.{name}.weight"] = draw(*shape) + (1 if len(shape) == 1 else 0)
            weights[f"blocks.{layer}.{name}.bias"] = draw(shape[0])
        for name in ("ls1", "ls2"):
            weights[f"blocks.{layer}.{name}.gamma"] = 1 + draw(WIDTH)
    return weights | {"norm.weight": 1 + draw(WIDTH), "norm.bias": draw(WIDTH)}


class _Clip(nn.Module):
    """The weights that are read of a CLIP: the image encoder, and the text projection's width."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = VisionTransformer(28, 14, WIDTH, LAYERS, WIDTH // 64, 96)
        self.text_projection = nn.Parameter(torch.zeros(8, 96))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.text_projection


def write_weights(extractor: str, folder: Path) -> Path:
    """A file that the extractor ``dinov2`` or ``clip`` reads."""
    path = folder / f"{extractor}.pt"
    if extractor == "dinov2":
        torch.save(dinov2_weights(), path)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = _Clip().eval()
        with warnings.catch_warnings(
            action="ignore", category=FutureWarning
        ):  # the file's format is old, as is OpenAI's
            torch.jit.trace(network, torch.zeros(1, 8)).save(path)
    return path
