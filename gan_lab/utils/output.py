"""Write to paths that users name, and never replace a file that the lab did not write.

The lab records the SHA-256 of every such file in a manifest in the same folder. A file is output of
the lab if it still has a recorded hash: a file that was edited since belongs to the user. An export
(``inference/export.py``) lists its files in its ``config.json`` instead, so that the folder can be
published as it is. Earlier versions recorded nothing: see ``OutputFiles`` and
``read_export_files``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import compress
from pathlib import Path

from gan_lab.utils.errors import UserError, first_line
from gan_lab.utils.files import fold_case

MANIFEST_NAME = ".gan-lab.jsonl"
EXPORT_CONFIG = "config.json"
EXPORT_FORMAT = "gan-lab export 1"
MAX_EXPORT_CONFIG_BYTES = 20_000_000
# exports of earlier versions do not list their files: these, and one per network and suffix
UNLISTED_EXPORT_FILES = (EXPORT_CONFIG, "README.md", "report.html", "samples.png")
UNLISTED_NETWORK_SUFFIXES = (".safetensors", ".pt2", ".onnx")
# the folders that a training writes in its run folder
RUN_SUBFOLDERS = ("checkpoints", "samples", "tensorboard", "wandb")
# errors of a write that name no file
NAMELESS_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)


class OutputFiles:
    """Writes files atomically, records them, and protects files of the user.

    Args:
        overwrite: Replace earlier output of the lab. False refuses every existing file.
        default_path: The lab chose the paths, so earlier output is replaced. A file without a
            record is output too: an earlier version wrote it, or the manifest was lost in a copy.
    """

    def __init__(self, overwrite: bool = False, default_path: bool = False) -> None:
        self.overwrite = overwrite or default_path
        self.default_path = default_path
        self._checked: set[Path] = set()
        # what this object has written, by names without case
        self._written: dict[str, Path] = {}

    def check(self, *paths: Path) -> None:
        """Raise UserError if one of the files cannot be written or must not be replaced.

        Call it before long work; ``write`` checks too.
        """
        recorded: dict[Path, dict[str, set[str]]] = {}
        for path in paths:
            check_outside_of_run(path.parent)
            if not os.path.lexists(path):
                check_is_folder(path.parent)
            elif path.is_dir():
                raise UserError(f"{path} is a folder. Name a file")
            else:
                if path.parent not in recorded:
                    recorded[path.parent] = read_records(path.parent)
                is_output = self._is_output(path, recorded[path.parent])
                if not is_output:
                    # another process may have recorded and replaced the file since
                    recorded[path.parent] = read_records(path.parent)
                    is_output = self._is_output(path, recorded[path.parent])
                if not is_output:
                    remedy = (
                        "Move or rename it"
                        if self.default_path
                        else "Choose another path, or move this file"
                    )
                    raise UserError(
                        f"{path} is not output of gan-lab, or has changed since: it is not "
                        f"replaced. {remedy}"
                    )
                if not self.overwrite:
                    raise UserError(
                        f"{path} exists. Choose another path, or replace this earlier output with "
                        "--overwrite"
                    )
            self._checked.add(path)

    def _is_output(self, path: Path, records: dict[str, set[str]]) -> bool:
        """Return whether the lab wrote a file, which is unchanged."""
        known = records.get(path.name, set() if self.default_path else None)
        return known is not None and _is_unchanged(path, known)

    def check_folder(self, folder: Path) -> set[str]:
        """Return the names of the earlier output in a folder; empty if it is new or empty.

        Hidden files are ignored, since nothing that the lab writes replaces one.

        Raises:
            UserError: The folder contains other files, or output that must not be replaced.
        """
        check_is_folder(folder)
        check_outside_of_run(folder)
        present = list_visible(folder)
        foreign = sorted(present - find_outputs(folder)) if present else []
        if foreign:
            raise UserError(
                f"{folder} is not empty: {foreign[0]} is not output of gan-lab, "
                "or has changed since. Choose a new folder, or move this file"
            )
        if present and not self.overwrite:
            raise UserError(
                f"{folder} is not empty. Choose a new folder, or replace this earlier output with "
                "--overwrite"
            )
        return present

    @contextmanager
    def write(self, path: Path) -> Iterator[Path]:
        """Yield a temporary path with the same suffix; on success it becomes ``path``.

        After an error neither the temporary file nor a new folder remains.

        Raises:
            UserError: The file cannot be written or must not be replaced.
        """
        if path not in self._checked:
            self.check(path)
        # a second file of the same name must not replace the first one
        self._checked.discard(path)
        same = self._written.setdefault(fold_case(path), path)
        if same != path and os.path.lexists(path) and os.path.samefile(same, path):
            raise UserError(
                f"{path} would replace {same}, because the file system ignores case. Rename one"
            )
        unfinished = path.with_name(f".gan-lab-{secrets.token_hex(8)}{path.suffix}")
        with explain_write_error(path, unfinished), new_folder(path.parent):
            try:
                yield unfinished
                # recorded first: a killed command leaves an entry without a file, not the reverse
                entry = record(path, hash_file(unfinished))
                try:
                    os.replace(unfinished, path)
                except OSError:
                    _remove_if_alone(entry, path.parent)
                    raise
            finally:
                unfinished.unlink(missing_ok=True)


def find_outputs(folder: Path) -> set[str]:
    """Return the names of the files in a folder that the lab wrote and that are unchanged."""
    return list_unchanged(folder, read_records(folder))


def list_unchanged(folder: Path, records: dict[str, set[str]]) -> set[str]:
    """Return the names in ``records`` whose files still have a recorded hash."""
    names = list(records)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        are_unchanged = pool.map(lambda name: _is_unchanged(folder / name, records[name]), names)
        return set(compress(names, are_unchanged))


def read_records(folder: Path) -> dict[str, set[str]]:
    """Return the recorded hashes of each output of a folder; an empty set stands for any hash."""
    records = read_export_files(folder)
    for name, value in _read_manifest(folder):
        # a hash that was never recorded stays any hash
        if records.get(name) != set():
            records.setdefault(name, set()).add(value)
    return records


def list_recorded(folder: Path) -> set[str]:
    """Return the names that the lab recorded in a folder, also of files that have changed since."""
    return set(read_records(folder))


def _is_unchanged(path: Path, hashes: set[str]) -> bool:
    """Return whether a file has one of these hashes; an empty set is true of every file."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        return not hashes or hash_file(path) in hashes
    except OSError:
        return False


