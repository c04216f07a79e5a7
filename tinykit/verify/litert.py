"""LiteRT with its reference kernels: a second opinion. It may differ from TFLM in the last bit (FULLY_CONNECTED); TFLM is the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinykit.errors import ModelError
from tinykit.verify.runner import OracleMissing, Runner, captured_stderr

INSTALL = "pip install ai-edge-litert"


class LiteRtRunner(Runner):
    """Runs a .tflite in LiteRT (BUILTIN_REF kernels, one thread). Write with `keep_names=True` for it.

    Raises:
        OracleMissing: ai-edge-litert is not installed.
        ModelError: LiteRT refuses the model.
    """

    def __init__(self, tflite: bytes) -> None:
        super().__init__(tflite)
        try:
            from ai_edge_litert import interpreter as litert
        except ImportError as error:
            raise OracleMissing(f"LiteRT is not installed ({error}): {INSTALL}") from error
        problem: Exception | None = None
        with captured_stderr():
            try:
                self._interpreter: Any = litert.Interpreter(
                    model_content=self.tflite, num_threads=1, experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF
                )
                self._interpreter.allocate_tensors()
            except (RuntimeError, ValueError) as error:
                problem = error
        if problem is not None:
            raise ModelError(f"LiteRT refuses the model: {problem}") from problem
        self._inputs = self._interpreter.get_input_details()
        self._outputs = [d["index"] for d in self._interpreter.get_output_details()]

    @property
    def input_details(self) -> list[tuple[tuple[int, ...], np.dtype]]:
        """(shape with the batch, dtype) of each input."""
        return [(tuple(int(v) for v in d["shape"]), np.dtype(d["dtype"])) for d in self._inputs]

    def _invoke(self, sample: Sequence[np.ndarray]) -> list[np.ndarray]:
        for d, a in zip(self._inputs, sample):
            self._interpreter.set_tensor(d["index"], a)
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_tensor(i)) for i in self._outputs]
