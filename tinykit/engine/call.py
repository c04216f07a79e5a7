"""What a kernel hands to the generator: a C function and the arguments of one call of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph.plan.problem import Access

CTYPES = {"int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "uint16": "uint16_t", "int32": "int32_t", "float32": "float"}


@dataclass(frozen=True)
class Records:
    """Where weights lie in a table: records, each of some output channels, the last of which may be shorter.

    Attributes:
        record: elements of a record.
        channels: output channels of a record.
        before, after: elements in front of a record's weights and behind them that are constants of its channels.
        joined: two bytes a and b lie as the halfword a + 256 b.
        apart: the last record is computed with all others or alone.
    """

    record: int
    channels: int
    before: int = 0
    after: int = 0
    joined: bool = False
    apart: bool = False


@dataclass(frozen=True)
class Table:
    """A constant array in flash.

    Attributes:
        role: 'w' weights and what lies between them, 'q' biases and quantisation constants, 'c' other constants: a letter of its name.
        values: one-dimensional array of int8, uint8, int16, uint16, int32 or float32.
        layout: how weights of 8 bits lie in it; None: that is not known.
    """

    role: str
    values: np.ndarray
    layout: Records | None = None

    @property
    def ctype(self) -> str:
        """Element type in C."""
        return CTYPES[self.values.dtype.name]

    @property
    def key(self) -> tuple[str, str, bytes]:
        """Equal for tables that can share their bytes."""
        return self.role, self.values.dtype.name, self.values.tobytes()


@dataclass(frozen=True)
class PadRow:
    """`length` bytes that all hold `value`, in flash; rows of one value share the longest."""

    value: int
    length: int


@dataclass(frozen=True)
class Place:
    """An address in the arena: `offset` bytes behind the start of a tensor (of the op's scratch where `tensor` is None).

    `ctype`: the pointer type that it is passed as, where that is none of bytes."""

    tensor: str | None
    offset: int = 0
    ctype: str = ""


@dataclass(frozen=True)
class Name:
    """A function or another object of the C text that is passed by its name."""

    name: str


Argument = int | Table | PadRow | Place | Name


@dataclass(frozen=True)
class Routine:
    """C text at file level that functions need: a type, or a function that the bodies of several call.

    Attributes:
        name: in C; routines of one name are one routine and have one text.
        text: the definition.
        support: names of helpers that the text uses.
    """

    name: str
    text: str
    support: tuple[str, ...] = ()


@dataclass(frozen=True)
class Function:
    """A C function that several calls may share.

    Attributes:
        name: what it does, e.g. `conv2d_3x3`; the generator makes it unique.
        parameters: (C type, name) in order. A parameter whose value is the same in every call becomes a constant of that name.
        body: statements, indented by four spaces, that use the parameters.
        support: names of helpers from `tinykit.engine.support` that the body calls.
    """

    name: str
    parameters: tuple[tuple[str, str], ...]
    body: str
    support: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """One call of a function.

    Attributes:
        arguments: one for every parameter.
        routines: what the body or the arguments name besides, in the order in which it must be defined.
    """

    function: Function
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    routines: tuple[Routine, ...] = ()

    def __post_init__(self) -> None:
        wanted = {name for _, name in self.function.parameters}
        if wanted != set(self.arguments):
            raise ModelError(f"kernel {self.function.name}: parameters and arguments differ in {sorted(wanted ^ set(self.arguments))}")


@dataclass(frozen=True)
class Storage:
    """How an op's weights lie in flash.

    Attributes:
        scheme: a key of `tinykit.coding.schemes.SCHEMES`; None: as the kernel reads them.
        dense_bytes, bytes: of the weights as the kernel reads them, and as they are stored; constants of channels are not counted.
        instructions: of decoding, an estimate; 0 where nothing is decoded.
        reason: why it is so.
        slices: parts in which output channels are decoded and computed.
        calls: (reverse) -> what is called, one after the other, instead of `Variant.call`; None where nothing is decoded.
    """

    scheme: str | None
    dense_bytes: int
    bytes: int
    instructions: float
    reason: str
    slices: int = 1
    calls: Callable[[bool], tuple[Call, ...]] | None = None


@dataclass(frozen=True)
class Variant:
    """One way to execute one op.

    Attributes:
        access: what it touches, for the planner.
        call: (reverse) -> the C function and its arguments; `reverse` as the plan decides, only if the access is reversible.
        instructions: about how many a Cortex-M4 executes.
        part: (call, first record, last record) -> the same call for the output channels of some records of its weights alone, which
            `Records` defines, the last excluded; None: they must be computed together.
        again: instructions that each such call takes besides those for its channels.
        storage: None where it was not considered to store the weights otherwise.
    """

    access: Access
    call: Callable[[bool], Call]
    instructions: float
    part: Callable[[Call, int, int], Call] | None = None
    again: float = 0
    storage: Storage | None = None
