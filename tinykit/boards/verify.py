"""Proves a linked image: every tensor of every inference on the emulated board against the reference executor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.memory import BoardFault
from tinykit.boards.profiling import InferenceRun, call_sites, run_inference
from tinykit.engine.generate import Engine
from tinykit.engine.memory import Samples, inputs_of, pack, unpack
from tinykit.graph import ir, reference

_AT_ONCE = 16
"""Samples whose tensors are held in memory: all of thousands would fill it."""


@dataclass
class Verification:
    """Elements that differ between an emulated board and the reference executor.

    Attributes:
        mismatches, elements: over every tensor, inner ones included.
        samples: inferences.
        outputs: mismatches in the network's outputs alone.
        first: the first difference in words.
        results: stored values of the network's first output, one array a sample.
        stray: where RAM was written that belongs to nobody, in words; None where nothing was.
        unprofiled: why the outputs alone were compared and no layer counted apart; None where every tensor was.
        run: counts of the first inference.
        stack: most bytes of stack over all inferences.
    """

    mismatches: int = 0
    elements: int = 0
    samples: int = 0
    outputs: int = 0
    first: str | None = None
    stray: str | None = None
    unprofiled: str | None = None
    results: list[np.ndarray] = field(default_factory=list, repr=False)
    run: InferenceRun | None = field(default=None, repr=False)
    stack: int = 0

    @property
    def compared(self) -> str:
        """What was compared, in words."""
        return "every tensor" if self.unprofiled is None else f"outputs alone: {self.unprofiled}"

    def add(self, tensor: str, sample: int, got: np.ndarray, want: np.ndarray, is_output: bool) -> None:
        """Compares one tensor of one sample."""
        wrong = got != want
        count = int(np.count_nonzero(wrong))
        self.elements += want.size
        self.mismatches += count
        self.outputs += count if is_output else 0
        if count and self.first is None:
            at = tuple(int(v) for v in np.argwhere(np.atleast_1d(wrong))[0])
            values = np.atleast_1d(got)[at], np.atleast_1d(want)[at]
            self.first = f"tensor {tensor!r}, sample {sample}, index {list(at)}: the board has {values[0]}, the reference {values[1]}"


def verify(
    board: EmulatedBoard, engine: Engine, samples: Samples, progress: Callable[[int, int], None] = lambda done, total: None
) -> Verification:
    """Runs `samples` (stored integers by input name, [N, ...]) on a bench image, each from reset.

    The image stays as it was linked but for the self-test vector in its flash, which is replaced by each input in turn.
    """
    graph = engine.graph
    count = len(next(iter(samples.values())))
    ops = {op.name: op for op in graph.ops}
    arena = board.image.symbol("tk_arena").address
    vector = board.image.symbol("tk_selftest_input").address
    invoke = f"{engine.name}_invoke"
    found, ownership = Verification(unprofiled=_unprofiled(board, invoke, len(engine.calls))), Ownership(board)
    by_layer = found.unprofiled is None
    for i in range(count):
        if i % _AT_ONCE == 0:
            truth = _truth(graph, samples, i)

        def compare(layer: int, sample: int = i, truth: reference.Values = truth) -> None:
            tensor = graph.tensors[ops[engine.calls[layer].op].output]
            offset, nbytes = engine.where(tensor.name)
            got = unpack(tensor, board.read(arena + offset, nbytes))
            found.add(tensor.name, sample, got, truth[tensor.name][sample % _AT_ONCE], tensor.name in graph.outputs)

        board.write(vector, pack(inputs_of(graph), samples, i))
        run = run_inference(board, invoke_symbol=invoke if by_layer else None, after_call=compare if by_layer else None)
        _outputs(found, board, engine, arena, truth, i)
        found.run = found.run or run
        found.stack = max(found.stack, run.stack)
        found.stray = found.stray or ownership.stray()
        found.samples += 1
        progress(i + 1, count)
    return found


def _truth(graph: ir.Graph, samples: Samples, first: int) -> reference.Values:
    """Every tensor of the reference executor for `_AT_ONCE` samples from `first`; fewer at the end."""
    part = {name: values[first : first + _AT_ONCE] for name, values in samples.items()}
    count = len(next(iter(part.values())))
    truth = reference.run_all(graph, part)
    return {name: np.broadcast_to(v, (count, *v.shape[1:])) for name, v in truth.items()}  # what follows from constants has one sample


def _unprofiled(board: EmulatedBoard, invoke: str, layers: int) -> str | None:
    """Why the n-th call of `invoke` cannot be taken for the n-th layer: a compiler may have merged calls or left one out. None: it can."""
    try:
        calls = len(call_sites(board, invoke))
    except BoardFault as problem:
        return str(problem)
    return None if calls == layers else f"{invoke} makes {calls} calls for {layers} layers in this image"


def _outputs(found: Verification, board: EmulatedBoard, engine: Engine, arena: int, truth: reference.Values, sample: int) -> None:
    """The outputs once more when the inference has ended: no later layer may have damaged them, no alias be misplaced."""
    for name in engine.graph.outputs:
        tensor: ir.Tensor = engine.graph.tensors[name]
        offset, nbytes = engine.where(name)
        got = unpack(tensor, board.read(arena + offset, nbytes))
        found.add(name, sample, got, truth[name][sample % _AT_ONCE], True)
        if name == engine.graph.outputs[0]:
            found.results.append(got)


class Ownership:
    """Finds writes to RAM that belongs neither to the arena nor to the stack: what an inference finds there it must leave.

    Args:
        board: at every call of `tk_bench_begin` what lies there is remembered.
    """

    def __init__(self, board: EmulatedBoard) -> None:
        image, ram = board.image, board.board.ram
        self._arena = image.symbol("tk_arena")
        limit = image.symbol("_stack_limit").address
        start = ram.base if ram is not None else self._arena.address
        self._ranges = [(start, self._arena.address), (self._arena.address + self._arena.size, limit)]
        self._others = [r for r in board.board.memory if r.kind == "rw" and r != ram]  # where a null pointer may lead without a fault
        self._ranges += [(r.base, r.base + r.size) for r in self._others]
        self._before: list[bytes] = []
        self._board = board
        board.watch("tk_bench_begin", lambda _: self._remember())

    def _read(self) -> list[bytes]:
        return [self._board.read(start, end - start) for start, end in self._ranges]

    def _remember(self) -> None:
        self._before = self._read()

    def stray(self) -> str | None:
        """The first byte that was written since, in words; None where all is as it was."""
        for (start, _), before, after in zip(self._ranges, self._before, self._read()):
            if before != after:
                at = start + next(i for i, (a, b) in enumerate(zip(before, after)) if a != b)
                return f"RAM at 0x{at:08x}, {self._place(at)}, was written; the arena is {self._arena.size:,} bytes"
        return None

    def _place(self, address: int) -> str:
        other = next((r.name for r in self._others if r.base <= address < r.base + r.size), None)
        if other is not None:
            return f"in {other}"
        behind = address - self._arena.address - self._arena.size
        return f"{behind} bytes behind the end of the arena" if behind >= 0 else f"{self._arena.address - address} bytes before the arena"
