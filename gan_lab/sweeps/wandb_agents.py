"""W&B's own sweeps: create the sweep on the server, and run W&B's agents here."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gan_lab.config.values import format_text_list
from gan_lab.sweeps.sweep_file import Sweep
from gan_lab.utils import process
from gan_lab.utils.errors import UserError, first_line

logger = logging.getLogger("gan_lab")

DEFAULT_PROJECT = "gan-lab"
AGENT_COMMAND = [sys.executable, "-m", "wandb", "agent", "--forward-signals"]
POLL_INTERVAL_S = 0.1
# Stopped trials of the agents have this long to write their last checkpoint.
SHUTDOWN_TIMEOUT_S = 150.0


def run(
    sweep: Sweep, folder: Path, overrides: Sequence[str], workers: int, limit: int | None
) -> int:
    """Create the sweep, or resume it, and run agents until they end; return the exit code."""
    sweep_id = _find_or_create(sweep, folder, overrides, limit)
    # The agent runs the "python" that is first on PATH.
    environment = os.environ | {
        "PATH": f"{interpreter_folder()}{os.pathsep}{os.environ.get('PATH', '')}"
    }
    environment |= process.share_cores(workers)
    command = [*AGENT_COMMAND, "--project", DEFAULT_PROJECT, sweep_id]
    with process.Signals().watched() as signals:
        agents = [process.start(command, environment=environment) for _ in range(workers)]
        forwarded, deadline = 0, float("inf")
        while any(agent.poll() is None for agent in agents):
            if signals.number and signals.times > forwarded:
                forwarded = signals.times
                deadline = min(deadline, time.monotonic() + SHUTDOWN_TIMEOUT_S)
                for agent in agents:
                    agent.send_signal(signals.number)
            if time.monotonic() > deadline:
                for agent in agents:
                    process.kill_group(agent)
            time.sleep(POLL_INTERVAL_S)
    if signals.number:
        logger.info(f"Stopped by signal {signals.number}. The same command resumes the sweep")
        return 128 + signals.number
    return max(abs(agent.returncode) for agent in agents)


def _format_text_lists(spec: dict[str, Any]) -> dict[str, Any]:
    formatted = dict(spec)
    if "value" in spec:
        formatted["value"] = format_text_list(spec["value"])
    if "values" in spec:
        formatted["values"] = [format_text_list(value) for value in spec["values"]]
    return formatted


def interpreter_folder() -> str:
    """Return the folder of this Python interpreter."""
    return str(Path(sys.executable).parent)


def _find_or_create(sweep: Sweep, folder: Path, overrides: Sequence[str], limit: int | None) -> str:
    """Return the id of the W&B sweep; a sweep that has changed since it began gets a new one."""
    definition: dict[str, Any] = sweep.content | {
        "command": sweep.insert_overrides(overrides),
        "parameters": {
            key: _format_text_lists(spec) for key, spec in sweep.content["parameters"].items()
        },
    }
    if limit:
        definition["run_cap"] = limit
    state_file = folder / "wandb.json"
    if state_file.is_file():
        state = json.loads(state_file.read_text(encoding="utf-8"))
        if state["definition"] == json.loads(json.dumps(definition)):
            logger.info(f"Resuming the W&B sweep {state['id']}")
            return str(state["id"])
    import wandb

    try:
        sweep_id = wandb.sweep(definition, project=DEFAULT_PROJECT)
    except Exception as error:
        # wandb raises errors of several libraries.
        raise UserError(
            f"W&B did not create the sweep: {first_line(error)}. Run it here: --backend local"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    state_file.write_text(json.dumps({"id": sweep_id, "definition": definition}), encoding="utf-8")
    return sweep_id
