"""Runs command lines of tinykit, each in a process of its own that was forked from one in which everything is imported already.

    python badinput_server.py light    TensorFlow and Keras cannot be imported: who tries ends with a traceback
    python badinput_server.py heavy    TensorFlow and Keras are there, so that a run costs no more than its work

Standard input: one JSON object a line, see `Request`; standard output: the exit code of each, a line.
"""

import atexit
import json
import os
import resource
import runpy
import signal
import sys
import traceback
from typing import Any, TypedDict


class Request(TypedDict):
    """What to run.

    Attributes:
        module: such as 'tinykit.train'; it runs as `__main__`.
        arguments: of its command line.
        folder: the working folder.
        out, err: files for standard output and standard error.
        environment: variables that are set, or unset where None.
        file_limit: bytes that a file may grow to (RLIMIT_FSIZE, as a full disk); None: no limit.
        seconds: after which it is killed.
    """

    module: str
    arguments: list[str]
    folder: str
    out: str
    err: str
    environment: dict[str, str | None]
    file_limit: int | None
    seconds: int


class _Absent:
    """Refuses TensorFlow and Keras: what is wrong with the input must be found before they are imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in ("tensorflow", "keras", "tf_keras"):
            raise RuntimeError(f"{name} is imported too early: the input could have been checked before")


def _load(mode: str) -> None:
    """Imports what the programs need; not the programs themselves, which declare their flags when they start."""
    if mode == "light":
        sys.meta_path.insert(0, _Absent())  # type: ignore[arg-type]
    else:
        from tinykit.recipe.quiet import import_tensorflow

        import_tensorflow()
        import tinykit.models.load
        import tinykit.recipe.outputs
        import tinykit.recipe.runner  # noqa: F401
    import rich.table  # noqa: F401
    from absl import app  # noqa: F401

    import tinykit.boards.artefacts
    import tinykit.boards.pipeline
    import tinykit.cli
    import tinykit.config.loading
    import tinykit.data.registry
    import tinykit.models.registry  # noqa: F401


def _child(request: Request) -> int:
    os.setsid()
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        handle = os.open(name, flags, 0o644)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = open(0, closefd=False)  # the server's was read ahead
    os.chdir(request["folder"])
    for name, value in request["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    import tempfile

    tempfile.tempdir = None  # it follows TMPDIR
    if request["file_limit"] is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python itself does at its start: EFBIG
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_limit"], resource.RLIM_INFINITY))
    signal.alarm(request["seconds"])
    sys.argv = [request["module"], *request["arguments"]]
    sys.path.insert(0, request["folder"])  # as `python -m` does
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001  (what the interpreter would do)
        traceback.print_exc()
        code = 1
    else:
        code = 0
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = code or 120
    return code if isinstance(code, int) else 0 if code is None else 1


def _serve(mode: str) -> None:
    _load(mode)
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                code = _child(json.loads(line))
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
                code = 99
            os._exit(code)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
