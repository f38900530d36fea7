"""Record the scenarios of the health check: tests/docs/alerts.json and the table in docs/health.md.

With ``--train``, run the trainings of ``tests/helpers/alert_scenarios.py`` first, and write their
rows to tests/traces; further arguments select some of them by name. They take about ten minutes on
one core.

With ``--shipped``, only train the shipped experiments that ``make benchmark`` leaves out, three
seeds each, and write their alerts to tests/docs/shipped_alerts.json; further arguments select some
of them. What is recorded is not trained again.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from gan_lab import benchmark  # noqa: E402
from gan_lab.config import loading  # noqa: E402
from gan_lab.config.extensions import explain_unknown_name  # noqa: E402
from gan_lab.runs.run_folder import RunFolder  # noqa: E402
from gan_lab.training import builder, warm_start  # noqa: E402
from gan_lab.utils.files import write_text  # noqa: E402
from tests.helpers import alert_scenarios as scenarios  # noqa: E402

RECORD = REPOSITORY / "tests" / "docs" / "alerts.json"
SHIPPED_RECORD = REPOSITORY / "tests" / "docs" / "shipped_alerts.json"
PAGE = REPOSITORY / "docs" / "health.md"
HEADER = "| scenario | from | expected | before | now |"
# columns that the rules read
PREFIXES = ("accuracy_", "d_real", "d_fake", "gradient_", *scenarios.HEALTHY_IMAGES)
SHIPPED_SEEDS = 3
# experiments beyond this size or budget have the papers' sizes, and are for a GPU
MAX_SIZE = 64
MAX_IMAGES = 1_000_000
# A tenth of the images of an experiment; alerts wait for 1,000 iterations at most.
SHIPPED_SHARE = 10
MAX_SHIPPED_ITERATIONS = 2_000


def fit(
    experiment: str, overrides: Sequence[str], root: Path, run_id: str, source: Path | None = None
) -> tuple[builder.Experiment, Path]:
    """Train without evaluation; return what was built and the run folder.

    Args:
        experiment: The experiment.
        overrides: Its overrides.
        root: The parent folder of the runs.
        run_id: The name of the run.
        source: A checkpoint to start from.
    """
    words = [
        *overrides,
        f"run.root={root}",
        f"run.id={run_id}",
        "log.wandb=off",
        "log.progress_bar=false",
        "run.evaluate_every_images=1_000_000_000",
        "metrics.num_fakes=100",
        "metrics.num_reals=100",
        "metrics.allow_small_n=true",
    ]
    config = loading.load(experiment, words).config
    folder = root / experiment / run_id
    (folder / "checkpoints").mkdir(parents=True)
    built = builder.build(*builder.load_data(config), RunFolder(folder))
    if source:
        warm_start.load_matching_weights(built.family, built.ema, source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built.trainer.fit(built.family, datamodule=built.data)
    return built, folder


def train(training: scenarios.Training, root: Path) -> None:
    """Run a training of a scenario, and write the rows that the rules read."""
    data = "data.source=sample" if training.experiment != "ring" else "data.root=data"
    source = None
    if training.name == "ring_fine_tuned":
        source = sorted((root / "ring" / "ring" / "checkpoints").glob("*.ckpt"))[-1]
    words = [*training.overrides, data]
    built, folder = fit(training.experiment, words, root, training.name, source)
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name == "iteration" or name.startswith(PREFIXES)]
    scenarios.TRACES.mkdir(exist_ok=True)
    path = scenarios.TRACES / f"{training.name}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            short = {name: f"{float(row[name]):.4g}" for name in names[1:] if row[name]}
            writer.writerow({"iteration": row["iteration"]} | short)
    raised = [alert.kind for alert in built.health.alerts]
    print(f"{path.name}: {len(rows)} rows, alerts {raised}", flush=True)


def list_shipped() -> list[str]:
    """List the shipped experiments that are small enough for a CPU, without the benchmark's."""
    found = []
    for path in sorted((REPOSITORY / "configs" / "experiment").glob("*.yaml")):
        config = loading.load(path.stem, []).config
        if config.data.size <= MAX_SIZE and config.run.images <= MAX_IMAGES:
            found.append(path.stem)
    return [name for name in found if name not in benchmark.load("families").rows]


