"""EfficientNet-Lite0, a small network that knows photographs: a frozen judge here, never trained.

Tan & Le 2019 (arXiv 1905.11946); the variant for phones has no squeeze-and-excitation, rectifies at 6, and keeps the
first and the last layer. Padding is TensorFlow's, where the weights are from.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad, relu6

# blocks, side of the kernel, stride, expansion, channels out
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
STEM, HEAD = 32, 1280  # channels
MIDDLE, MIDDLE_CHANNELS = (
    11,
    112,
)  # blocks up to the end of the fifth stage, at a sixteenth of the side


class SameConv2d(nn.Conv2d):
    """A convolution without bias whose output has a stride-th of the input's side, rounded up."""

    def __init__(self, into: int, out: int, side: int, stride: int, groups: int = 1) -> None:
        super().__init__(into, out, side, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        sides = []
        for n in (input.shape[-1], input.shape[-2]):
            short = max((-(-n // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - n, 0)
            sides += [short // 2, short - short // 2]
        return super().forward(pad(input, sides))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """An inverted residual: widen, look around, narrow; added to the input where the shapes are equal."""

    def __init__(self, into: int, out: int, side: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = into * expansion
        self.widens, self.adds = expansion > 1, stride == 1 and into == out
        if self.widens:
            self.expand_conv, self.bn0 = nn.Conv2d(into, wide, 1, bias=False), _norm(wide)
        self.depthwise_conv, self.bn1 = (
            SameConv2d(wide, wide, side, stride, groups=wide),
            _norm(wide),
        )
        self.project_conv, self.bn2 = nn.Conv2d(wide, out, 1, bias=False), _norm(out)

    def forward(self, x: Tensor) -> Tensor:
        y = relu6(self.bn0(self.expand_conv(x))) if self.widens else x
        y = self.bn2(self.project_conv(relu6(self.bn1(self.depthwise_conv(y)))))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] to pooled features [B, 112] of the middle and [B, 1280] of the end, and logits [B, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn0 = SameConv2d(3, STEM, 3, 2), _norm(STEM)
        blocks, into = [], STEM
        for count, side, stride, expansion, out in STAGES:
            for i in range(count):
                blocks.append(Block(into, out, side, stride if i == 0 else 1, expansion))
                into = out
        self.blocks = nn.ModuleList(blocks)
        self.conv_head, self.bn1 = nn.Conv2d(into, HEAD, 1, bias=False), _norm(HEAD)
        self.fc = nn.Linear(HEAD, 1000)
        self.requires_grad_(False).eval()

    def middle(self, images: Tensor) -> Tensor:
        """Maps [B, 112, H / 16, W / 16]."""
        x = relu6(self.bn0(self.conv_stem(images)))
        for block in self.blocks[:MIDDLE]:
            x = block(x)
        return x

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = middle = self.middle(images)
        for block in self.blocks[MIDDLE:]:
            x = block(x)
        features = relu6(self.bn1(self.conv_head(x))).mean(dim=(2, 3))
        return middle.mean(dim=(2, 3)), features, self.fc(features)
