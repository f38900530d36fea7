"""The lock file of a run folder, and whether a training holds it. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

# on Linux, all locks of this machine
LOCKS_FILE = Path("/proc/locks")


def lock_path(run: Path) -> Path:
    """Return the path of the lock file of a run folder, the same one for every path to it."""
    folder = run.resolve()
    return folder.with_name(f".{folder.name}.lock")


def is_locked(run: Path, inodes: frozenset[int] | None = None) -> bool:
    """Return whether a training on this machine, possibly this process, has locked a run folder.

    To try the lock could stop a training that is about to start, so it is tried only where the
    system does not list its locks, as on macOS.

    Args:
        run: The run folder.
        inodes: The result of ``list_locked_inodes``, for several runs; by default it is listed.
    """
    path = lock_path(run)
    try:
        inode = path.stat().st_ino
    except OSError:
        return False
    if not LOCKS_FILE.is_file():
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            return True
    # without the device, whose number in this list is another one on some file systems
    return inode in (list_locked_inodes() if inodes is None else inodes)


def list_locked_inodes() -> frozenset[int]:
    """List the inodes of all locked files; empty where the system does not list them."""
    inodes = set()
    try:
        for line in LOCKS_FILE.read_text(encoding="utf-8").splitlines():
            # 1: FLOCK ADVISORY WRITE 4242 08:01:131073 0 EOF
            fields = line.split()
            if len(fields) > 5 and fields[1] == "FLOCK":
                inodes.add(int(fields[5].rpartition(":")[2]))
    except (OSError, ValueError):
        pass
    return frozenset(inodes)
