"""The lock file of a run folder, and whether a training holds it. Needs no torch."""

from __future__ import annotations

import os
from pathlib import Path

# on Linux, all locks of this machine
LOCKS = Path("/proc/locks")
# major and minor number of its device, and inode
LockedFile = tuple[int, int, int]


def lock_path(run: Path) -> Path:
    """Return the path of the lock file of a run folder, the same one for every path to it."""
    folder = run.resolve()
    return folder.with_name(f".{folder.name}.lock")


def is_locked(run: Path, inodes: frozenset[LockedFile] | None = None) -> bool:
    """Return whether a training on this machine, possibly this process, has locked a run folder.

    To try the lock could stop a training that is about to start, so nothing is locked here.

    Args:
        run: The run folder.
        inodes: The result of ``list_locked_inodes``, for several runs; by default it is listed.
    """
    try:
        status = lock_path(run).stat()
    except OSError:
        return False
    key = (os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)
    return key in (list_locked_inodes() if inodes is None else inodes)


def list_locked_inodes() -> frozenset[LockedFile]:
    """List device and inode of all locked files; empty where the system does not list them."""
    inodes = set()
    try:
        for line in LOCKS.read_text(encoding="utf-8").splitlines():
            # 1: FLOCK ADVISORY WRITE 4242 08:01:131073 0 EOF
            fields = line.split()
            if len(fields) > 5 and fields[1] == "FLOCK":
                major, minor, inode = fields[5].split(":")
                inodes.add((int(major, 16), int(minor, 16), int(inode)))
    except (OSError, ValueError):
        pass
    return frozenset(inodes)
