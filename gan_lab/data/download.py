"""Archives from hosts that fail: several sources, partial files continued, pages of HTML recognised."""

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

SECONDS = 10.0  # without a byte, after which a host is given up
ATTEMPTS = 5  # at one source; each continues where the last one broke off
BLOCK = 1 << 20


def fetch(sources: Sequence[str], to: Path, archive: bool = True, sha256: str = "") -> str:
    """Download the first source that gives the whole file; '' once it is there, else in a few words why not.

    What was received stays beside the file as ``.part``, one for each source, and the next call goes on from it. An
    ``archive`` must be a zip or tar file; anything must not be a page of HTML, and must be the publisher's where its
    ``sha256`` is known.
    """
    if to.is_file() and not _wrong(to, archive):
        check_published(to, sha256)
        return ""
    to.parent.mkdir(parents=True, exist_ok=True)
    reasons = {}
    for source in sources:
        host = urlsplit(source).hostname or source
        partial = to.with_name(f"{to.name}.{hashlib.sha256(source.encode()).hexdigest()[:8]}.part")
        problem = _receive(source, partial) if is_reachable(source) else "cannot be reached"
        if not problem:
            problem = _wrong(partial, archive) or _another(partial, sha256)
            if not problem:
                partial.replace(to)
                return ""
            partial.unlink()  # nothing to go on from
        reasons[host] = problem
    return "; ".join(f"{host}: {problem}" for host, problem in reasons.items())


def _receive(source: str, partial: Path) -> str:
    """'' once all of it is in ``partial``, else why not."""
    problem = ""
    for _ in range(ATTEMPTS):
        before = partial.stat().st_size if partial.is_file() else 0
        try:
            if _resume(source, partial):
                return ""
            problem = "broke off"
        except urllib.error.HTTPError as error:
            if error.code != 416 or not before:
                return f"answers {error.code}"
            if error.headers.get("Content-Range", "").endswith(f"/{before}"):
                return ""  # nothing was left to send
            partial.unlink()  # it is not a part of what the source has now
            continue
        except (OSError, HTTPException) as error:
            problem = f"broke off ({str(error) or type(error).__name__})"
        if partial.is_file() and partial.stat().st_size <= before:
            break
    return problem


def _resume(source: str, partial: Path) -> bool:
    """Receive what is missing; whether the file is complete then, as far as the host says how long it is."""
    have = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(source, headers={"User-Agent": "Mozilla/5.0 (gan-lab)"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        if answer.status != 206:  # the whole file again: this host does not continue
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with partial.open("ab" if have else "wb") as file:
            _copy(answer, file.write, partial.name.split(".")[0], have, total)
    return total is None or partial.stat().st_size >= total


def _copy(answer: HTTPResponse, write: object, name: str, have: int, total: int | None) -> None:
    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    small = total is not None and total < 16 * BLOCK
    with Progress(*columns, console=Console(stderr=True, markup=False), transient=True, disable=small) as progress:
        line = progress.add_task(f"downloading {name}", total=total, completed=have)
        while block := answer.read1(BLOCK):
            write(block)  # type: ignore[operator]
            progress.advance(line, len(block))


def _wrong(path: Path, archive: bool) -> str:
    """'' if the file is what it should be; hosts answer with a page of HTML when they are asked too often."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "sent a page of HTML (too many downloads there?)"
    if archive and not (zipfile.is_zipfile(path) or tarfile.is_tarfile(path)):
        return "sent no archive"
    return "" if start else "sent nothing"


def _another(path: Path, sha256: str) -> str:
    """'' if the file has this hash, or none is known."""
    found = sha256 and file_hash([path])
    return (
        "" if found == sha256 else f"sent another file than its publisher's (SHA-256 {found[:12]}, not {sha256[:12]})"
    )


def check_published(path: Path, sha256: str) -> None:
    """Warn if a file that was found is not the publisher's, whose hash is known: it may be damaged, or another set."""
    if _another(path, sha256):
        warnings.warn(
            f"{path} is not its publisher's file (SHA-256 {sha256[:12]}…): damaged, or another set", stacklevel=2
        )


def provide(root: Path, find: Callable[[Path], object], fetched: Callable[[], tuple[Path, str]], into: Path, name: str,
            what: str) -> str:  # fmt: skip
    """Make sure that ``find`` finds a data set in ``root``; '' or why not.

    If it does not, ``fetched`` says where its archive is, or why there is none, and it is unpacked ``into`` a folder.
    ``name`` is that of the data set, ``what`` an archive without it lacks.
    """
    if find(root):  # looked at first: nothing is written into a folder that is the user's own, or is read-only
        return ""
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"):  # of processes that start together one downloads
        if find(root):
            return ""
        archive, problem = fetched()
        return problem or unpack(archive, into) or ("" if find(root) else f"{archive} holds no {what}")


def unpack(archive: Path, folder: Path) -> str:
    """Unpack a zip or tar file; what it holds at its top appears in the folder when it is complete; '' or why not."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder, prefix=".unfinished-"))
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive, "r:*", encoding="utf-8") as tape:
                tape.extractall(unfinished, filter="data")  # which refuses a path that climbs out
        else:
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(unfinished)
        for path_inside in sorted(unfinished.iterdir(), key=Path.is_dir):  # folders last: they are what is looked for
            if not (folder / path_inside.name).exists():
                path_inside.rename(folder / path_inside.name)
        return ""
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        return f"{archive} is damaged ({error}): delete it"
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
