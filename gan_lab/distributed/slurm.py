"""A batch script for SLURM: one process for each GPU, and a job that goes on where it was interrupted. Needs no torch."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from gan_lab.config.loading import LoadedConfig, load
from gan_lab.utils.errors import UserError

NOTICE = 120  # seconds before the time limit at which all processes are told: enough for an evaluation and a checkpoint
SHORTEST = 600  # seconds; a shorter stay would be little more than start and notice
TIME = re.compile(r"(?:(\d+)-)?(\d{1,2}):([0-5]\d):([0-5]\d)")

SCRIPT = """\
#!/usr/bin/env bash
# Written by `gan-lab slurm`. Hand it in with: sbatch [--partition=...] [--account=...] THIS_FILE
# The same file continues: RUN_ID=job-<number of the first job> sbatch THIS_FILE
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={gpus}
#SBATCH --gres=gpu:{gpus}
#SBATCH --time={time}
#SBATCH --output={log}
#SBATCH --open-mode=append
# Pre-empted, or stopped by the loss of a machine, the job goes back into the queue.
#SBATCH --requeue
# Before the time is up: to the processes of srun, not to this shell. They agree on an iteration, write a checkpoint and
# end with 143, as they do when they are pre-empted.
#SBATCH --signal=TERM@{notice}

set -uo pipefail
cd {folder} || exit 1

# A job keeps its number in the queue, so that it finds its run again.
export RUN_ID="${{RUN_ID:-job-$SLURM_JOB_ID}}"
echo "run $RUN_ID, start $((${{SLURM_RESTART_COUNT:-0}} + 1)), on $SLURM_JOB_NODELIST"

# The first process that ends takes no other with it: the one that writes may not be done. Where one was lost, the others
# end by themselves.
code=0
# shellcheck disable=SC2016 # words are meant as they stand
srun --kill-on-bad-exit=0 {command} || code=$?

if [[ $code -eq 143 ]]; then
  echo "interrupted, with a checkpoint: back into the queue"
  scontrol requeue "$SLURM_JOB_ID" || echo "the job is in the queue already, or may not return to it"
fi
exit "$code"
"""


def write(experiment: str, words: Sequence[str], nodes: int, gpus: int, time: str) -> Path:
    """Write ``<run.root>/slurm/<EXP>-<nodes>x<gpus>.sh`` and return its path; the log of the job goes beside it.

    Raises UserError for an unknown experiment, a word that it would refuse, and numbers that do not go together.
    """
    for name, value in (("nodes", nodes), ("gpus", gpus)):
        if value < 1:
            raise UserError(f"--{name}={value}: it must be at least 1")
    check_time(time)
    for word in words:
        for key, option in (("run.devices", "--gpus"), ("run.num_nodes", "--nodes")):
            if word.partition("=")[0] == key:
                raise UserError(f"{word}: {option} says it to SLURM and to the training alike")
    overrides = [*words, f"run.devices={gpus}", f"run.num_nodes={nodes}"]
    loaded = load(experiment, overrides)
    batch = loaded.config.data.batch_size
    if batch % (nodes * gpus):
        raise UserError(f"data.batch_size={batch} is the global batch: it must be divisible by the {nodes * gpus} "
                         f"processes of --nodes={nodes} --gpus={gpus}")  # fmt: skip
    if experiment != loaded.experiment:  # the path of a YAML file, which must be found from elsewhere too
        experiment = str(Path(experiment).resolve())
    folder = Path(loaded.config.run.root).resolve() / "slurm"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_safe(loaded.experiment)}-{nodes}x{gpus}.sh"
    path.write_text(script(loaded, experiment, overrides, nodes, gpus, time, folder), encoding="utf-8")
    path.chmod(0o755)
    return path


def script(
    loaded: LoadedConfig, experiment: str, words: Sequence[str], nodes: int, gpus: int, time: str, folder: Path
) -> str:
    """The text of the batch script; every word reaches the training unchanged."""
    command = [sys.executable, "-m", "gan_lab", "train", experiment, *words]
    return SCRIPT.format(
        name=_safe(loaded.experiment),
        nodes=nodes,
        gpus=gpus,
        time=time,
        notice=NOTICE,
        log=shlex.quote(str(folder).replace("%", "%%") + "/%x-%j.log"),  # % begins one of SLURM's own patterns
        folder=shlex.quote(os.getcwd()),
        command=shlex.join(command),
    )


def check_time(time: str) -> None:
    """Raise UserError if this is no time limit of SLURM's, or one in which nothing would be trained."""
    match = TIME.fullmatch(time)
    if not match:
        raise UserError(f"--time={time} is no time limit: write HH:MM:SS or D-HH:MM:SS, such as 04:00:00")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    if ((days * 24 + hours) * 60 + minutes) * 60 + seconds < SHORTEST:
        raise UserError(f"--time={time} is too short: {SHORTEST // 60} minutes at least, of which the last {NOTICE} "
                         "seconds are for the checkpoint")  # fmt: skip


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)
