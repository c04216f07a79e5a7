"""The generated engine on this computer: compiled into a shared library and called through ctypes."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinykit.boards.toolchain import build_host_library
from tinykit.engine.generate import Engine
from tinykit.engine.memory import Samples, as_samples, inputs_of, outputs_of, pack, unpack
from tinykit.errors import ParityError
from tinykit.graph import ir

_GUARD = 64
_GUARD_BYTE = 0xA5
_HOOK = """\
void (*tk_after_layer)(void *, int);
#define TK_AFTER_LAYER(arena, layer) if (tk_after_layer) { tk_after_layer((arena), (layer)); }
"""


class HostEngine:
    """A compiled engine. Use it as a context manager: its library lies in a temporary folder.

    Args:
        engine: what `tinykit.engine.generate` made.
        optimize: the compiler's -O flag.

    Raises:
        ConfigError: there is no C compiler.
    """

    def __init__(self, engine: Engine, optimize: str = "-O2") -> None:
        self.engine = engine
        self._folder = tempfile.TemporaryDirectory(prefix="tinykit-host-")
        folder = Path(self._folder.name)
        for name, text in engine.files.items():
            hook = _HOOK if name.endswith(".c") else ""
            (folder / name).write_text(hook + text, encoding="utf-8")
        library = build_host_library([folder / f"{engine.name}.c"], folder / "engine.so", include=[folder], optimize=optimize)
        self._library = ctypes.CDLL(str(library))
        self._invoke = getattr(self._library, f"{engine.name}_invoke")
        self._arena = np.zeros(engine.plan.arena_bytes + 2 * _GUARD, np.uint8)

    def __enter__(self) -> HostEngine:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Removes the temporary folder; the library stays loaded until the process ends."""
        self._folder.cleanup()

    def run(self, x: np.ndarray | Samples, after: Callable[[int, str, np.ndarray], None] | None = None) -> list[np.ndarray]:
        """One inference a sample. Raises ParityError where bytes outside the arena were written.

        Args:
            x: stored integers [N, ...] of the first input, or of every input by name.
            after: called as after(sample, tensor name, its values) when a layer has written its output.

        Returns:
            For each output of the network an array [N, ...].
        """
        graph = self.engine.graph
        samples = as_samples(graph, x)
        count = len(next(iter(samples.values())))
        outputs: list[list[np.ndarray]] = [[] for _ in graph.outputs]
        for i in range(count):
            self._one(samples, i, after)
            for values, tensor in zip(outputs, outputs_of(graph)):
                values.append(self.read(tensor))
        return [np.stack(values) for values in outputs]

    def read(self, tensor: ir.Tensor) -> np.ndarray:
        """A copy of what lies in the arena at a tensor's place."""
        offset, nbytes = self.engine.where(tensor.name)
        return unpack(tensor, self._arena[_GUARD + offset :][:nbytes].tobytes())

    def _one(self, samples: Samples, index: int, after: Callable[[int, str, np.ndarray], None] | None) -> None:
        graph = self.engine.graph
        self._arena[:] = _GUARD_BYTE
        for tensor in inputs_of(graph):
            offset, nbytes = self.engine.where(tensor.name)
            self._arena[_GUARD + offset :][:nbytes] = np.frombuffer(pack([tensor], samples, index), np.uint8)
        ops = {op.name: op for op in graph.ops}

        def hook(_: int, layer: int) -> None:
            output = ops[self.engine.calls[layer].op].output
            if after is not None:
                after(index, output, self.read(graph.tensors[output]))

        callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(hook)
        slot = ctypes.c_void_p.in_dll(self._library, "tk_after_layer")
        slot.value = ctypes.cast(callback, ctypes.c_void_p).value if after is not None else None
        self._invoke(ctypes.c_void_p(self._arena.ctypes.data + _GUARD))
        guards = np.concatenate([self._arena[:_GUARD], self._arena[-_GUARD:]])
        if (guards != _GUARD_BYTE).any():
            raise ParityError(f"engine {self.engine.name}: bytes outside its arena were written")
