"""The record of a measurement: configs and code; pages say what has changed since."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gan_lab import studies
from gan_lab.config import loading
from gan_lab.studies import (
    Budget,
    Prediction,
    Study,
    engine,
    measurement_record,
    measures,
    study_page,
)

RESULTS = Path(__file__).parents[2] / "docs" / "studies" / "results"
CODE = '''
"""Docstring."""
from math import log
LIMIT: float = 3.0  # comment
def measure(arm: Arm) -> Values:
    """Docstring."""
    return {"x": log(LIMIT)}
def draw(figure, results):
    figure.title("A title")
'''


@pytest.fixture
def study() -> Study:
    return Study(
        name="made", measure="scores", arms={"a": "ring", "b": "ring model.lr_g=1e-2"},
        predictions=[Prediction("modes_covered", "a", "above", other="b")],
        full=Budget(words="run.images=128"), quick=Budget(seeds=1),
    )  # fmt: skip


def copy_record(study: Study) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(
        json.dumps(measurement_record.describe_measurement(study, "full"))
    )
    return copied


def test_record_has_every_key_that_defines_results(study: Study) -> None:
    record = copy_record(study)
    assert record["configs"]["common"]["run.images"] == 128
    assert record["configs"]["arms"]["b"]["model.lr_g"] == 0.01
    assert "model.lr_g" not in record["configs"]["common"]
    assert not any(
        key.startswith("log.") or key == "run.seed" for key in record["configs"]["common"]
    )
    assert record["versions"].keys() >= {"gan-lab", "torch"}
    assert measurement_record.find_changes(study, "full", record) == []


def test_changed_experiment_file_is_found(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit of ring.yaml changes what is measured, although the study's file is the same."""
    record, before = copy_record(study), measurement_record.compute_fingerprint(study, "full")
    ring = loading.find_experiment("ring")
    changed = tmp_path / "ring.yaml"
    text = ring.read_text(encoding="utf-8")
    assert "half_life_images: 2_000" in text
    changed.write_text(text.replace("half_life_images: 2_000", "half_life_images: 9_000"))
    find = loading.find_experiment
    monkeypatch.setattr(
        loading, "find_experiment", lambda name: changed if name == "ring" else find(name)
    )
    measurement_record._resolve.cache_clear()
    try:
        assert measurement_record.find_changes(study, "full", record) == [
            "ema.half_life_images: 2000.0, now 9000.0"
        ]
        assert measurement_record.compute_fingerprint(study, "full") != before
        results = {arm: [{"modes_covered": x} for x in (8.0, 7.0, 6.0)] for arm in study.arms}
        recorded = study_page.RecordedResults("full", results, None, [], measured=record)
        page = study_page.render_page(study, recorded)
        assert (
            "**Measured with an older configuration:** ema.half_life_images: 2000.0, now 9000.0."
            in page
        )
    finally:
        measurement_record._resolve.cache_clear()


def test_newer_and_renamed_keys_are_no_change(study: Study) -> None:
    record = copy_record(study)
    common = record["configs"]["common"]
    del common["data.size"]
    common["run.evaluate_every"] = common.pop("run.evaluate_every_images")
    assert measurement_record.find_changes(study, "full", record) == []
    common["model.removed"] = 3
    record["code"]["scores"] = "0" * 16
    assert measurement_record.find_changes(study, "full", record) == [
        "model.removed: 3, now removed",
        "the code of scores",
    ]


@pytest.mark.parametrize(
    ("old", "new", "is_equal"),
    [
        ("# comment", "# another", True),
        ('"""Docstring."""', '"""Another."""', True),
        ("LIMIT: float = 3.0", "LIMIT  =  3.0", True),
        ("arm: Arm) -> Values", "arm)", True),
        ('"A title"', '"Another title"', True),
        ("from math import log", "from math import log, sqrt", True),
        ("LIMIT: float = 3.0", "LIMIT: float = 4.0", False),
        ('{"x": log(LIMIT)}', '{"x": log(LIMIT) + 1}', False),
    ],
)
def test_hash_of_source_follows_the_computation(old: str, new: str, is_equal: bool) -> None:
    assert old in CODE
    changed = CODE.replace(old, new)
    assert (
        measurement_record.hash_source(CODE) == measurement_record.hash_source(changed)
    ) is is_equal


def test_measures_that_a_measure_uses_are_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """``colour`` imports the module ``scores``, and ``checkerboard`` a function of another one."""
    sources: list[str] = []
    monkeypatch.setattr(measurement_record, "hash_source", lambda text: sources.append(text) or "")
    measurement_record._hash_measure(measures.find("colour"))
    assert any("def collect_scores" in text for text in sources)
    measurement_record._hash_measure(measures.find("checkerboard"))
    assert any("def load_digits" in text for text in sources)


def test_changed_config_is_measured_again(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measurements of an older configuration are not mixed with new ones."""
    calls: list[str] = []

    def measure(arm: measures.Arm) -> dict[str, float]:
        calls.append(arm.name)
        return {"modes_covered": 8.0}

    monkeypatch.setattr(measures, "find", lambda name: SimpleNamespace(measure=measure))
    monkeypatch.setattr(measurement_record, "hash_code", lambda study, budget: {"made": "1"})
    assert engine.measure(study, "quick", tmp_path)
    assert engine.measure(study, "quick", tmp_path)
    assert calls == ["a", "b"]
    engine.collect(study, "quick", tmp_path)
    (recorded,) = study_page.read_results(tmp_path / "studies", study).values()
    assert recorded.measured is not None
    assert "Measured with gan-lab " in study_page.render_page(study, recorded)
    monkeypatch.setattr(measurement_record, "hash_code", lambda study, budget: {"made": "2"})
    assert engine.measure(study, "quick", tmp_path)
    assert calls == ["a", "b", "a", "b"]


def test_versions_of_measurements_are_merged() -> None:
    merged = measurement_record.merge_versions(
        [{"torch": "2.15"}, {"torch": "2.16"}, {"torch": "2.15"}]
    )
    assert merged == {"torch": "2.15 and 2.16"}


def test_every_committed_result_has_a_record() -> None:
    for name in studies.names():
        for path in (RESULTS / name).glob("*.measured.json"):
            record = json.loads(path.read_text(encoding="utf-8"))
            assert record["code"], path
        results = [path for path in (RESULTS / name).glob("*.json") if path.stem in studies.BUDGETS]
        assert all(path.with_suffix(".measured.json").is_file() for path in results)


def test_page_without_a_record_says_so(study: Study) -> None:
    results = {arm: [{"modes_covered": 8.0}] * 3 for arm in study.arms}
    recorded = study_page.RecordedResults("full", results, None, [])
    page = study_page.render_page(replace(study, title="Made"), recorded)
    assert "**Perhaps measured with an older configuration:**" in page
