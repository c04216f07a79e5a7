"""Files that appear under their name complete or not at all, even if the process is killed."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PREFIX = ".tmp-"
"""Names of unfinished files begin with this; whoever holds the run directory's lock may delete them."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; on success what was written there becomes `path`.

    The temporary name has the same suffix, because Keras decides by it. The content reaches the disk before the name
    changes. If the block raises, `path` stays as it was.
    """
    temporary = path.parent / f"{PREFIX}{os.getpid()}-{path.name}"
    try:
        yield temporary
        with temporary.open("r+b") as stream:  # Windows syncs only what may be written to
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise _about(error, path, temporary) from error
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


_NO_ROOM = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def _about(error: OSError, path: Path, temporary: Path) -> OSError:
    """The error of a write in words about the file that was to be: libraries name the temporary one, or none, or write a page."""
    if error.errno and (error.errno in _NO_ROOM or error.filename in (None, str(temporary))):
        return OSError(error.errno, os.strerror(error.errno), str(path))
    return error


def _sync_folder(folder: Path) -> None:
    """Makes a change of names in `folder` durable, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path` in one step."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 to `path` in one step."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON in one step. Raises ValueError for NaN and infinity, which are not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def remove_unfinished(folder: Path, but: Path | None = None) -> None:
    """Deletes what a killed process left behind below `folder`: files, and folders that something was being built in.

    Args:
        but: a folder in it that is left alone, because others may be working there.
    """
    for where, folders, files in os.walk(folder):
        here = Path(where)
        for name in [name for name in folders if name.startswith(PREFIX) and not (here / name).is_symlink()]:
            shutil.rmtree(here / name, ignore_errors=True)
        for name in [*files, *folders]:
            if name.startswith(PREFIX) and not ((here / name).is_dir() and not (here / name).is_symlink()):
                (here / name).unlink(missing_ok=True)
        folders[:] = [name for name in folders if not name.startswith(PREFIX) and here / name != but]
