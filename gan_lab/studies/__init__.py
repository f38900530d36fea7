"""Studies: claims of the GAN literature as experiments with predictions recorded beforehand.

A study is a file of ``studies/``: the claim and its source, the arms, the measure and the
predictions. ``engine.py`` measures each arm with each seed, ``verdict.py`` tests the predictions,
``study_page.py`` writes the page.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from gan_lab.config import extensions, groups, plain_yaml
from gan_lab.config.values import convert, split_arguments
from gan_lab.studies import measures
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import find_shipped_folder

BUDGETS = ("quick", "full")
# Two seeds have too few degrees of freedom for a test.
MIN_SEEDS_OF_LOOK = 3


@dataclass
class Prediction:
    """The mean of a value of one arm is above or below another arm's, or a bound.

    Attributes:
        value: Name of the value.
        arm: The arm that the prediction is about.
        relation: ``above`` or ``below``.
        other: The arm that it is compared with; None if there is a bound.
        bound: The number that it is compared with.
        by: The least distance; a negative one tolerates that much in the other direction. It is a
            difference of logarithms for distances and in units of the value otherwise.
        margin: The largest difference that counts as no effect, in the units of ``by``; None: the
            absence of an effect is not tested.
    """

    value: str
    arm: str
    relation: Literal["above", "below"]
    other: str | None = None
    bound: float | None = None
    by: float = 0.0
    margin: float | None = None

    @property
    def reference(self) -> str | None:
        """The other arm, or the bound."""
        return self.other if self.bound is None else f"{self.bound:g}"

    def __str__(self) -> str:
        """Format on one line, as in: fd_digits: gan below dcgan."""
        by = f" by at least {self.by:g}" if self.by else ""
        margin = f" (no effect: within {self.margin:g})" if self.margin is not None else ""
        return f"`{self.value}`: {self.arm} {self.relation} {self.reference}{by}{margin}"


@dataclass
class Budget:
    """Size of a study, fixed or group-sequential.

    A group-sequential design tests after ``seeds`` seeds of each arm, and adds ``step`` seeds until
    every prediction is decided or ``max_seeds`` are measured.

    Attributes:
        seeds: Number of seeds of each arm, at the first look of a sequential design.
        first_seed: The first of them; not 0 if a pilot used the seeds from 0 on.
        words: Arguments that are appended to those of every arm.
        step: Number of seeds between two looks; 0: a fixed design.
        max_seeds: Number of seeds of each arm at the last look of a sequential design.
        spending: How the looks share the error probability: ``obrien_fleming`` spends most of it at
            the last look, ``pocock`` about as much at each.
    """

    seeds: int = 3
    first_seed: int = 0
    words: str = ""
    step: int = 0
    max_seeds: int = 0
    spending: Literal["obrien_fleming", "pocock"] = "obrien_fleming"

    @property
    def looks(self) -> tuple[int, ...]:
        """The number of seeds of each arm at each look."""
        if self.step == 0:
            return (self.seeds,)
        return tuple(range(self.seeds, self.max_seeds + 1, self.step))


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
        known_before: Which results about the arms were known when the predictions were recorded.
        superseded_by: The study that asks the same with a better design, if there is one.
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
    known_before: str = ""
    superseded_by: str = ""
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
        rejected. ``measurement_record.py`` hashes what the design refers to: configs and measure.
        """
        design = {
            key: value
            for key, value in asdict(self).items()
            if key in ("claim", "prediction", "measure", "arms", "predictions")
        }
        chosen = asdict(self.get_budget(budget))
        # Keys that a fixed design without margins does not use are left out, so that its
        # fingerprint is the one from before these keys existed.
        for prediction in design["predictions"]:
            if prediction["margin"] is None:
                del prediction["margin"]
        if not chosen["step"]:
            chosen = {key: chosen[key] for key in ("seeds", "first_seed", "words")}
        text = json.dumps(design | {"budget": chosen}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def find_folder() -> Path:
    """Return the folder of the study files."""
    return find_shipped_folder("studies", inside="study_files")


def find_committed_results() -> Path:
    """Return the folder of the results behind docs/studies, in a checkout of the repository."""
    return find_shipped_folder("docs/studies/results")


def names() -> list[str]:
    """List every study by chapter; an invalid file is left out with a warning that names it."""
    return [study.name for study in load_all()]


def find(name: str) -> list[Study]:
    """Load a study by its name or path, or for ``all`` every study that none supersedes.

    Raises:
        UserError: The study does not exist, or its file is not valid.
    """
    if name != "all":
        return [load(name)]
    return [study for study in load_all() if not study.superseded_by]


def load_all() -> list[Study]:
    """Load every study, by chapter; an invalid file is left out with a warning that names it."""
    found = []
    for path in groups.list_yaml_files(find_folder()):
        try:
            found.append(load(path.stem))
        except UserError as error:
            warnings.warn(f"Skipping a study: {error}", stacklevel=2)
    return sorted(found, key=lambda study: (study.chapter, study.name))


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
        study: Study = convert(Study, _read(path) | {"name": path.stem})
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    _validate(study, path)
    return study


def _read(path: Path) -> Any:
    return plain_yaml.read_file(path, is_own=path.parent == find_folder())


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
    measures.check_name(study.measure)
    for text in (*study.arms.values(), study.quick.words, study.full.words):
        split_arguments(text)
    for prediction in study.predictions:
        if (prediction.other is None) == (prediction.bound is None):
            raise UserError(
                f"{path}: the prediction about {prediction.value} needs either other or bound. "
                "Set one of the two"
            )
        if prediction.margin is not None and (prediction.margin <= 0 or prediction.by < 0):
            raise UserError(
                f"{path}: the prediction about {prediction.value} has margin={prediction.margin:g} "
                f"and by={prediction.by:g}. A margin is larger than 0, and needs a by of 0 or more"
            )
        for arm in (prediction.arm, prediction.other):
            if arm is not None and arm not in study.arms:
                raise UserError(
                    f"{path}: unknown arm in a prediction: {arm}. "
                    f"The arms are {', '.join(study.arms)}"
                )
    if study.superseded_by:
        successor = path.parent / f"{study.superseded_by}.yaml"
        if not successor.is_file():
            raise UserError(f"{path}: superseded_by: there is no {successor}. Name a study")
        if _read(successor).get("superseded_by"):
            raise UserError(
                f"{path}: superseded_by: {study.superseded_by} is superseded itself. Name the "
                "newest study"
            )
    for name in BUDGETS:
        _validate_looks(study.get_budget(name), f"{path}: {name}")


def _validate_looks(budget: Budget, label: str) -> None:
    if budget.step == 0 and budget.max_seeds == 0:
        return
    if budget.step < 1 or budget.seeds < MIN_SEEDS_OF_LOOK or budget.max_seeds <= budget.seeds:
        raise UserError(
            f"{label}: seeds={budget.seeds}, step={budget.step}, max_seeds={budget.max_seeds}. A "
            f"sequential design needs seeds of {MIN_SEEDS_OF_LOOK} or more, a step of 1 or more, "
            "and max_seeds larger than seeds"
        )
    if budget.looks[-1] != budget.max_seeds:
        raise UserError(
            f"{label}: max_seeds={budget.max_seeds} is no look. Set it to seeds={budget.seeds} "
            f"plus a multiple of step={budget.step}"
        )
