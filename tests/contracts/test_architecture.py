from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Collection, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from gan_lab.utils.errors import MAKE_EXTRAS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "gan_lab"
FILES = sorted(PACKAGE.rglob("*.py"))
# What stands in one row may not import its neighbors, but all rows before; the base of the families
# is the contract.
ROWS = [
    {"utils"},
    {"config", "images", "losses", "penalties", "seeding", "device"},
    {"networks", "schedules", "augmentation", "batches", "degradations"},
    {"distributed"},
    {"families"},
    {"data"},
    {"metrics"},
    {"runs"},
    {"report"},
    {"training"},
    {"inference", "sensitivity", "benchmark", "doctor"},
    {"sweeps", "studies", "scoring", "api"},
    {"cli"},
    {"__main__"},
]
ALLOWED = {("images", "seeding")}  # within a row
FORBIDDEN = {("families", "runs"), ("data", "families")}
# The verbs of a Run import what they use when they are called: restore, sample, report.
UPWARDS = {
    "runs/run.py": {
        "inference.sampling",
        "inference.sampling.TrainedGenerator",
        "inference.sampling.load_generator",
        "report",
        "report.notebook",
        "report.notebook.render_run",
        "training.builder",
        "training.builder.build_family",
    }
}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, such as 'networks' or 'networks.dcgan'."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            assert node.module is not None
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("gan_lab.") for name in found if name.startswith("gan_lab.")}


def row_of(part: str) -> int:
    (row,) = (i for i, parts in enumerate(ROWS) if part in parts)
    return row


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    mine = part_of(path)
    if mine == "__init__":  # the door of the package, which opens on demand
        return
    for module in imported(path) - UPWARDS.get(str(path.relative_to(PACKAGE)), set()):
        theirs = module.partition(".")[0]
        if theirs not in {part for row in ROWS for part in row}:
            continue  # a name, such as __version__
        allowed = theirs == mine or (mine, theirs) in ALLOWED or row_of(theirs) < row_of(mine)
        assert allowed, f"{path.name} imports {module}"
        assert (mine, theirs) not in FORBIDDEN, f"{path.name} imports {module}"


def test_upward_imports_are_needed_and_inside_functions() -> None:
    """An exception that is no longer used is removed, and none is made when a file is imported."""
    for name, modules in UPWARDS.items():
        tree = ast.parse((PACKAGE / name).read_text())
        assert modules <= imported(PACKAGE / name), name
        at_import = {
            node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module
        }
        assert not {f"gan_lab.{module}" for module in modules} & at_import, name


def test_every_file_has_its_place_in_the_order() -> None:
    assert {part_of(path) for path in FILES} - {"__init__"} == set().union(*ROWS)


def test_networks_import_no_config_and_callbacks_no_family() -> None:
    for path in FILES:
        names = imported(path)
        if "callbacks" in path.parts or part_of(path) == "networks":
            outside = {name for name in names if name.startswith("config")}
            assert outside <= {"config.schema", "config.schema.EmaConfig"}, path.name
            assert part_of(path) != "networks" or not outside, path.name
        if "callbacks" in path.parts:
            assert {name for name in names if re.match(r"families\.(?!base)", name)} == set(), (
                path.name
            )


def test_families_minimize_through_minimize_alone() -> None:
    for path in (PACKAGE / "families").glob("*.py"):
        calls = [
            node.func.attr
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        ]
        assert path.name == "base.py" or not {"backward", "manual_backward"} & set(calls), (
            f"{path.name}: use minimize"
        )


def test_a_family_imports_a_family_only_to_inherit_from_it() -> None:
    for path in (PACKAGE / "families").glob("*.py"):
        tree = ast.parse(path.read_text())
        bases = {
            ast.unparse(base)
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            for base in node.bases
        }
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and re.match(
                r"gan_lab\.families\.(?!base)", node.module or ""
            ):
                classes = {alias.name for alias in node.names if not alias.name.endswith("Config")}
                assert classes <= bases, (
                    f"{path.name} uses {classes - bases} of another family "
                    "without inheriting from it"
                )


