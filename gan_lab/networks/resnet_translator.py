"""CycleGAN's ResNet generator, with residual blocks at a quarter of the resolution."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from gan_lab.networks.layers import Network, ReflectConv2d, initialize_normal
from gan_lab.networks.patchgan import NORMS_WITH_BIAS, TranslatorNorm, norm_layer
from gan_lab.utils.errors import UserError


class Residual(nn.Module):
    """x + conv(relu(conv(x))), two 3 x 3 convolutions with reflection padding: the paper's Rk."""

    def __init__(self, channels: int, norm: TranslatorNorm) -> None:
        super().__init__()
        bias = norm in NORMS_WITH_BIAS
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

    In the paper's notation with k = ``width``: c7s1-k, d2k, d4k, ``blocks`` x R4k, u2k, uk, c7s1-C.
    That is a 7 x 7 convolution, two convolutions of stride 2, residual blocks, two transposed
    convolutions, a 7 x 7 convolution and tanh, with reflection padding as published. Height and
    width of inputs must be multiples of ``multiple`` and at least ``min_side``.

    Raises:
        UserError: ``shape`` violates this.

    Source: Zhu et al. 2017 (arXiv 1703.10593), sections 4 and 7.2, after Johnson et al. 2016
    (arXiv 1603.08155).
    """

    multiple = 4
    min_side = 8

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
                f"Image size {height} x {breadth} is not supported: both sides must be multiples "
                "of 4 and at least 8. Choose another data.size such as 28, 32 or 64"
            )
        bias = norm in NORMS_WITH_BIAS
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
        strided = [
            i
            for i, layer in enumerate(layers)
            if isinstance(layer, nn.Conv2d) and layer.stride[0] == 2
        ]
        residual = [i for i, layer in enumerate(layers) if isinstance(layer, Residual)]
        # indices of the layers whose outputs are ``features``: the strided convolutions, the first
        # and the fifth (or last) residual block
        selected = sorted({0, min(4, blocks - 1)}) if blocks else []
        self.encoder = [*strided, *(residual[i] for i in selected)]
        self.feature_channels = [source_channels, 2 * width, 4 * width]
        self.feature_channels += [4 * width] * len(selected)
        last = ReflectConv2d(width, channels, 7)
        self.layers = nn.Sequential(*layers, last, nn.Tanh())
        initialize_normal(self)

    def forward(self, sources: Tensor) -> Tensor:
        images: Tensor = self.layers(sources)
        return images

    def features(self, sources: Tensor) -> list[Tensor]:
        """Compute the encoder features that CUT compares.

        Args:
            sources: Images [B, C', H, W].

        Returns:
            The sources and the outputs of both strided convolutions and of the first and the fifth
            (or last) residual block: maps [B, C_i, H_i, W_i].

        Source: Park et al. 2020 (arXiv 2007.15651), section 4.
        """
        x, features = sources, [sources]
        for i in range(self.encoder[-1] + 1):
            x = self.layers[i](x)
            if i in self.encoder:
                features.append(x)
        return features
