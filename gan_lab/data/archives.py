"""Unpack zip and tar files, and say in one line what is wrong with one."""

from __future__ import annotations

import contextlib
import errno
import lzma
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

# Compression methods of the zip format that Python's zipfile cannot read.
UNSUPPORTED_METHODS = {1: "shrink", 6: "implode", 9: "deflate64", 93: "zstd", 95: "xz", 98: "PPMd"}
SUPPORTED_METHODS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
    zipfile.ZIP_BZIP2,
    zipfile.ZIP_LZMA,
)
# A larger zip file that unpacks to more than this many times its size is taken for a zip bomb.
# Photos are compressed already.
MAX_COMPRESSION_RATIO = 100
MIN_BOMB_BYTES = 1 << 30
MAX_FILES = 10_000_000
# Free disk space that stays.
MIN_FREE_BYTES = 1 << 26
# The first bytes of archives that are not unpacked.
OTHER_ARCHIVES = {
    b"7z\xbc\xaf\x27\x1c": "7z archive",
    b"Rar!": "RAR archive",
    b"\x1f\x8b": "gzip file",
    b"BZh": "bzip2 file",
    b"\xfd7zXZ": "xz file",
    b"\x28\xb5\x2f\xfd": "zstd file",
}
ARCHIVE_SUFFIXES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
# Raised for damaged archives, by the formats and by the methods of compression. An OSError of
# another number than WRITE_ERRORS, or of none, means damage too.
DAMAGE_ERRORS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    OSError,
    EOFError,
    # Damaged headers.
    NotImplementedError,
    ValueError,
    struct.error,
)
WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENAMETOOLONG)
UNPACK_IT = "Unpack it yourself, and {use} the folder"
# How a user names a folder or an archive: the ``use`` of the functions below.
SET_ROOT = "set data.root to"
COPY_IT = "Copy or download it again"


def describe_problem(path: Path, use: str = SET_ROOT) -> str:
    """Say why a file is not a zip file that can be unpacked; '' if it is one."""
    unpack_it = UNPACK_IT.format(use=use)
    with path.open("rb") as file:
        start = file.read(8)
    if zipfile.is_zipfile(path):
        return ""
    if start.startswith(b"PK\x03\x04"):
        return f"{path} is truncated: the list of files at its end is missing. {COPY_IT}."
    if tarfile.is_tarfile(path):
        return f"{path} is a tar archive, not a zip file. {unpack_it}."
    kind = next((kind for magic, kind in OTHER_ARCHIVES.items() if start.startswith(magic)), None)
    if kind:
        return f"{path} is a {kind}, not a zip file. {unpack_it}."
    return f"{path} is not a zip file. {use.capitalize()} a folder or a zip file."


