"""Contrastive unpaired translation: the loss in closed form, its gradients, its heads."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gan_lab import losses
from gan_lab.config import loading
from gan_lab.families.cut import CUT, CUTConfig
from gan_lab.images import ImageSpec
from gan_lab.networks.patch_heads import PatchHeads
from gan_lab.networks.resnet_translator import ResNetTranslator
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import builder
from tests.helpers.families import small


def vectors(seed: int, *shape: int) -> Tensor:
    return normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64),
        dim=-1,
    )


def test_the_loss_is_equation_2_patch_by_patch_and_the_mean_over_layers() -> None:
    q, k = [vectors(0, 2, 5, 3), vectors(1, 2, 4, 7)], [vectors(2, 2, 5, 3), vectors(3, 2, 4, 7)]
    expected = []
    for queries, keys in zip(q, k, strict=True):
        terms = []
        for image in range(2):
            for i, v in enumerate(queries[image]):
                products = [math.exp(float(v @ w) / 0.07) for w in keys[image]]
                terms.append(-math.log(products[i] / sum(products)))
        expected.append(sum(terms) / len(terms))
    assert float(losses.patch_nce(q, k, 0.07)) == pytest.approx(sum(expected) / 2)


def test_equal_vectors_cost_the_logarithm_of_their_number_and_orthogonal_ones_almost_nothing() -> (
    None
):
    alike = [torch.ones(2, 8, 4, dtype=torch.float64) / 2]
    assert float(losses.patch_nce(alike, alike, 0.07)) == pytest.approx(math.log(8))
    apart = [torch.eye(8, dtype=torch.float64).expand(2, 8, 8)]
    assert float(losses.patch_nce(apart, apart, 0.07)) == pytest.approx(
        math.log(1 + 7 * math.exp(-1 / 0.07))
    )


def test_keys_take_no_gradient() -> None:
    q, k = vectors(0, 1, 4, 3).requires_grad_(), vectors(1, 1, 4, 3).requires_grad_()
    losses.patch_nce([q], [k], 0.07).backward()
    assert q.grad is not None
    assert float(q.grad.abs().sum()) > 0
    assert k.grad is None


def test_heads_give_unit_vectors_of_the_places_that_were_asked_for() -> None:
    heads = PatchHeads([3, 5], width=6)
    maps = [torch.randn(2, 3, 4, 5), torch.randn(2, 5, 2, 3)]
    places = [torch.tensor([7, 0, 19]), torch.tensor([5, 1])]
    made = heads(maps, places)
    assert [tuple(one.shape) for one in made] == [(2, 3, 6), (2, 2, 6)]
    torch.testing.assert_close(made[0].norm(dim=2), torch.ones(2, 3))
    alone = normalize(heads.heads[0](maps[0][1, :, 1, 2]), dim=0)  # pixel 7 of rows of five
    torch.testing.assert_close(made[0][1, 0], alone)


@pytest.mark.parametrize(("blocks", "layers"), [(1, 4), (3, 5), (9, 5)])
def test_features_are_those_that_the_images_are_made_of(blocks: int, layers: int) -> None:
    network = ResNetTranslator(
        shape=(3, 16, 16), source_channels=3, width=2, blocks=blocks, norm="instance"
    )
    x = torch.randn(2, 3, 16, 16)
    seen: list[Tensor] = []
    for i in network.encoder:
        network.layers[i].register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(x)
    through, found = list(seen), network.features(x)
    assert len(found) == layers
    assert torch.equal(found[0], x)
    for one, other in zip(found[1:], through, strict=True):
        torch.testing.assert_close(one, other)
    assert [maps.shape[1] for maps in found] == network.feature_channels
    assert [maps.shape[2] for maps in found[1:3]] == [8, 4]


def test_a_generator_that_changes_nothing_is_recognised_and_one_that_mixes_places_is_not(
    tmp_path: Path, data_root: Path
) -> None:
    loaded = loading.load(
        "cut", small("cut", tmp_path, data_root, "model.patches=32", "run.images=16")
    )
    run = RunFolder.of(loaded)
    (run.path / "checkpoints").mkdir(parents=True)
    built = builder.build(*builder.load_data(loaded.config), run)
    built.trainer.fit(built.family, datamodule=built.data)  # which gives the family its streams
    family = built.family
    assert isinstance(family, CUT)
    x = torch.randn(4, 1, 28, 28)
    with torch.no_grad():
        same, mixed = (float(family.patch_nce(x, image, "patches")) for image in (x, x.flip(2)))
        assert same < mixed
        assert float(family.patch_nce(x, x, "patches")) == same  # the same places in one iteration
        assert float(family.patch_nce(x, x, "others")) != same


def test_what_it_cannot_translate_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"the data has one\. Choose data\.name=horse2zebra"):
        CUT(spec=ImageSpec(3, 16, 16), config=CUTConfig(width=2, blocks=1))
    gray = ImageSpec(3, 16, 16, source_channels=1, pairs="all")
    with pytest.raises(
        ValueError,
        match=r"equally many channels, not 1 and 3\. Set model\.identity",
    ):
        CUT(spec=gray, config=CUTConfig(width=2, blocks=1))
    CUT(spec=gray, config=CUTConfig(width=2, blocks=1, layers=1, identity_weight=0))
