"""A planning problem by numbers: checked, with buffers instead of names and distances instead of units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph.plan.distances import Distance, distance, round_up
from tinykit.graph.plan.problem import Problem, Step

_SCRATCH_ALIGNMENT = 4


@dataclass(frozen=True)
class Network:
    """Buffers are the tensors that own bytes, numbered; a set of steps is an integer, bit `s` for step `s`.

    Attributes:
        unit: alignment of all offsets in bytes: the problem's, at least 4 where a step has scratch.
        buffers: name of each buffer.
        sizes: bytes of each buffer, rounded up to `unit`.
        inputs: for each step, the buffers it reads, each once.
        outputs: for each step, the buffer it writes.
        scratch: for each step, bytes of scratch, rounded up to `unit`.
        distances: (step, buffer it reads) -> where the step's output may lie with respect to it, once it dies there.
        readers: for each buffer, the set of steps that read it.
        start, end: buffers of the network's inputs and outputs.
    """

    unit: int
    buffers: tuple[str, ...]
    sizes: tuple[int, ...]
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[int, ...]
    scratch: tuple[int, ...]
    distances: Mapping[tuple[int, int], Distance]
    readers: tuple[int, ...]
    start: frozenset[int]
    end: frozenset[int]

    def dying(self, step: int, done: int) -> tuple[int, ...]:
        """The inputs that nobody needs after `step`, if it runs when the steps `done` are finished."""
        left = ~(done | 1 << step)
        return tuple(b for b in self.inputs[step] if b not in self.end and not self.readers[b] & left)

    def saving(self, step: int, dying: Sequence[int]) -> int:
        """Bytes that a step's output can share at most with the inputs that die in it. No placement saves more.

        Inputs lie apart, so all of them together share no more of the output than the one that may reach furthest into it."""
        if not dying:
            return 0
        size, most = self.sizes[self.outputs[step]], 0
        for reverse in (False, True):
            reaches = [_reach(self.sizes[b], size, self.distances[step, b], reverse) for b in dying]
            shared = sum(min(self.sizes[b], reach) for b, reach in zip(dying, reaches))
            most = max(most, min(shared, max(reaches)))
        return most

    def edge_bytes(self) -> int:
        """Bytes of the inputs, which are all there at the start, or of the outputs at the end, whichever is more."""
        return max(sum(self.sizes[b] for b in self.start), sum(self.sizes[b] for b in self.end))


def _reach(input_size: int, output_size: int, d: Distance, reverse: bool) -> int:
    """Bytes of the output, from its end (in reverse from its start), among which an input may lie."""
    reach = input_size - d.reverse if reverse else output_size - d.forward
    if d.in_place:
        reach = max(reach, input_size if reverse else output_size)
    return min(output_size, max(0, reach))


def index(problem: Problem) -> Network:
    """Checks a problem and numbers its buffers.

    Raises:
        ModelError: with everything that is wrong: unknown or doubly written tensors, steps out of order, aliases in a circle, ranges
            outside their tensors.
    """
    problems = list(_naming_problems(problem))
    if not problems:
        problems = list(_order_problems(problem))
        for step in problem.steps:
            problems += [f"step {step.name!r}: {p}" for p in _access_problems(problem, step)]
    if problems:
        raise ModelError([f"memory plan: {p}" for p in problems])
    unit = max(problem.alignment, _SCRATCH_ALIGNMENT) if any(s.access.scratch for s in problem.steps) else problem.alignment
    buffers = tuple(dict.fromkeys(problem.owner(t) for t in problem.sizes))
    number = {name: i for i, name in enumerate(buffers)}

    def of(tensor: str) -> int:
        return number[problem.owner(tensor)]

    inputs = tuple(tuple(dict.fromkeys(of(t) for t in s.inputs)) for s in problem.steps)
    return Network(
        unit=unit,
        buffers=buffers,
        sizes=tuple(round_up(problem.sizes[b], unit) for b in buffers),
        inputs=inputs,
        outputs=tuple(of(s.output) for s in problem.steps),
        scratch=tuple(round_up(s.access.scratch, unit) for s in problem.steps),
        distances={(i, b): _distance(problem, s, buffers[b], unit) for i, s in enumerate(problem.steps) for b in inputs[i]},
        readers=tuple(sum(1 << i for i in range(len(inputs)) if b in inputs[i]) for b in range(len(buffers))),
        start=frozenset(of(t) for t in problem.inputs),
        end=frozenset(of(t) for t in problem.outputs),
    )


def _distance(problem: Problem, step: Step, buffer: str, unit: int) -> Distance:
    names = [t for t in dict.fromkeys(step.inputs) if problem.owner(t) == buffer]
    return distance(step.access, names, problem.sizes[buffer], problem.sizes[problem.owner(step.output)], unit)


def _naming_problems(problem: Problem) -> Iterator[str]:
    if problem.alignment < 1 or problem.alignment & (problem.alignment - 1):
        yield f"alignment {problem.alignment} is not a power of two"
    named = [("input", t) for t in problem.inputs] + [("output", t) for t in problem.outputs]
    named += [("alias", t) for pair in problem.aliases.items() for t in pair]
    named += [(f"tensor of step {s.name!r}", t) for s in problem.steps for t in (*s.inputs, s.output)]
    for role, tensor in dict.fromkeys(named):
        if tensor not in problem.sizes:
            yield f"{role} {tensor!r} has no size"
    for tensor, size in problem.sizes.items():
        if size < 0:
            yield f"tensor {tensor!r} has {size} bytes"
        elif not 0 <= 8 * size - problem.used_bits(tensor) < 8:
            yield f"tensor {tensor!r} has {size} bytes for {problem.used_bits(tensor)} bits"
    seen: set[str] = set()
    for step in problem.steps:
        if step.name in seen:
            yield f"two steps are named {step.name!r}"
        seen.add(step.name)
    for tensor in problem.aliases:
        yield from _alias_problems(problem, tensor)


def _alias_problems(problem: Problem, tensor: str) -> Iterator[str]:
    chain = [tensor]
    while chain[-1] in problem.aliases:
        chain.append(problem.aliases[chain[-1]])
        if chain[-1] in chain[:-1]:
            yield f"alias {tensor!r} goes in a circle: {' -> '.join(chain)}"
            return
    if problem.sizes.get(tensor, 0) > problem.sizes.get(chain[-1], 0):
        yield f"alias {tensor!r} has {problem.sizes[tensor]} bytes, more than {chain[-1]!r}, whose bytes it shares"


def _order_problems(problem: Problem) -> Iterator[str]:
    known = {problem.owner(t) for t in problem.inputs}
    for step in problem.steps:
        for t in dict.fromkeys(step.inputs):
            if problem.owner(t) not in known:
                yield f"step {step.name!r} reads {t!r} before it is written"
        if problem.owner(step.output) in known:
            yield f"step {step.name!r} writes {step.output!r}, whose bytes hold a tensor already"
        known.add(problem.owner(step.output))
    for t in problem.sizes:
        if problem.owner(t) not in known:
            yield f"tensor {t!r} is neither an input nor written by a step"


def _access_problems(problem: Problem, step: Step) -> Iterator[str]:
    access = step.access
    if access.scratch < 0:
        yield f"scratch of {access.scratch} bytes"
    if set(access.reads) != set(step.inputs):
        yield f"its access reads {sorted(access.reads)}, its inputs are {sorted(set(step.inputs))}"
    if not access.in_place <= set(step.inputs):
        yield f"in place of {sorted(access.in_place - set(step.inputs))}, which it does not read"
    writes = np.asarray(access.writes)
    arrays = [(t, np.asarray(r)) for t, r in access.reads.items() if t in step.inputs] + [(step.output, writes)]
    for tensor, ranges in arrays:
        if ranges.shape != (len(writes), 2) or ranges.dtype.kind not in "iu":
            yield f"ranges of {tensor!r} are {ranges.dtype} {list(ranges.shape)}, expected integers [{len(writes)}, 2]"
        elif ranges.size and (ranges.min() < 0 or ranges.max() > problem.used_bits(tensor) or (ranges[:, 1] < ranges[:, 0]).any()):
            yield f"ranges of {tensor!r} leave its {problem.used_bits(tensor)} bits, or end before they start"
    if writes.ndim == 2 and (np.diff(writes, axis=0) < 0).any():
        yield f"writes of {step.output!r} do not ascend"
