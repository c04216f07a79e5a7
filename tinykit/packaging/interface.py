"""What a network's generated header says of it: names, sizes, scales."""

import re
from dataclasses import dataclass

from tinykit.errors import ModelError

_ELEMENTS = {"int8_t": 1, "uint8_t": 1, "int16_t": 2, "int32_t": 4, "float": 4}


@dataclass(frozen=True)
class Port:
    """One input or output of a network.

    Attributes:
        name: 'input', 'input_1', 'output', ...: what its C function's name ends with.
        ctype: of an element as it lies in the arena; packed elements lie in 'uint8_t'.
        size: elements.
        shape: of one sample, () where it is a scalar.
        scale, zero_point: real = scale * (stored - zero_point); the text of the scale as C takes it. Of float elements '1.0f' and 0.
        bits, low: of packed elements, which hold stored - low; bits is 8 or more where elements are not packed.
    """

    name: str
    ctype: str
    size: int
    shape: tuple[int, ...]
    scale: str
    zero_point: int
    bits: int
    low: int

    @property
    def packed(self) -> bool:
        """Do several elements share a byte?"""
        return self.bits < 8

    @property
    def bytes(self) -> int:
        """Bytes of one sample."""
        return -(-self.size * self.bits // 8)


@dataclass(frozen=True)
class Interface:
    """The public side of a generated network.

    Attributes:
        name: prefix of its symbols.
        arena_bytes: RAM that one inference needs, input and output included.
        inputs, outputs: in order.
    """

    name: str
    arena_bytes: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def input_bytes(self) -> int:
        """Bytes of all inputs of a sample."""
        return sum(port.bytes for port in self.inputs)

    @property
    def output_bytes(self) -> int:
        """Bytes of all outputs of a sample."""
        return sum(port.bytes for port in self.outputs)


def read_interface(header: str, name: str, where: str) -> Interface:
    """What the header of the network `name` declares.

    Args:
        header: text of <name>.h as tinykit generates it.
        where: its file, for messages.

    Raises:
        ModelError: it is no such header.
    """
    macros = {m[1]: (m[2], m[3] or "") for m in re.finditer(rf"^#define {name.upper()}_(\w+) (\S+)(?: /\* (.*) \*/)?$", header, re.M)}
    found = re.findall(rf"^(?:const )?(\w+) \*{name}_((?:in|out)put(?:_\d+)?)\(", header, re.M)
    try:
        ports = [_port(macros, ctype, port) for ctype, port in found]
        arena = int(macros["ARENA_SIZE"][0])
    except (KeyError, ValueError) as problem:
        raise ModelError(f"{where}: is not a header that tinykit generates ({problem} is missing or no number)") from None
    inputs = tuple(port for port in ports if port.name.startswith("in"))
    outputs = tuple(port for port in ports if port.name.startswith("out"))
    if not inputs or not outputs:
        raise ModelError(f"{where}: is not a header that tinykit generates: it declares no {name}_input or no {name}_output")
    return Interface(name, arena, inputs, outputs)


def _port(macros: dict[str, tuple[str, str]], ctype: str, name: str) -> Port:
    upper = name.upper()
    size, note = macros[f"{upper}_SIZE"]
    shape = tuple(int(part) for part in re.findall(r"\d+", note.partition("elements,")[2]))
    scale = macros.get(f"{upper}_SCALE", ("1.0f", ""))[0]
    zero = int(macros.get(f"{upper}_ZERO_POINT", ("0", ""))[0])
    bits = int(macros.get(f"{upper}_BITS", (str(8 * _ELEMENTS[ctype]), ""))[0])
    return Port(name, ctype, int(size), shape, scale, zero, bits, int(macros.get(f"{upper}_LOW", ("0", ""))[0]))
