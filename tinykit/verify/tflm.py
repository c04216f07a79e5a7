"""TensorFlow Lite Micro's own interpreter, reference kernels, on the host: the oracle for every .tflite that tinykit reads or writes."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinykit.errors import ModelError
from tinykit.verify.runner import OracleMissing, Runner, captured_stderr

INSTALL = "pip install tflite-micro==0.dev20261023182759"
ELSEWHERE = f"there are wheels for Linux on x86-64 only: run the same command there, for example in a container, after `{INSTALL}`"
LARGEST_ARENA = 512 << 20


class TflmRunner(Runner):
    """Runs a .tflite in TFLM.

    Args:
        tflite: the file's bytes.
        arena_size: bytes for tensors and bookkeeping; without it the arena grows until the model fits, up to 512 MiB.

    Raises:
        OracleMissing: tflite-micro is not installed.
        ModelError: TFLM refuses the model; its own words are included.
    """

    def __init__(self, tflite: bytes, arena_size: int | None = None) -> None:
        super().__init__(tflite)
        self._create = _factory()
        size = arena_size or max(64 << 10, 2 * len(tflite))
        while True:
            interpreter, words = self._try(size)
            if interpreter is not None:
                break
            if arena_size is not None or size >= LARGEST_ARENA or not _is_shortage(words):
                raise ModelError(f"TFLM refuses the model with an arena of {size} bytes: {'; '.join(words) or 'no reason given'}")
            size = min(4 * size, LARGEST_ARENA)
        self.arena_size = size
        self._interpreter: Any = interpreter
        self._inputs, self._outputs = _number_of_tensors(self.tflite)

    def _try(self, size: int) -> tuple[Any, list[str]]:
        """(interpreter or None, what TFLM said)."""
        error, interpreter = "", None
        with captured_stderr() as words:
            try:
                interpreter = self._create(self.tflite, arena_size=size)
            except (RuntimeError, ValueError) as problem:
                error = str(problem)
        return interpreter, [w for w in words if w.strip()] + ([error] if error else [])

    @property
    def input_details(self) -> list[tuple[tuple[int, ...], np.dtype]]:
        """(shape with the batch, dtype) of each input."""
        details = [self._interpreter.get_input_details(i) for i in range(self._inputs)]
        return [(tuple(int(v) for v in d["shape"]), np.dtype(d["dtype"])) for d in details]

    def _invoke(self, sample: Sequence[np.ndarray]) -> list[np.ndarray]:
        for i, a in enumerate(sample):
            self._interpreter.set_input(a, i)
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_output(k)) for k in range(self._outputs)]

    @property
    def arena_used(self) -> int:
        """Bytes of the arena in use after allocation, as TFLM's recording allocator counts them on this host.

        Pointers are 64 bits wide here, so a microcontroller needs less for bookkeeping; tensors take the same.
        """
        with captured_stderr() as lines:
            self._interpreter.print_allocations()
        for line in lines:
            found = re.search(r"Arena allocation total (\d+) bytes", line)
            if found:
                return int(found[1])
        raise ModelError("TFLM did not report its arena")

    def smallest_arena(self) -> int:
        """Least arena (a multiple of 16 bytes) with which this interpreter still allocates the model, by bisection."""
        low, high = 0, -(-self.arena_size // 16)
        while high - low > 1:
            middle = (low + high) // 2
            if self._try(16 * middle)[0] is None:
                low = middle
            else:
                high = middle
        return 16 * high


def how_to_install() -> str:
    """What brings TFLM's interpreter to this computer, or says that nothing does."""
    if sys.platform == "linux" and platform.machine() == "x86_64":
        return f"install it: `{INSTALL}`"
    return ELSEWHERE


def _factory() -> Any:
    try:
        from tflite_micro.python.tflite_micro import runtime
    except ImportError as error:
        raise OracleMissing(f"TFLM's interpreter, tflite-micro, is not installed ({error}); {how_to_install()}") from error
    return runtime.Interpreter.from_bytes


def _number_of_tensors(tflite: bytes) -> tuple[int, int]:
    from tinykit.graph import flatfile

    flat = flatfile.parse(flatfile.load(tflite, "model"), "model")
    return len(flat.inputs), len(flat.outputs)


def _is_shortage(words: list[str]) -> bool:
    text = " ".join(words)
    return "missing:" in text or "Arena size is too small" in text or "Failed to allocate" in text or "bytes required" in text
