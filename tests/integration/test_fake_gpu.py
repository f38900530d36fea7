from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import fake_gpu
from tests.helpers.families import (
    FAMILIES,
    augmented,
    every_family,
    experiment_of,
    model_words,
    small,
)
from tests.helpers.processes import CONTEXT, ended


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> dict[str, Any]:
    """What each family did on a GPU without values.

    It runs in a process of its own, because the backend stays registered there.
    """
    root = tmp_path_factory.mktemp("gpu")
    words = [
        "data.batch_size=4",
        "run.images=8",
        "log.log_every_images=1_000_000",
        "run.evaluate_every_images=1_000_000",
    ]
    every = {}
    for family in FAMILIES:
        its = [*words, *model_words(family, n_critic=2), *augmented(family)]  # a step is slow there
        every[family] = (experiment_of(family), small(family, root / "runs", data_root, *its))
    process = CONTEXT.Process(target=fake_gpu.rehearse, args=(every, root, root / "found.json"))
    process.start()
    assert ended([process]) == [0]
    found: dict[str, Any] = json.loads((root / "found.json").read_text())
    return found


@every_family
def test_everything_runs_on_a_gpu_and_no_step_waits_for_it(
    family: str, rehearsed: dict[str, Any]
) -> None:
    found = rehearsed[family]
    assert "raised" not in found, found["raised"]
    waits = found["waits"]
    assert waits.pop("step") == 0
    assert waits.pop("Evaluation") > 0  # what is scored is computed on the host
    assert waits.pop("Diversity") > 0  # the reals, once
    assert waits == {"FiniteCheck": 1, "SampleGrids": 1, "Diversity again": 0, "CSVLogger": 1}


@every_family
def test_no_step_adds_up_in_an_order_that_changes(family: str, rehearsed: dict[str, Any]) -> None:
    assert rehearsed[family]["in any order"] == []
