"""Write docs/studies from the results of the studies: the pages and the index (``make book``).

The levels of the looks of group-sequential studies are recorded first.

After a change of a measure that does not change what it measures, such as a new name, review the
difference and run ``python scripts/book.py --unchanged STUDY...``, which records the current code.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from gan_lab import studies
from gan_lab.report import sequential
from gan_lab.studies import measurement_record, study_page, verdict
from gan_lab.utils.files import read_json, write_text

RESULTS = studies.find_committed_results()
BOOK = RESULTS.parent
RUNS = Path("runs") / "studies"


def main() -> None:
    """Copy complete results from runs/studies, then write the pages."""
    for name in studies.names():
        for budget in studies.BUDGETS:
            for kind in (".json", ".cost.json", ".measured.json", ".samples.png", ".samples.json"):
                file = f"{name}/{budget}{kind}"
                if (RUNS / file).is_file():
                    (RESULTS / name).mkdir(parents=True, exist_ok=True)
                    shutil.copy(RUNS / file, RESULTS / file)
    if sys.argv[1:2] == ["--unchanged"]:
        for name in sys.argv[2:]:
            record_code(name)
    record_levels()
    write_pages(RESULTS, BOOK)


def record_levels() -> None:
    """Record the significance levels of the looks of all studies."""
    schedules = {
        schedule
        for study in studies.load_all()
        for pair in verdict.list_schedules(study.predictions, study.full)
        for schedule in pair
    }
    sequential.record_look_levels(schedules)


def record_code(name: str) -> None:
    """Record the current code of a study's measure as the one of its results."""
    study = studies.load(name)
    for budget in studies.BUDGETS:
        path = RESULTS / name / f"{budget}.measured.json"
        if path.is_file():
            record = read_json(path) | {"code": measurement_record.hash_code(study, budget)}
            write_text(path, json.dumps(record, indent=1) + "\n")


def write_pages(results: Path, out: Path) -> None:
    """Write the index and a page per study, of the full edition if a folder has its results."""
    write_text(out / "README.md", study_page.render_index(results))
    for study in studies.load_all():
        if recorded := study_page.read_results(results, study):
            study_page.write_page(study, [*recorded.values()][-1], out)


if __name__ == "__main__":
    main()
