"""One line of the doctor's answer."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "missing", "broken", "info"]


@dataclass(frozen=True)
class Check:
    """Something that was looked at.

    Attributes:
        group: what it belongs to: 'python', 'packages', 'compilers', 'emulators', 'boards', 'data'.
        name: what it is.
        state: 'ok'; 'missing'; 'broken': it is there and does not work; 'info': nothing depends on it.
        needed: the main job, from data to a checked image, cannot run without it.
        found: version or place, or what is wrong.
        mend: the command that mends it, None where there is nothing to mend.
        why: what it is for, where it is missing.
    """

    group: str
    name: str
    state: State
    needed: bool
    found: str
    mend: str | None = None
    why: str = ""

    @property
    def stops(self) -> bool:
        """Whether the main job cannot run for this."""
        return self.needed and self.state in ("missing", "broken")


def pip_install(requirement: str) -> str:
    """The command that installs a package into this very Python."""
    return shlex.join([sys.executable, "-m", "pip", "install", requirement])


def run(command: Sequence[str], seconds: float) -> tuple[bool, str]:
    """Runs a program: (it ended well, its last line). A crash or a hang is an answer too."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {seconds:g} s"
    except OSError as problem:
        return False, str(problem.strerror or problem)
    lines = [line.strip() for line in (done.stdout if done.returncode == 0 else done.stderr).splitlines() if line.strip()]
    if done.returncode < 0:
        return False, f"ended by signal {-done.returncode}" + (" (a processor without AVX?)" if done.returncode == -4 else "")
    return done.returncode == 0, lines[-1][:200] if lines else f"exit code {done.returncode}"
