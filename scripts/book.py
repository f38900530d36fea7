"""Write docs/studies from the studies' results (``make book``): an index and a page per study."""

from __future__ import annotations

import shutil
from pathlib import Path

from gan_lab import studies
from gan_lab.studies import study_page
from gan_lab.utils.files import write_text

RESULTS = studies.results()
BOOK = RESULTS.parent
RUNS = Path("runs") / "studies"


def main() -> None:
    """Copy finished results from runs/studies, then write the pages."""
    for name in studies.names():
        for budget in studies.BUDGETS:
            for file in (f"{name}/{budget}.json", f"{name}/{budget}.cost.json"):
                if (RUNS / file).is_file():
                    (RESULTS / name).mkdir(parents=True, exist_ok=True)
                    shutil.copy(RUNS / file, RESULTS / file)
    draw(RESULTS, BOOK)


def draw(results: Path, out: Path) -> None:
    """Write index and pages of all results in a folder, preferring the full edition of a study."""
    write_text(out / "README.md", study_page.index(results))
    for study in map(studies.load, studies.names()):
        if recorded := study_page.read(results, study):
            study_page.write(study, [*recorded.values()][-1], out)


if __name__ == "__main__":
    main()
