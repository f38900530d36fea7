"""Tests of the image without an engine. scripts/container-test.sh builds and runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
# python as process 1 of its own namespace, which is what an exec-form entry point is
NAMESPACE = ["unshare", "--fork", "--pid", "--kill-child", "--"]


def tool(name: str, *words: str | Path) -> str:
    """What a linter of the environment finds."""
    path = Path(sys.executable).with_name(name)
    return subprocess.run([path, *words], capture_output=True, text=True, check=False).stdout


def instructions(name: str) -> list[str]:
    """The arguments of each such instruction, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return [
        line.split(maxsplit=1)[1] for line in joined.splitlines() if line.startswith(f"{name} ")
    ]


def test_the_dockerfile_and_the_scripts_are_clean(tmp_path: Path) -> None:
    assert tool("hadolint", ROOT / "Dockerfile") == ""
    assert tool("shellcheck", *sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run") == ""
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.replace('["gan-lab"]', "gan-lab"))
    assert "DL3025" in tool("hadolint", tmp_path / "Dockerfile")


def test_the_entry_point_is_the_console_script_itself() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["gan-lab"]
    assert scripts["gan-lab"] == "gan_lab.cli:main"
    assert "/opt/gan-lab/bin" in instructions("ENV")[0]


def test_a_change_of_the_code_does_not_install_torch_again() -> None:
    assert instructions("COPY") == ["requirements.lock requirements-extras.lock /opt/gan-lab/"]
    installed = DOCKERFILE.index("--requirement /opt/gan-lab/requirements-extras.lock")
    assert installed < DOCKERFILE.index("--mount=type=bind,source=.")
    assert "--mount=type=cache,target=/root/.cache/pip" in instructions("RUN")[0]


def test_everything_is_written_in_three_volumes() -> None:
    volumes = json.loads(instructions("VOLUME")[0])
    assert volumes == ["/runs", "/data", "/cache"]
    assert instructions("WORKDIR") == ["/"]  # in which runs and data, the defaults, are volumes
    assert f"mkdir --mode=1777 {' '.join(volumes)}" in instructions("RUN")[1]
    variables = dict(word.split("=", 1) for word in instructions("ENV")[0].split())
    kept = {"HOME", "XDG_CACHE_HOME", "GAN_LAB_CACHE", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR",
            "TRITON_CACHE_DIR", "MPLCONFIGDIR"}  # fmt: skip
    assert all(variables[name].startswith("/cache") for name in kept)
    assert instructions("USER") == ["1000:1000"]


def passes(path: str, rules: Sequence[str]) -> bool:
    """Return whether .dockerignore keeps a file: the last rule for it or a parent decides."""
    parts = path.split("/")
    prefixes = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    through = True
    for rule in rules:
        name = rule.removeprefix("!")
        pattern = re.escape(name).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(pattern, prefix) for prefix in prefixes):
            through = rule.startswith("!")
    return through


def test_the_build_sees_the_package_and_nothing_else(tmp_path: Path) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    for path in ("runs/a/seed0/config.yaml", ".git/config", ".venv/bin/python", "wandb/key", ".env",
                 ".netrc", "data/x.png", "gan_lab/__pycache__/a.pyc", "tests/conftest.py",
                 "gan_lab/data/__pycache__/b.pyc"):  # fmt: skip
        assert not passes(path, rules), path
    for top in [
        path for path in ROOT.iterdir() if path.name not in (".git", ".venv", "runs", "data")
    ]:
        for file in [top] if top.is_file() else top.rglob("*"):
            relative = file.relative_to(ROOT)
            if file.is_file() and passes(str(relative), rules):
                (tmp_path / "context" / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, tmp_path / "context" / relative)
    (wheel,) = WheelBuilder(str(tmp_path / "context")).build(
        directory=str(tmp_path), versions=["standard"]
    )
    packed = set(zipfile.ZipFile(wheel).namelist())
    package = {
        str(path.relative_to(ROOT)) for path in (ROOT / "gan_lab").rglob("*") if path.is_file()
    }
    assert {path for path in package if "__pycache__" not in path} <= packed
    for folder, inside in (("configs", "configs"), ("sweeps", "sweep_files")):
        assert {
            f"gan_lab/{inside}/{path.name}" for path in (ROOT / folder).glob("*.yaml")
        } <= packed


def test_nothing_of_one_machine_or_one_person_is_in_the_files() -> None:
    for name in ("Dockerfile", "compose.yaml", ".dockerignore"):
        text = (ROOT / name).read_text()
        assert not re.search(r"pip\.conf|index-url|certificates|proxy|find-links", text), name
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for service in services.values():
        for key, value in service["environment"].items():
            assert value is None or value.startswith("${") or "PASSWORD" not in key, key
    assert "PASSWORD" not in json.dumps(services["worker"]["command"])


def test_compose_file_runs_workers_as_the_image_requires() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    worker = services["worker"]
    assert worker["command"][:1] + worker["command"][2:3] == ["sweep", "--storage"]
    assert worker["command"][3] == "postgresql://postgres@postgres/sweeps"
    assert services["postgres"]["environment"]["POSTGRES_DB"] == "sweeps"
    assert (
        worker["environment"]["PGPASSWORD"]
        == services["postgres"]["environment"]["POSTGRES_PASSWORD"]
    )
    assert worker["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert worker["read_only"] is True
    assert {volume.rpartition(":")[2] for volume in worker["volumes"]} == {
        "/runs",
        "/data",
        "/cache",
    }
    assert worker["deploy"]["replicas"] == "${WORKERS:-2}"


# --------------------------------------------------------------------------------------------------
# process 1


def can_be_first() -> bool:
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


def ended_by_sigterm(folder: Path, data_root: Path, when: Callable[[int], bool]) -> int:
    """The exit code of the entry point as process 1, after SIGTERM as soon as ``when`` is true."""
    arguments = ["gan-lab", *words(folder, data_root)]
    code = f"import sys; sys.argv = {arguments!r}; from gan_lab.cli import main; main()"
    started = subprocess.Popen([*NAMESPACE, sys.executable, "-c", code])
    try:
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
        end = time.monotonic() + 120
        while not children.read_text() and time.monotonic() < end:
            time.sleep(0.01)
        first = int(children.read_text())
        while not when(first) and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(first, signal.SIGTERM)
        return started.wait(120)
    finally:
        started.kill()
        started.wait()


def words(folder: Path, data_root: Path) -> list[str]:
    return ["train", "ring", "run.id=long", "run.images=100_000_000", "log.log_every_images=256",
            "log.wandb=off", "log.progress_bar=false", f"run.root={folder}",
            f"data.root={data_root}"]  # fmt: skip


def has_a_handler(process: int) -> bool:
    found = re.search(
        r"^SigCgt:\s*(\w+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE
    )
    return bool(found and int(found[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(
    not can_be_first(), reason="this machine lets no process be the first of a namespace"
)
def test_sigterm_ends_process_1_with_143_and_a_checkpoint(tmp_path: Path, data_root: Path) -> None:
    run = tmp_path / "ring" / "long"
    assert ended_by_sigterm(tmp_path, data_root, has_a_handler) == 143
    assert (
        not run.exists()
    )  # it was still loading, when without a handler the kernel would not have ended it
    assert ended_by_sigterm(tmp_path, data_root, lambda _: (run / "metrics.csv").is_file()) == 143
    assert (run / "checkpoints" / "last.ckpt").is_file()
