from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from gan_lab.config.loading import family_class
from gan_lab.images import ImageSpec
from gan_lab.networks import discriminator, from_recipe, generator
from gan_lab.networks.dcgan import DCGANDiscriminator, DCGANGenerator, num_downsamples
from gan_lab.networks.layers import (
    GrayConv2d,
    GrayConvTranspose2d,
    Network,
    _reflect_pad,
    _upsample_bilinear,
    initialize_normal,
)
from gan_lab.networks.mlp import MLPDiscriminator, MLPGenerator
from tests.helpers.families import keys_of

KINDS = ["mlp", "dcgan"]


def make(
    kind: Any,
    part: str,
    *,
    size: int = 28,
    channels: int = 1,
    classes: int = 0,
    norm: Any = "batch",
) -> Network:
    torch.manual_seed(0)
    sizes = {"shape": (channels, size, size), "width": 8, "norm": norm, "classes": classes}
    return (
        generator(kind, z_dim=16, **sizes) if part == "generator" else discriminator(kind, **sizes)
    )


def inputs(part: str, n: int = 6, size: int = 28, channels: int = 1) -> Tensor:
    draws = torch.Generator().manual_seed(1)
    return (
        torch.randn(n, 16, generator=draws)
        if part == "generator"
        else torch.rand(n, channels, size, size, generator=draws)
    )


def perturb(network: Network) -> None:
    """Weights and running statistics as after some training."""
    draws = torch.Generator().manual_seed(2)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.05 * torch.rand(tensor.shape, generator=draws))


@pytest.mark.parametrize("classes", [0, 10])
@pytest.mark.parametrize("part", ["generator", "discriminator"])
@pytest.mark.parametrize("kind", KINDS)
def test_recipe_and_state_dict_rebuild_network(kind: str, part: str, classes: int) -> None:
    network = make(kind, part, classes=classes)
    perturb(network)
    arguments = (inputs(part), torch.arange(6)) if classes else (inputs(part),)
    again = from_recipe(network.recipe)
    with torch.no_grad():
        assert not torch.equal(again.eval()(*arguments), network.eval()(*arguments))
        again.load_state_dict(network.state_dict())
        assert torch.equal(again(*arguments), network(*arguments))
    assert type(again) is type(network)
    assert again.recipe == network.recipe


def test_a_recipe_is_plain_data() -> None:
    recipe = make("dcgan", "generator").recipe
    assert recipe == {
        "network": "DCGANGenerator",
        "arguments": {"z_dim": 16, "shape": [1, 28, 28], "classes": 0, "width": 8, "norm": "batch"},
    }


@pytest.mark.parametrize("name", ["Sequential", None])
def test_recipe_of_other_class_is_refused(name: str | None) -> None:
    """A recipe of another class is an error."""
    with pytest.raises(
        ValueError, match=f"The recipe does not name a network of this package: {name!r}"
    ):
        from_recipe({"network": name, "arguments": {}})


@pytest.mark.parametrize("part", ["generator", "discriminator"])
@pytest.mark.parametrize("kind", KINDS)
def test_conditional_output_depends_on_label(kind: str, part: str) -> None:
    """The label alone changes the output of a conditional network."""
    network = make(kind, part, classes=10).eval()
    same = inputs(part, n=1).expand(10, *[-1] * (inputs(part).dim() - 1))
    with torch.no_grad():
        out = (
            network(same, torch.arange(10)).flatten(1)
            if part == "generator"
            else network(same, torch.arange(10))
        )
        assert len(out.unique(dim=0)) == 10
        assert torch.allclose(
            network(same, torch.full((10,), 3)).flatten(0),
            out[3].expand_as(out).flatten(),
            atol=1e-6,
        )


