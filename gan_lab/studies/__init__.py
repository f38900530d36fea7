"""Studies: claims of the GAN literature as experiments with predictions recorded beforehand.

A study is a file of ``studies/``: the claim and its source, the arms, the measure and the
predictions. ``engine.py`` measures each arm with each seed, ``verdict.py`` tests the predictions,
``study_page.py`` writes the page.
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
    """The mean of a value of one arm is above or below another arm's, or a bound.

    ``by`` is the least distance; a negative one tolerates that much in the other direction.
    """

    value: str
    arm: str
    relation: Literal["above", "below"]
    other: str | None = None
    bound: float | None = None
    by: float = 0.0

    @property
    def reference(self) -> str | None:
        """The other arm, or the bound."""
        return self.other if self.bound is None else f"{self.bound:g}"

    def __str__(self) -> str:
        """Format on one line, as in: fd_digits: gan below dcgan."""
        margin = f" by at least {self.by:g}" if self.by else ""
        return f"`{self.value}`: {self.arm} {self.relation} {self.reference}{margin}"


@dataclass
class Budget:
    """Size of a study.

    Attributes:
        seeds: Number of seeds of each arm.
        first_seed: The first of them; not 0 if a pilot used the seeds from 0 on.
        words: Arguments that are appended to those of every arm.
    """

    seeds: int = 3
    first_seed: int = 0
    words: str = ""


@dataclass
class Study:
    """The keys of a file of ``studies/``.

    Attributes:
        title: Title of the page.
        chapter: Position in the index.
        claim: The claim of the literature.
        source: Where it is made.
        prediction: The predictions as text.
        measure: A file of ``measures/``, or a module of the user.
        arms: Arguments of the measure, by arm.
        predictions: What is tested.
        shown: Values on the page in addition to the predicted ones.
        quick: The small budget, for a demonstration.
        full: The budget that the verdict is based on.
        not_shown: What does not follow from the study.
        name: Name of the file, without its suffix.
    """

    title: str = ""
    chapter: int = 0
    claim: str = ""
    source: str = ""
    prediction: str = ""
    measure: str = ""
    arms: dict[str, str] = field(default_factory=dict)
    predictions: list[Prediction] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    quick: Budget = field(default_factory=Budget)
    full: Budget = field(default_factory=Budget)
    not_shown: str = ""
    name: str = ""

    def get_budget(self, name: str) -> Budget:
        """Return the quick or the full budget.

        Raises:
            UserError: The name is neither quick nor full.
        """
        if name not in BUDGETS:
            raise UserError(f"Unknown budget: {name!r}. Choose one of {', '.join(BUDGETS)}.")
        chosen: Budget = getattr(self, name)
        return chosen

    def compute_fingerprint(self, budget: str) -> str:
        """Hash the design: claim, prediction, measure, arms, predictions and budget.

        Results are stored with these 16 hexadecimal digits, so that results of another design are
        rejected.
        """
        design = {
            key: value
            for key, value in asdict(self).items()
            if key in ("claim", "prediction", "measure", "arms", "predictions")
        }
        text = json.dumps(design | {"budget": asdict(self.get_budget(budget))}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_folder() -> Path:
    """Return the folder of the study files."""
    return find_shipped_folder("studies", inside="study_files")


def find_committed_results() -> Path:
    """Return the folder of the results behind docs/studies, in a checkout of the repository."""
    return find_shipped_folder("docs/studies/results")


def names() -> list[str]:
    """List every study by chapter."""
    return sorted(
        (path.stem for path in groups.list_yaml_files(find_folder())),
        key=lambda name: (load(name).chapter, name),
    )


def load(name: str) -> Study:
    """Load a study of ``studies/`` by its name, or a file by its path.

    Raises:
        UserError: The study does not exist, or its file is not valid.
    """
    path = Path(name) if name.endswith(".yaml") else find_folder() / f"{name}.yaml"
    if not path.is_file():
        known = [each.stem for each in groups.list_yaml_files(find_folder())]
        raise UserError(extensions.explain_unknown_name("study", name, known))
    try:
        merged = OmegaConf.merge(
            OmegaConf.structured(Study), OmegaConf.load(path), {"name": path.stem}
        )
        loaded: Any = OmegaConf.to_object(merged)
    except Exception as error:
        # The YAML reader and the schema have no common error type.
        remedy = ""
        if "(bool)" in str(error):
            remedy = ". YAML reads on, off, yes and no as booleans: quote them"
        raise UserError(f"{path}: {first_line(error)}{remedy}") from None
    _validate(loaded, path)
    study: Study = loaded
    return study


def _validate(study: Study, path: Path) -> None:
    required = (
        "title",
        "claim",
        "source",
        "prediction",
        "measure",
        "arms",
        "predictions",
        "not_shown",
    )
    missing = [key for key in required if not getattr(study, key)]
    if missing:
        raise UserError(f"{path}: missing keys: {', '.join(missing)}. Add them to the file")
    measures.find(study.measure)
    for prediction in study.predictions:
        if (prediction.other is None) == (prediction.bound is None):
            raise UserError(
                f"{path}: the prediction about {prediction.value} needs either other or bound. "
                "Set one of the two"
            )
        for arm in (prediction.arm, prediction.other):
            if arm is not None and arm not in study.arms:
                raise UserError(
                    f"{path}: unknown arm in a prediction: {arm}. "
                    f"The arms are {', '.join(study.arms)}"
                )
