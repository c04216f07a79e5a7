"""Classes of instructions and a model of their cycles on a Cortex-M4 without wait states.

The model, which is not a measurement: a load costs 2, or 1 when it directly follows a load or a store; a store 1; LDM and STM
(PUSH, POP, VLDM, VSTM) 1 + one per word; LDRD and STRD 1 + 2; a multiplication 1, accumulating or not; a division 7; everything
else 1; a taken change of the program's flow 2 more, so that a taken branch costs 3. An instruction that its IT condition skips
costs 1. Left out: wait states, caches, the address of a load that depends on the instruction before.

Where the words of the model leave a choice:

* "directly follows": the instruction executed just before was a single load or store (not LDM, LDRD), with no taken branch
  in between. A load or store that was skipped counts like one that was executed.
* A return by POP {..., PC} is an LDM and a change of flow: 1 + N + 2. TBB and TBH are a load and a change of flow: 4.
* Arithmetic in floating point is "everything else": 1; VDIV is a division: 7.

A Cortex-M7 issues up to two instructions a cycle, by rules that Arm does not publish: see `bracket_m7`.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import capstone
import numpy as np
from capstone import arm_const

TAKEN = 2
"""Cycles that a taken change of flow adds to the cost of the instruction that causes it."""

CLASSES = (
    "alu",
    "simd",
    "multiply",
    "dual_multiply",
    "divide",
    "load",
    "store",
    "load_multiple",
    "store_multiple",
    "load_double",
    "store_double",
    "branch",
    "it",
    "float",
)
"""What a histogram distinguishes. simd: SXTB16, PKH, SADD16, SSAT, ...; dual_multiply: SMLAD, SMUAD, SMLALD, ..."""

STARTS_WITH_LOAD, ENDS_WITH_ACCESS, NEEDS_FPU = 1, 2, 4
"""Flags of a block."""


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        kind: one of CLASSES.
        cost: cycles when executed and, for a branch, not taken; a load after a load or a store is priced by `costs`.
        single: a load or store of one register: what a following load pipelines with.
        fpu: needs the floating-point unit.
        condition: 0 (EQ) to 13 (LE) inside an IT block, else None.
    """

    address: int
    size: int
    kind: str
    cost: int
    single: bool
    fpu: bool
    condition: int | None


@dataclass(frozen=True)
class Block:
    """Instructions that are executed in a row.

    Attributes:
        instructions: how many.
        cost: cycles, unless the last instruction changes the flow; conditional instructions at their price when skipped.
        flags: of STARTS_WITH_LOAD, ENDS_WITH_ACCESS, NEEDS_FPU.
        classes: int64 [len(CLASSES)], instructions by class.
    """

    address: int
    size: int
    instructions: int
    cost: int
    flags: int
    classes: np.ndarray


