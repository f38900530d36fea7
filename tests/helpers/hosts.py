"""A server on this machine that breaks off, forgets, refuses, and sends pages of HTML."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 800


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in members.items():
            packed.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


ARCHIVE = zipped(a__b=CONTENT, top=b"x")


class Host:
    """Serves ``files``.

    The first ``breaks`` answers end after a third; ``ranges``: whether the server resumes.
    """

    def __init__(self) -> None:
        self.files = {
            "/set.zip": ARCHIVE,
            "/page.zip": b"\n<!DOCTYPE html><html>Too many users</html>",
            "/list.txt": b"1\nSmiling\na.jpg 1\n",
            "/other.zip": b"no zip",
            "/empty.txt": b"",
        }
        self.breaks, self.ranges, self.silent = 0, True, False
        self.requests: list[tuple[str, str | None]] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(200)
                self.end_headers()

            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                host.requests.append((self.path, asked))
                content = host.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                begin = (
                    int(asked.removeprefix("bytes=").removesuffix("-"))
                    if asked and host.ranges
                    else 0
                )
                if begin >= len(content) and begin:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.end_headers()
                    return
                self.send_response(206 if begin else 200)
                self.send_header("Content-Length", str(len(content) - begin))
                self.end_headers()
                if host.breaks > 0:
                    host.breaks -= 1
                    content = content[: begin + len(content) // 3]
                self.wfile.write(content[begin:])
                if host.silent:
                    threading.Event().wait(2)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{name}"


@contextmanager
def serving() -> Iterator[Host]:
    """A host that answers until the end of the block."""
    made = Host()
    made.thread.start()
    yield made
    made.server.shutdown()
    made.thread.join()
    made.server.server_close()
