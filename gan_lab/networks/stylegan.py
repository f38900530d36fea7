"""Networks of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) with the names of StyleGAN2-ADA.

Written from the papers (also Karras et al. 2018, arXiv 1710.10196; Karras et al. 2019,
arXiv 1812.04948; Karras et al. 2020, arXiv 2006.06676). Parameters and buffers have the names of
the authors' snapshots: block ``b16`` computes at 16 rows.

Image sizes: see ``num_downsamples``. A power of two starts at 4 x 4, as published; 28 x 28 starts
at 7 x 7.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as Weights
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lab.images import LUMA
from gan_lab.networks.dcgan import num_downsamples
from gan_lab.networks.layers import Network, one_hot
from gan_lab.seeding import Stream

NEGATIVE_SLOPE = 0.2
# gain of leaky ReLU that preserves the variance
ACTIVATION_GAIN = math.sqrt(2)
EPSILON = 1e-8
# learning-rate factor of the mapping networks
MAPPING_FACTOR = 0.01
# dense layers of the discriminator's mapping of labels
LABEL_LAYERS = 8
# factor of the old mean per update of w_avg
W_AVG_DECAY = 0.995

# constant: the noise images stored in the network; none: no noise; or a noise image for each layer
Noise = Literal["const", "none"] | Sequence[Tensor]
Architecture = Literal["resnet", "orig"]


class StyleGANGenerator(Network):
    """Latents [B, z_dim] and, if ``classes`` > 0, labels [B] to images [B, C, H, W].

    The images are not squashed: values are mostly, but not always, in [-1, 1].

    ``mapping`` computes w [B, w_dim], ``synthesis`` images from one w per layer
    [B, num_ws, w_dim]. A block of h rows has min(``width`` * H // h, ``max_width``) channels:
    ``width`` at the highest resolution, twice as many at each lower one. ``clamp`` limits absolute
    activations; 0: no limit.

    Source: Karras et al. 2020 (arXiv 1912.04958), figure 2d with the skip architecture of figure
    7b; labels and clamp as in Karras et al. 2020 (arXiv 2006.06676).
    """

    copied_buffers = ("mapping.w_avg",)
    normalizes_latents = True

    def __init__(
        self,
        *,
        z_dim: int,
        shape: Sequence[int],
        classes: int = 0,
        w_dim: int = 512,
        width: int = 64,
        max_width: int = 512,
        mapping_layers: int = 2,
        clamp: float = 0.0,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.mapping = Mapping(z_dim, w_dim, classes, mapping_layers, average=True)
        self.synthesis = Synthesis(w_dim, shape, width, max_width, clamp)
        self.num_ws = self.synthesis.num_ws

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        images: Tensor = self.synthesis([self.map_latents(z, y)] * self.num_ws)
        return images

    def map_latents(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map latents [B, z_dim] and labels [B] to w [B, w_dim]."""
        w: Tensor = self.mapping(z, one_hot(y, self.classes, like=z) if self.classes else None)
        return w

    def repeat_w(self, w: Tensor, truncation: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Repeat w [B, w_dim] for each layer, [B, num_ws, w_dim].

        Args:
            w: The output of ``map_latents``.
            truncation: ψ in w_avg + ψ (w - w_avg).
            cutoff: Number of layers with truncation, counted from the lowest resolution; None: all.

        Source: Karras et al. 2019 (arXiv 1812.04948), appendix B.
        """
        ws = w.unsqueeze(1).repeat(1, self.num_ws, 1)
        if truncation == 1:
            return ws
        first = ws[:, :cutoff]
        truncated = torch.lerp(self.mapping.w_avg.expand_as(first), first, truncation)
        return torch.cat([truncated, ws[:, truncated.shape[1] :]], dim=1)

    def convert_colors(self, state: Weights[str, Tensor]) -> dict[str, Tensor]:
        """Convert weights so that the images are the luma of the color images, or gray in color.

        Images are the sum of the outputs of all ``torgb``, so this is exact up to ``clamp``.
        """
        channels: int = self.recipe["arguments"]["shape"][0]

        def convert(value: Tensor) -> Tensor:
            if {value.shape[0], channels} != {1, 3}:
                return value
            if channels == 1:
                return torch.tensordot(value.new_tensor([LUMA]), value, dims=1)
            return value.expand(channels, *value.shape[1:])

        ends = ("torgb.weight", "torgb.bias")
        return {n: convert(value) if n.endswith(ends) else value for n, value in state.items()}

    @torch.no_grad()
    def update_w_avg(self, mean: Tensor) -> None:
        """Move w_avg towards the mean [w_dim] of a training batch."""
        self.mapping.w_avg.lerp_(mean.to(self.mapping.w_avg), 1 - W_AVG_DECAY)

    def list_constant_noise(self) -> list[Tensor]:
        """List the stored noise image of each synthesis layer, [1, 1, h, w]."""
        return [
            module.noise_const[None, None]
            for module in self.synthesis.modules()
            if isinstance(module, SynthesisLayer)
        ]

    def sample_noise(self, stream: Stream, n: int, like: Tensor) -> list[Tensor]:
        """Sample noise images [n, 1, h, w] for each synthesis layer."""
        return [
            replace(stream, purpose=f"{stream.purpose} {i}")
            .normal(n, *size, like=like)
            .unsqueeze(1)
            for i, size in enumerate(self.synthesis.noise_sizes)
        ]


class StyleGANDiscriminator(Network):
    """Images [B, C, H, W] and, if ``classes`` > 0, labels [B] to logits [B].

    ``width``, ``max_width`` and ``clamp`` as in ``StyleGANGenerator``. ``architecture`` "resnet"
    has residual blocks, "orig" plain ones. ``group`` is the number of images that share one
    standard deviation, at most the largest divisor of the batch; 1: each image for itself, and the
    added channel is constant. ``label_dim`` is the size of the mapped label; 0: as many as the
    lowest resolution has channels.

    Source: Karras et al. 2020 (arXiv 1912.04958), figure 7c; minibatch standard deviation as in
    Karras et al. 2018 (arXiv 1710.10196), section 3; labels by projection as in Karras et al. 2020
    (arXiv 2006.06676), after Miyato & Koyama 2018 (arXiv 1802.05637).
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        classes: int = 0,
        width: int = 64,
        max_width: int = 512,
        clamp: float = 0.0,
        group: int = 4,
        architecture: Architecture = "resnet",
        label_dim: int = 0,
    ) -> None:
        super().__init__()
        self.classes = classes
        channels, height, breadth = shape
        sizes = list_sizes(height, breadth)
        widths = [min(width * height // rows, max_width) for rows, _ in sizes]
        self.block_names = [f"b{rows}" for rows, _ in reversed(sizes[1:])]
        for name, outputs, inputs in zip(
            self.block_names, widths[-2::-1], widths[:0:-1], strict=True
        ):
            images = channels if name == self.block_names[0] else 0
            block = DiscriminatorBlock(images, inputs, outputs, clamp, architecture)
            self.add_module(name, block)
        label_dim = (label_dim or widths[0]) if classes else 0
        self.lowest = f"b{sizes[0][0]}"
        last = DiscriminatorEpilogue(widths[0], sizes[0], label_dim, clamp, group)
        self.add_module(self.lowest, last)
        # last: FreezeD counts layers from the image
        self.mapping = Mapping(0, label_dim, classes, LABEL_LAYERS) if classes else None

    def convert_colors(self, state: Weights[str, Tensor]) -> dict[str, Tensor]:
        """Convert weights so that logits are those of gray images in color, or of the luma."""
        channels: int = self.recipe["arguments"]["shape"][0]

        def convert(value: Tensor) -> Tensor:
            # the layer divides by the root of its channels
            if {value.shape[1], channels} != {1, 3}:
                return value
            if channels == 1:
                return value.sum(dim=1, keepdim=True) / math.sqrt(value.shape[1])
            return value * value.new_tensor(LUMA).view(1, -1, 1, 1) * math.sqrt(channels)

        end = "fromrgb.weight"
        return {n: convert(value) if n.endswith(end) else value for n, value in state.items()}

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Compute the input of the last dense layer, [B, F], from images [B, C, H, W]."""
        for name in self.block_names:
            x = self.get_submodule(name)(x)
        return self._get_epilogue().features(x)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        logits: Tensor = self._get_epilogue().out(self.features(x))
        if self.mapping is None:
            return logits.squeeze(1)
        label: Tensor = self.mapping(None, one_hot(y, self.classes, like=x))
        return (logits * label).sum(dim=1) / math.sqrt(label.shape[1])

    def _get_epilogue(self) -> DiscriminatorEpilogue:
        last = self.get_submodule(self.lowest)
        assert isinstance(last, DiscriminatorEpilogue)
        return last


class Mapping(nn.Module):
    """Map latents [B, z_dim] and class weights [B, classes] to w [B, w_dim].

    Both are normalized to a mean square of 1; class weights after an embedding. Dense layers with
    activation follow. Without latents (``z_dim`` 0) it maps class weights alone.

    Source: Karras et al. 2019 (arXiv 1812.04948), section 2; Karras et al. 2020
    (arXiv 2006.06676), appendix C.
    """

    w_avg: Tensor

    def __init__(
        self, z_dim: int, w_dim: int, classes: int, layers: int, average: bool = False
    ) -> None:
        super().__init__()
        self.layer_names = [f"fc{i}" for i in range(layers)]
        self.embed = ScaledLinear(classes, w_dim) if classes else None
        inputs = z_dim + (w_dim if classes else 0)
        for name in self.layer_names:
            self.add_module(name, ScaledLinear(inputs, w_dim, MAPPING_FACTOR))
            inputs = w_dim
        if average:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor | None, y: Tensor | None) -> Tensor:
        parts = [] if z is None else [normalize_mean_square(z)]
        if self.embed is not None:
            parts.append(normalize_mean_square(self.embed(y)))
        x = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        for name in self.layer_names:
            x = activate(self.get_submodule(name)(x))
        return x


class Synthesis(nn.Module):
    """Compute images from one w per layer, from a learned constant at the lowest resolution.

    Attributes:
        num_ws: Number of layers with a w of their own.
        noise_sizes: Height and width of each layer's noise.
    """

    def __init__(
        self, w_dim: int, shape: Sequence[int], width: int, max_width: int, clamp: float
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        sizes = list_sizes(height, breadth)
        self.num_ws = 2 * len(sizes)
        self.block_names = [f"b{rows}" for rows, _ in sizes]
        self.noise_sizes = [sizes[0], *(size for size in sizes[1:] for _ in range(2))]
        inputs = 0
        for name, size in zip(self.block_names, sizes, strict=True):
            outputs = min(width * height // size[0], max_width)
            self.add_module(name, SynthesisBlock(inputs, outputs, w_dim, size, channels, clamp))
            inputs = outputs

    def forward(self, ws: Tensor | Sequence[Tensor], noise: Noise = "const") -> Tensor:
        """Compute images [B, C, H, W].

        Args:
            ws: One w per layer, [B, num_ws, w_dim] or ``num_ws`` tensors [B, w_dim].
            noise: ``const``, ``none``, or noise images [B, 1, h, w] for each layer.
        """
        each_w = ws.unbind(dim=1) if isinstance(ws, Tensor) else ws
        x: Tensor | None = None
        image: Tensor | None = None
        position = 0
        for name in self.block_names:
            block = self.get_submodule(name)
            # torgb shares its w with the next block's first convolution
            count = 2 if x is None else 3
            own = each_w[position : position + count]
            first = max(position, 0)
            own_noise = noise if isinstance(noise, str) else noise[first : first + count - 1]
            x, image = block(x, image, own, own_noise)
            position += count - 1
        assert image is not None
        return image


class SynthesisBlock(nn.Module):
    """Two modulated convolutions (one at the lowest resolution), whose image is added to a sum."""

    resample_filter: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        w_dim: int,
        size: tuple[int, int],
        image_channels: int,
        clamp: float,
    ) -> None:
        super().__init__()
        self.register_buffer("resample_filter", make_filter())
        if inputs == 0:
            self.const = nn.Parameter(torch.randn(outputs, *size))
        else:
            self.conv0 = SynthesisLayer(inputs, outputs, w_dim, size, clamp, upsample=True)
        self.conv1 = SynthesisLayer(outputs, outputs, w_dim, size, clamp)
        self.torgb = ToRGB(outputs, image_channels, w_dim, clamp)

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: Sequence[Tensor], noise: Noise
    ) -> tuple[Tensor, Tensor]:
        each_noise = [noise] * 2 if isinstance(noise, str) else noise
        # the style of conv1 broadcasts the constant over the batch
        x = self.const.unsqueeze(0) if x is None else self.conv0(x, ws[0], each_noise[0])
        x = self.conv1(x, ws[-2], each_noise[-1])
        own: Tensor = self.torgb(x, ws[-1])
        return x, own if image is None else upsample(image, self.resample_filter) + own


class SynthesisLayer(nn.Module):
    """Modulated 3 x 3 convolution with noise, bias and activation.

    The style s scales the weights over input channels; they are then divided by their norm per
    output channel. Scaling inputs by s and outputs by the reciprocal norm is the same, and has
    the same weights for all images of a batch.

    Source: Karras et al. 2020 (arXiv 1912.04958), section 2.2, equations 1 and 3.
    """

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        w_dim: int,
        size: tuple[int, int],
        clamp: float,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.upsample, self.clamp = upsample, clamp
        self.register_buffer("resample_filter", make_filter())
        self.affine = ScaledLinear(w_dim, inputs, initial_bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(size))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | str) -> Tensor:
        style = self.affine(w)
        squared_norm = functional.linear(style * style, self.weight.square().sum(dim=(2, 3)))
        x = x * per_channel(style)
        if self.upsample:
            x = functional.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
            x = filter_images(x, self.resample_filter, padding=1, gain=4.0)
        else:
            x = functional.conv2d(x, self.weight, padding=1)
        x = x * per_channel(torch.rsqrt(squared_norm + EPSILON))
        if not isinstance(noise, str):
            x = x + noise * self.noise_strength
        elif noise == "const":
            x = x + self.noise_const * self.noise_strength
        return limit(activate(x + self.bias[:, None, None]), self.clamp)


class ToRGB(nn.Module):
    """Modulated 1 x 1 convolution to images [B, C, H, W], without normalization of the weights."""

    def __init__(self, inputs: int, image_channels: int, w_dim: int, clamp: float) -> None:
        super().__init__()
        self.clamp = clamp
        self.affine = ScaledLinear(w_dim, inputs, initial_bias=1.0)
        self.weight = nn.Parameter(torch.randn(image_channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(image_channels))
        self.gain = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) * self.gain
        return limit(functional.conv2d(x * per_channel(style), self.weight, self.bias), self.clamp)


class DiscriminatorBlock(nn.Module):
    """Two convolutions, the second one downsampling, with a skip connection in "resnet".

    The block at the highest resolution starts with a 1 x 1 convolution from ``images`` channels.
    """

    resample_filter: Tensor

    def __init__(
        self, images: int, inputs: int, outputs: int, clamp: float, architecture: Architecture
    ) -> None:
        super().__init__()
        self.register_buffer("resample_filter", make_filter())
        self.fromrgb = ScaledConv2d(images, inputs, 1, clamp) if images else None
        self.conv0 = ScaledConv2d(inputs, inputs, 3, clamp)
        residual = architecture == "resnet"
        self.conv1 = ScaledConv2d(
            inputs, outputs, 3, clamp, down=True, gain=math.sqrt(0.5) if residual else 1.0
        )
        self.skip = (
            ScaledConv2d(inputs, outputs, 1, bias=False, down=True, gain=math.sqrt(0.5))
            if residual
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.fromrgb is not None:
            x = self.fromrgb(x)
        h: Tensor = self.conv1(self.conv0(x))
        return h if self.skip is None else h + self.skip(x)


class DiscriminatorEpilogue(nn.Module):
    """Minibatch standard deviation, a convolution and dense layers at the lowest resolution."""

    def __init__(
        self, channels: int, size: tuple[int, int], label_dim: int, clamp: float, group: int
    ) -> None:
        super().__init__()
        self.group = group
        self.conv = ScaledConv2d(channels + 1, channels, 3, clamp)
        self.fc = ScaledLinear(channels * math.prod(size), channels)
        self.out = ScaledLinear(channels, label_dim or 1)

    def features(self, x: Tensor) -> Tensor:
        """Compute features [B, C] from [B, C, h, w]."""
        x = torch.cat([x, minibatch_deviation(x, self.group)], dim=1)
        return activate(self.fc(self.conv(x).flatten(1)))


class ScaledLinear(nn.Linear):
    """Dense layer with an equalized learning rate.

    Stored weights have a standard deviation of 1 / ``factor``, and are multiplied by ``factor`` /
    √inputs.

    Source: Karras et al. 2018 (arXiv 1710.10196), section 4.1.
    """

    def __init__(
        self, inputs: int, outputs: int, factor: float = 1.0, initial_bias: float = 0.0
    ) -> None:
        super().__init__(inputs, outputs)
        self.factor = factor
        nn.init.normal_(self.weight, std=1 / factor)
        nn.init.constant_(self.bias, initial_bias)

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight * (self.factor / math.sqrt(self.in_features))
        bias = self.bias if self.factor == 1 else self.bias * self.factor
        return functional.linear(input, weight, bias)


class ScaledConv2d(nn.Conv2d):
    """Convolution with an equalized learning rate, activation and clamp, or ``down``sampling by 2.

    Without ``bias`` there is no activation.
    """

    resample_filter: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        clamp: float = 0.0,
        *,
        bias: bool = True,
        down: bool = False,
        gain: float = 1.0,
    ) -> None:
        super().__init__(inputs, outputs, kernel, bias=bias)
        self.clamp, self.down, self.gain = clamp, down, gain
        self.register_buffer("resample_filter", make_filter())
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        kernel = self.kernel_size[0]
        scale = 1 / math.sqrt(self.in_channels * kernel**2)
        if self.bias is None:
            # linear, so that the gain can be part of the weights
            scale *= self.gain
        weight = self.weight * scale
        if not self.down:
            x = functional.conv2d(input, weight, self.bias, padding=kernel // 2)
        elif kernel == 1:
            # a 1 x 1 convolution needs every second pixel of the filtered image only
            x = filter_images(input, self.resample_filter, padding=1, stride=2)
            x = functional.conv2d(x, weight, self.bias)
        else:
            x = filter_images(input, self.resample_filter, padding=2)
            x = functional.conv2d(x, weight, self.bias, stride=2)
        if self.bias is None:
            return x
        x = activate(x)
        return limit(x if self.gain == 1 else x * self.gain, self.clamp * self.gain)


def list_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """List the sizes of the blocks, from the lowest to the highest resolution."""
    count = num_downsamples(height, width)
    return [(height >> i, width >> i) for i in reversed(range(count + 1))]


def normalize_mean_square(x: Tensor) -> Tensor:
    """Divide vectors [B, D] by the root of their mean square."""
    return x * torch.rsqrt((x * x).mean(dim=1, keepdim=True) + EPSILON)


def per_channel(x: Tensor) -> Tensor:
    """Reshape [B, C] to [B, C, 1, 1], for broadcasting over pixels."""
    return x.unsqueeze(2).unsqueeze(3)


def activate(x: Tensor) -> Tensor:
    """Apply leaky ReLU and a gain that preserves the variance."""
    return functional.leaky_relu(x, NEGATIVE_SLOPE) * ACTIVATION_GAIN


def limit(x: Tensor, bound: float) -> Tensor:
    """Clamp to [-bound, bound]; 0: no bound."""
    return x.clamp(-bound, bound) if bound else x


def make_filter() -> Tensor:
    """Return the low-pass filter [1, 3, 3, 1] x [1, 3, 3, 1] / 64, [4, 4]."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


def filter_images(
    x: Tensor, kernel: Tensor, padding: int, stride: int = 1, gain: float = 1.0
) -> Tensor:
    """Filter each channel of images [B, C, H, W]."""
    channels = x.shape[1]
    weight = (kernel * gain).expand(channels, 1, -1, -1)
    return functional.conv2d(x, weight, stride=stride, padding=padding, groups=channels)


def upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Upsample images [B, C, H, W] by 2: insert zeros, then filter with a gain of 4."""
    channels = x.shape[1]
    weight = (kernel * 4).expand(channels, 1, -1, -1)
    return functional.conv_transpose2d(x, weight, stride=2, padding=1, groups=channels)


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """Compute the standard deviation over groups of images, a constant channel [B, 1, H, W].

    Each feature's deviation over the images of a group, averaged over features and pixels. With G
    groups, image i belongs to group i mod G. If ``group`` does not divide the batch, groups have
    the size of the batch's largest divisor below it.
    """
    n, _, height, width = x.shape
    # bfloat16 would round the deviations of similar images to 0
    values = x.to(torch.promote_types(x.dtype, torch.float32))
    size = next(count for count in range(min(group, n), 0, -1) if n % count == 0)
    groups = values.unflatten(0, (size, n // size))
    variance = (groups - groups.mean(dim=0)).square().mean(dim=0)
    deviation = (variance + EPSILON).sqrt().mean(dim=(1, 2, 3))
    return deviation.to(x.dtype).repeat(size).view(n, 1, 1, 1).expand(-1, -1, height, width)
