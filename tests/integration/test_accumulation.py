"""A batch in micro-batches moves the weights like the full batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_lab.config import loading
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import builder
from tests.helpers.families import augmented, every_family, experiment_of, image_by_image, small
from tests.helpers.faults import MICRO_BATCHES, assert_close
from tests.helpers.processes import one_after_the_other

WORDS = ["run.precision=64-true", "run.images=96", "log.log_every_images=32"]


def trained(
    name: str, folder: Path, words: list[str]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The weights and buffers after a training without scores, and the last row of its log."""
    (folder / "checkpoints").mkdir(parents=True)
    built = builder.build(*builder.load_data(loading.load(name, words).config), RunFolder(folder))
    built.evaluation.evaluator.metrics = []
    built.trainer.fit(built.family, datamodule=built.data)
    assert built.family.iteration == built.config.iterations
    return dict(built.family.state_dict()), built.health.csv_logger.latest


@every_family
def test_parts_of_a_batch_are_the_whole_batch(family: str, tmp_path: Path, data_root: Path) -> None:
    """In float64, without batch statistics: the same updates, log, image pools, spectral norm."""
    name = experiment_of(family)
    words = [*small(family, tmp_path, data_root, *WORDS), "data.flip=true", "data.jitter=2"]
    words += [*image_by_image(family, n_critic=2, pool_size=8), *augmented(family)]
    (whole, log), (parts, log_of_parts) = (
        trained(name, tmp_path / f"{k}", [*words, f"run.micro_batches={k}"]) for k in (1, 2)
    )
    assert_close(parts, whole, MICRO_BATCHES)
    assert log_of_parts == pytest.approx(log, rel=1e-6, abs=1e-9), MICRO_BATCHES


@pytest.mark.parametrize("name", ["cgan", "pix2pix", "sngan"])
def test_two_parts_are_two_processes_with_batch_norm_and_dropout(
    name: str, tmp_path: Path, data_root: Path
) -> None:
    family = loading.load(name).config.family
    words = [*small(family, tmp_path, data_root, *WORDS), "data.batch_size=8", "run.images=32"]
    pair: list[Any] = one_after_the_other([(name, [*words, "run.devices=2"])], tmp_path / "log")
    parts, _ = trained(name, tmp_path / "parts", [*words, "run.micro_batches=2"])
    iterations, world, _, weights = pair[0][name]
    assert (iterations, world) == (4, 2)
    assert_close({key: parts[key] for key in weights}, weights, MICRO_BATCHES)
    four = one_after_the_other(
        [(name, [*words, "run.devices=2", "run.micro_batches=2"])], tmp_path / "log of four"
    )
    quarters, _ = trained(name, tmp_path / "quarters", [*words, "run.micro_batches=4"])
    assert_close(
        {key: quarters[key] for key in four[0][name][-1]}, four[0][name][-1], MICRO_BATCHES
    )


def test_four_parts_keep_a_third_for_the_backward_at_most(tmp_path: Path, data_root: Path) -> None:
    peaks = []
    for parts in (1, 4):
        held = Held()
        with torch.autograd.graph.saved_tensors_hooks(held.pack, Packed.unpack):
            trained("dcgan", tmp_path / f"{parts}",
                    [*small("gan", tmp_path, data_root, *WORDS), "run.images=32",
                                                     f"run.micro_batches={parts}"])  # fmt: skip
        assert held.now == 0
        peaks.append(held.peak)
    assert 0 < peaks[1] < peaks[0] / 3


class Held:
    """Counts the bytes that lie in memory for a backward."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def pack(self, tensor: Tensor) -> Packed:
        self.now += tensor.nbytes
        self.peak = max(self.peak, self.now)
        return Packed(tensor, self)


class Packed:
    """A tensor that is counted until it is let go."""

    def __init__(self, tensor: Tensor, held: Held) -> None:
        self.tensor, self.held = tensor, held

    def unpack(self) -> Tensor:
        return self.tensor

    def __del__(self) -> None:
        self.held.now -= self.tensor.nbytes


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path: Path, data_root: Path) -> None:
    words = small("gan", tmp_path, data_root, "run.micro_batches=3")
    with pytest.raises(
        ValueError,
        match=r"data\.batch_size=16 .* divisible by the 3 micro-batches \(run\.micro_batches\) "
        r"of the 1 ranks",
    ):
        builder.build(*builder.load_data(loading.load("gan", words).config), RunFolder(tmp_path))