def bracket_m7(instructions: int, cycles_m4: int) -> tuple[int, int]:
    """(least, most) cycles on a Cortex-M7: two instructions in every cycle, and the M4 model. Unvalidated on any board."""
    return -(-instructions // 2), cycles_m4


_SIMD = (
    ("SXTB16", "UXTB16", "SXTAB16", "UXTAB16", "PKH", "SEL", "SSAT", "USAT", "USAD", "QADD", "QSUB", "QDADD", "QDSUB", "QASX", "QSAX")
    + ("SASX", "SSAX", "UASX", "USAX", "UQ", "SHADD", "SHSUB", "SHASX", "SHSAX", "UHADD", "UHSUB", "UHASX", "UHSAX")
    + ("SADD16", "SADD8", "SSUB16", "SSUB8", "UADD16", "UADD8", "USUB16", "USUB8")
)
_BY_PREFIX: tuple[tuple[tuple[str, ...], str], ...] = (
    (("VLDM", "FLDM", "VPOP", "LDM", "POP"), "load_multiple"),
    (("VSTM", "FSTM", "VPUSH", "STM", "PUSH"), "store_multiple"),
    (("VLDR", "LDRD"), "load"),
    (("VSTR", "STRD"), "store"),
    (("VDIV",), "divide"),
    (("V",), "float"),
    (("LDR", "LDA"), "load"),
    (("STR", "STL"), "store"),
    (("SMLAD", "SMLSD", "SMLALD", "SMLSLD", "SMUAD", "SMUSD"), "dual_multiply"),
    (("MUL", "MLA", "MLS", "SMUL", "SMLA", "SMLS", "SMM", "UMUL", "UMLA", "UMAAL"), "multiply"),
    (("SDIV", "UDIV"), "divide"),
    (_SIMD, "simd"),
)
_BRANCHES = ("B", "BL", "BX", "BLX", "CBZ", "CBNZ", "TBB", "TBH")


def _kind_of(name: str) -> str:
    """Class of a mnemonic, in capitals."""
    if name in _BRANCHES:
        return "branch"
    if name in ("IT", "LDRD", "STRD"):
        return {"IT": "it", "LDRD": "load_double", "STRD": "store_double"}[name]
    return next((kind for prefixes, kind in _BY_PREFIX if name.startswith(prefixes)), "alu")


_KINDS = {number: _kind_of(key[8:]) for key, number in vars(arm_const).items() if key.startswith("ARM_INS_")}
_NAMES = {number: key[8:] for key, number in vars(arm_const).items() if key.startswith("ARM_INS_")}
_COSTS = {"load": 2, "divide": 7, "load_double": 3, "store_double": 3}
_INDEX = {kind: index for index, kind in enumerate(CLASSES)}


def _cost(kind: str, name: str, operands: str) -> int:
    if kind in ("load_multiple", "store_multiple"):
        registers = operands[operands.find("{") + 1 : operands.rfind("}")].split(",")
        return 1 + sum(2 if register.strip().startswith("d") else 1 for register in registers)
    return 2 if name in ("TBB", "TBH") else _COSTS.get(kind, 1)


def length(halfword: int) -> int:
    """Bytes of the Thumb instruction that begins with this halfword: 2 or 4."""
    return 4 if halfword >> 11 >= 0x1D else 2


def conditions(halfword: int) -> list[int]:
    """Conditions of the instructions that follow an IT instruction; [] if the halfword is not one."""
    if halfword & 0xFF00 != 0xBF00 or not halfword & 15:
        return []
    mask, first = halfword & 15, halfword >> 4 & 15
    count = 4 - ((mask & -mask).bit_length() - 1)
    return [first] + [first & 14 | mask >> (3 - k) & 1 for k in range(count - 1)]


class Decoder:
    """Decodes Thumb code by classes. What the disassembler does not know counts as 'alu'.

    Args:
        sites: addresses of conditional instructions that `block` prices as skipped.
    """

    def __init__(self, sites: frozenset[int] = frozenset()) -> None:
        self._sites = sites
        self._engine = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)

    def instructions(self, code: bytes, address: int) -> Iterator[Instruction]:
        """Every instruction of `code`, which begins at `address` with a whole instruction."""
        known = {entry.address: entry for entry in self._disassemble(code, address)}
        offset, pending = 0, list[int]()
        while offset + 2 <= len(code):
            (halfword,) = struct.unpack_from("<H", code, offset)
            entry, size = known.get(address + offset), length(halfword)
            condition = pending.pop(0) if pending else None
            if entry is None:
                yield Instruction(address + offset, size, "alu", 1, single=False, fpu=False, condition=condition)
            else:
                kind, name = _KINDS.get(entry.id, "alu"), _NAMES.get(entry.id, "")
                cost = _cost(kind, name, entry.op_str)
                yield Instruction(address + offset, size, kind, cost, kind in ("load", "store"), name.startswith(("V", "F")), condition)
            pending = pending or conditions(halfword)
            offset += size

    def block(self, code: bytes, address: int) -> Block:
        """What the instructions of `code` cost when they are executed in a row."""
        classes = np.zeros(len(CLASSES), np.int64)
        found = list(self.instructions(code, address))
        cost = 0
        for entry, cycles in zip(found, costs(found)):
            classes[_INDEX[entry.kind]] += 1
            cost += 1 if entry.address in self._sites else cycles
        flags = STARTS_WITH_LOAD if found and found[0].kind == "load" and found[0].address not in self._sites else 0
        flags |= ENDS_WITH_ACCESS if found and found[-1].single else 0
        flags |= NEEDS_FPU if any(entry.fpu for entry in found) else 0
        return Block(address, len(code), len(found), cost, flags, classes)

    def _disassemble(self, code: bytes, address: int) -> Iterator[capstone.CsInsn]:
        """What the disassembler knows, past what it does not."""
        offset = 0
        while offset + 2 <= len(code):
            for entry in self._engine.disasm(code[offset:], address + offset):
                yield entry
                offset = entry.address - address + entry.size
            if offset + 2 <= len(code):
                offset += length(struct.unpack_from("<H", code, offset)[0])


def costs(instructions: list[Instruction]) -> list[int]:
    """Cycles of each of some instructions in a row, none skipped, no branch taken: a load after a single load or store costs 1."""
    result, after_access = [], False
    for entry in instructions:
        result.append(1 if entry.kind == "load" and after_access else entry.cost)
        after_access = entry.single
    return result


@dataclass(frozen=True)
class Site:
    """An instruction in an IT block that costs 1 when skipped and `more` on top when executed."""

    address: int
    more: int


def conditional_instructions(read: Callable[[int, int], bytes], code: tuple[tuple[int, int], ...]) -> list[Site]:
    """Every instruction in an IT block of the runs of instructions `code` ([start, end)), which `read(address, size)` gives.

    A walk by the lengths of instructions finds the IT instructions; only what follows them is decoded.
    """
    result: dict[int, Site] = {}
    decoder = Decoder()
    for start, end in code:
        data = read(start, end - start)
        offset = 0
        while offset + 2 <= len(data):
            (halfword,) = struct.unpack_from("<H", data, offset)
            count = len(conditions(halfword))
            if count:
                window = list(decoder.instructions(data[offset : offset + 2 + 4 * count], start + offset))[: 1 + count]
                for entry, cost in list(zip(window, costs(window)))[1:]:
                    result[entry.address] = Site(entry.address, cost - 1)
            offset += length(halfword)
    return sorted(result.values(), key=lambda site: site.address)
