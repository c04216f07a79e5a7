"""What a firmware image takes of a board, by kind, counted in the linked program."""

from collections.abc import Collection
from dataclasses import dataclass

from tinykit.boards.image import Image, Symbol
from tinykit.errors import TinykitError

ARENA = "tk_arena"
SELFTEST_FLASH = frozenset({"tk_selftest_input", "tk_selftest_output"})
SELFTEST_RAM = frozenset({"tk_selftest_differences"})
"""Objects of the check, which are not the model's."""

_KINDS = {"tk_w_": "weights", "tk_q_": "quantisation", "tk_c_": "constants"}
"""What the engine's tables are called."""


class SizesError(TinykitError):
    """An image is not laid out as build_firmware lays it out."""


@dataclass(frozen=True)
class Sizes:
    """Bytes of an image.

    Flash: weights + quantisation + constants + code + runtime = total; total + selftest = image.

    Attributes:
        image: what is written to flash: vectors, code, constants, initial values of .data.
        selftest: the self-test vectors in it, which a product leaves out.
        total: flash of the model as it would ship, image - selftest.
        weights: tables called tk_w_*; those of fast convolutions hold their channels' constants too.
        quantisation: tables called tk_q_*: multipliers, shifts, biases.
        constants: tables called tk_c_*.
        code: functions of the generated sources.
        runtime: the rest: vectors, start-up, memory functions, the compiler's arithmetic, bench loop or monitor, padding.
        arena: RAM of the model's tensors.
        static: other static RAM, without what the self-test needs.
        selftest_ram: RAM that only the self-test needs.
        stack_reserved: bytes that the linker script keeps for the stack; what is used of them only a run can tell.
    """

    image: int
    selftest: int
    total: int
    weights: int
    quantisation: int
    constants: int
    code: int
    runtime: int
    arena: int
    static: int
    selftest_ram: int
    stack_reserved: int

    @property
    def tables(self) -> int:
        """Quantisation tables and constants."""
        return self.quantisation + self.constants


def flash_bytes(image: Image) -> int:
    """Bytes from the first to the last that a flash tool writes: the length of `objcopy -O binary`."""
    if not image.segments:
        return 0
    return max(address + len(data) for address, data in image.segments) - min(address for address, _ in image.segments)


def measure(image: Image, model_functions: Collection[str] = ()) -> Sizes:
    """Sizes of an image that build_firmware linked.

    Args:
        model_functions: names of the functions of the generated sources; all others count as runtime.

    Raises:
        SizesError: the image has data that no flash tool would write, or no section that ours have.
    """
    for name in (".isr_vector", ".text", ".bss", ".arena"):
        if name not in image.sections:
            raise SizesError(f"{image.path}: expected a section {name}, as tinykit's linker script makes it; was it linked by another?")
    whole = flash_bytes(image)
    stored = [symbol for symbol in image.symbols.values() if symbol.kind == "object" and _is_stored(image, symbol)]
    by_kind = {kind: sum(s.size for s in stored if s.name.startswith(prefix)) for prefix, kind in _KINDS.items()}
    selftest = sum(s.size for s in stored if s.name in SELFTEST_FLASH)
    code = sum(size for _, size in {(f.address, f.size) for f in image.functions if f.name in model_functions})
    arena = image.symbol(ARENA).size
    ram = sum(s.size for s in image.sections.values() if s.alloc and s.write and s.name != ".arena")
    selftest_ram = sum(image.symbols[name].size for name in SELFTEST_RAM if name in image.symbols)
    total = whole - selftest
    return Sizes(
        image=whole,
        selftest=selftest,
        total=total,
        **by_kind,
        code=code,
        runtime=total - sum(by_kind.values()) - code,
        arena=arena,
        static=ram - selftest_ram,
        selftest_ram=selftest_ram,
        stack_reserved=image.symbol("_estack").address - image.symbol("_stack_limit").address,
    )


def _is_stored(image: Image, symbol: Symbol) -> bool:
    """Whether an object's bytes are in flash: constants, and initial values of variables."""
    stored = (s for s in image.sections.values() if s.alloc and not s.nobits and s.name != ".isr_vector")
    return any(s.address <= symbol.address < s.address + s.size for s in stored)
