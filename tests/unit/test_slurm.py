"""The batch script runs with stand-ins for srun and scontrol that record their arguments."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gan_lab import cli
from gan_lab.config.loading import config_folder
from gan_lab.distributed import slurm
from gan_lab.utils.files import make_file_name
from gan_lab.utils.output import MANIFEST_NAME

NASTY = [
    "run.id=a b'c\"d$(touch hacked)`id`\\n;&|#%j",
    "data.root=per cent % and\ttab",
    "log.log_every_images=7",
]
SRUN = f"""#!{sys.executable}
import json, os, sys
seen = [sys.argv[1:], os.environ["RUN_ID"], os.getcwd()]
json.dump(seen, open(os.environ["SEEN"] + ".json", "w"))
sys.exit(int(os.environ["CODE"]))
"""


@pytest.fixture
def odd_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "it's a 100% odd folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def submitted(
    script: Path, tmp_path: Path, code: int, **environment: str
) -> tuple[int, list[str], str, str, str]:
    """Run the script as SLURM does: exit code, arguments of srun, RUN_ID, folder, scontrol."""
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "srun").write_text(SRUN)
    (tools / "scontrol").write_text('#!/bin/sh\necho "$@" > "$SEEN.scontrol"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    seen = tmp_path / "seen"
    cluster = {
        "SLURM_JOB_ID": "42",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "CODE": str(code),
        "SEEN": str(seen),
    }
    path = {"PATH": f"{tools}:{os.environ['PATH']}"}
    ended = subprocess.run(
        ["bash", script], cwd="/", env=os.environ | cluster | path | environment, check=False
    )
    words, run_id, folder = json.loads(seen.with_suffix(".json").read_text())
    requeued = seen.with_suffix(".scontrol")
    return (
        ended.returncode,
        words,
        run_id,
        folder,
        requeued.read_text() if requeued.exists() else "",
    )


def directives(script: Path) -> dict[str, str]:
    """SLURM's own words, read as it reads them: up to the first line that is no comment."""
    head = script.read_text().partition("\nset ")[0]
    lines = [
        shlex.split(line.removeprefix("#SBATCH "))
        for line in head.splitlines()
        if line.startswith("#SBATCH")
    ]
    assert all(len(words) == 1 for words in lines)
    return dict((words[0].partition("=")[0], words[0].partition("=")[2]) for words in lines)


def test_every_word_reaches_each_process_as_it_was_typed(odd_folder: Path, tmp_path: Path) -> None:
    script = slurm.write("cgan", NASTY, 2, 8, "1-00:00:00")
    code, words, run_id, folder, requeued = submitted(script, tmp_path, 0)
    command = [
        sys.executable,
        "-m",
        "gan_lab",
        "train",
        "cgan",
        *NASTY,
        "run.devices=8",
        "run.num_nodes=2",
    ]
    assert words == ["--kill-on-bad-exit=0", *command]
    assert (code, run_id, folder, requeued) == (0, "job-42", str(odd_folder), "")
    assert not list(tmp_path.rglob("hacked"))


def test_one_task_for_each_gpu_and_notice_to_all_of_them_before_the_end(odd_folder: Path) -> None:
    asked = directives(slurm.write("cgan", [], 2, 8, "04:00:00"))
    assert (asked["--nodes"], asked["--ntasks-per-node"], asked["--gres"]) == ("2", "8", "gpu:8")
    assert (asked["--time"], asked["--signal"]) == (
        "04:00:00",
        "TERM@120",
    )  # without B: which is the shell alone
    assert "--requeue" in asked
    assert asked["--output"].replace("%%", "%") == f"{odd_folder}/runs/slurm/%x-%j.log"
    assert (
        asked["--output"].count("%") == 4
    )  # doubled in the folder's name, so that SLURM reads it as it is
    assert Path(asked["--output"]).parent.name == "slurm"


@pytest.mark.parametrize(("code", "requeued"), [(143, "requeue 42\n"), (1, ""), (137, "")])
def test_an_interrupted_job_goes_back_into_the_queue_and_a_failed_one_does_not(
    odd_folder: Path, tmp_path: Path, code: int, requeued: str
) -> None:
    ended, *_, asked = submitted(
        slurm.write("ring", ["model.z_dim=3"], 1, 2, "00:10:00"), tmp_path, code
    )
    assert (ended, asked) == (code, requeued)


def test_a_later_job_can_continue_the_run_of_an_earlier_one(
    odd_folder: Path, tmp_path: Path
) -> None:
    assert (
        submitted(slurm.write("gan", [], 1, 1, "01:00:00"), tmp_path, 0, RUN_ID="job-7")[2]
        == "job-7"
    )


