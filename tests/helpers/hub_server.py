"""As much of the Hugging Face hub as an upload by its own client asks for, on a loopback port."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from tests.helpers.loopback import listening


class Hub:
    """A hub that takes what the bearer of a token sends, and nothing from others.

    Attributes:
        files: The files of the branch ``main``, which uploads change.
        revisions: The files of other branches and tags.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self.files: dict[str, bytes] = {}
        self.revisions: dict[str, dict[str, bytes]] = {}
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
        if "/api/models/me/faces" in path:
            commit, files = self.find_commit(path)
            if files is None:
                return 404, {"error": "Revision Not Found"}
            if "/tree/" in path:
                return 200, [describe_file(name, content) for name, content in files.items()]
            return 200, {
                "id": "me/faces",
                "sha": commit,
                "siblings": [{"rfilename": name} for name in files],
            }
        return 200, {}

    def find_commit(self, path: str) -> tuple[str, dict[str, bytes] | None]:
        """Find the commit of the revision in a path, and its files; None if there is none."""
        commits = {hash_name("main"): self.files}
        commits |= {hash_name(name): files for name, files in self.revisions.items()}
        found = re.search(r"/(?:revision|tree|resolve)/([^/?]+)", path)
        revision = unquote(found[1]) if found else "main"
        commit = revision if revision in commits else hash_name(revision)
        return commit, commits.get(commit)

    def file_of(self, path: str) -> bytes | None:
        """The content that an address resolves to, or None."""
        _, files = self.find_commit(path)
        if "/resolve/" not in path or files is None:
            return None
        return files.get(path.partition("/resolve/")[2].partition("/")[2].partition("?")[0])


def hash_name(revision: str) -> str:
    """Return the only commit of a branch or tag."""
    return hashlib.sha1(revision.encode()).hexdigest()


def describe_file(name: str, content: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(content), "oid": etag_of(content)}


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
            self.send_header("X-Repo-Commit", hub.find_commit(self.path)[0])
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
