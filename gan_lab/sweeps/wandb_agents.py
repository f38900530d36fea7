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

from gan_lab.sweeps.sweep_file import Sweep
from gan_lab.utils import process
from gan_lab.utils.errors import UserError

logger = logging.getLogger("gan_lab")

PROJECT = "gan-lab"
AGENT = [sys.executable, "-m", "wandb", "agent", "--forward-signals"]
PATIENCE = 150.0  # seconds for the agents' trials to write their last checkpoint


def run(sweep: Sweep, folder: Path, words: Sequence[str], workers: int, limit: int | None) -> int:
    """Create the sweep, or continue it, and run agents until they end; return the exit code."""
    name = _create(sweep, folder, words, limit)
    # the agent looks for "python" on the path
    environment = os.environ | {"PATH": f"{interpreter()}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [*AGENT, "--project", PROJECT, name]
    with process.Signals().watched() as signals:
        agents = [process.start(command, environment=environment) for _ in range(workers)]
        signals_sent, deadline = 0, 0.0
        while any(agent.poll() is None for agent in agents):
            if signals.number and signals.times > signals_sent:
                signals_sent, deadline = signals.times, deadline or time.monotonic() + PATIENCE
                for agent in agents:
                    agent.send_signal(signals.number)
            if deadline and time.monotonic() > deadline:
                for agent in agents:
                    process.kill_group(agent)
            time.sleep(0.1)
    if signals.number:
        logger.info(f"stopped by signal {signals.number}; the same command continues the sweep")
        return 128 + signals.number
    return max(abs(agent.returncode) for agent in agents)


def interpreter() -> str:
    """Folder of this Python interpreter."""
    return str(Path(sys.executable).parent)


def _create(sweep: Sweep, folder: Path, words: Sequence[str], limit: int | None) -> str:
    definition: dict[str, Any] = sweep.content | {"command": sweep.with_words(words)}
    definition |= {"run_cap": limit} if limit else {}
    state_file = folder / "wandb.json"
    if state_file.is_file():
        state = json.loads(state_file.read_text(encoding="utf-8"))
        if state["given"] == json.loads(json.dumps(definition)):
            logger.info(f"continues the W&B sweep {state['id']}")
            return str(state["id"])
    import wandb

    try:
        name = wandb.sweep(definition, project=PROJECT)
    except Exception as error:  # wandb's own types, and those of its transport
        raise UserError(f"W&B did not create the sweep ({str(error).strip()}): --backend local runs it here") from None
    folder.mkdir(parents=True, exist_ok=True)
    state_file.write_text(json.dumps({"id": name, "given": definition}), encoding="utf-8")
    return name
