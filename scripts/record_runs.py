"""Record the runs that pages of methods quote and that belong to no study and no benchmark table.

Writes docs/results/runs.json: the scores of the best checkpoint of each run, one value per seed.
Arguments select some rows by their first word, the experiment; without any, all rows are recorded.
Runs that are missing are trained first, which takes about two hours of one core for all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from gan_lab import benchmark  # noqa: E402
from gan_lab.config.extensions import explain_unknown_name  # noqa: E402
from gan_lab.config.values import split_arguments  # noqa: E402
from gan_lab.runs.run import Run  # noqa: E402
from gan_lab.utils.files import read_json, write_text  # noqa: E402
from scripts.record_benchmark import round_value  # noqa: E402

RECORD = REPOSITORY / "docs" / "results" / "runs.json"
HORSES = "data.source=sample"
EMOJI_CUT = "data.name=emoji_pairs data.paired=false model.norm=instance"
# how a run is trained, not what is trained
WORDS = ("log.wandb=off", "log.progress_bar=false")


@dataclass(frozen=True)
class Row:
    """Runs of one experiment.

    Attributes:
        experiment: The experiment.
        overrides: What the row is named by, besides the experiment.
        seeds: Number of seeds.
        data: Overrides that choose the data that ships with the dependencies.
    """

    experiment: str
    overrides: str = ""
    seeds: int = 1
    data: str = HORSES

    @property
    def name(self) -> str:
        """The experiment and its overrides."""
        return f"{self.experiment} {self.overrides}".strip()

    @property
    def words(self) -> list[str]:
        """The arguments of ``gan-lab train``, without the seed."""
        return split_arguments(f"{self.name} {self.data}")


ROWS = (
    Row("cut", seeds=3),
    Row("cut", EMOJI_CUT, data=""),
    Row("colorize", seeds=3),
    Row("pix2pix", "data.direction=BtoA"),
    Row("pix2pix_emoji", data=""),
    Row("cyclegan_emoji", data=""),
    Row("stylegan2", "run.images=32000 run.evaluate_every_images=8000"),
    Row("inpaint"),
    Row("super_resolution"),
    Row("super_resolution", "data=emoji64 run.images=4000", data=""),
)


def describe(row: Row, runs: Sequence[Run]) -> dict[str, Any]:
    """Return what the pages quote: protocol and scores of the runs of a row, by seed."""
    experiment, *overrides = row.words
    arguments = f' ARGS="{" ".join(overrides)}"' if overrides else ""
    scores = [run.scores for run in runs]
    first = next(iter(scores[0].values())).protocol
    return {
        "command": f"make train EXP={experiment}{arguments}",
        "seeds": len(runs),
        "images": runs[0].config.run.images,
        "images_of_best_checkpoint": [run.best_images for run in runs],
        **{name: first[name] for name in ("split", "fakes", "data") if name in first},
        "scores": {
            name: [round_value(found[name].value) for found in scores] for name in scores[0]
        },
    }


def main() -> None:
    """Train what is missing, and record it row by row."""
    known = list(dict.fromkeys(row.experiment for row in ROWS))
    names = sys.argv[1:] or known
    if unknown := set(names) - set(known):
        sys.exit(explain_unknown_name("row", min(unknown), known))
    for row in ROWS:
        if row.experiment not in names:
            continue
        runs = [
            Run(benchmark.train_once([*row.words, *WORDS, f"run.seed={seed}"]))
            for seed in range(row.seeds)
        ]
        recorded = read_json(RECORD) if RECORD.is_file() else {}
        recorded[row.name] = describe(row, runs)
        ordered = {each.name: recorded[each.name] for each in ROWS if each.name in recorded}
        write_text(RECORD, json.dumps(ordered, indent=1) + "\n")


if __name__ == "__main__":
    main()
