"""Provenance of results: resolved configs of the arms, code of the measure, versions of libraries.

The design of a study names experiments and a measure, and both may change after its results. Each
file of results has a record next to it, ``<budget>.measured.json``, and the page says where the
record differs from what the study would measure today.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from gan_lab import __version__
from gan_lab.config import loading
from gan_lab.config.renames import rename_keys
from gan_lab.config.schema import list_leaves
from gan_lab.config.values import split_arguments
from gan_lab.runs.run_folder import defines_results, to_dict
from gan_lab.studies import Study, measures

# Functions of a measure that only draw.
DRAWING = ("draw",)


def describe_measurement(study: Study, budget: str) -> dict[str, Any]:
    """Describe what a study measures with the current configs and code.

    Returns:
        ``configs`` (values that all arms share under ``common``, the others by arm), ``code``
        (hashes of the measure and of modules named in the configs) and ``versions``.
    """
    configs = resolve_configs(study, budget)
    common = {
        key: value
        for key, value in next(iter(configs.values()), {}).items()
        if all(config.get(key) == value for config in configs.values())
    }
    arms = {
        arm: {key: value for key, value in config.items() if key not in common}
        for arm, config in configs.items()
    }
    return {
        "configs": {"common": common, "arms": arms},
        "code": hash_code(study, budget),
        "versions": list_versions(),
    }


def list_versions() -> dict[str, str]:
    """Return the versions of the lab and of the libraries that a score depends on."""
    from gan_lab.metrics.evaluator import library_versions

    return {"gan-lab": __version__, **library_versions()}


def merge_versions(versions: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Merge the versions of several measurements, as in "2.15 and 2.16"."""
    names = dict.fromkeys(name for each in versions for name in each)
    return {
        name: " and ".join(dict.fromkeys(each[name] for each in versions if name in each))
        for name in names
    }


def compute_fingerprint(study: Study, budget: str) -> str:
    """Hash design, resolved configs and code of a study, in 16 hexadecimal digits."""
    parts = [
        study.compute_fingerprint(budget),
        resolve_configs(study, budget),
        hash_code(study, budget),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def find_changes(study: Study, budget: str, recorded: Mapping[str, Any]) -> list[str]:
    """List what has changed since a record was made, as "model.lr_d: 0.001, now 0.0002".

    A config key that is newer than the record counts as unchanged: new keys have the old behavior
    as their default. Versions are shown and not compared, since results have the precision of seeds
    and not of bits.
    """
    changes: dict[str, None] = {}
    stored = recorded["configs"]
    for arm, config in resolve_configs(study, budget).items():
        known = {**stored["common"], **stored["arms"].get(arm, {})}
        for key, value in rename_keys(known, config).items():
            if key not in config:
                changes[f"{key}: {_format(value)}, now removed"] = None
            elif config[key] != value:
                changes[f"{key}: {_format(value)}, now {_format(config[key])}"] = None
    for name, digest in hash_code(study, budget).items():
        if recorded["code"].get(name) != digest:
            changes[f"the code of {name}"] = None
    return list(changes)


def _format(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def resolve_configs(study: Study, budget: str) -> dict[str, dict[str, Any]]:
    """Resolve the config of each arm that trains an experiment, by key.

    Keys that do not change results, such as those of the log, are left out, and so is the seed.
    """
    return {
        arm: dict(_resolve(*arguments))
        for arm, arguments in list_experiments(study, budget).items()
    }


def list_experiments(study: Study, budget: str) -> dict[str, list[str]]:
    """List the experiment and its overrides for each arm that trains one.

    The arguments of the measure itself, and the seed, are not among them.
    """
    words = split_arguments(study.get_budget(budget).words)
    own = getattr(measures.find(study.measure), "ARGUMENTS", ())
    known = loading.experiments()
    experiments = {}
    for arm, text in study.arms.items():
        arguments = [
            argument
            for argument in [*split_arguments(text), *words]
            if argument.partition("=")[0] not in own
        ]
        if arguments and arguments[0] in known:
            experiments[arm] = arguments
    return experiments


@cache
def _resolve(experiment: str, *overrides: str) -> tuple[tuple[str, Any], ...]:
    config = loading.load(experiment, list(overrides)).config
    return tuple(
        (key, value)
        for key, value in list_leaves(to_dict(config))
        if defines_results(key) and key != "run.seed"
    )


def hash_code(study: Study, budget: str) -> dict[str, str]:
    """Hash the measure, and the modules outside the lab's families that its configs name."""
    configs = resolve_configs(study, budget)
    families = {str(config.get("family", "")) for config in configs.values()}
    measure = measures.find(study.measure)
    hashes = {study.measure: _hash_measure(measure)}
    for family in sorted(families):
        if "." in family:
            spec = importlib.util.find_spec(family)
            if spec is not None and spec.origin is not None:
                hashes[family] = hash_source(Path(spec.origin).read_text(encoding="utf-8"))
    return hashes


def _hash_measure(measure: ModuleType) -> str:
    """Hash a measure, and the other measures that it imports."""
    used = {measure.__name__: measure}
    for value in vars(measure).values():
        # a function of another measure brings its module
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
        if isinstance(name, str) and name.startswith(measures.__name__ + "."):
            used[name] = sys.modules[name]
    sources = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in used.values()]
    return hashlib.sha256("".join(map(hash_source, sources)).encode()).hexdigest()[:16]


def hash_source(source: str) -> str:
    """Hash the syntax tree of a module, in 16 hexadecimal digits.

    Comments, formatting, docstrings, type annotations, imports and functions that draw do not
    change a measurement and are left out.
    """
    tree = ast.parse(source)
    cleaned = ast.unparse(_Cleaner().visit(tree))
    return hashlib.sha256(cleaned.encode()).hexdigest()[:16]


class _Cleaner(ast.NodeTransformer):
    """Remove what does not change a measurement."""

    def visit_Import(self, node: ast.Import) -> None:
        """Remove imports: the names that are used are in the code."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Remove imports."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        assigned = ast.Assign(targets=[node.target], value=node.value)
        return ast.fix_missing_locations(ast.copy_location(assigned, node))

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        if node.name in DRAWING:
            return None
        node.returns = None
        return self._remove_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._remove_docstring(node)

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._remove_docstring(node)

    def _remove_docstring(self, node: ast.FunctionDef | ast.ClassDef | ast.Module) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        self.generic_visit(node)
        if not node.body:
            node.body = [ast.Pass()]
        return node