@pytest.mark.parametrize("part", ["generator", "discriminator"])
@pytest.mark.parametrize("kind", KINDS)
def test_conditional_network_without_labels_raises(kind: str, part: str) -> None:
    """A conditional network without labels raises an error."""
    with pytest.raises(
        ValueError, match=r"This network is conditional on 10 classes\. Pass labels \[B\]"
    ):
        make(kind, part, classes=10)(inputs(part))


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_networks_support_each_image_size(kind: str, size: int, channels: int) -> None:
    """Generators and discriminators support each image size."""
    G = make(kind, "generator", size=size, channels=channels)
    perturb(G)
    D = make(kind, "discriminator", size=size, channels=channels)
    z = 30 * inputs("generator")  # far out: without the tanh this would leave the range
    images = G(z)
    assert images.shape == (6, channels, size, size)
    assert images.abs().max() <= 1
    assert images.detach().abs().max() > 0.2
    logits = D(images)
    assert logits.shape == (6,)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert (gradient.abs().sum(dim=(0, 1)) > 0).all()  # every pixel is seen


def test_num_downsamples_of_unsupported_size_raises() -> None:
    """Sizes that do not halve to 4 to 7 pixels are an error that lists supported sizes."""
    assert [num_downsamples(size, size) for size in (8, 14, 28, 32, 48, 64, 128)] == [
        1,
        1,
        2,
        3,
        3,
        4,
        5,
    ]
    assert num_downsamples(32, 48) == 3
    for sides in ((30, 30), (4, 4), (28, 64), (1, 1)):
        with pytest.raises(
            ValueError,
            match=rf"Image size {sides[0]} x {sides[1]} is not supported: .* 28, 32 or 64",
        ):
            num_downsamples(*sides)
    for network in (DCGANGenerator, DCGANDiscriminator):
        with pytest.raises(ValueError, match="Image size 30 x 30 is not supported"):
            network(shape=(1, 30, 30), **({"z_dim": 4} if network is DCGANGenerator else {}))


def test_mlp_batch_norm_momentum_is_one_fifth() -> None:
    """The MLP's batch norm weights a new batch by one fifth."""
    G = make("mlp", "generator")
    norms = [layer for layer in G.modules() if isinstance(layer, nn.BatchNorm1d)]
    seen: list[Tensor] = []
    norms[0].register_forward_hook(lambda layer, into, out: seen.append(into[0].detach()))
    G(inputs("generator", n=64))
    assert torch.allclose(norms[0].running_mean, 0.2 * seen[0].mean(dim=0), atol=1e-7)
    assert {(layer.momentum, layer.eps) for layer in norms} == {(0.2, 1e-5)}
    assert len(norms) == 3


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_norm_none_leaves_batch_norm_out_of_the_generator(kind: str, norm: str) -> None:
    G = make(kind, "generator", norm=norm)
    z = inputs("generator")
    with torch.no_grad():
        independent = torch.allclose(G(z)[:1], G(torch.cat([z[:1], 5 * z[1:]]))[:1], atol=1e-6)
    assert independent == (norm == "none")


@pytest.mark.parametrize(
    ("kind", "norm"), [("mlp", "batch"), ("dcgan", "layer"), ("dcgan", "none"), ("dcgan", "batch")]
)
def test_logits_without_batch_norm_are_independent(kind: str, norm: str) -> None:
    """Without batch norm, the logit of an image does not depend on the batch."""
    D = make(kind, "discriminator", norm=norm)
    x = inputs("discriminator").requires_grad_()
    (gradient,) = torch.autograd.grad(D(x)[0], x)
    others = float(gradient[1:].abs().max())
    assert (others > 1e-6) if (kind, norm) == ("dcgan", "batch") else (others == 0)


def test_layer_norm_standardizes_maps_per_image() -> None:
    """Layer norm standardizes the critic's feature maps for each image."""
    D = make("dcgan", "discriminator", norm="layer", size=32)
    seen: list[Tensor] = []
    for layer in D.modules():
        if isinstance(layer, nn.GroupNorm):
            layer.register_forward_hook(
                lambda layer, into, out: seen.append(out.detach().flatten(1))
            )
    D(inputs("discriminator", size=32))
    assert len(seen) == 2  # between the three convolutions and not before the first
    for maps in seen:
        assert torch.allclose(maps.mean(dim=1), torch.zeros(6), atol=1e-5)
        assert torch.allclose(maps.std(dim=1), torch.ones(6), atol=0.1)


