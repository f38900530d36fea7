from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from gan_lab.data import cache
from gan_lab.data.cache import Arrays, decoded_once, file_hash
from gan_lab.utils.errors import UserError
from gan_lab.utils.network import is_reachable

# cache.py by itself: a process that imports its package would import torch first
CHILD = f"""
import importlib.util, os, sys, time
import numpy as np
spec = importlib.util.spec_from_file_location("cache", {str(cache.__file__)!r})
cache = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cache)
from pathlib import Path
root = Path(sys.argv[1])
def build():
    with (root / "builds").open("a") as file:
        file.write("x")
    time.sleep(0.3)
    return {{"a": np.arange(1000), "b": np.ones(5)}}
"""


def build() -> Arrays:
    return {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": np.array([7, 8])}


def never() -> Arrays:
    raise AssertionError("it was built a second time")


def test_a_second_start_maps_what_the_first_has_built(tmp_path: Path) -> None:
    first, fingerprint = decoded_once(tmp_path, "x", "key", build)
    second, again = decoded_once(tmp_path, "x", "key", never)
    assert fingerprint == again
    assert len(fingerprint) == 16
    for part, array in build().items():
        assert np.array_equal(first[part], array)
        assert np.array_equal(second[part], array)
        assert second[part].dtype == array.dtype
        assert isinstance(second[part], np.memmap)


def test_nothing_that_is_written_to_an_array_reaches_the_file(tmp_path: Path) -> None:
    arrays, _ = decoded_once(tmp_path, "x", "key", build)
    arrays["a"][0] = 99
    assert decoded_once(tmp_path, "x", "key", never)[0]["a"].max() == 5


def test_another_key_is_built_anew_beside_the_first(tmp_path: Path) -> None:
    _, before = decoded_once(tmp_path, "x", "key", build)
    arrays, after = decoded_once(tmp_path, "x", "other key", lambda: {"a": np.zeros(2)})
    assert arrays["a"].tolist() == [0, 0]
    assert after != before
    assert decoded_once(tmp_path, "x", "key", never)[1] == before


def test_the_fingerprint_is_that_of_names_shapes_types_and_values(tmp_path: Path) -> None:
    variants = [
        {"a": np.array([1, 2])},
        {"b": np.array([1, 2])},
        {"a": np.array([[1, 2]])},
        {"a": np.array([1, 3])},
        {"a": np.array([1, 2], np.uint64)},
    ]
    prints = [decoded_once(tmp_path, "x", str(i), lambda v=v: v)[1] for i, v in enumerate(variants)]  # type: ignore[misc]
    assert len(set(prints)) == len(variants)
    assert decoded_once(tmp_path, "x", "same again", lambda: variants[0])[1] == prints[0]


def test_an_interrupted_build_leaves_no_cache_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = np.save, []

    def torn(path: Path, array: np.ndarray) -> None:
        save(path, array)
        saved.append(path)
        raise OSError("no space left on device")

    monkeypatch.setattr(cache.np, "save", torn)
    with pytest.raises(OSError, match="no space left"):
        decoded_once(tmp_path, "x", "key", build)
    assert len(saved) == 1
    (left,) = (tmp_path / "cache").iterdir()
    assert left.suffix == ".lock"
    monkeypatch.undo()
    assert decoded_once(tmp_path, "x", "key", build)[0]["b"].tolist() == [7, 8]


def test_a_build_that_was_killed_half_way_is_done_again(tmp_path: Path) -> None:
    killed = (
        "cache.np.save = lambda path, array: os._exit(9)\n"
        "cache.decoded_once(root, 'x', 'key', build)"
    )
    assert subprocess.run([sys.executable, "-c", CHILD + killed, str(tmp_path)]).returncode == 9
    assert any(path.name.startswith(".unfinished-") for path in (tmp_path / "cache").iterdir())
    assert decoded_once(tmp_path, "x", "key", build)[0]["b"].tolist() == [7, 8]


def test_processes_that_start_together_build_one_cache(tmp_path: Path) -> None:
    together = """
while not (root / "go").exists():
    time.sleep(0.01)
arrays, fingerprint = cache.decoded_once(root, "x", "key", build)
print(fingerprint, arrays["a"].sum(), arrays["b"].sum())
"""
    command = [sys.executable, "-c", CHILD + together, str(tmp_path)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    (tmp_path / "go").touch()
    said = [child.communicate(timeout=20)[0].split() for child in children]
    assert said[0] == said[1]
    assert said[0][1:] == ["499500", "5.0"]
    assert (tmp_path / "builds").read_text() == "x"


def test_a_file_hash_is_that_of_the_contents_in_order(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"ab")
    (tmp_path / "two").write_bytes(b"c")
    paths = [tmp_path / "one", tmp_path / "two"]
    assert file_hash(paths) == hashlib.sha256(b"abc").hexdigest()
    assert file_hash(reversed(paths)) == hashlib.sha256(b"cab").hexdigest()


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [200, 404, 403])
def test_any_answer_means_reachable(status: int) -> None:
    with answering(status) as url:
        assert is_reachable(url)


def test_a_host_that_does_not_answer_is_given_up_in_time() -> None:
    with silent() as url:
        start = time.monotonic()
        assert not is_reachable(url, seconds=0.3)
        assert time.monotonic() - start < 1


def test_name_resolution_that_hangs_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*_: object) -> None:
        released.wait(5)
        raise socket.gaierror("at last")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    start = time.monotonic()
    assert not is_reachable("http://slow.invalid/", seconds=0.2)
    assert time.monotonic() - start < 1
    released.set()


def test_a_server_that_speaks_no_http_is_not_reachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            connection.sendall(b"220 mail ready\r\n")
            connection.close()

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        assert not is_reachable(f"http://127.0.0.1:{server.getsockname()[1]}/", seconds=2)
        thread.join()


def test_a_port_that_refuses_and_a_name_that_is_unknown_are_not_reachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not is_reachable(f"http://127.0.0.1:{port}/", seconds=2)
    assert not is_reachable("http://nowhere.invalid/", seconds=2)


@pytest.mark.parametrize("path", ["file", "file/deeper"])
def test_cache_that_cannot_be_created_names_the_remedy(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where the folder should be, or a read-only folder."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("GAN_LAB_CACHE", str(tmp_path / path))
    with pytest.raises(UserError, match=r"cannot be written: .*Set GAN_LAB_CACHE to another"):
        decoded_once(tmp_path, "x", "key", dict)
