"""As much of the Hugging Face hub as an upload by its own client asks for, on a loopback port."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.helpers.loopback import listening


class Hub:
    """A hub that takes what the bearer of a token sends, and nothing from others."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.address = ""

    def answer(self, path: str, token: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if path != "/api/agent-harnesses" and token != f"Bearer {self.token}":
            return 403, {"error": "You have no right to do this"}
        if path.endswith("/repos/create"):
            self.created.append(json.loads(body))
            return 200, {"url": f"{self.address}/me/faces"}
        if "/preupload/" in path:
            names = [each["path"] for each in json.loads(body)["files"]]
            return 200, {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        if path.endswith("/api/models/me/faces/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return 200, {"commitUrl": f"{self.address}/me/faces/commit/1", "commitOid": "1", "success": True}
        return 200, {}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Inside, the hub answers at its ``address``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            status, reply = hub.answer(self.path, self.headers.get("Authorization", ""), self.content())
            body = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def content(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while length := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(length))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Handler) as hub.address:
        yield hub
