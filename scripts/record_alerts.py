"""Record the scenarios of the health check: tests/docs/alerts.json and the table in docs/health.md.

With ``--train``, run the trainings of ``tests/helpers/alert_scenarios.py`` first, and write their
rows to tests/traces; further arguments select some of them by name. They take about ten minutes on
one core.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from gan_lab.config import loading  # noqa: E402
from gan_lab.runs.run_folder import RunFolder  # noqa: E402
from gan_lab.training import builder, warm_start  # noqa: E402
from tests.helpers import alert_scenarios as scenarios  # noqa: E402

RECORD = REPOSITORY / "tests" / "docs" / "alerts.json"
PAGE = REPOSITORY / "docs" / "health.md"
HEADER = "| scenario | from | expected | before | now |"
# columns that the rules read
PREFIXES = ("accuracy_", "d_real", "d_fake", "gradient_", *scenarios.HEALTHY_IMAGES)


def train(training: scenarios.Training, root: Path) -> None:
    """Run a training without evaluation, and write the rows that the rules read."""
    overrides = [
        *training.overrides,
        f"run.root={root}",
        f"run.id={training.name}",
        "data.source=sample" if training.experiment != "ring" else "data.root=data",
        "log.wandb=off",
        "log.progress_bar=false",
        "run.evaluate_every_images=1_000_000_000",
        "metrics.num_fakes=100",
        "metrics.num_reals=100",
        "metrics.allow_small_n=true",
    ]
    config = loading.load(training.experiment, overrides).config
    folder = root / training.experiment / training.name
    (folder / "checkpoints").mkdir(parents=True)
    built = builder.build(*builder.load_data(config), RunFolder(folder))
    if training.name == "ring_fine_tuned":
        source = root / "ring" / "ring" / "checkpoints"
        newest = sorted(source.glob("*.ckpt"))[-1]
        warm_start.load_matching_weights(built.family, built.ema, newest)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        built.trainer.fit(built.family, datamodule=built.data)
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
    """Write the traces with ``--train``, the record and the table."""
    if "--train" in sys.argv:
        chosen = sys.argv[2:]
        with tempfile.TemporaryDirectory() as root:
            for training in scenarios.TRAININGS:
                if not chosen or training.name in chosen:
                    train(training, Path(root))
    entries = measure()
    RECORD.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replace_table(page, format_table(entries)), encoding="utf-8")


if __name__ == "__main__":
    main()
