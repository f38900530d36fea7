"""As much of the Hugging Face hub as an upload by its own client asks for, on a loopback port."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.helpers.loopback import listening

SHA = "0" * 40  # of the only commit


class Hub:
    """A hub that takes what the bearer of a token sends, and nothing from others."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.address = ""

    def answer(self, path: str, token: str, body: bytes) -> tuple[int, Any]:
        if path != "/api/agent-harnesses" and token != f"Bearer {self.token}":
            return 403, {"error": "You have no right to do this"}
        if path.endswith("/repos/create"):
            self.created.append(json.loads(body))
            return 200, {"url": f"{self.address}/me/faces"}
        if "/preupload/" in path:
            names = [each["path"] for each in json.loads(body)["files"]]
            return 200, {
                "files": [
                    {"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names
                ]
            }
        if path.endswith("/api/models/me/faces/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return 200, {
                "commitUrl": f"{self.address}/me/faces/commit/1",
                "commitOid": "1",
                "success": True,
            }
        if "/tree/" in path:
            return 200, [self._describe(name) for name in self.files]
        if "/api/models/me/faces" in path:  # of a revision
            return 200, {
                "id": "me/faces",
                "sha": SHA,
                "siblings": [{"rfilename": name} for name in self.files],
            }
        return 200, {}

    def _describe(self, name: str) -> dict[str, Any]:
        return {
            "type": "file",
            "path": name,
            "size": len(self.files[name]),
            "oid": etag_of(self.files[name]),
        }

    def file_of(self, path: str) -> bytes | None:
        """The content that an address resolves to, or None."""
        return (
            self.files.get(path.partition("/resolve/")[2].partition("/")[2].partition("?")[0])
            if "/resolve/" in path
            else None
        )


def etag_of(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Inside, the hub answers at its ``address``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if (content := hub.file_of(self.path)) is not None:
                self.send_file(content)
            else:
                self.do_POST()

        def do_HEAD(self) -> None:
            content = hub.file_of(self.path)
            if content is None:
                self.send_error(404)
            else:
                self.send_file(content, body=False)

        def send_file(self, content: bytes, body: bool = True) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{etag_of(content)}"')
            self.send_header("X-Repo-Commit", SHA)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def do_POST(self) -> None:
            status, reply = hub.answer(
                self.path, self.headers.get("Authorization", ""), self.content()
            )
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