def unpack(archive: Path, folder: Path) -> str:
    """Unpack a zip or tar file; return '' or the problem.

    Top-level entries are moved into the folder only once they are complete. Other files in the
    folder remain, since another process may read them. After an error, no new folder remains.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder, prefix=".unfinished-"))
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive, "r:*", encoding="utf-8") as tar_file:
                # This filter rejects paths outside of the folder.
                tar_file.extractall(unfinished, filter="data")
                # tarfile stops before the checksum at the end of the compressed stream.
                while tar_file.fileobj and tar_file.fileobj.read(1 << 20):
                    pass
        else:
            with zipfile.ZipFile(archive) as zip_file:
                problem = check_contents(archive, zip_file) or _check_space(zip_file, folder)
                if problem:
                    return problem
                for entry in zip_file.infolist():
                    zip_file.extract(entry, unfinished)
        # Folders come last: other processes look for them.
        for path_inside in sorted(unfinished.iterdir(), key=Path.is_dir):
            if not (folder / path_inside.name).exists():
                path_inside.rename(folder / path_inside.name)
        return ""
    except DAMAGE_ERRORS as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            use = UNPACK_IT.format(use=SET_ROOT)
            return f"{archive} contains a name that is too long for the disk. {use}."
        if isinstance(error, OSError) and error.errno in WRITE_ERRORS:
            return f"{archive} cannot be unpacked into {folder}: {error.strerror}. Check the disk."
        return f"{archive} is damaged ({error}). {COPY_IT}."
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if is_new:
            # Removes the folder only if it is empty.
            with contextlib.suppress(OSError):
                folder.rmdir()


def check_contents(archive: Path, zip_file: zipfile.ZipFile, use: str = SET_ROOT) -> str:
    """Return why a zip file is not unpacked, or '' after its names were corrected.

    zipfile never writes more bytes than the sizes that are checked here.
    """
    unpack_it = UNPACK_IT.format(use=use)
    entries = zip_file.infolist()
    _correct_separators(entries)
    files = [entry for entry in entries if not entry.is_dir()]
    if not files:
        return f"{archive} contains no files. {COPY_IT}."
    if any(entry.flag_bits & 0x1 for entry in files):
        return f"{archive} is encrypted with a password. {unpack_it}."
    methods = {entry.compress_type for entry in files} - set(SUPPORTED_METHODS)
    if methods:
        number = min(methods)
        name = UNSUPPORTED_METHODS.get(number, f"method {number}")
        return f"{archive} is compressed with {name}, which Python cannot read. {unpack_it}."
    if all(entry.filename.lower().endswith(ARCHIVE_SUFFIXES) for entry in files):
        return (
            f"{archive} contains only other archives, such as {files[0].filename}. Unpack it, and "
            f"{use} one of them."
        )
    if clash := _find_clash(files):
        return f"{archive} contains two files of the name {clash}. {unpack_it}."
    if len(files) > MAX_FILES:
        return f"{archive} contains {len(files):,} files, more than {MAX_FILES:,}. {unpack_it}."
    size = sum(entry.file_size for entry in files)
    packed = archive.stat().st_size
    if size > max(MIN_BOMB_BYTES, MAX_COMPRESSION_RATIO * packed):
        return (
            f"{archive} ({packed / 1e6:,.1f} MB) would unpack to {size / 1e9:,.1f} GB. "
            f"The limit is {MAX_COMPRESSION_RATIO} times its size, or {MIN_BOMB_BYTES / 1e9:,.1f} "
            f"GB. {unpack_it}."
        )
    return ""


def _find_clash(files: list[zipfile.ZipInfo]) -> str:
    """Return the name of a file that would replace another one, or is a folder of others; or ''."""
    names: set[str] = set()
    folders: set[str] = set()
    for entry in files:
        # zipfile leaves out these parts
        parts = [part for part in entry.filename.split("/") if part not in ("", ".", "..")]
        name = "/".join(parts)
        if name in names:
            return name
        names.add(name)
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    return next(iter(sorted(names & folders)), "")


def _check_space(zip_file: zipfile.ZipFile, folder: Path) -> str:
    """Return why the contents do not fit on the disk of a folder, or ''."""
    size = sum(entry.file_size for entry in zip_file.infolist())
    free = shutil.disk_usage(folder).free
    if size <= free - MIN_FREE_BYTES:
        return ""
    return (
        f"{zip_file.filename} needs {size / 1e9:,.1f} GB in {folder.parent}, where "
        f"{free / 1e9:,.1f} GB are free. Set GAN_LAB_CACHE to a folder on another disk."
    )


def _correct_separators(entries: list[zipfile.ZipInfo]) -> None:
    """Replace the backslashes that some Windows programs write between folders.

    On Unix, a backslash may be part of a name. There, zip programs write slashes between folders.
    """
    has_slashes = any("/" in entry.filename for entry in entries)
    for entry in entries:
        is_from_unix = entry.create_system == 3
        if "\\" in entry.filename and not (is_from_unix and has_slashes):
            entry.filename = entry.filename.replace("\\", "/")
