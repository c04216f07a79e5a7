"""What the outputs of a run need beside TensorFlow: looked for before a training begins, not hours later."""

import importlib.util
from collections.abc import Callable

from tinykit.boards.toolchain import choose, choose_host
from tinykit.errors import ConfigError, collected

_EMULATOR = "the Python package unicorn, which emulates the boards, is not installed; install it: `pip install unicorn`"


def _emulator() -> None:
    if importlib.util.find_spec("unicorn") is None:
        raise ConfigError(_EMULATOR)


def check_tools() -> None:
    """Raises ConfigError with everything that is missing to build, run and check an engine, and the commands that install it."""
    checks: tuple[Callable[[], object], ...] = (choose, choose_host, _emulator)
    problems: list[str] = []
    for check in checks:
        with collected(ConfigError, problems):
            check()
    if problems:
        raise ConfigError(problems)
