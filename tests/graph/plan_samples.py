"""Problems for the planner's tests: hand-made kernels, random networks, and slow exhaustive answers to compare with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from tinykit.graph.plan.layout import Layout, build_layout
from tinykit.graph.plan.network import Network
from tinykit.graph.plan.problem import Access, Plan, Problem, Step


def in_bits(access: Access) -> Access:
    """An access whose ranges were given in bytes."""
    reads = {t: np.asarray(r) * 8 for t, r in access.reads.items()}
    return dataclasses.replace(access, reads=reads, writes=np.asarray(access.writes) * 8)


def whole(inputs: dict[str, int], output: int, scratch: int = 0) -> Access:
    """One unit that reads and writes everything; `inputs`: bytes of each, `output`: bytes."""
    return in_bits(Access({t: np.array([[0, n]]) for t, n in inputs.items()}, np.array([[0, output]]), scratch=scratch))


def pixels(inputs: dict[str, int], output: int, count: int, buffered: bool = False, reversible: bool = True) -> Access:
    """Pixel u of the output follows from pixel u of each input; `inputs` and `output`: bytes of a pixel."""
    u = np.arange(count)[:, None]
    return in_bits(Access({t: u * n + [0, n] for t, n in inputs.items()}, u * output + [0, output], buffered, reversible))


def rows(tensor: str, count: int, reach: int, width: int, output: int, stride: int = 1) -> Access:
    """Unit u reads `reach` pixels before and after pixel u * stride, of `count` pixels of `width` bytes; writes `output` bytes."""
    u = np.arange(-(-count // stride))[:, None]
    first, last = np.maximum(u * stride - reach, 0), np.minimum(u * stride + reach + 1, count)
    return in_bits(Access({tensor: np.hstack([first, last]) * width}, u * output + [0, output], reversible=True))


def chain(sizes: list[int], accesses: list[Access], alignment: int = 4) -> Problem:
    """t0 -> t1 -> ...: step n (named "s<n>") reads tensor n and writes tensor n + 1."""
    steps = tuple(Step(f"s{n}", (f"t{n}",), f"t{n + 1}", access) for n, access in enumerate(accesses))
    return Problem({f"t{n}": size for n, size in enumerate(sizes)}, steps, ("t0",), (f"t{len(accesses)}",), alignment=alignment)


def pointwise_chain(channels: list[int], count: int, buffered: bool = False) -> Problem:
    """1 x 1 convolutions over `count` pixels."""
    accesses = [pixels({f"t{n}": c}, channels[n + 1], count, buffered) for n, c in enumerate(channels[:-1])]
    return chain([c * count for c in channels], accesses)


def fork(branches: int) -> Problem:
    """x feeds `branches` branches, each of which widens to 40 bytes and shrinks to 4; all widen before any shrinks in the given order."""
    sizes = {"x": 8}
    steps = []
    for n in range(branches):
        sizes[f"w{n}"] = 40
        steps.append(Step(f"widen{n}", ("x",), f"w{n}", whole({"x": 8}, 40)))
    for n in range(branches):
        sizes[f"n{n}"] = 4
        steps.append(Step(f"narrow{n}", (f"w{n}",), f"n{n}", whole({f"w{n}": 40}, 4)))
    sizes["y"] = 4
    ends = {f"n{n}": 4 for n in range(branches)}
    return Problem(sizes, (*steps, Step("sum", tuple(ends), "y", whole(ends, 4))), ("x",), ("y",))


def _random_ranges(random: np.random.Generator, units: int, size: int) -> np.ndarray:
    """Ranges as kernels have them (ascending, with reach), or any ranges at all; some may be empty."""
    if random.random() < 0.7:
        reach = int(random.integers(0, 4))
        at = np.arange(units) * size // max(units, 1)
        ranges = np.stack([np.maximum(at - reach, 0), np.minimum(at + reach + -(-size // max(units, 1)), size)], 1)
    else:
        ranges = np.sort(random.integers(0, size + 1, (units, 2)), axis=1)
    ranges[random.random(units) < 0.1] = 0
    return ranges


def random_access(random: np.random.Generator, inputs: dict[str, int], output: int, bits: int = 8) -> Access:
    """Any access of inputs (elements of each) and an output that is written completely; `bits`: of an element."""
    units = int(random.integers(1, 7))
    cuts = np.sort(random.integers(0, output + 1, units - 1))
    edges = np.concatenate(([0], cuts, [output]))
    return Access(
        reads={t: _random_ranges(random, units, n) * bits for t, n in inputs.items()},
        writes=np.stack([edges[:-1], edges[1:]], 1) * bits,
        buffered=bool(random.random() < 0.5),
        reversible=bool(random.random() < 0.6),
        in_place=frozenset(t for t in inputs if random.random() < 0.1),
        scratch=int(random.integers(1, 9)) if random.random() < 0.2 else 0,
    )


def random_problem(seed: int, steps: int, largest: int = 24, alignment: int = 4, bits: int = 8) -> Problem:
    """A random network: several inputs and outputs, operands used twice, aliases, tensors that nobody reads.

    `largest`: elements of a tensor, of `bits` bits each."""
    random = np.random.default_rng(seed)
    sizes = {f"in{i}": int(random.integers(1, largest)) for i in range(int(random.integers(1, 3)))}
    inputs, aliases, made = tuple(sizes), {}, []
    for n in range(steps):
        names = list(sizes)
        recent = names[-3:] if random.random() < 0.7 else names
        operands = tuple(str(t) for t in random.choice(recent, int(random.integers(1, 3))))
        output, size = f"t{n}", int(random.integers(1, largest))
        made.append(Step(f"s{n}", operands, output, random_access(random, {t: sizes[t] for t in operands}, size, bits)))
        sizes[output] = size
        if random.random() < 0.15:
            aliases[f"a{n}"] = output
            sizes[f"a{n}"] = size
    names = list(sizes)
    outputs = tuple(dict.fromkeys([names[-1], *(str(t) for t in random.choice(names, int(random.integers(0, 2))))]))
    nbytes = {t: (n * bits + 7) // 8 for t, n in sizes.items()}
    return Problem(nbytes, tuple(made), inputs, outputs, aliases, alignment, {t: n * bits for t, n in sizes.items() if n * bits % 8})


def all_orders(network: Network) -> Iterator[tuple[int, ...]]:
    """Every valid order of the steps."""
    producer = {b: s for s, b in enumerate(network.outputs)}

    def extend(order: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(order) == len(network.outputs):
            yield order
        for s, inputs in enumerate(network.inputs):
            if s not in order and all(producer[b] in order for b in inputs if b in producer):
                yield from extend((*order, s))

    return extend(())


def least_arena(layout: Layout, ceiling: int) -> int:
    """The smallest arena of all placements below `ceiling` bytes, by trying every offset; `ceiling` if there is none."""
    sizes = [item.size for item in layout.items]
    flips = list(range(1 << len(layout.coupled)))
    best = ceiling

    def fits(i: int, offsets: list[int], reverse: frozenset[int]) -> bool:
        for r in layout.relations:
            if max(r.a, r.b) == i:
                difference, (up, down) = offsets[r.a] - offsets[r.b], layout.least(r, reverse)
                if not (difference >= up or -difference >= down or (r.equal and difference == 0)):
                    return False
        return True

    def descend(offsets: list[int], end: int, reverse: frozenset[int]) -> None:
        nonlocal best
        i = len(offsets)
        if i == len(sizes):
            best = min(best, end)
            return
        for offset in range(0, best - sizes[i], layout.unit):
            if max(end, offset + sizes[i]) < best and fits(i, [*offsets, offset], reverse):
                descend([*offsets, offset], max(end, offset + sizes[i]), reverse)

    for flip in flips:
        descend([], 0, frozenset(p for n, p in enumerate(layout.coupled) if flip >> n & 1))
    return best


def best_arena(network: Network, ceiling: int) -> int:
    """The smallest arena of all orders and placements below `ceiling` bytes, or `ceiling`."""
    for order in all_orders(network):
        ceiling = least_arena(build_layout(network, order), ceiling)
    return ceiling


def simulate(problem: Problem, plan: Plan) -> bool:
    """Whether a plan works, bit by bit and unit by unit, as plainly as it can be said."""
    memory: dict[int, tuple[str, int]] = {}

    def intact(tensor: str, first: int, last: int) -> bool:
        return all(memory.get(8 * plan.offsets[tensor] + n) == (problem.owner(tensor), n) for n in range(first, last))

    for t in problem.inputs:
        memory.update({8 * plan.offsets[t] + n: (problem.owner(t), n) for n in range(problem.used_bits(t))})
    for number in plan.order:
        step = problem.steps[number]
        access, output = step.access, step.output
        if step.name in plan.scratch:
            start = plan.scratch[step.name]
            memory.update({8 * start + n: ("scratch", n) for n in range(8 * access.scratch)})
            if any(start <= plan.offsets[output] + n < start + access.scratch for n in range(problem.sizes[output])):
                return False
        copied = {t for t in step.inputs if t in access.in_place and plan.offsets[t] == plan.offsets[output]}
        if not all(intact(t, *r) for t in copied for r in access.reads[t]):
            return False
        units = range(len(access.writes))
        for u in reversed(units) if step.name in plan.reversed else units:
            written = {8 * plan.offsets[output] + n: (problem.owner(output), n) for n in range(*access.writes[u])}
            if not access.buffered:  # the worst case: it writes before it reads
                memory.update(written)
            if not all(intact(t, *access.reads[t][u]) for t in step.inputs if t not in copied):
                return False
            memory.update(written)
    return all(intact(t, 0, problem.used_bits(t)) for t in problem.outputs)


def moved(plan: Plan, tensor: str, by: int, problem: Problem) -> Plan:
    """The plan with a buffer (under all its names) `by` bytes higher, in an arena that holds it."""
    owner = problem.owner(tensor)
    offsets = {t: o + by if problem.owner(t) == owner else o for t, o in plan.offsets.items()}
    return dataclasses.replace(plan, offsets=offsets, arena_bytes=plan.arena_bytes + max(by, 0))


class ConvolutionNet:
    """Convolutions with SAME padding and residual sums over images, one unit a pixel or an element, as portable kernels run them."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shapes: dict[str, tuple[int, int, int]] = {"x": shape}
        self.steps: list[Step] = []

    def _step(self, inputs: tuple[str, ...], shape: tuple[int, int, int], access: Access) -> str:
        name = f"t{len(self.steps)}"
        self.shapes[name] = shape
        self.steps.append(Step(f"s{len(self.steps)}", inputs, name, access))
        return name

    def conv(self, x: str, channels: int, kernel: int, stride: int = 1) -> str:
        height, width, depth = self.shapes[x]
        hulls = []
        for size in (height, width):
            at = np.arange(-(-size // stride)) * stride - max((-(-size // stride) - 1) * stride + kernel - size, 0) // 2
            hulls.append((np.maximum(at, 0), np.minimum(at + kernel, size) - 1))
        first, last = (rows[:, None] * width + columns for rows, columns in zip(*hulls))
        u = np.arange(first.size)[:, None] * channels
        reads = np.stack([first.ravel(), last.ravel() + 1], 1) * depth
        return self._step((x,), (*first.shape, channels), in_bits(Access({x: reads}, u + [0, channels], reversible=True)))

    def add(self, a: str, b: str) -> str:
        return self._step((a, b), self.shapes[a], pixels({a: 1, b: 1}, 1, int(np.prod(self.shapes[a])), buffered=True))

    def problem(self, output: str) -> Problem:
        return Problem({t: int(np.prod(s)) for t, s in self.shapes.items()}, tuple(self.steps), ("x",), (output,))


def random_convolutions(seed: int, blocks: int) -> Problem:
    """Inverted residuals, residuals, parallel branches and plain convolutions, with and without stride."""
    random = np.random.default_rng(seed)
    net = ConvolutionNet((int(random.integers(30, 60)), int(random.integers(30, 60)), int(random.choice([1, 3]))))
    x = net.conv("x", int(random.integers(4, 17)), 3, 2)
    for kind in random.integers(4, size=blocks):
        height, _, depth = net.shapes[x]
        stride = 2 if random.random() < 0.3 and height > 6 else 1
        if kind == 0:
            wide = net.conv(x, depth * int(random.integers(2, 7)), 1)
            y = net.conv(net.conv(wide, net.shapes[wide][2], int(random.choice([3, 5])), stride), depth, 1)
            x = net.add(x, y) if stride == 1 else y
        elif kind == 1:
            y = net.conv(net.conv(x, depth * stride, 3, stride), depth * stride, 3)
            x = net.add(y, x if stride == 1 else net.conv(x, depth * stride, 1, stride))
        elif kind == 2:
            branches = [net.conv(net.conv(x, int(random.integers(4, 20)), 1), depth, kernel, stride) for kernel in (1, 3, 5)]
            x = net.add(net.add(branches[0], branches[1]), branches[2])
        else:
            x = net.conv(net.conv(x, depth, 3, stride), int(random.integers(8, 48)), 1)
    return net.problem(x)
