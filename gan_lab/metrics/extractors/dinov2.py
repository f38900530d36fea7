"""DINOv2, a self-supervised vision transformer: torchvision's layers with the authors' weights."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torchvision.models import VisionTransformer

from gan_lab.metrics.extractors.base import Extractor, expand_gray, require_weights_file
from gan_lab.utils.errors import UserError, first_line

WEIGHTS_SOURCE = "FD-DINOv2 uses the authors' dinov2_vitl14_pretrain.pth"
# Images are resized to this side in pixels.
SIDE_PX = 224
# Number of features of each attention head.
HEAD_FEATURES = 64
# Mean and standard deviation of ImageNet's channels, for pixels in [0, 255].
CHANNEL_MEANS = (123.675, 116.28, 103.53)
CHANNEL_STDS = (58.395, 57.12, 57.375)
# The authors' names inside a block, and torchvision's names.
PARAMETER_NAMES = {
    "norm1": "ln_1",
    "attn.qkv": "self_attention.in_proj",
    "attn.proj": "self_attention.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}
# Factors of the outputs of these layers (layer scale).
LAYER_SCALES = {"attn.proj": "ls1.gamma", "mlp.fc2": "ls2.gamma"}


def build_network(weights: dict[str, Tensor]) -> VisionTransformer:
    """Build torchvision's network with the authors' weights.

    Layer scales are merged into the layers, because torchvision's network has none.

    Raises:
        UserError: The network has registers.
        KeyError: The weights are those of another network.
        RuntimeError: The weights are those of another network.
    """
    if "register_tokens" in weights:
        raise UserError("it has registers")
    width, side = weights["cls_token"].shape[-1], weights["patch_embed.proj.weight"].shape[-1]
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    network = VisionTransformer(
        SIDE_PX,
        side,
        layers,
        width // HEAD_FEATURES,
        width,
        4 * width,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    network.heads = nn.Identity()
    known = {
        "class_token": weights["cls_token"],
        "conv_proj.weight": weights["patch_embed.proj.weight"],
        "conv_proj.bias": weights["patch_embed.proj.bias"],
        "encoder.pos_embedding": _resize_positions(weights["pos_embed"], SIDE_PX // side),
        "encoder.ln.weight": weights["norm.weight"],
        "encoder.ln.bias": weights["norm.bias"],
    }
    for layer in range(layers):
        for theirs, ours in PARAMETER_NAMES.items():
            scale = (
                weights[f"blocks.{layer}.{LAYER_SCALES[theirs]}"]
                if theirs in LAYER_SCALES
                else None
            )
            for part in ("weight", "bias"):
                value = weights[f"blocks.{layer}.{theirs}.{part}"]
                joint = "_" if ours.endswith("in_proj") else "."
                scaled = value if scale is None else scale.view(-1, *[1] * (value.ndim - 1)) * value
                known[f"encoder.layers.encoder_layer_{layer}.{ours}{joint}{part}"] = scaled
    network.load_state_dict(known)
    return network.eval().requires_grad_(False)


def _resize_positions(learned: Tensor, side: int) -> Tensor:
    """Resize position embeddings bicubically to [1, 1 + side², D].

    As in the authors' code, 0.1 is added to the side when the scale factor is computed.
    """
    grid = math.isqrt(learned.shape[1] - 1)
    if grid == side:
        return learned
    maps = learned[:, 1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    factor = (side + 0.1) / grid
    maps = interpolate(maps, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat([learned[:, :1], maps.flatten(2).mT], dim=1)


class DINOv2(Extractor):
    """The class token after the last norm, 1,024 features for a ViT-L/14.

    The authors of FD-DINOv2 resize bicubically instead.

    Args:
        weights: The authors' file; the architecture is inferred from it.

    Source: Oquab et al. 2023 (arXiv 2304.07193); Stein et al. 2023 (arXiv 2306.04675) for the
    metric.

    Raises:
        UserError: The file is missing or contains something else.
    """

    name = "dinov2"
    weights_key = "dinov2_weights"
    resize = f"bilinear as in TensorFlow 1, to {SIDE_PX}"
    network: VisionTransformer

    def __init__(self, weights: str) -> None:
        path = require_weights_file(self.weights_key, weights, WEIGHTS_SOURCE)
        try:
            self.network = build_network(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:
            # Reading an arbitrary file can raise anything.
            reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
            raise UserError(
                f"metrics.dinov2_weights={weights} does not contain the weights of DINOv2 small, "
                f"base or large without registers: {reason}"
            ) from None
        self.features = self.network.hidden_dim

    def forward(self, pixels: Tensor) -> tuple[Tensor, None]:
        x = interpolate_bilinear_2d_like_tensorflow1x(
            expand_gray(pixels).float(), size=(SIDE_PX, SIDE_PX), align_corners=False
        )
        mean, std = (
            x.new_tensor(values).view(1, 3, 1, 1) for values in (CHANNEL_MEANS, CHANNEL_STDS)
        )
        return self.network((x - mean) / std), None


EXTRACTOR = DINOv2
