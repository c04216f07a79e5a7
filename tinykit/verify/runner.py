"""What the interpreters of other projects have in common here: one sample a run, many samples a call, several processes if wanted."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from tinykit.errors import ModelError, TinykitError


class OracleMissing(TinykitError):
    """The interpreter to compare with is not installed."""


class Runner(ABC):
    """An interpreter that holds one model of batch 1."""

    def __init__(self, tflite: bytes) -> None:
        self.tflite = bytes(tflite)

    @property
    @abstractmethod
    def input_details(self) -> list[tuple[tuple[int, ...], np.dtype]]:
        """(shape with the batch, dtype) of each input."""

    @abstractmethod
    def _invoke(self, sample: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs [1, ...] for one sample: an array [1, ...] an input."""

    def run(self, x: np.ndarray | Sequence[np.ndarray], processes: int = 1) -> list[np.ndarray]:
        """Every output for many samples.

        Args:
            x: [N, *input shape] of the input's own type, or one such array an input.
            processes: with 2 or more, the samples are shared among as many spawned processes (worth it from about a second of work).

        Returns:
            one array [N, *shape] an output, in the model's order.

        Raises:
            ModelError: wrong shape or type, or the interpreter refuses the model.
        """
        arrays = self._checked([x] if isinstance(x, np.ndarray) else list(x))
        if processes > 1 and len(arrays[0]) >= 2 * processes:
            return self._shared(arrays, processes)
        outputs: list[np.ndarray] = []
        n = len(arrays[0])
        for i in range(n):
            results = self._invoke([a[i : i + 1] for a in arrays])
            if not outputs:
                outputs = [np.empty((n, *r.shape[1:]), r.dtype) for r in results]
            for whole, part in zip(outputs, results):
                whole[i] = part[0]
        return outputs

    def _checked(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        details = self.input_details
        if len(arrays) != len(details):
            raise ModelError(f"the model has {len(details)} inputs, got {len(arrays)}")
        for i, (a, (shape, dtype)) in enumerate(zip(arrays, details)):
            if a.shape[1:] != shape[1:] or a.dtype != dtype or len(a) != len(arrays[0]):
                raise ModelError(f"input {i} expects {dtype} [N, {', '.join(map(str, shape[1:]))}], got {a.dtype} {list(a.shape)}")
        if len(arrays[0]) == 0:
            raise ModelError("no samples to run")
        return arrays

    def _shared(self, arrays: list[np.ndarray], processes: int) -> list[np.ndarray]:
        shares = [[np.ascontiguousarray(p) for p in parts] for parts in zip(*(np.array_split(a, processes) for a in arrays))]
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            results = pool.starmap(_run_share, [(type(self), self.tflite, share) for share in shares])
        return [np.concatenate(parts) for parts in zip(*results)]


def _run_share(kind: type[Runner], tflite: bytes, arrays: list[np.ndarray]) -> list[np.ndarray]:
    return kind(tflite).run(arrays)


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Catches what native code writes to file descriptor 2; the list holds the text after the block. Not for several threads at once."""
    lines: list[str] = []
    saved = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            sink.seek(0)
            lines += sink.read().decode("utf-8", "replace").splitlines()
