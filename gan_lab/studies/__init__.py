"""Studies: each is one claim of the texts as an experiment whose prediction is written down before it is run.

A study is a file of ``studies/``: the claim and its source, the arms, what is measured, and what is predicted of it.
``engine.py`` measures each arm with each seed, ``verdict.py`` says what follows, ``page.py`` draws it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from gan_lab.config import extensions, groups
from gan_lab.studies import measures
from gan_lab.utils.errors import UserError, first_line
from gan_lab.utils.files import find_shipped_folder

BUDGETS = ("quick", "full")


@dataclass
class Prediction:
    """The mean of a value of one arm is above or below that of another arm, or a bound, by ``by`` at least."""

    value: str
    arm: str
    relation: Literal["above", "below"]
    other: str | None = None
    bound: float | None = None
    by: float = 0.0

    @property
    def against(self) -> str | None:
        """The other arm, or the bound."""
        return self.other if self.bound is None else f"{self.bound:g}"

    def __str__(self) -> str:
        """One line, as in: fd_digits: gan below dcgan."""
        margin = f" by {self.by:g} or more" if self.by else ""
        return f"`{self.value}`: {self.arm} {self.relation} {self.against}{margin}"


@dataclass
class Budget:
    """Expense of a study: the seeds of each arm, and words that are added to those of every arm."""

    seeds: int = 3
    first_seed: int = 0  # another where a pilot had these
    words: str = ""


@dataclass
class Study:
    """The keys of a file of ``studies/``; the name is the file's."""

    title: str = ""
    chapter: int = 0  # its place in the book
    claim: str = ""
    source: str = ""
    prediction: str = ""  # in words
    measure: str = ""  # a file of measures/, or a module of anyone's own
    arms: dict[str, str] = field(default_factory=dict)  # what the measure is told of each
    predictions: list[Prediction] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)  # values beside those that are predicted
    quick: Budget = field(default_factory=Budget)
    full: Budget = field(default_factory=Budget)
    not_shown: str = ""  # what does not follow from it
    name: str = ""

    def budget(self, name: str) -> Budget:
        """Quick or full. Raises UserError for another name."""
        if name not in BUDGETS:
            raise UserError(f"no budget {name!r}: there are {' and '.join(BUDGETS)}")
        chosen: Budget = getattr(self, name)
        return chosen

    def fingerprint(self, budget: str) -> str:
        """16 hexadecimal digits of all that was decided before a result: the arms, the measure, the predictions, the budget."""
        decided = {
            key: value
            for key, value in asdict(self).items()
            if key in ("claim", "prediction", "measure", "arms", "predictions")
        }
        text = json.dumps(decided | {"budget": asdict(self.budget(budget))}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def folder() -> Path:
    """The folder of studies."""
    return find_shipped_folder("studies", inside="study_files")


def results() -> Path:
    """The folder of the results that docs/studies tells of, in a checkout of the lab."""
    return find_shipped_folder("docs/studies/results")


def names() -> list[str]:
    """Every study, in the order of the chapters."""
    return sorted(
        (path.stem for path in groups.list_yaml_files(folder())),
        key=lambda name: (load(name).chapter, name),
    )


def load(name: str) -> Study:
    """Load a study of ``studies/``, or a file by its path. Raises UserError if it is not there, or not as it should be."""
    path = Path(name) if name.endswith(".yaml") else folder() / f"{name}.yaml"
    if not path.is_file():
        known = [each.stem for each in groups.list_yaml_files(folder())]
        raise UserError(extensions.explain_unknown_name("study", name, known))
    try:
        merged = OmegaConf.merge(
            OmegaConf.structured(Study), OmegaConf.load(path), {"name": path.stem}
        )
        loaded: Any = OmegaConf.to_object(merged)
    except Exception as error:  # the YAML reader and the schema have no common error type
        remedy = (
            ": YAML reads on, off, yes and no as truth values: quote them"
            if "(bool)" in str(error)
            else ""
        )
        raise UserError(f"{path}: {first_line(error)}{remedy}") from None
    _check(loaded, path)
    study: Study = loaded
    return study


def _check(study: Study, path: Path) -> None:
    empty = [key for key in ("title", "claim", "source", "prediction", "measure", "arms", "predictions", "not_shown")
             if not getattr(study, key)]  # fmt: skip
    if empty:
        raise UserError(f"{path}: a study needs {', '.join(empty)}")
    measures.find(study.measure)
    for one in study.predictions:
        if (one.other is None) == (one.bound is None):
            raise UserError(
                f"{path}: a prediction compares with other or with bound, one of the two: that of {one.value}"
            )
        for arm in (one.arm, one.other):
            if arm is not None and arm not in study.arms:
                raise UserError(
                    f"{path}: a prediction is about {arm}, but the arms are {', '.join(study.arms)}"
                )
