"""Downloads from a local server that breaks off, forgets, refuses, and sends HTML pages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan_lab.data import download
from tests.helpers.hosts import ARCHIVE, CONTENT, Host, serving, zipped


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as made:
        yield made


def test_a_whole_file_arrives_and_is_asked_for_once(host: Host, tmp_path: Path) -> None:
    to = tmp_path / "deep" / "set.zip"
    assert download.fetch([host.url("set.zip")], to) == ""
    assert to.read_bytes() == ARCHIVE
    assert [path.name for path in to.parent.iterdir()] == ["set.zip"]
    assert download.fetch([host.url("set.zip")], to) == ""
    assert host.requests == [("/set.zip", None)]


def test_a_file_must_be_its_publishers_where_the_hash_is_known(host: Host, tmp_path: Path) -> None:
    to, right = tmp_path / "set.zip", hashlib.sha256(ARCHIVE).hexdigest()
    problem = download.fetch([host.url("set.zip")], to, sha256="0" * 64)
    assert f"sent a different file: SHA-256 {right[:12]} instead of 000000000000" in problem
    assert list(tmp_path.iterdir()) == []  # nothing to resume from
    assert download.fetch([host.url("set.zip")], to, sha256=right) == ""
    with pytest.warns(
        UserWarning, match="set.zip differs from the published file"
    ):  # one that was found
        assert download.fetch([host.url("set.zip")], to, sha256="0" * 64) == ""


@pytest.mark.parametrize("breaks", [1, 2])
def test_what_broke_off_is_continued(host: Host, tmp_path: Path, breaks: int) -> None:
    host.breaks = breaks
    assert download.fetch([host.url("set.zip")], tmp_path / "set.zip") == ""
    assert (tmp_path / "set.zip").read_bytes() == ARCHIVE
    third = len(ARCHIVE) // 3
    assert host.requests == [
        ("/set.zip", None),
        *(("/set.zip", f"bytes={(i + 1) * third}-") for i in range(breaks)),
    ]


def test_the_next_start_goes_on_where_the_last_one_ended(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.breaks = 1
    with monkeypatch.context() as patch:
        patch.setattr(download, "MAX_ATTEMPTS_PER_SOURCE", 1)
        assert (
            download.fetch([host.url("set.zip")], tmp_path / "set.zip")
            == "127.0.0.1: connection lost"
        )
    assert not (tmp_path / "set.zip").exists()
    assert download.fetch([host.url("set.zip")], tmp_path / "set.zip") == ""
    assert (tmp_path / "set.zip").read_bytes() == ARCHIVE
    assert host.requests[-1] == ("/set.zip", f"bytes={len(ARCHIVE) // 3}-")


def test_a_host_that_does_not_continue_sends_all_of_it_again(host: Host, tmp_path: Path) -> None:
    host.breaks, host.ranges = 1, False
    assert download.fetch([host.url("set.zip")], tmp_path / "set.zip") == ""
    assert (tmp_path / "set.zip").read_bytes() == ARCHIVE


def partial(to: Path, url: str) -> Path:
    """The name under which a part of this source is kept."""
    download.fetch([url], to)
    (found,) = to.parent.glob("*.part")
    return found


def test_a_part_that_is_whole_already_or_of_an_older_file_is_seen(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "set.zip"
    host.breaks = 1
    with monkeypatch.context() as patch:
        patch.setattr(download, "MAX_ATTEMPTS_PER_SOURCE", 1)
        part = partial(to, host.url("set.zip"))
    part.write_bytes(ARCHIVE)
    assert download.fetch([host.url("set.zip")], to) == ""
    assert to.read_bytes() == ARCHIVE
    to.unlink()
    part.write_bytes(ARCHIVE + b"the source was longer then")
    assert download.fetch([host.url("set.zip")], to) == ""
    assert to.read_bytes() == ARCHIVE


def test_a_page_of_html_is_recognised_and_the_next_source_is_asked(
    host: Host, tmp_path: Path
) -> None:
    to = tmp_path / "set.zip"
    assert (
        download.fetch([host.url("page.zip")], to)
        == "127.0.0.1: sent an HTML page instead of the file (rate limit?)"
    )
    assert list(tmp_path.iterdir()) == []
    assert (
        download.fetch([host.url("page.zip"), host.url("none.zip"), host.url("set.zip")], to) == ""
    )
    assert to.read_bytes() == ARCHIVE


@pytest.mark.parametrize(
    ("name", "archive", "reason"),
    [
        ("none.zip", True, "HTTP status 404"),
        ("other.zip", True, "sent something other than an archive"),
        ("page.zip", False, "sent an HTML page"),
        ("empty.txt", False, "sent an empty file"),
    ],
)
def test_other_faults_are_named(
    host: Host, tmp_path: Path, name: str, archive: bool, reason: str
) -> None:
    assert reason in download.fetch([host.url(name)], tmp_path / "file", archive)
    assert not (tmp_path / "file").exists()
    assert download.fetch([host.url("list.txt")], tmp_path / "list.txt", archive=False) == ""
    assert (tmp_path / "list.txt").read_bytes() == host.files["/list.txt"]


def test_a_host_that_falls_silent_is_given_up_in_time(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "STALL_TIMEOUT_S", 0.2)
    monkeypatch.setattr(download, "MAX_ATTEMPTS_PER_SOURCE", 1)
    host.breaks, host.silent = 1, True
    assert re.fullmatch(
        r"127.0.0.1: connection lost \(.*timed out.*\)",
        download.fetch([host.url("set.zip")], tmp_path / "a"),
    )


def test_a_host_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert (
        download.fetch(["http://127.0.0.1:9/a.zip"], tmp_path / "a.zip")
        == "127.0.0.1: cannot be reached"
    )


def test_an_archive_is_unpacked_whole_or_not_at_all(tmp_path: Path) -> None:
    archive = tmp_path / "set.zip"
    archive.write_bytes(ARCHIVE)
    assert download.unpack(archive, tmp_path / "out") == ""
    assert (tmp_path / "out" / "a" / "b").read_bytes() == CONTENT
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "top"]
    broken = bytearray(ARCHIVE)
    broken[100] ^= 1  # inside the first member
    archive.write_bytes(broken)
    assert re.fullmatch(
        rf"{archive} is damaged \(.*\)\. Copy or download it again\.",
        download.unpack(archive, tmp_path / "again"),
    )
    assert not (tmp_path / "again").exists()


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "evil.zip").write_bytes(zipped(**{"..__..__outside": b"x"}))
    assert download.unpack(tmp_path / "evil.zip", tmp_path / "deep" / "out") == ""
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path / "deep" / "outside").exists()
