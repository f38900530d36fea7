"""Record the distances of trivial generators for studies that were measured without them.

Copies of training images, and their mean, have a distance without any training. Writes
docs/studies/results/<study>/full.trivial.json, from which the pages of studies take the rows;
run ``make book`` afterwards. Arguments select studies; without any, all of them are looked at.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from gan_lab import studies  # noqa: E402
from gan_lab.config import loading  # noqa: E402
from gan_lab.metrics.evaluator import Evaluator, build_setting  # noqa: E402
from gan_lab.metrics.selection import select_metrics  # noqa: E402
from gan_lab.studies import Study, engine, measurement_record, study_page  # noqa: E402
from gan_lab.training import builder  # noqa: E402
from gan_lab.utils.files import read_json, write_text  # noqa: E402
from gan_lab.utils.score_names import list_trivial_scores  # noqa: E402

RESULTS = studies.find_committed_results()
BUDGET = "full"


def main() -> None:
    """Record the missing distances of the chosen studies."""
    chosen = sys.argv[1:] or studies.names()
    for study in map(studies.load, chosen):
        found = compute_missing_distances(study)
        if found:
            record = {"distances": found, "versions": measurement_record.list_versions()}
            path = RESULTS / study.name / f"{BUDGET}.trivial.json"
            write_text(path, json.dumps(record, indent=1) + "\n")
            print(f"{study.name}: {len(found)} arms")


def compute_missing_distances(study: Study) -> dict[str, dict[str, float]]:
    """Compute the trivial distances of the scores on a study's page that its results lack, by arm.

    Arms that train no experiment, or a translation, have none.
    """
    path = RESULTS / study.name / f"{BUDGET}.json"
    if not path.is_file():
        return {}
    measured = read_json(path)["results"]
    wanted = {
        name for column in study_page.list_columns(study) for name in list_trivial_scores(column)
    }
    found = {}
    for arm, arguments in measurement_record.list_experiments(study, BUDGET).items():
        known = {name for values in measured[arm] for name in values}
        if not wanted - known:
            continue
        distances = compute_trivial_distances(*arguments)
        missing = {
            name: round_number(value) for name, value in distances.items() if name in wanted - known
        }
        if missing:
            found[arm] = missing
    return found


@cache
def compute_trivial_distances(experiment: str, *overrides: str) -> Mapping[str, float]:
    """Compute the distances of trivial generators with the final protocol of an experiment.

    ``log_<score>`` has the logarithm of each positive one, as in the scores of a run.
    """
    config = loading.load(experiment, overrides).config
    family = loading.family_class(config.family)
    if family.image_to_image:
        return {}
    config, data = builder.load_data(config)
    setting = build_setting(config, family, data, final=True)
    metrics = [metric for metric in select_metrics(setting) if metric.trivial_names]
    evaluator = Evaluator(data, metrics, setting, config.run.seed, shared=False)
    distances: dict[str, Any] = evaluator.compute_trivial_scores(torch.device("cpu"))
    logarithms = {f"log_{name}": math.log(value) for name, value in distances.items() if value > 0}
    return distances | logarithms


def round_number(value: float) -> float:
    """Round to the digits that the results of studies have."""
    return float(f"{value:.{engine.SIGNIFICANT_DIGITS}g}")


if __name__ == "__main__":
    main()
