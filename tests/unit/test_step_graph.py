"""Captured steps compute what steps compute, in every phase, also after a resume.

On a machine without a GPU the operations of a step are recorded and repeated, see
``helpers/step_programs.py``; on a GPU ``make gpu-check`` compares trainings with CUDA graphs.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from gan_lab.config import loading
from gan_lab.training import step_graph
from gan_lab.training.step_graph import Phase, StepGraph
from tests.helpers.families import FAMILIES
from tests.helpers.own_trainer import batches_of, make
from tests.helpers.step_programs import ProgramRecorder, Recording

# what a step branches on, and numbers that it takes from the host
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "gan": [
        {"r1_weight": 1.0, "r1_every": 2},
        {"instance_noise": 0.5, "instance_noise_images": 400, "pretrain_images": 8},
        {"n_critic": 2, "pretrain_images": 8},
        {"decay_images": 80, "dropout": 0.3},
        {"augment": "ada", "pack": 2},
    ],
    "cgan": [{"conditioning": "projection"}],
    "sngan": [{"n_critic": 1, "spectral": False, "r1_weight": 1.0, "r1_every": 2}],
    "r3gan": [{"decay_images": 80, "augment": "diffaugment"}],
    "wgan_gp": [{"decay_images": 80}],
}
CAPTURED = [family for family in FAMILIES if loading.family_class(family).capturable]
CASES = [(family, keys) for family in CAPTURED for keys in ({}, *OPTIONS.get(family, []))]
BATCH = 8
# two phases that take turns are captured and replayed before the resume and after it
STOPS = (2 * 3, 4 * 3)


class Scalars(lightning.Callback):
    """The logged numbers of each iteration."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.rows.append({name: float(value) for name, value in trainer.logged_metrics.items()})


def train(
    family: str, keys: dict[str, Any], folder: Path, captured: bool
) -> tuple[dict[str, Any], list[dict[str, float]], list[StepGraph]]:
    """Train up to each of ``STOPS``, resuming with new objects; return checkpoint, scalars."""
    torch.manual_seed(0)
    checkpoint: Path | None = None
    rows: list[dict[str, float]] = []
    graphs = []
    for stop in STOPS:
        model = make(family, **keys)
        if captured:
            graphs.append(StepGraph(model, model.step, ProgramRecorder))
            model.wrap_step(lambda _: graphs[-1])
        scalars = Scalars()
        trainer = lightning.Trainer(
            max_steps=stop, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[scalars],
            log_every_n_steps=1, default_root_dir=folder,
        )  # fmt: skip
        loader = DataLoader(
            batches_of(family, n=BATCH * STOPS[-1]), batch_size=BATCH, shuffle=False
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(model, loader, ckpt_path=checkpoint)
        checkpoint = folder / f"{captured}-{stop}.ckpt"
        trainer.save_checkpoint(checkpoint)
        rows += scalars.rows
    assert checkpoint is not None
    return torch.load(checkpoint, weights_only=False), rows, graphs


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Flatten nested containers to values by their paths."""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {name: value}
    return {
        path: leaf
        for key, each in value.items()
        for path, leaf in flatten(each, f"{name}/{key}").items()
    }


def is_equal(mine: Any, theirs: Any) -> bool:
    """Return True for equal values; tensors have equal bits."""
    if isinstance(theirs, torch.Tensor):
        return isinstance(mine, torch.Tensor) and torch.equal(mine, theirs)
    return bool(mine == theirs)


@pytest.mark.parametrize(("family", "keys"), CASES, ids=[f"{f}-{','.join(k)}" for f, k in CASES])
def test_replayed_training_equals_eager_training(
    family: str, keys: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, buffers, optimizer states and logged numbers, bit by bit, with a resume between.

    Captures before and after the resume are one program: a number that differs would be fixed in
    the graph.
    """
    # enough for the optimizers' states
    monkeypatch.setattr(step_graph, "WARM_UP", 1)
    expected, rows, _ = train(family, keys, tmp_path, False)
    found, replayed, graphs = train(family, keys, tmp_path, True)
    for part in ("state_dict", "optimizer_states"):
        mine, theirs = flatten(found[part]), flatten(expected[part])
        assert mine.keys() == theirs.keys()
        different = [name for name in theirs if not is_equal(mine[name], theirs[name])]
        assert not different, (
            f"a replay of {family} computes something else than its step: a number or a draw of "
            f"the host is fixed in the graph (see scheduled(), phase()). First: {different[:5]}"
        )
    assert replayed == rows
    first, second = (
        {key: describe(phase) for key, phase in graph.phases.items()} for graph in graphs
    )
    compared = [key for key in first if first[key] and second.get(key)]
    assert compared, "no phase was captured before and after the resume"
    for key in compared:
        changed = [
            pair for pair in zip(first[key], second[key], strict=False) if len(set(pair)) > 1
        ]
        assert first[key] == second[key], f"steps of phase {key} of {family} differ: {changed[:3]}"


def describe(phase: Phase) -> list[str]:
    """Describe the operations of a phase; none before its capture."""
    recording = getattr(phase._replay, "__self__", None)
    return recording.describe() if isinstance(recording, Recording) else []


def test_phase_whose_capture_fails_trains_as_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"decay_images": 80}
    expected, rows, _ = train("gan", keys, tmp_path, False)

    def fail(recorder: ProgramRecorder, run: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(ProgramRecorder, "capture", fail)
    found, replayed, graphs = train("gan", keys, tmp_path, True)
    assert step_graph.count_captured_phases(graphs[-1].family) == 0
    assert replayed == rows
    mine, theirs = flatten(found["state_dict"]), flatten(expected["state_dict"])
    assert all(is_equal(mine[name], theirs[name]) for name in theirs)
