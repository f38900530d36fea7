"""Write SLURM batch scripts: one process per GPU, and jobs that resume."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from gan_lab.config.loading import LoadedConfig, load
from gan_lab.distributed.detect import Launch, check_batch_size
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import make_file_name, write_text
from gan_lab.utils.output import OutputFiles

# Between the signal and the time limit: enough for an evaluation and a checkpoint.
SHUTDOWN_NOTICE_S = 120
# A shorter job would spend most of its time on start and shutdown.
MIN_JOB_TIME_S = 600
TIME_PATTERN = re.compile(r"(?:(\d+)-)?(\d{1,2}):([0-5]\d):([0-5]\d)")

JOB_SCRIPT = """\
#!/usr/bin/env bash
# Written by `gan-lab slurm`. Submit it: sbatch [--partition=...] [--account=...] THIS_FILE
# The same file resumes the run: RUN_ID=job-<number of the first job> sbatch THIS_FILE
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={gpus}
#SBATCH --gres=gpu:{gpus}
#SBATCH --time={time}
#SBATCH --output={log}
#SBATCH --open-mode=append
# If the job is preempted or loses a machine, it goes back into the queue.
#SBATCH --requeue
# Before the time limit SLURM signals the processes of srun, not this shell. They agree on an
# iteration, write a checkpoint and exit with 143, as they do when the job is preempted.
#SBATCH --signal=TERM@{notice}

set -uo pipefail
cd {folder} || exit 1

# A requeued job keeps its number, so it finds its run again.
export RUN_ID="${{RUN_ID:-job-$SLURM_JOB_ID}}"
echo "run $RUN_ID, start $((${{SLURM_RESTART_COUNT:-0}} + 1)), on $SLURM_JOB_NODELIST"

# The first process that exits must not end the others: rank 0 may still be writing. If a rank is
# lost, the others exit by themselves.
code=0
# shellcheck disable=SC2016 # the arguments are literal
srun --kill-on-bad-exit=0 {command} || code=$?

if [[ $code -eq 143 ]]; then
  echo "interrupted, with a checkpoint: requeueing"
  scontrol requeue "$SLURM_JOB_ID" ||
    echo "could not requeue the job: it is in the queue already, or may not return to it"
fi
exit "$code"
"""


def write(experiment: str, overrides: Sequence[str], nodes: int, gpus: int, time: str) -> Path:
    """Write ``<run.root>/slurm/<EXP>-<nodes>x<gpus>-<overrides>.sh`` and return its path.

    The log of the job goes to the same folder.

    Raises:
        UserError: The experiment is unknown, it would refuse an override, the batch size does not
            fit the GPUs, or the user has edited an earlier script.
    """
    for name, value in (("nodes", nodes), ("gpus", gpus)):
        if value < 1:
            raise UserError(f"--{name} must be at least 1: {value}")
    check_time(time)
    for override in overrides:
        for key, option in (("run.devices", "--gpus"), ("run.num_nodes", "--nodes")):
            if override.partition("=")[0] == key:
                raise UserError(
                    f"{override} is not allowed here. "
                    f"Use {option}, which sets SLURM and the training"
                )
    # the folder of the script says the root
    named = [override for override in overrides if not override.startswith("run.root=")]
    overrides = [*overrides, f"run.devices={gpus}", f"run.num_nodes={nodes}"]
    loaded = load(experiment, overrides)
    check_batch_size(loaded.config, Launch("srun", local_world_size=gpus, num_nodes=nodes))
    if experiment != loaded.experiment:
        # The path of a YAML file, which the job must find from any folder.
        experiment = str(Path(os.path.expanduser(experiment)).resolve())
    folder = Path(loaded.config.run.root).resolve() / "slurm"
    name = make_file_name("-".join([loaded.experiment, f"{nodes}x{gpus}", *named]))
    path = folder / f"{name}.sh"
    script = render_script(loaded, experiment, overrides, nodes, gpus, time, folder)
    # the same script, also without a record of it
    if path.is_file() and path.read_bytes() == os.fsencode(script):
        return path
    # a script that the user has edited is kept
    with OutputFiles(overwrite=True).write(path) as unfinished:
        write_text(unfinished, script)
        unfinished.chmod(0o755)
    return path


def render_script(
    loaded: LoadedConfig,
    experiment: str,
    overrides: Sequence[str],
    nodes: int,
    gpus: int,
    time: str,
    folder: Path,
) -> str:
    """Render the batch script; every override reaches the training unchanged."""
    command = [sys.executable, "-m", "gan_lab", "train", experiment, *overrides]
    return JOB_SCRIPT.format(
        name=make_file_name(loaded.experiment),
        nodes=nodes,
        gpus=gpus,
        time=time,
        notice=SHUTDOWN_NOTICE_S,
        # A single % begins one of SLURM's own patterns.
        log=shlex.quote(str(folder).replace("%", "%%") + "/%x-%j.log"),
        folder=shlex.quote(os.getcwd()),
        command=shlex.join(command),
    )


def check_time(time: str) -> None:
    """Raise UserError if this is not a time limit of SLURM, or too short to train."""
    match = TIME_PATTERN.fullmatch(time)
    if not match:
        raise UserError(
            f"--time is not a time limit: {time}. Write HH:MM:SS or D-HH:MM:SS, such as 04:00:00"
        )
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    if ((days * 24 + hours) * 60 + minutes) * 60 + seconds < MIN_JOB_TIME_S:
        raise UserError(
            f"--time is too short: {time}. Ask for at least {MIN_JOB_TIME_S // 60} minutes; "
            f"the last {SHUTDOWN_NOTICE_S} seconds are for the checkpoint"
        )
