"""Where compilers' results are kept between runs."""

import os
import tempfile
from functools import cache
from pathlib import Path


def cache_folder() -> Path:
    """TINYKIT_CACHE, else XDG_CACHE_HOME/tinykit, else ~/.cache/tinykit; where that cannot be written, a folder of this process's own."""
    chosen = os.environ.get("TINYKIT_CACHE")
    if not chosen:
        try:
            chosen = str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinykit")
        except RuntimeError:  # a user without a home
            return own_folder()
    folder = Path(chosen).absolute()
    return folder if _writable(folder) else own_folder()


def own_folder() -> Path:
    """A temporary folder of this process, removed when it ends."""
    return Path(_own(os.getpid()).name)


@cache
def _own(process: int) -> "tempfile.TemporaryDirectory[str]":
    """One a process: a forked one must not take its parent's, which goes with the parent."""
    return tempfile.TemporaryDirectory(prefix="tinykit-cache-")


def _writable(folder: Path) -> bool:
    """Tried rather than asked: rights do not tell of a read-only disk."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
