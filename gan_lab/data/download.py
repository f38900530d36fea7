"""Downloads from unreliable hosts: several sources, resumed partial files, HTML pages detected.

pooch has hashes and retries, but neither resumes a partial file nor detects an HTML page that a host sends in its place.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock
from rich.console import Console
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from gan_lab.data.cache import file_hash
from gan_lab.utils.network import is_reachable

# Without a byte for this long, a host is given up.
STALL_TIMEOUT_S = 10.0
# Each attempt resumes where the last one broke off.
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
        '' once the file is there, else the reason of each host.
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
            # It cannot be resumed.
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
            problem = "broke off"
        except urllib.error.HTTPError as error:
            if error.code != 416 or not before:
                return f"answers {error.code}"
            if error.headers.get("Content-Range", "").endswith(f"/{before}"):
                # The partial file was complete already.
                return ""
            # The source has another file now.
            partial.unlink()
            continue
        except (OSError, HTTPException) as error:
            problem = f"broke off ({str(error) or type(error).__name__})"
        if partial.is_file() and partial.stat().st_size <= before:
            break
    return problem


def _resume(source: str, partial: Path) -> bool:
    """Download the missing bytes; return whether the file has the length that the host reports, if it reports one."""
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
    """Return '' if the content has the right kind; hosts send an HTML page when they get too many requests."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "sent a page of HTML (too many downloads there?)"
    if archive and not (zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
        return "sent no archive"
    return "" if start else "sent nothing"


def _find_hash_problem(path: Path, sha256: str) -> str:
    """Return '' if the file has this hash, or none is known."""
    found = sha256 and file_hash([path])
    return (
        ""
        if found == sha256
        else f"sent another file than its publisher's (SHA-256 {found[:12]}, not {sha256[:12]})"
    )


def check_published(path: Path, sha256: str) -> None:
    """Warn if a file that the user provided differs from the publisher's: it may be damaged, or another data set."""
    if _find_hash_problem(path, sha256):
        warnings.warn(
            f"{path} is not its publisher's file (SHA-256 {sha256[:12]}…): damaged, or another set",
            stacklevel=2,
        )


def provide(root: Path, find: Callable[[Path], object], fetched: Callable[[], tuple[Path, str]], into: Path, name: str,
            what: str) -> str:  # fmt: skip
    """Make sure that a data set is in ``root``: find it, or unpack its archive.

    Args:
        root: The folder of the data.
        find: Returns something true if the data set is in a folder.
        fetched: Downloads the archive; returns its path, or the reason why there is none.
        into: The folder to unpack the archive into.
        name: The name of the data set.
        what: The part that an incomplete archive lacks.

    Returns:
        '' or the reason why the data set is not there.
    """
    # Before the lock: nothing is written into a folder that is complete, which may be read-only.
    if find(root):
        return ""
    root.mkdir(parents=True, exist_ok=True)
    # If several processes start together, one downloads.
    with FileLock(root / f".{name}.lock"):
        if find(root):
            return ""
        archive, problem = fetched()
        return (
            problem or unpack(archive, into) or ("" if find(root) else f"{archive} holds no {what}")
        )


def unpack(archive: Path, folder: Path) -> str:
    """Unpack a zip or tar file; its top-level entries appear in the folder once complete; return '' or the reason."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder, prefix=".unfinished-"))
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive, "r:*", encoding="utf-8") as tape:
                # This filter refuses a path outside of the folder.
                tape.extractall(unfinished, filter="data")
        else:
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(unfinished)
        # Folders come last: other processes look for them.
        for path_inside in sorted(unfinished.iterdir(), key=Path.is_dir):
            if not (folder / path_inside.name).exists():
                path_inside.rename(folder / path_inside.name)
        return ""
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        return f"{archive} is damaged ({error}): delete it"
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
