"""Write docs/studies from the results of the studies: the pages and the index (``make book``)."""

from __future__ import annotations

import shutil
from pathlib import Path

from gan_lab import studies
from gan_lab.studies import study_page
from gan_lab.utils.files import write_text

RESULTS = studies.find_committed_results()
BOOK = RESULTS.parent
RUNS = Path("runs") / "studies"


def main() -> None:
    """Copy complete results from runs/studies, then write the pages."""
    for name in studies.names():
        for budget in studies.BUDGETS:
            for file in (f"{name}/{budget}.json", f"{name}/{budget}.cost.json"):
                if (RUNS / file).is_file():
                    (RESULTS / name).mkdir(parents=True, exist_ok=True)
                    shutil.copy(RUNS / file, RESULTS / file)
    write_pages(RESULTS, BOOK)


def write_pages(results: Path, out: Path) -> None:
    """Write the index and a page per study, of the full edition if a folder has its results."""
    write_text(out / "README.md", study_page.render_index(results))
    for study in map(studies.load, studies.names()):
        if recorded := study_page.read_results(results, study):
            study_page.write_page(study, [*recorded.values()][-1], out)


if __name__ == "__main__":
    main()
