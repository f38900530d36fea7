"""Downloads from unreliable hosts: several sources, resumed partial files, HTML pages detected.

pooch has hashes and retries, but neither resumes a partial file nor detects an HTML page that a
host sends instead.
"""

from __future__ import annotations

import hashlib
import tarfile
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Callable, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from gan_lab.data.archives import unpack
from gan_lab.data.cache import file_hash
from gan_lab.utils.network import is_reachable

# A host that sends nothing for this long is abandoned.
STALL_TIMEOUT_S = 10.0
# Each attempt resumes the partial file of the previous one.
MAX_ATTEMPTS_PER_SOURCE = 5
CHUNK_BYTES = 1 << 20


def fetch(sources: Sequence[str], to: Path, archive: bool = True, sha256: str = "") -> str:
    """Download a file from the first source that sends all of it.

    A partial file stays next to it as ``.part``, one for each source, and the next call resumes it.

    Args:
        sources: URLs in order of preference.
        to: The path of the file.
        archive: Refuse anything but a zip or tar file. An HTML page is always refused.
        sha256: The hash of the publisher's file, if it is known.

    Returns:
        '' once the file exists, else the problem with each host.
    """
    if to.is_file() and not _find_content_problem(to, archive):
        check_published(to, sha256)
        return ""
    to.parent.mkdir(parents=True, exist_ok=True)
    reasons = {}
    for source in sources:
        host = urlsplit(source).hostname or source
        partial = to.with_name(f"{to.name}.{hashlib.sha256(source.encode()).hexdigest()[:8]}.part")
        problem = _download(source, partial) if is_reachable(source) else "cannot be reached"
        if not problem:
            problem = _find_content_problem(partial, archive) or _find_hash_problem(partial, sha256)
            if not problem:
                partial.replace(to)
                return ""
            # A wrong file cannot be resumed.
            partial.unlink()
        reasons[host] = problem
    return "; ".join(f"{host}: {problem}" for host, problem in reasons.items())


def _download(source: str, partial: Path) -> str:
    """Download a source into ``partial``; return '' once it is complete, else the reason."""
    problem = ""
    for _ in range(MAX_ATTEMPTS_PER_SOURCE):
        before = partial.stat().st_size if partial.is_file() else 0
        try:
            if _resume(source, partial):
                return ""
            problem = "connection lost"
        except urllib.error.HTTPError as error:
            if error.code != 416 or not before:
                return f"HTTP status {error.code}"
            if error.headers.get("Content-Range", "").endswith(f"/{before}"):
                # The partial file was complete already.
                return ""
            # The file of the source has changed.
            partial.unlink()
            continue
        except (OSError, HTTPException) as error:
            problem = f"connection lost ({str(error) or type(error).__name__})"
        if partial.is_file() and partial.stat().st_size <= before:
            break
    return problem


def _resume(source: str, partial: Path) -> bool:
    """Download the missing bytes; return True if the file has the length that the host reports."""
    have = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(source, headers={"User-Agent": "Mozilla/5.0 (gan-lab)"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=STALL_TIMEOUT_S) as answer:
        if answer.status != 206:
            # The host does not resume and sends the whole file again.
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with partial.open("ab" if have else "wb") as file:
            _copy_with_progress(answer, file.write, partial.name.split(".")[0], have, total)
    return total is None or partial.stat().st_size >= total


def _copy_with_progress(
    answer: HTTPResponse, write: object, name: str, have: int, total: int | None
) -> None:
    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    small = total is not None and total < 16 * CHUNK_BYTES
    with Progress(
        *columns, console=Console(stderr=True, markup=False), transient=True, disable=small
    ) as progress:
        line = progress.add_task(f"downloading {name}", total=total, completed=have)
        while block := answer.read1(CHUNK_BYTES):
            write(block)  # type: ignore[operator]
            progress.advance(line, len(block))


def _find_content_problem(path: Path, archive: bool) -> str:
    """Return '' if the content is of the right kind, else the problem.

    Hosts send an HTML page when they get too many requests.
    """
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "sent an HTML page instead of the file (rate limit?)"
    if archive and not (zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
        return "sent something other than an archive"
    return "" if start else "sent an empty file"


def _find_hash_problem(path: Path, sha256: str) -> str:
    """Return '' if the file has this hash or none is known, else the problem."""
    found = sha256 and file_hash([path])
    if found == sha256:
        return ""
    return f"sent a different file: SHA-256 {found[:12]} instead of {sha256[:12]}"


def check_published(path: Path, sha256: str) -> None:
    """Warn if a file that the user provided differs from the published one."""
    if _find_hash_problem(path, sha256):
        warnings.warn(
            f"{path} differs from the published file (SHA-256 {sha256[:12]}…). It may be damaged, "
            "or another data set.",
            stacklevel=2,
        )


def provide(
    root: Path,
    find: Callable[[Path], object],
    fetch_archive: Callable[[], tuple[Path, str]],
    into: Path,
    name: str,
    what: str,
) -> str:
    """Make sure that a data set is in ``root``: find it, or unpack its archive.

    Args:
        root: The folder of the data.
        find: Returns a true value if the data set is in a folder.
        fetch_archive: Downloads the archive; returns its path and '', or the problem.
        into: The folder to unpack the archive into.
        name: The name of the data set.
        what: The contents that an incomplete archive lacks, for the message.

    Returns:
        '' or the reason why the data set is missing.
    """
    # Check before locking: a complete folder may be read-only.
    if find(root):
        return ""
    root.mkdir(parents=True, exist_ok=True)
    # Only one of several processes downloads.
    with FileLock(root / f".{name}.lock"):
        if find(root):
            return ""
        archive, problem = fetch_archive()
        problem = problem or unpack(archive, into)
        if not problem and not find(root):
            problem = f"{archive} does not contain {what}"
        return problem