def train_shipped(chosen: Sequence[str]) -> None:
    """Train three seeds of shipped experiments, and record the alerts of each."""
    recorded = json.loads(SHIPPED_RECORD.read_text()) if SHIPPED_RECORD.is_file() else {}
    for name in chosen or list_shipped():
        config = loading.load(name, []).config
        batch = config.data.batch_size
        images = min(config.run.images // SHIPPED_SHARE, MAX_SHIPPED_ITERATIONS * batch)
        entry = recorded.setdefault(name, {"images": images, "alerts": []})
        # sets that are downloaded have a part or a stand-in that ships with the dependencies
        offline = config.data.name in ("mnist", "horse2zebra", "celeba")
        while len(entry["alerts"]) < SHIPPED_SEEDS:
            seed = len(entry["alerts"])
            words = [f"run.images={images}", f"run.seed={seed}"]
            words += ["data.source=sample"] if offline else []
            with tempfile.TemporaryDirectory() as root:
                built, _ = fit(name, words, Path(root), "shipped")
            raised = [{"kind": a.kind, "images": a.images} for a in built.health.alerts]
            entry["alerts"].append(raised)
            print(f"{name}, seed {seed}, {images:,} images: {raised}", flush=True)
            write_text(SHIPPED_RECORD, json.dumps(dict(sorted(recorded.items())), indent=1) + "\n")


def measure() -> list[dict[str, Any]]:
    """Return the alerts of each scenario, of the current rules and of those before."""
    return [
        {
            "scenario": scenario.name,
            "from": scenario.source,
            "expected": list(scenario.expected),
            "before": scenario.raise_previous_alerts(),
            "now": scenario.raise_alerts(),
        }
        for scenario in scenarios.list_scenarios()
    ]


def format_table(entries: list[dict[str, Any]]) -> str:
    """Format the table of docs/health.md."""
    lines = [HEADER, "|---|---|---|---|---|"]
    for entry in entries:
        before, now = (
            format_alerts(entry[column], entry["expected"]) for column in ("before", "now")
        )
        expected = ", ".join(f"`{kind}`" for kind in entry["expected"]) or "none"
        lines.append(f"| {entry['scenario']} | {entry['from']} | {expected} | {before} | {now} |")
    return "\n".join(lines)


def format_alerts(raised: list[str], expected: list[str]) -> str:
    """Format alerts as "as expected", or as a list in bold with the number of repetitions."""
    if sorted(raised) == sorted(expected):
        return "as expected"
    kinds = [
        f"`{kind}`" + (f" ({raised.count(kind)} times)" if raised.count(kind) > 1 else "")
        for kind in dict.fromkeys(raised)
    ]
    return f"**{', '.join(kinds) or 'none'}**"


def replace_table(page: str, table: str) -> str:
    """Replace the table of scenarios in the text of docs/health.md."""
    start = page.index(HEADER)
    end = page.index("\n\n", start)
    return page[:start] + table + page[end:]


def main() -> None:
    """Write the traces with ``--train``, the record and the table; or train with ``--shipped``."""
    if "--shipped" in sys.argv:
        train_shipped(sys.argv[2:])
        return
    if "--train" in sys.argv:
        known = [training.name for training in scenarios.TRAININGS]
        chosen = sys.argv[2:] or known
        if unknown := set(chosen) - set(known):
            sys.exit(explain_unknown_name("training", min(unknown), known))
        with tempfile.TemporaryDirectory() as root:
            for training in scenarios.TRAININGS:
                if training.name in chosen:
                    train(training, Path(root))
    entries = measure()
    RECORD.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replace_table(page, format_table(entries)), encoding="utf-8")


if __name__ == "__main__":
    main()
