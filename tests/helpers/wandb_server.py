"""As much of a W&B server as ``wandb sweep`` and ``wandb agent`` ask for, on a loopback port."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.helpers.loopback import listening


class Server:
    """A server that hands out trials with the given values, sweep by sweep, then says exit."""

    def __init__(self, sweeps: Sequence[Sequence[Mapping[str, Any]]]) -> None:
        self.trials = [list(trials) for trials in sweeps]
        self.configs: list[str] = []  # of each sweep that was created, as YAML
        self.operations: list[str] = []
        self.unknown: list[str] = []
        self.agents: list[int] = []  # the sweep of each
        self.address = ""

    def answer(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = found.group(1) if found else query
        self.operations.append(name)
        place = {"name": "gan-lab", "entity": {"name": "me"}}
        if "viewer" in query:
            return {"viewer": {"id": "1", "entity": "me", "username": "me", "name": "me",
                               "flags": "{}", "email": "me@localhost", "admin": False,
                               "teams": {"edges": []}}}  # fmt: skip
        if "upsertSweep" in query:
            self.configs.append(variables["config"])
            return {
                "upsertSweep": {
                    "sweep": {"name": f"sweep{len(self.configs) - 1}", "project": place},
                    "configValidationWarnings": [],
                }
            }
        if "createAgent" in query:
            self.agents.append(int(variables["sweep"].removeprefix("sweep")))
            return {"createAgent": {"agent": {"id": f"agent{len(self.agents) - 1}"}}}
        if "agentHeartbeat" in query:
            commands = json.dumps(self.commands(variables))
            return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": commands}}
        if "sweep(" in query:
            config = self.configs[int(variables["sweep"].removeprefix("sweep"))]
            return {"project": {"sweep": {
                "id": "1", "name": variables["sweep"], "method": "random", "state": "RUNNING",
                "description": None, "config": config, "createdAt": "2026-01-01T00:00:00",
                "heartbeatAt": None, "updatedAt": None, "earlyStopJobRunning": False,
                "bestLoss": None, "controller": None, "scheduler": None, "runs": {"edges": []},
            }}}  # fmt: skip
        self.unknown.append(name)
        return {}

    def commands(self, variables: Mapping[str, Any]) -> list[dict[str, Any]]:
        running = json.loads(variables.get("runState") or "{}")
        if any(running.values()):
            return []
        left = self.trials[self.agents[int(variables["id"].removeprefix("agent"))]]
        if not left:
            return [{"type": "exit"}]
        args = {key: {"value": value} for key, value in left.pop(0).items()}
        return [
            {
                "type": "run",
                "run_id": f"run{len(self.operations)}",
                "program": "gan_lab",
                "args": args,
            }
        ]


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Inside, the server answers at its ``address``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != "/graphql":  # usage statistics and the like
                self.send({})
                return
            asked = json.loads(body)
            self.send({"data": server.answer(asked["query"], asked.get("variables") or {})})

        def send(self, reply: Mapping[str, Any]) -> None:
            body = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Handler) as server.address:
        yield server