def read_export_files(folder: Path) -> dict[str, set[str]]:
    """Return the SHA-256 of each file of an export by name; empty for a folder that is no export.

    The set is empty for the config itself, and for every file of an export of an earlier version,
    whose config does not list files.
    """
    path = folder / EXPORT_CONFIG
    try:
        if path.stat().st_size > MAX_EXPORT_CONFIG_BYTES:
            return {}
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(config, dict) or config.get("format") != EXPORT_FORMAT:
        return {}
    files, networks = config.get("files"), config.get("networks")
    hashes: dict[str, set[str]]
    if isinstance(files, dict):
        hashes = {name: {value} for name, value in files.items() if isinstance(value, str)}
        hashes[EXPORT_CONFIG] = set()
    elif "files" not in config and isinstance(networks, dict):
        network_files = [name + suffix for name in networks for suffix in UNLISTED_NETWORK_SUFFIXES]
        hashes = {name: set() for name in (*UNLISTED_EXPORT_FILES, *network_files)}
    else:
        return {}
    # a path would lead out of the folder
    return {name: known for name, known in hashes.items() if Path(name).name == name}


def _read_manifest(folder: Path) -> list[tuple[str, str]]:
    """Return the name and SHA-256 of each recorded file; damaged lines are skipped."""
    try:
        lines = (folder / MANIFEST_NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    entries = []
    for line in lines:
        with suppress(ValueError, TypeError, KeyError):
            entry = json.loads(line)
            if Path(entry["file"]).name == entry["file"]:
                entries.append((entry["file"], str(entry["sha256"])))
    return entries


def record(path: Path, sha256: str) -> str:
    """Add a file to the manifest of its folder; return the entry."""
    entry = json.dumps({"file": path.name, "sha256": sha256}) + "\n"
    # one short line is appended at once, so that parallel commands do not mix theirs
    with (path.parent / MANIFEST_NAME).open("a", encoding="utf-8", newline="\n") as file:
        file.write(entry)
    return entry


def _remove_if_alone(entry: str, folder: Path) -> None:
    """Delete a manifest that has no other entry."""
    if (folder / MANIFEST_NAME).read_text(encoding="utf-8", errors="replace") == entry:
        (folder / MANIFEST_NAME).unlink()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder by name."""
    return {path.name: hash_file(path) for path in sorted(folder.iterdir())}


def list_visible(folder: Path) -> set[str]:
    """Return the names in a folder that are not hidden; none if it does not exist."""
    if not folder.is_dir():
        return set()
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def check_is_folder(folder: Path) -> None:
    """Raise UserError if a path, or a folder above it, is a file."""
    existing = folder
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        kind = "a broken link" if existing.is_symlink() else "a file"
        raise UserError(f"{existing} is {kind}, not a folder. Choose another path")


def check_outside_of_run(folder: Path) -> None:
    """Raise UserError for a folder that a training writes: its files are read as the run's."""
    for each in (folder, *folder.parents):
        run = each.parent
        if each.name in RUN_SUBFOLDERS and (run / "config.yaml").is_file():
            is_run = all((run / name).exists() for name in ("checkpoints", "command.txt"))
            if is_run:
                raise UserError(f"{folder} belongs to the run {run}. Choose another folder")


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into SystemExit, so that what is unfinished is removed, as after Ctrl-C.

    A handler of the program, such as that of a training, is kept.
    """
    is_default = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    # only the main thread may set handlers
    if not is_default or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Create a folder with its parents; after an error or SIGTERM remove what was created."""
    created = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        with exit_on_sigterm():
            folder.mkdir(parents=True, exist_ok=True)
            yield
    except BaseException:
        for each in created:
            # it may contain the files of another process
            with suppress(OSError):
                each.rmdir()
        raise


@contextmanager
def explain_write_error(path: Path, unfinished: Path) -> Iterator[None]:
    """Raise UserError, in one line, if a file or folder cannot be written.

    Errors of other files, such as an input that cannot be read, pass through.

    Args:
        path: The file or folder.
        unfinished: The temporary file or folder that becomes ``path``.
    """
    written = {path, path.parent / MANIFEST_NAME}
    # os.path.exists is false in a folder that cannot be read
    written |= {each for each in path.parents if not os.path.exists(each)}
    absolute = {Path(os.path.abspath(each)) for each in written}
    try:
        yield
    except OSError as error:
        if error.filename is None:
            is_write_error = error.errno in NAMELESS_WRITE_ERRORS
        else:
            failed = Path(os.path.abspath(os.fsdecode(error.filename)))
            # an atomic write of the unfinished file has a temporary file of its own
            nested = os.path.abspath(unfinished.with_name(f".{unfinished.name}"))
            is_write_error = (
                failed in absolute
                or failed == Path(nested)
                or failed.is_relative_to(os.path.abspath(unfinished))
            )
        if not is_write_error:
            raise
        reason = error.strerror or first_line(error)
        raise UserError(f"{path} cannot be written: {reason}. Choose another path") from None


def remove_earlier(folder: Path, earlier: set[str], written: set[str]) -> None:
    """Delete the earlier output that was not written again.

    Where file systems ignore case, a new file may also be found under an earlier name.
    """
    inodes = {os.lstat(folder / name).st_ino for name in written}
    for name in earlier - written:
        with suppress(FileNotFoundError):
            if os.lstat(folder / name).st_ino not in inodes:
                (folder / name).unlink()


def replace_folder(unfinished: Path, folder: Path, earlier: set[str]) -> None:
    """Move a finished folder to its path, where the ``earlier`` files are replaced.

    In a folder that exists, ``config.json`` is moved last, since it lists the others.
    """
    if not folder.is_dir():
        os.rename(unfinished, folder)
        return
    names = sorted(os.listdir(unfinished), key=lambda name: (name == EXPORT_CONFIG, name))
    for name in names:
        os.replace(unfinished / name, folder / name)
    remove_earlier(folder, earlier, set(names))