def test_no_two_modules_have_the_same_name() -> None:
    """Whoever looks for a file by its name finds one."""
    names = [
        path.name for path in FILES if path.name not in ("base.py", "__init__.py", "__main__.py")
    ]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_config_imports_no_torch() -> None:
    for path in (PACKAGE / "config").glob("*.py"):
        assert not re.search(
            r"^\s*(import|from) (torch|lightning|numpy)", path.read_text(), re.MULTILINE
        ), path.name


def test_what_the_type_checker_is_told_to_ignore_is_little() -> None:
    assert sum(path.read_text().count("# type: ignore") for path in FILES) <= 20


def test_a_docstring_begins_with_a_verb_or_a_noun() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                first = (ast.get_docstring(node) or " ").split()[:1]
                assert not {"What", "Whether", "How", "Who", "Which"} & set(first), (
                    f"{path.name}: {first}"
                )


LOCKS = ("requirements.lock", "requirements-extras.lock", "requirements-dev.lock")
# extras that are installed by their users alone, and in no lock
UNLOCKED_EXTRAS = {"trackio"}


def pins(locks: Sequence[str] = LOCKS) -> dict[str, Version]:
    lines = [
        line.partition("#")[0].partition(";")[0].strip()
        for lock in locks
        for line in (ROOT / lock).read_text().splitlines()
    ]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", line) for line in lines if line)
    return {
        name.lower(): Version(version)
        for name, version in (line.split("==") for line in lines if line)
    }


def test_the_lock_holds_every_dependency_within_its_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [
        line
        for extra, lines in project["optional-dependencies"].items()
        for line in lines
        if extra not in UNLOCKED_EXTRAS
    ]
    wanted = [Requirement(line) for line in [*project["dependencies"], *extras]]
    for requirement in [one for one in wanted if one.name != project["name"]]:
        assert requirement.name in pins(), requirement
        assert pins()[requirement.name] in requirement.specifier, requirement


def find_requirements(name: str, extras: Collection[str], found: set[str]) -> None:
    """Add what a package and its extras require, and what that requires, to ``found``."""
    for line in metadata.requires(name) or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        key = f"{canonicalize_name(requirement.name)}{sorted(requirement.extras)}"
        if key not in found:
            found.add(key)
            with suppress(metadata.PackageNotFoundError):
                find_requirements(requirement.name, requirement.extras, found)


def find_installed_requirements(name: str, extras: Collection[str]) -> set[str]:
    """Return the installed packages that a package with extras requires, directly or not."""
    found: set[str] = set()
    find_requirements(name, extras, found)
    installed = {canonicalize_name(each.metadata["Name"]) for each in metadata.distributions()}
    return {key.partition("[")[0] for key in found} & installed


def test_each_lock_has_what_its_users_need_and_no_package_twice() -> None:
    """Training on all data sets needs the first lock alone; one other lock has the large extras."""
    base, extras, tools = ({canonicalize_name(name) for name in pins([lock])} for lock in LOCKS)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = {*project["optional-dependencies"]} - {"dev", "docs"} - UNLOCKED_EXTRAS
    needed = find_installed_requirements(project["name"], optional - {*MAKE_EXTRAS})
    assert needed <= base
    assert find_installed_requirements(project["name"], optional) <= base | extras
    assert not base & extras
    assert not (base | extras) & tools
    assert {"onnx", "pyarrow", "tensorboard", "av"} <= extras
    assert {"pytest", "mypy", "ruff", "playwright", "sphinx"} <= tools


def test_compromised_lightning_is_neither_locked_nor_allowed() -> None:
    (wanted,) = (
        Requirement(line)
        for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        if Requirement(line).name == "lightning"
    )
    for version in ("2.6.2", "2.6.3"):
        assert Version(version) not in wanted.specifier
        assert Version(version) not in (pins()["lightning"], pins()["pytorch-lightning"])


def test_lock_pins_torch_and_torchvision_and_no_address() -> None:
    torch, torchvision = pins()["torch"], pins()["torchvision"]
    assert torch.major == 2
    assert torchvision == Version(
        f"0.{torch.minor + (14 if torch.minor >= 15 else 15)}.{torchvision.micro}"
    )
    assert all("://" not in (ROOT / lock).read_text() for lock in LOCKS)
    asked = [
        line for line in metadata.requires("torchvision") or [] if Requirement(line).name == "torch"
    ]
    if Version(metadata.version("torchvision").partition("+")[0]) == torchvision:
        assert all(torch in Requirement(line).specifier for line in asked)
