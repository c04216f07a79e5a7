"""Imports TensorFlow without its start-up messages, which TF_CPP_MIN_LOG_LEVEL no longer silences (TF 2.21)."""

import importlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_NOISE = re.compile(r"I0000 |WARNING: All log messages before absl::InitializeLog|To enable the following instructions")


@contextmanager
def filtered_stderr() -> Iterator[None]:
    """While the block runs, what anything (C++ too) writes to standard error is held back; then all but noise is printed."""
    sys.stderr.flush()
    try:
        original = os.dup(2)
    except OSError:  # no standard error at all
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines(keepends=True):
                if not _NOISE.match(line):
                    sys.stderr.write(line)


def import_tensorflow() -> None:
    """Imports TensorFlow, and Keras on it, quietly. Call it before anything else imports either."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with filtered_stderr():
        importlib.import_module("tensorflow")
        importlib.import_module("keras")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # its retracing warnings are about speed that does not matter here