def test_an_experiment_of_ones_own_is_found_from_everywhere(
    odd_folder: Path, tmp_path: Path
) -> None:
    (odd_folder / "my own.yaml").write_text(
        (config_folder() / "experiment" / "gan.yaml").read_text()
    )
    script = slurm.write("my own.yaml", [], 1, 1, "01:00:00")
    assert submitted(script, tmp_path, 0)[1][-3] == str(odd_folder / "my own.yaml")
    assert directives(script)["--job-name"] == make_file_name("my own")


def test_the_script_is_clean(odd_folder: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    written = [slurm.write("cgan", words, 2, 8, "04:00:00").read_text() for words in ([], NASTY)]
    for number, text in enumerate(written):
        (odd_folder / f"{number}.sh").write_text(text)
    found = subprocess.run(
        [shellcheck, "0.sh", "1.sh"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"nodes": 0}, "--nodes must be at least 1: 0"),
        ({"gpus": -1}, "--gpus must be at least 1: -1"),
        ({"time": "4h"}, "--time is not a time limit: 4h. Write HH:MM:SS or D-HH:MM:SS"),
        (
            {"time": "00:09:59"},
            "--time is too short: 00:09:59. Ask for at least 10 minutes; the last 120 seconds",
        ),
        ({"experiment": "cgn"}, "unknown experiment 'cgn'. Did you mean 'cgan'?"),
        ({"overrides": ["model.zdim=3"]}, "Did you mean 'model.z_dim'?"),
        (
            {"overrides": ["run.devices=4"]},
            "run.devices=4 is not allowed here. Use --gpus, which sets SLURM and the training",
        ),
        ({"overrides": ["run.num_nodes=4"]}, "run.num_nodes=4 is not allowed here. Use --nodes"),
        (
            {"overrides": ["data.batch_size=60"]},
            "data.batch_size=60 is the global batch size. It must be divisible by the 8",
        ),
    ],
)
def test_what_the_cluster_would_refuse_hours_later_is_refused_now(
    odd_folder: Path, changed: dict, message: str
) -> None:
    asked = {
        "experiment": "cgan",
        "overrides": [],
        "nodes": 2,
        "gpus": 4,
        "time": "04:00:00",
    } | changed
    with pytest.raises(ValueError, match=re.escape(message)):
        slurm.write(**asked)
    assert not (odd_folder / "runs").exists()


def test_the_command_line(
    odd_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, code in ((["--nodes", "2", "data.labels=true"], 0), (["--nodes=0"], 2)):
        monkeypatch.setattr(sys, "argv", ["gan-lab", "slurm", "cgan", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert (ended.value.code or 0) == code
    said = capsys.readouterr()
    assert said.out == f"sbatch {odd_folder}/runs/slurm/cgan-2x1-data.labels=true.sh\n"
    assert said.err == "error: --nodes must be at least 1: 0\n"
    text = Path(said.out.removeprefix("sbatch ").rstrip()).read_text()
    assert "train cgan data.labels=true run.devices=1 run.num_nodes=2 ||" in text


def test_write_names_the_script_by_its_overrides(odd_folder: Path) -> None:
    """Scripts of different experiments or overrides have different names."""
    texts = [(odd_folder / f"{name}.yaml") for name in ("a b", "a_b")]
    for path in texts:
        path.write_text((config_folder() / "experiment" / "gan.yaml").read_text())
    paths = [slurm.write(str(path), [], 1, 1, "01:00:00") for path in texts]
    for overrides in (["run.seed=1"], ["run.seed=2"]):
        paths.append(slurm.write("gan", overrides, 1, 1, "01:00:00"))
    assert len(set(paths)) == 4
    assert slurm.write("gan", ["run.root=runs"], 1, 1, "01:00:00").name == "gan-1x1.sh"


def test_write_accepts_the_same_script_without_a_record(odd_folder: Path) -> None:
    """Earlier versions recorded no script; one that differs may be edited and is kept."""
    path = slurm.write("gan", [], 1, 1, "01:00:00")
    (path.parent / MANIFEST_NAME).unlink()
    assert slurm.write("gan", [], 1, 1, "01:00:00") == path
    text = path.read_text() + "# by the user\n"
    path.write_text(text)
    with pytest.raises(ValueError, match="or move this file"):
        slurm.write("gan", [], 1, 1, "01:00:00")
    assert path.read_text() == text
