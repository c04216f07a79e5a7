"""Geometry of the arena's map: layers to the right, addresses upwards, in layers and bytes. The template draws it in percent."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinykit.report import curves, numbers

HEIGHT = 300
"""Pixels of the plot; its width follows the page."""
COLOURS = 8
"""Colours of tensors; they repeat."""

_WIDTH, _LEAST_COLUMN = 560, 9  # pixels: of the plot for which labels are placed; of a layer, below which the plot scrolls
_LINE = 15  # pixels of a line of text
_ROOM = 44  # pixels that a label needs from left to right
_TICK_ROOM = 16
_NAMED = 10  # so many layers have their names under the map
_NUMBERS = 24  # so many layers have their numbers there


@dataclass(frozen=True)
class Block:
    """Bytes [offset, offset + size) in use while layers first to last (both included) run.

    Attributes:
        name: of the tensor; of the layer, where it is scratch.
        colour: 1 to COLOURS, 0 for scratch.
    """

    name: str
    offset: int
    size: int
    first: int
    last: int
    colour: int

    @property
    def end(self) -> int:
        """Byte behind the last."""
        return self.offset + self.size

    def meets(self, low: float, high: float) -> bool:
        """Has it bytes between the addresses `low` and `high`?"""
        return self.offset < high and low < self.end


@dataclass(frozen=True)
class Shared:
    """Bytes [offset, offset + size) that two tensors, `names`, both hold while layer `column` runs."""

    column: int
    offset: int
    size: int
    names: tuple[str, str]


@dataclass(frozen=True)
class Label:
    """Text in a block, from the left edge of layer `first` to the right edge of layer `last`; `top`: address of its upper edge."""

    text: str
    size: str
    first: int
    last: int
    top: float
    lines: int


@dataclass(frozen=True)
class ArenaMap:
    """What the template draws.

    Attributes:
        steps: names of the layers in execution order.
        span: address of the upper edge of the plot: the arena's size.
        peak: index of the layer that needs the most bytes whatever the placement is.
        ticks: (address, label, is it the arena's size).
    """

    steps: tuple[str, ...]
    span: int
    bound: int | None
    peak: int
    blocks: tuple[Block, ...]
    shared: tuple[Shared, ...]
    labels: tuple[Label, ...]
    ticks: tuple[tuple[int, str, bool], ...]

    height = HEIGHT

    @property
    def least_width(self) -> int:
        """Pixels below which the plot must scroll."""
        return len(self.steps) * _LEAST_COLUMN

    @property
    def named(self) -> bool:
        """Is there room for the layers' names under the map?"""
        return len(self.steps) <= _NAMED

    def numbered(self, column: int) -> bool:
        """Is there room for this layer's number?"""
        return column % -(-len(self.steps) // _NUMBERS) == 0

    def x(self, column: int, columns: int | None = None) -> str:
        """Left edge of a layer, or the width of so many of them."""
        return _percent(column if columns is None else columns, len(self.steps))

    def y(self, address: float) -> str:
        """Distance of an address from the upper edge."""
        return _percent(self.span - address, self.span)

    def h(self, size: float) -> str:
        """Height of so many bytes."""
        return _percent(size, self.span)

    def when(self, block: Block) -> str:
        """'layer 2 (conv2d_1)' or 'layers 2 (conv2d_1) to 5 (add)'."""
        first = f"{block.first + 1} ({numbers.short(self.steps[block.first])})"
        return (
            f"layer {first}"
            if block.first == block.last
            else f"layers {first} to {block.last + 1} ({numbers.short(self.steps[block.last])})"
        )

    @property
    def scratch(self) -> bool:
        """Does any layer need scratch?"""
        return any(not block.colour for block in self.blocks)


def arena_map(plan: Mapping[str, Any]) -> ArenaMap | None:
    """The map of a plan as `tinykit.export.arena.plan_json` gives it; None where there is none, or nothing in it."""
    steps: Sequence[Mapping[str, Any]] = plan.get("layers") or []
    if not steps or not plan.get("bytes"):
        return None
    blocks = tuple(_blocks(steps))
    span, bound = int(plan["bytes"]), plan.get("lower_bound")
    return ArenaMap(
        steps=tuple(str(step["layer"]) for step in steps),
        span=span,
        bound=bound,
        peak=peak_step(steps),
        blocks=blocks,
        shared=tuple(_shared(steps)),
        labels=tuple(label for block in blocks if (label := _label(block, blocks, span, len(steps)))),
        ticks=tuple(_ticks(span)),
    )


def peak_step(steps: Sequence[Mapping[str, Any]]) -> int:
    """Index of the first layer that needs the most bytes under any placement."""
    needs = [step["least"] if step.get("least") is not None else step.get("bytes") or 0 for step in steps]
    return needs.index(max(needs))


def _blocks(steps: Sequence[Mapping[str, Any]]) -> list[Block]:
    """A block for each tensor's life and one for each layer's scratch, in order of their first layer; empty tensors are left out."""
    open_blocks: dict[tuple[str, int, int], Block] = {}
    colours: dict[str, int] = {}
    found: dict[tuple[str, int, int, int], Block] = {}
    for column, step in enumerate(steps):
        alive: dict[tuple[str, int, int], Block] = {}
        for name, (offset, size) in step["tensors"].items():
            if size:
                colour = colours.setdefault(name, len(colours) % COLOURS + 1)
                before = open_blocks.get((name, offset, size))
                block = Block(name, offset, size, column if before is None else before.first, column, colour)
                alive[name, offset, size] = found[name, offset, size, block.first] = block
        open_blocks = alive
        if step.get("scratch"):
            offset, size = step["scratch"]
            found[f"scratch {column}", offset, size, column] = Block(str(step["layer"]), offset, size, column, column, 0)
    return list(found.values())


def _shared(steps: Sequence[Mapping[str, Any]]) -> Iterable[Shared]:
    """Where two tensors that are alive in the same layer hold the same bytes."""
    for column, step in enumerate(steps):
        places = [(str(name), offset, offset + size) for name, (offset, size) in step["tensors"].items()]
        for index, (name, low, high) in enumerate(places):
            for other, other_low, other_high in places[index + 1 :]:
                start, end = max(low, other_low), min(high, other_high)
                if start < end:
                    yield Shared(column, start, end - start, (name, other))


def _label(block: Block, blocks: Sequence[Block], span: int, columns: int) -> Label | None:
    """Where the name of a block can stand without touching another block: along its upper edge, else its lower one; None: nowhere."""
    if not block.colour:
        return None
    pixel, column_width = span / HEIGHT, max(_WIDTH / columns, _LEAST_COLUMN)
    others = [other for other in blocks if other is not block and other.first <= block.last and block.first <= other.last]
    for lines in (2, 1):
        height = (lines * _LINE + 3) * pixel
        if height > block.size:
            continue
        for top in (float(block.end), block.offset + height):
            first, count = _free_run(block, [other for other in others if other.meets(top - height, top)])
            if count * column_width >= _ROOM:
                return Label(numbers.short(block.name, 32), f"{block.size:,} B", first, first + count - 1, top, lines)
    return None


def _free_run(block: Block, obstacles: Sequence[Block]) -> tuple[int, int]:
    """(first column, columns) of the longest part of a block's life in which no obstacle is alive."""
    best, first = (block.first, 0), block.first
    for column in range(block.first, block.last + 2):
        if column > block.last or any(other.first <= column <= other.last for other in obstacles):
            best = max(best, (first, column - first), key=lambda run: run[1])
            first = column + 1
    return best


def _ticks(span: int) -> list[tuple[int, str, bool]]:
    """Addresses for the axis: round ones, and the arena's size, to which no other comes close."""
    room = span * _TICK_ROOM / HEIGHT
    unit, factor = (" kB", 1000) if span >= 10_000 else (" B", 1)
    rounds = [tick for tick in curves.ticks(0, span, 4) if tick == int(tick) and tick <= span - room]
    return [(int(tick), f"{tick / factor:,g}{unit if tick else ''}", False) for tick in rounds] + [
        (span, numbers.size(span) if factor > 1 else f"{span:,} B", True)
    ]


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.4f}%"
