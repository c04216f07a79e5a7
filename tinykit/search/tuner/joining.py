"""A worker of a search that another process leads, on this machine or another."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from tinykit.config.loading import ResolvedConfig, read_document
from tinykit.errors import ConfigError, TinykitError
from tinykit.recipe.console import Console
from tinykit.recipe.interrupt import StopFlag, stop_on_sigterm
from tinykit.recipe.rundir import SEARCH, differences
from tinykit.search.tuner.address import PATIENCE, check_worker, parse_address
from tinykit.search.tuner.attempt import Attempts, TrialServices
from tinykit.search.tuner.run import section
from tinykit.search.tuner.space import TuneSpace, check_parameters


def join(
    config: ResolvedConfig,
    workdir: str | Path,
    *,
    name: str,
    address: str,
    quicktest: bool = False,
    log: Callable[[str], None] | None = None,
    stop: StopFlag | None = None,
    lease: float = 60.0,
) -> None:
    """Tries trials of a search that a chief leads, until there are none.

    Args:
        config: that of the chief.
        workdir: that of the chief, on a file system that both see.
        name: of this worker; each has its own.
        address: host:port of the chief, which may be started later.
        quicktest, log, stop, lease: as for `tune`, and as the chief's.

    Raises:
        ConfigError: another configuration than the chief's, or no chief that answers.
        TinykitError: see `tinykit.recipe.runner.run`; the trial is tried again by another worker.
    """
    check_worker(name)
    parse_address(address)
    check_parameters(config)
    from tinykit.search.tuner.distributed import work

    flag, console, rundir = stop or StopFlag(), Console(log), Path(workdir)
    with nullcontext() if stop else stop_on_sigterm(flag):
        try:
            _same(config, rundir, quicktest, flag, console)
            folder = rundir / SEARCH
            services = TrialServices()
            services.check_tools()  # a machine without a compiler must not find that nothing fits
            attempt = Attempts(config, folder, quicktest=quicktest, stop=flag, log=console.line, services=services)
            space = TuneSpace(section(config, quicktest).parameters)
            over = (rundir / "DONE").exists
            work(name, address, space, attempt, flag, folder, over=over, beat=min(lease / 6, 10.0))
        except (TinykitError, OSError):
            flag.check()
            raise
    console.line(f"worker {name}: no trials are left")


def _same(config: ResolvedConfig, workdir: Path, quicktest: bool, stop: StopFlag, console: Console) -> None:
    """Waits until a chief has begun in this directory. Raises ConfigError where it searches something else, or none comes."""
    resolved, until = workdir / "config.resolved.yaml", time.monotonic() + PATIENCE
    if not resolved.exists():
        console.line(f"waiting for a chief with --workdir {workdir}")
    while not resolved.exists():
        stop.check()
        if time.monotonic() > until:
            raise ConfigError(
                f"--workdir {workdir}: no chief has begun here; start one, with the same --workdir on a file system that both see"
            )
        time.sleep(0.2)
    changes = differences(read_document(resolved).data, config.to_dict())
    if (workdir / "QUICKTEST").exists() != quicktest:
        changes.append(f"--quicktest: {not quicktest} of the chief, {quicktest} here")
    if changes:
        raise ConfigError(
            [f"--workdir {workdir}: its chief searches something else (before: the chief's, now: here)", *(f"  {c}" for c in changes)]
        )