def test_initial_weights_are_normal_with_std_0_02() -> None:
    """Initial weights are normal with standard deviation 0.02 around 0, scales around 1."""
    layers = nn.Sequential(
        nn.Conv2d(64, 64, 4),
        nn.ConvTranspose2d(64, 64, 4),
        nn.Linear(256, 256),
        nn.BatchNorm2d(4096),
    )
    torch.manual_seed(0)
    initialize_normal(layers)
    for i, layer in enumerate(layers):
        weight = layer.weight.detach()
        error = 5 * 0.02 / weight.numel() ** 0.5  # five standard errors
        assert float(weight.mean()) == pytest.approx(1.0 if i == 3 else 0.0, abs=error)
        assert float(weight.std()) == pytest.approx(0.02, rel=0.06)
        assert (layer.bias == 0).all()


@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_dcgan_uses_normal_initialization(part: str) -> None:
    """The family dcgan uses this initialization."""
    network = make("dcgan", part, size=64)
    convolutions = [
        layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    assert len(convolutions) == 4
    pooled = torch.cat([layer.weight.detach().flatten() for layer in convolutions])
    assert float(pooled.std()) == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("network", [MLPGenerator, MLPDiscriminator])
def test_mlp_widths_follow_config(network: type[Network]) -> None:
    """The MLP's layers have the configured widths."""
    made = network(shape=(1, 4, 4), width=2, **({"z_dim": 3} if network is MLPGenerator else {}))
    dense = [
        (layer.in_features, layer.out_features)
        for layer in made.modules()
        if isinstance(layer, nn.Linear)
    ]
    assert dense == (
        [(3, 8), (8, 16), (16, 32), (32, 16)]
        if network is MLPGenerator
        else [(16, 16), (16, 8), (8, 1)]
    )


@pytest.mark.parametrize("key", ["width", "norm", "critic_norm"])
@pytest.mark.parametrize("family", ["gan", "cgan", "wgan", "wgan_gp"])
def test_every_network_key_changes_a_network(family: str, key: str) -> None:
    """One that changed nothing would make another experiment of the same."""
    made_by = family_class(family)
    if key not in keys_of(family):
        pytest.skip(f"{family} has no {key}")
    for kind in ("mlp", "dcgan"):
        usual, other = (
            made_by(
                spec=ImageSpec(1, 28, 28, classes=10),
                config=made_by.Config(network=kind, **changed),
            )
            for changed in ({}, {key: 32 if key == "width" else "none"})
        )
        assert str(usual) != str(other), kind


@pytest.mark.parametrize("classes", [0, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_features_are_input_of_last_layer(kind: str, classes: int) -> None:
    """Features are the input of the last linear layer."""
    D = make(kind, "discriminator", classes=classes).eval()
    seen: list[Tensor] = []
    last = [layer for layer in D.modules() if isinstance(layer, nn.Linear)][-1]
    last.register_forward_hook(lambda layer, given, out: seen.append(given[0].detach()))
    arguments = (
        (inputs("discriminator"), torch.arange(6)) if classes else (inputs("discriminator"),)
    )
    D(*arguments)
    features = D.features(*arguments)  # type: ignore[operator]
    assert features.dim() == 2
    assert torch.equal(features, seen[0])


@pytest.mark.parametrize("kind", ["mlp", "dcgan"])
def test_projection_adds_the_inner_product_of_label_and_features(kind: str) -> None:
    """Labels change only the logit, by their embedding times the features of the image."""
    D = discriminator(
        kind, shape=(1, 28, 28), width=8, norm="none", classes=10, projection=True
    ).eval()
    perturb(D)
    images, labels = inputs("discriminator"), torch.arange(6)
    assert isinstance(D.embedding, nn.Linear)
    with torch.no_grad():
        features = D.features(images)  # type: ignore[operator]
        weights = list(D.layers)[-1]  # type: ignore[call-overload]
        expected = weights(features).squeeze(1) + (features * D.embedding.weight.T[:6]).sum(dim=1)
        assert torch.allclose(D(images, labels), expected, atol=1e-5)
        assert (D(images, labels) - weights(features).squeeze(1)).abs().min() > 1e-3


def test_dcgan_outputs_keep_names_of_weights() -> None:
    """More outputs of a DCGAN discriminator do not change the names of its other weights."""
    one, eleven = (
        DCGANDiscriminator(shape=(1, 28, 28), width=4, outputs=outputs) for outputs in (1, 11)
    )
    weights = {
        name: weight for name, weight in one.state_dict().items() if not name.startswith("layers.6")
    }
    assert list(one.state_dict()) == list(eleven.state_dict())
    assert not eleven.load_state_dict(weights, strict=False).unexpected_keys
    last: nn.Linear = eleven.layers[-1]  # type: ignore[assignment]
    with torch.no_grad():
        last.weight[3], last.bias[3] = one.layers[-1].weight[0], one.layers[-1].bias[0]  # type: ignore[union-attr]
        rows = eleven(inputs("discriminator"))
        assert rows.shape == (6, 11)
        assert torch.allclose(rows[:, 3], one(inputs("discriminator")), atol=1e-7)
    assert from_recipe(eleven.recipe)(inputs("discriminator")).shape == (6, 11)


@pytest.mark.parametrize(("own", "torchs"), [
    (lambda x: _reflect_pad(x, 3), lambda x: functional.pad(x, (3, 3, 3, 3), mode="reflect")),
    (_upsample_bilinear,
     lambda x: functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)),
], ids=["reflected", "doubled"])  # fmt: skip
@pytest.mark.parametrize("size", [(4, 4), (7, 5)])
def test_deterministic_layers_equal_torch(own: Any, torchs: Any, size: tuple[int, int]) -> None:
    """The deterministic GPU layers have the values and gradients of torch's layers."""
    x = torch.rand(
        2,
        3,
        *size,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(0),
        requires_grad=True,
    )
    made, expected = own(x), torchs(x)
    assert torch.allclose(made, expected, rtol=1e-14, atol=1e-14)
    weights = torch.rand(
        expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    (mine,), (theirs,) = (torch.autograd.grad((weights * y).sum(), x) for y in (made, expected))
    assert torch.allclose(mine, theirs, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kind", [GrayConvTranspose2d, GrayConv2d])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 1), (3, 1, 0), (5, 3, 2)])
def test_layers_of_gray_images_are_convolutions(
    kind: type[nn.Module], kernel: int, stride: int, padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Output, gradients and their gradients are those of torch's convolution, without its call."""
    torch.manual_seed(0)
    base = kind.__bases__[0]
    channels = (5, 1) if base is nn.ConvTranspose2d else (1, 5)
    fast = kind(*channels, kernel, stride, padding).double()
    usual = base(*channels, kernel, stride, padding).double()
    usual.load_state_dict(fast.state_dict())
    x = torch.randn(3, channels[0], 11, 8, dtype=torch.float64, requires_grad=True)

    def compute(layer: nn.Module) -> list[Tensor]:
        """Return the output, the gradients of a loss, and those of the norm of its gradient."""
        output = layer(x)
        (slope,) = torch.autograd.grad(output.tanh().sum(), x, create_graph=True)
        loss = output.square().sum() + slope.square().sum()
        return [output, slope, *torch.autograd.grad(loss, [x, *layer.parameters()])]

    expected = compute(usual)
    with monkeypatch.context() as patched:
        patched.setattr(base, "forward", None)
        assert_close(compute(fast), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(fast.eval()(x), expected[0]), "graphs of the eval mode have a convolution"
