"""The ResNet of CycleGAN: an image to an image of the same size, through residual blocks at a quarter of it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from gan_lab.networks.layers import Network, ReflectConv2d, initialize_normal
from gan_lab.networks.patchgan import BIASED, TranslatorNorm, norm_layer
from gan_lab.utils.errors import UserError


class Residual(nn.Module):
    """x + conv(relu(conv(x))), two 3 x 3 convolutions with reflection padding: the paper's Rk."""

    def __init__(self, channels: int, norm: TranslatorNorm) -> None:
        super().__init__()
        bias = norm in BIASED
        self.inner = nn.Sequential(
            ReflectConv2d(channels, channels, 3, bias=bias),
            *norm_layer(channels, norm),
            nn.ReLU(),
            ReflectConv2d(channels, channels, 3, bias=bias),
            *norm_layer(channels, norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = x + self.inner(x)
        return changed


class ResNetTranslator(Network):
    """Sources [B, C', H, W] to images [B, C, H, W] in [-1, 1].

    c7s1-k, d2k, d4k, ``blocks`` x R4k, u2k, uk, c7s1-C with k = ``width``: a 7 x 7 convolution, two of stride 2,
    residual blocks, two transposed ones back, a 7 x 7 convolution and tanh; reflection padding and ``norm`` as
    published. Any input whose sides are multiples of ``multiple``, and at least 8, is accepted.

    Raises UserError if the images' sides are not.

    Source: Zhu et al. 2017 (arXiv 1703.10593), sections 4 and 7.2, after Johnson et al. 2016 (arXiv 1603.08155).
    """

    multiple, least = 4, 8  # of the sides of an input

    def __init__(
        self,
        *,
        shape: Sequence[int],
        source_channels: int,
        width: int = 64,
        blocks: int = 9,
        norm: TranslatorNorm = "instance",
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        if height % 4 or breadth % 4 or min(height, breadth) < 8:
            raise UserError(
                f"the translator halves its images twice: {height} x {breadth} must be multiples of 4 and 8 at least, "
                "choose another data.size such as 28, 32 or 64"
            )
        bias = norm in BIASED
        layers: list[nn.Module] = [
            ReflectConv2d(source_channels, width, 7, bias=bias),
            *norm_layer(width, norm),
            nn.ReLU(),
        ]
        for k in (2 * width, 4 * width):
            layers += [nn.Conv2d(k // 2, k, 3, 2, 1, bias=bias), *norm_layer(k, norm), nn.ReLU()]
        layers += [Residual(4 * width, norm) for _ in range(blocks)]
        for k in (2 * width, width):
            transposed = nn.ConvTranspose2d(2 * k, k, 3, 2, 1, output_padding=1, bias=bias)
            layers += [transposed, *norm_layer(k, norm), nn.ReLU()]
        halving = [
            i
            for i, layer in enumerate(layers)
            if isinstance(layer, nn.Conv2d) and layer.stride[0] == 2
        ]
        inner = [i for i, layer in enumerate(layers) if isinstance(layer, Residual)]
        # the layers whose outputs are ``features``
        self.encoder = [*halving, *(inner[i] for i in sorted({0, min(4, blocks - 1)}) if blocks)]
        self.feature_channels = [
            source_channels,
            2 * width,
            4 * width,
            *[4 * width] * (len(self.encoder) - 2),
        ]
        last = ReflectConv2d(width, channels, 7)
        self.layers = nn.Sequential(*layers, last, nn.Tanh())
        initialize_normal(self)

    def forward(self, sources: Tensor) -> Tensor:
        images: Tensor = self.layers(sources)
        return images

    def features(self, sources: Tensor) -> list[Tensor]:
        """The encoder at work: the sources themselves, both halvings, the first and the fifth (or last) residual block.

        Maps [B, C_i, H_i, W_i].

        Source: Park et al. 2020 (arXiv 2007.15651), section 4.
        """
        x, found = sources, [sources]
        for i in range(self.encoder[-1] + 1):
            x = self.layers[i](x)
            if i in self.encoder:
                found.append(x)
        return found
