"""Where a chief listens and what a worker is called; what is wrong with them is told before anything is loaded."""

import re

from tinykit.errors import ConfigError

LOOPBACK = "127.0.0.1"
PATIENCE = 3600.0
"""Seconds for which a worker waits for a chief: a batch system may start it later, or again."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):)?(?P<port>\d{1,5})")


def parse_address(text: str) -> tuple[str, int]:
    """(host, port) of 'host:port', ':port' or 'port', the last two on this machine alone. Raises ConfigError for anything else."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise ConfigError(f"--chief {text}: expected HOST:PORT, or PORT for this machine alone, such as 7077")
    return found["host"] or LOOPBACK, int(found["port"])


def check_worker(name: str) -> None:
    """Raises ConfigError for a name that keras-tuner would take for a chief's, or that no name is."""
    if not _NAME.fullmatch(name) or "chief" in name:
        raise ConfigError(
            f"--worker {name!r}: expected letters, digits, '.', '_' and '-', at most 64, and not 'chief', one name for each worker"
        )
