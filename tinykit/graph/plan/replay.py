"""Replays a plan on shadow memory, where every byte knows whose it is. Shares no code with what made the plan.

Where tensors of 4 or 2 bits share bytes, the cells of the shadow are as small as their elements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinykit.graph import ir
from tinykit.graph.plan.problem import Plan, Problem, Step
from tinykit.graph.plan.reads import graph_reads

_TENSOR = 1 << 40  # what a cell holds: _TENSOR * (number of the tensor's owner) + offset in it
_NOTHING = -1  # what a cell holds that nobody wrote, or that a scratch did


@dataclass(frozen=True)
class Reads:
    """What the units of a step read of one tensor: entry n is the bits `ranges[n]`, needed by units first[n] and last[n]."""

    tensor: str
    ranges: np.ndarray
    first: np.ndarray
    last: np.ndarray


def replay(problem: Problem, plan: Plan) -> list[str]:
    """Executes a plan unit by unit as each step's `Access` says, and reports whatever would go wrong on a device.

    Returns:
        One sentence a fault: a byte read that is not the expected one, memory outside the arena or off the alignment, a scratch over an
        output, an output of the network that is not intact at the end. Empty: the plan is proved for these accesses.
    """
    return _replay(problem, plan, {step.name: _access_reads(step) for step in problem.steps})


def replay_graph(graph: ir.Graph, problem: Problem, plan: Plan) -> list[str]:
    """Like `replay`, but the bits that each unit reads follow from the graph's op of the step's name, not from the step's `Access`.

    The op says which input elements each output element depends on; the unit that writes the element must find them intact. What the
    `Access` still says: which unit writes which bits, whether units read before they write, what may run in place. Where a step is no op
    of the graph, or its units' writes do not join up to the whole output, every unit is taken to read everything.
    """
    ops = {op.name: op for op in graph.ops}
    problems = list(_missing(graph, problem))
    if problems:
        return problems
    reads = {s.name: _graph_reads(graph, ops[s.name], problem, s) if s.name in ops else _whole_reads(problem, s) for s in problem.steps}
    return _replay(problem, plan, reads)


def _missing(graph: ir.Graph, problem: Problem) -> Iterator[str]:
    """Tensors and ops of the graph that the problem leaves out."""
    unknown = [t.name for t in graph.activations() if t.name not in problem.sizes]
    yield from (f"tensor {t!r} of the graph is not in the plan" for t in unknown)
    yield from (f"output {t!r} of the graph is none of the plan" for t in graph.outputs if t not in problem.outputs)
    for op in graph.ops:
        shared = {problem.owner(t) for t in op.inputs if t not in graph.constants} == {problem.owner(op.output)}
        if not unknown and not shared and op.name not in {step.name for step in problem.steps}:
            yield f"op {op.name!r} is executed by no step"


def _access_reads(step: Step) -> list[Reads]:
    units = np.arange(len(step.access.writes))
    return [Reads(t, np.asarray(step.access.reads[t], dtype=np.int64), units, units) for t in dict.fromkeys(step.inputs)]


def _whole_reads(problem: Problem, step: Step) -> list[Reads]:
    ends = np.array([0, max(len(step.access.writes) - 1, 0)])
    return [Reads(t, np.tile([0, problem.used_bits(t)], (2, 1)), ends, ends) for t in dict.fromkeys(step.inputs)]


def _graph_reads(graph: ir.Graph, op: ir.Op, problem: Problem, step: Step) -> list[Reads]:
    """The reads of an op by the units of its step."""
    writes = np.asarray(step.access.writes, dtype=np.int64)
    output, size = graph.tensors[op.output], problem.used_bits(step.output)
    joined = len(writes) and writes[0, 0] == 0 and writes[-1, 1] == size and (writes[1:, 0] == writes[:-1, 1]).all()
    activations = [t for t in op.inputs if t not in graph.constants]
    if not joined or size % output.size or any(problem.used_bits(t) % graph.tensors[t].size for t in activations):
        return _whole_reads(problem, step)
    names = {problem.owner(t): t for t in step.inputs}  # the step may know a tensor under the name of an alias
    width = size // output.size
    found = []
    for position, tensor in enumerate(op.inputs):
        if tensor in graph.constants:
            continue
        each = problem.used_bits(tensor) // graph.tensors[tensor].size
        for read in graph_reads(graph, op, position):
            first = np.searchsorted(writes[:, 1], read.outputs[:, 0] * width, side="right")
            last = np.searchsorted(writes[:, 1], read.outputs[:, 1] * width - 1, side="right")
            found.append(Reads(names.get(problem.owner(tensor), tensor), read.inputs * each, first, last))
    return found


def _replay(problem: Problem, plan: Plan, reads: Mapping[str, Sequence[Reads]]) -> list[str]:
    faults = list(_static_faults(problem, plan))
    if faults:
        return faults
    memory = _Shadow(problem, plan, _cell_bits(problem, reads))
    for t in problem.inputs:
        memory.fill(t, np.array([[0, problem.used_bits(t)]]), f"network input {t!r}")
    for number in plan.order:
        step = problem.steps[number]
        faults += memory.run(step, reads[step.name], step.name in plan.reversed)
    for t in dict.fromkeys(problem.outputs):
        fault = memory.damage(t, np.array([[0, problem.used_bits(t)]]))
        if fault:
            faults.append(f"output {t!r} at the end: {fault}")
    return faults


def _static_faults(problem: Problem, plan: Plan) -> Iterator[str]:
    if sorted(plan.order) != list(range(len(problem.steps))):
        yield f"the order {list(plan.order)} does not run each of the {len(problem.steps)} steps once"
    places = [(f"tensor {t!r}", plan.offsets.get(t), size) for t, size in problem.sizes.items()]
    places += [(f"scratch of step {s.name!r}", plan.scratch.get(s.name), s.access.scratch) for s in problem.steps if s.access.scratch]
    for what, offset, size in places:
        if offset is None:
            yield f"{what} has no place"
        elif offset < 0 or offset + size > plan.arena_bytes:
            yield f"{what} takes bytes {offset}..{offset + size} of an arena of {plan.arena_bytes}"
        elif offset % (max(problem.alignment, 4) if what.startswith("scratch") else problem.alignment):
            yield f"{what} lies at {offset}, off the alignment"
    for step in problem.steps:
        if step.name in plan.reversed and not step.access.reversible:
            yield f"step {step.name!r} cannot run in reverse"


def _cell_bits(problem: Problem, reads: Mapping[str, Sequence[Reads]]) -> int:
    """The largest power of two, 8 at most, that divides every end of a range."""
    ends = [np.asarray(step.access.writes) for step in problem.steps] + [r.ranges for found in reads.values() for r in found]
    every = int(np.bitwise_or.reduce([int(np.bitwise_or.reduce(e.astype(np.int64), axis=None)) for e in ends] + [8]))
    for used in problem.bits.values():
        every |= used
    return every & -every


class _Shadow:
    """The arena in cells of `bits` bits, 8 or fewer: what each holds, and who wrote it last. Ranges come in bits."""

    def __init__(self, problem: Problem, plan: Plan, bits: int) -> None:
        self.problem, self.plan, self.bits, self.each = problem, plan, bits, 8 // bits
        self.cells = np.full(plan.arena_bytes * self.each, _NOTHING, dtype=np.int64)
        self.writer = np.zeros(plan.arena_bytes * self.each, dtype=np.int64)
        self.writers = ["nobody"]
        owners = dict.fromkeys(problem.owner(t) for t in problem.sizes)
        self.bases = {t: _TENSOR * list(owners).index(problem.owner(t)) for t in problem.sizes}

    def place(self, tensor: str) -> tuple[int, int]:
        """(first cell, number of cells) of a tensor."""
        return self.plan.offsets[tensor] * self.each, self.problem.sizes[tensor] * self.each

    def fill(self, tensor: str, ranges: np.ndarray, writer: str) -> None:
        """The bits `ranges` of a tensor are written."""
        inside = _cells_of(ranges // self.bits)
        where = self.place(tensor)[0] + inside
        self.cells[where] = self.bases[tensor] + inside
        self.writers.append(writer)
        self.writer[where] = len(self.writers) - 1

    def damage(self, tensor: str, ranges: np.ndarray) -> str:
        """What is wrong with the first bad byte within `ranges` of a tensor; empty if all is well."""
        (offset, size), ranges = self.place(tensor), ranges // self.bits
        bad = self.cells[offset : offset + size] != self.bases[tensor] + np.arange(size)
        before = np.concatenate(([0], np.cumsum(bad)))
        hit = np.flatnonzero(before[ranges[:, 1]] > before[ranges[:, 0]])
        if not hit.size:
            return ""
        first = int(ranges[hit[0], 0])
        cell = first + int(np.argmax(bad[first:]))
        writer = self.writers[self.writer[offset + cell]]
        return f"byte {cell // self.each} (arena byte {(offset + cell) // self.each}) was last written by {writer}"

    def run(self, step: Step, reads: Sequence[Reads], reverse: bool) -> Iterator[str]:
        """Executes a step."""
        access, offset = step.access, self.place(step.output)[0]
        writes = np.asarray(access.writes, dtype=np.int64) // self.bits
        overwritten = np.full(len(self.cells), len(writes), dtype=np.int64)  # time at which a cell is overwritten in this step
        if access.scratch:
            yield from self._scratch(step)
        order = np.arange(len(writes)) if reverse else np.arange(len(writes))[::-1]  # the last executed first, so that the first one counts
        times = len(writes) - 1 - np.arange(len(writes)) if reverse else np.arange(len(writes))
        overwritten[offset + _cells_of(writes[order])] = np.repeat(times[order], writes[order, 1] - writes[order, 0])
        for read in reads:
            fault = self.damage(read.tensor, read.ranges)
            if fault:
                yield f"step {step.name!r} reads {read.tensor!r}: {fault}"
            copied = read.tensor in access.in_place and self.place(read.tensor)[0] == offset
            if len(writes) and not copied:
                yield from self._overwritten(step, read, overwritten, times)
        self.fill(step.output, np.asarray(access.writes, dtype=np.int64), f"step {step.name!r}")

    def _scratch(self, step: Step) -> Iterator[str]:
        start, size = self.plan.scratch[step.name], step.access.scratch
        taken = slice(start * self.each, (start + size) * self.each)
        self.cells[taken] = _NOTHING
        self.writers.append(f"the scratch of step {step.name!r}")
        self.writer[taken] = len(self.writers) - 1
        output, length = self.plan.offsets[step.output], self.problem.sizes[step.output]
        if start < output + length and output < start + size and length:
            yield f"step {step.name!r}: its scratch at {start}..{start + size} overlaps its output at {output}..{output + length}"

    def _overwritten(self, step: Step, read: Reads, overwritten: np.ndarray, times: np.ndarray) -> Iterator[str]:
        """Cells that a unit reads after another unit of the step wrote there (or the same unit, where it interleaves the two)."""
        used = read.ranges[:, 1] > read.ranges[:, 0]
        ranges, first, last = read.ranges[used] // self.bits, read.first[used], read.last[used]
        offset, size = self.place(read.tensor)
        earliest = _range_minimum(overwritten[offset : offset + size], ranges)
        time = np.maximum(times[first], times[last])
        hit = np.flatnonzero(earliest < time if step.access.buffered else earliest <= time)
        if hit.size:
            n = hit[np.argmin(time[hit])]
            unit, culprit = (first[n] if times[first[n]] >= times[last[n]] else last[n]), np.flatnonzero(times == earliest[n])[0]
            yield (
                f"step {step.name!r}: unit {unit} reads {self._words(*ranges[n])} of {read.tensor!r}, into which unit {culprit} has written"
            )

    def _words(self, first: int, last: int) -> str:
        """A range of cells in bytes, in bits where it does not begin and end with one."""
        if first % self.each or last % self.each:
            return f"bits {first * self.bits}..{last * self.bits}"
        return f"bytes {first // self.each}..{last // self.each}"


def _cells_of(ranges: np.ndarray) -> np.ndarray:
    """All cells of the ranges [n, 2], one range after the other."""
    lengths = ranges[:, 1] - ranges[:, 0]
    before = np.cumsum(lengths) - lengths
    return np.repeat(ranges[:, 0] - before, lengths) + np.arange(int(lengths.sum()))


def _range_minimum(values: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """min(values[first:last]) for every range [first, last), none of them empty: a table of minima over powers of two."""
    lengths = ranges[:, 1] - ranges[:, 0]
    result = np.empty(len(ranges), dtype=values.dtype)
    table, width = values, 1
    while len(ranges):
        fits = (lengths >= width) & (lengths < 2 * width)
        result[fits] = np.minimum(table[ranges[fits, 0]], table[ranges[fits, 1] - width])
        if 2 * width > lengths.max():
            break
        table, width = np.minimum(table[:-width], table[width:]), 2 * width
    return result
