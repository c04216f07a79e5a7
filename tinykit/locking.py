"""Locks on open files and folders, between processes."""

from typing import IO

try:
    import fcntl
except ImportError:  # not on Windows: no lock there
    fcntl = None  # type: ignore[assignment]


def hold(handle: int | IO[str] | IO[bytes]) -> bool:
    """Takes an open file or folder for this process, until it is closed or the process ends.

    Returns:
        False where another process holds it; True else, also where the system or the file system has no locks.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: go on without one
    return True
