"""EfficientNet-Lite0, a small ImageNet classifier used as a frozen feature extractor.

Tan & Le 2019 (arXiv 1905.11946). The Lite variant has no squeeze-and-excitation, uses ReLU6, and
does not scale stem and head. Padding follows TensorFlow, where the weights come from.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad, relu6

# number of blocks, kernel size, stride, expansion, output channels
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
# the end of the fifth stage, at 1/16 of the input resolution
MIDDLE_BLOCKS = 11
MIDDLE_CHANNELS = 112


class SameConv2d(nn.Conv2d):
    """Convolution without bias and with TensorFlow's "same" padding: output ceil(side / stride)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, groups: int = 1
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        stride, kernel_size = self.stride[0], self.kernel_size[0]
        padding = []
        for side in (input.shape[-1], input.shape[-2]):
            output_side = -(-side // stride)
            total = max((output_side - 1) * stride + kernel_size - side, 0)
            # TensorFlow puts the odd pixel at the end
            padding += [total // 2, total - total // 2]
        return super().forward(pad(input, padding))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """Inverted residual block: expand, depthwise convolution, project.

    The input is added if the shapes are equal.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.expands = expansion > 1
        self.is_residual = stride == 1 and in_channels == out_channels
        if self.expands:
            self.expand_conv = nn.Conv2d(in_channels, inner, 1, bias=False)
            self.bn0 = _norm(inner)
        self.depthwise_conv = SameConv2d(inner, inner, kernel_size, stride, groups=inner)
        self.bn1 = _norm(inner)
        self.project_conv = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn2 = _norm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        y = self.bn2(self.project_conv(relu6(self.bn1(self.depthwise_conv(y)))))
        return x + y if self.is_residual else y


class EfficientNetLite0(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] to pooled features of two layers and class logits.

    The output is a tuple of pooled features of the middle [B, 112] and of the last layer [B, 1280],
    and ImageNet logits [B, 1000].
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn0 = SameConv2d(3, STEM_CHANNELS, 3, 2), _norm(STEM_CHANNELS)
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for count, kernel_size, stage_stride, expansion, out_channels in STAGES:
            for i in range(count):
                stride = stage_stride if i == 0 else 1
                blocks.append(Block(channels, out_channels, kernel_size, stride, expansion))
                channels = out_channels
        self.blocks = nn.ModuleList(blocks)
        self.conv_head = nn.Conv2d(channels, HEAD_CHANNELS, 1, bias=False)
        self.bn1 = _norm(HEAD_CHANNELS)
        self.fc = nn.Linear(HEAD_CHANNELS, 1000)
        self.requires_grad_(False).eval()

    def middle(self, images: Tensor) -> Tensor:
        """Compute the feature maps of the fifth stage, [B, 112, H / 16, W / 16]."""
        x = relu6(self.bn0(self.conv_stem(images)))
        for block in self.blocks[:MIDDLE_BLOCKS]:
            x = block(x)
        return x

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        middle = self.middle(images)
        x = middle
        for block in self.blocks[MIDDLE_BLOCKS:]:
            x = block(x)
        features = relu6(self.bn1(self.conv_head(x))).mean(dim=(2, 3))
        return middle.mean(dim=(2, 3)), features, self.fc(features)
