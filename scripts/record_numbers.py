"""Record the numbers of every table in README and docs in tests/docs/numbers.json.

Run this after a new measurement and review the diff: each changed number must come from the command
or file named as the source of its table. A new table has an empty source, which you fill in by
hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
RECORD = REPOSITORY / "tests" / "docs" / "numbers.json"
PAGES = ("README.md", "docs/*.md", "docs/methods/*.md")
# Generated from code or results, whose own tests compare them.
EXCLUDED = ("docs/configuration.md", "docs/sequential.md", "docs/zoo.md")
# A sign belongs to a number unless it joins two words or numbers.
NUMBER = re.compile(r"(?<![\w.,])[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
NOT_PROSE = re.compile(r"(`+).*?\1|\]\([^)]*\)")


def list_pages() -> list[str]:
    """Return the checked pages, relative to the repository."""
    found = {
        path.relative_to(REPOSITORY).as_posix()
        for pattern in PAGES
        for path in REPOSITORY.glob(pattern)
    }
    return sorted(found - set(EXCLUDED))


def read_numbers(text: str) -> list[str]:
    """Return the numbers of a text as written, without those in code and link targets."""
    return NUMBER.findall(NOT_PROSE.sub("]", text))


def iterate_tables(text: str) -> Iterator[list[str]]:
    """Yield the lines of each Markdown table."""
    table: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            table.append(line)
        elif table:
            yield table
            table = []


def read_tables(page: str) -> list[dict[str, Any]]:
    """Return header and rows of numbers of each table of a page that has numbers."""
    found = []
    for lines in iterate_tables((REPOSITORY / page).read_text(encoding="utf-8")):
        header, _, *rows = lines
        numbers = [read_numbers(row) for row in rows]
        if any(numbers):
            found.append({"header": header.strip("| "), "rows": [" ".join(row) for row in numbers]})
    return found


def main() -> None:
    """Write the record, with the sources that it already has."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    sources = {
        (page, table["header"]): table["source"]
        for page, tables in recorded.items()
        for table in tables
    }
    pages = {}
    for page in list_pages():
        tables = [
            {
                "header": table["header"],
                "source": sources.get((page, table["header"]), ""),
                "rows": table["rows"],
            }
            for table in read_tables(page)
        ]
        if tables:
            pages[page] = tables
    RECORD.write_text(json.dumps(pages, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for page, tables in pages.items():
        for table in tables:
            if not table["source"]:
                print(
                    f"{page}: no source for the table '{table['header']}'. Write it into {RECORD}."
                )


if __name__ == "__main__":
    main()
