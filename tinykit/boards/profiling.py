"""What an inference costs on the emulated board, in total and call by call.

The published figure of an inference is what runs from just before the first instruction of `tk_bench_begin` to just before the
first instruction of `tk_bench_end`: the call of the network, and with it the empty marker function `tk_bench_begin` (some three
instructions). Everything is counted exactly; cycles are the model of cycles.py.

`<name>_invoke` is a straight list of calls, one a step of the network, so the n-th call is the n-th step. A call's figures are
those between the first instruction of the callee and its return: the branch to it belongs to `invoke`.

In the cycles of any such stretch, the two of the jump to its first instruction are in, those of the jump out of it are not.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from unicorn.arm_const import UC_ARM_REG_LR, UC_ARM_REG_R0

from tinykit.boards.counting import Snapshot
from tinykit.boards.cycles import Decoder, Instruction, bracket_m7
from tinykit.boards.emulator import MOST_INSTRUCTIONS, EmulatedBoard
from tinykit.boards.linker import STACK_BYTES
from tinykit.boards.memory import BoardFault
from tinykit.boards.table import Board

Found = TypeVar("Found")

M7_NOTE = "bracket of a Cortex-M7 without wait states, not validated on any board"


class StackOverflow(BoardFault):
    """An inference used the whole of the stack, so it may have gone on below it."""


@dataclass(frozen=True)
class CallSite:
    """A call in `invoke`.

    Attributes:
        address: of the branch.
        target: address of the callee, None if it is in a register.
        register: Unicorn's number of that register, None for a direct branch.
        returns: address after the call; None for a tail call, which returns to the caller of `invoke`.
    """

    address: int
    target: int | None
    register: int | None
    returns: int | None


@dataclass(frozen=True)
class CallProfile:
    """One call of `invoke`: everything that ran between entry and return, callees included.

    Attributes:
        callee: the function's name.
        instructions: executed, exactly.
        cycles: the model of cycles.py; on a Cortex-M7 an upper bound, see InferenceRun.
        histogram: instructions by class (cycles.CLASSES).
        functions: instructions by function.
    """

    callee: str
    instructions: int
    cycles: int
    histogram: Mapping[str, int]
    functions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class InferenceRun:
    """One inference.

    Attributes:
        instructions: executed between the markers, exactly.
        cycles: the model of cycles.py for a Cortex-M4 between the markers; on a Cortex-M7 only the upper end of `cycle_bracket`.
        cycle_bracket: (least, most) cycles on a Cortex-M7, not validated on any board; None on a Cortex-M4.
        histogram: instructions by class (cycles.CLASSES).
        functions: (instructions, cycles) by function, most cycles first.
        calls: one a call of `invoke`; [] without an invoke symbol.
        stack: bytes of stack in use or written between the markers, below `_estack`.
    """

    instructions: int
    cycles: int
    cycle_bracket: tuple[int, int] | None
    histogram: Mapping[str, int]
    functions: Mapping[str, tuple[int, int]]
    calls: list[CallProfile]
    stack: int


def call_sites(board: EmulatedBoard, function: str) -> list[CallSite]:
    """The calls of a function that is straight-line code, in order.

    Raises:
        ImageError: no such function.
        BoardFault: the function has a branch of another kind, or a conditional instruction, so the order of its calls is not known.
    """
    symbol = board.image.symbol(function)
    end = symbol.address + symbol.size
    found: list[CallSite] = []
    at: int | None = symbol.address
    while at is not None:
        at = _read_calls(board, function, at, end, found)
    return found


def _read_calls(board: EmulatedBoard, function: str, begin: int, end: int, found: list[CallSite]) -> int | None:
    """Adds the calls from `begin` on; returns where the function goes on behind a jump over a literal pool, None where it ends."""
    code = board.read(begin, end - begin)
    for entry in Decoder().instructions(code, begin):
        raw = code[entry.address - begin :][: entry.size]
        site = _call(entry, raw)
        if site is not None and site.target is not None and begin <= site.target < end:
            if site.target <= entry.address or site.returns is not None:
                where = board.image.where(entry.address)
                raise BoardFault(f"{board.image.path}: {where} jumps back within {function}, which is not a straight list of calls")
            return site.target
        if site is not None:
            found.append(site)
            if site.returns is None:
                return None  # a tail call
        elif _leaves(entry, raw):
            return None
        elif entry.kind in ("branch", "it") or entry.condition is not None:
            where = board.image.where(entry.address)
            raise BoardFault(f"{board.image.path}: {where} decides at run time: {function} is not a straight list of calls")
    return None


def _call(entry: Instruction, raw: bytes) -> CallSite | None:
    """The call that an instruction is, if it is one: BL, BLX <register>, B (a tail call), BX <register> except BX LR."""
    first, second = (*struct.unpack(f"<{len(raw) // 2}H", raw), 0)[:2]
    after = entry.address + entry.size
    if entry.size == 2:
        if first & 0xFF87 in (0x4780, 0x4700) and first >> 3 & 15 != 14:
            return CallSite(entry.address, None, UC_ARM_REG_R0 + (first >> 3 & 15), after if first & 0x80 else None)
        if first & 0xF800 == 0xE000:
            offset = (first & 0x7FF) - (0x800 if first & 0x400 else 0)
            return CallSite(entry.address, after + 2 + 2 * offset, None, None)
        return None
    if first & 0xF800 != 0xF000 or second & 0x9000 != 0x9000:
        return None
    sign, j1, j2 = first >> 10 & 1, second >> 13 & 1, second >> 11 & 1
    offset = (1 - (j1 ^ sign)) << 23 | (1 - (j2 ^ sign)) << 22 | (first & 0x3FF) << 12 | (second & 0x7FF) << 1
    return CallSite(entry.address, after + offset - (sign << 24), None, after if second & 0x4000 else None)


def _leaves(entry: Instruction, raw: bytes) -> bool:
    """Is this instruction a return: BX LR, POP {..., PC}, LDMIA SP!, {..., PC}, LDR PC, [SP], #4?"""
    first, second = (*struct.unpack(f"<{len(raw) // 2}H", raw), 0)[:2]
    if entry.size == 2:
        return first == 0x4770 or first & 0xFF00 == 0xBD00
    return first == 0xE8BD and bool(second & 0x8000) or (first, second) == (0xF85D, 0xFB04)


class _Meter:
    """Figures of what runs from when this is made to when it is read."""

    def __init__(self, board: EmulatedBoard) -> None:
        self._board = board
        self._begin = self._now()

    def _now(self) -> tuple[Snapshot, int, int]:
        return self._board.counter.snapshot(), self._board.instructions, self._board.cycles

    def read(self) -> tuple[int, int, Snapshot]:
        """(instructions, cycles, executions) so far."""
        snapshot, instructions, cycles = self._now()
        return instructions - self._begin[1], cycles - self._begin[2], snapshot.since(self._begin[0])


def profile_calls(
    board: EmulatedBoard, function: str, after_call: Callable[[int], None] | None = None, max_instructions: int = MOST_INSTRUCTIONS
) -> list[CallProfile]:
    """Runs the next execution of a straight-line function and gives what each of its calls cost.

    Stops at the return of the last call.

    Args:
        board: stopped before the function is entered.
        function: its symbol.
        after_call: called with n when the n-th call, from 0, has returned; it may read and write memory.
        max_instructions: of each call.

    Raises:
        ImageError: no such function.
        BoardFault: the function is not straight-line code, or the program failed.
    """
    sites = call_sites(board, function)
    board.run_to(function, max_instructions)
    home = board.register(UC_ARM_REG_LR) & ~1
    result = []
    for number, site in enumerate(sites):
        if board.pc != site.address:  # where the last call has returned to, if nothing is between the two
            board.run_to(site.address, max_instructions)
        target = site.target if site.register is None else board.register(site.register) & ~1
        if target is None:
            raise BoardFault(f"{board.image.path}: {board.image.where(site.address)}: a call of nothing")
        board.run_to(target, max_instructions)
        meter = _Meter(board)
        board.run_to(home if site.returns is None else site.returns, max_instructions)
        instructions, cycles, part = meter.read()
        callee = board.image.function_at(target)
        name = callee.name if callee else f"0x{target:08x}"
        functions = {inner: count for inner, (count, _) in board.counter.by_function(part, board.image).items()}
        result.append(CallProfile(name, instructions, cycles, board.counter.histogram(part), functions))
        if after_call is not None:
            after_call(number)
    return result


def with_enough_stack(attempt: Callable[[int], Found], board: Board, log: Callable[[str], None] = lambda text: None) -> Found:
    """What `attempt` gives with the least reserve of stack, in bytes and in steps of STACK_BYTES, that does not overflow.

    A large window keeps a pointer a tap on the stack, so that no reserve is enough for every network.

    Raises:
        StackOverflow: no reserve that the board has room for is enough.
    """
    stack = STACK_BYTES
    while True:
        try:
            return attempt(stack)
        except StackOverflow:
            if board.ram_bytes is None or stack + STACK_BYTES >= board.ram_bytes:
                raise
            stack += STACK_BYTES
            log(f"the stack overflowed; {stack:,} bytes are reserved for it now")


def run_inference(
    board: EmulatedBoard,
    *,
    begin: str = "tk_bench_begin",
    end: str = "tk_bench_end",
    invoke_symbol: str | None = None,
    after_call: Callable[[int], None] | None = None,
    max_instructions: int = MOST_INSTRUCTIONS,
) -> InferenceRun:
    """Resets the board and runs one inference, from `begin` to `end`; the board is stopped at `end`.

    Args:
        board: with an image that runs one inference between two marker functions.
        begin, end: the markers.
        invoke_symbol: the network's straight-line function, for figures of each call.
        after_call: called with n when the n-th call of `invoke_symbol`, from 0, has returned; needs `invoke_symbol`.
        max_instructions: of each stretch between two stops.

    Raises:
        ImageError: a symbol is missing.
        StackOverflow: the stack is used to its last word.
        BoardFault: the program failed, or `invoke_symbol` is not straight-line code.
    """
    board.reset()
    board.run_to(begin, max_instructions)
    board.paint_stack()
    meter = _Meter(board)
    calls = profile_calls(board, invoke_symbol, after_call, max_instructions) if invoke_symbol else []
    board.run_to(end, max_instructions)
    instructions, cycles, part = meter.read()
    stack = board.stack_high_water
    size = board.address_of("_estack") - board.address_of("_stack_limit")
    if stack == size:
        raise StackOverflow(
            f"{board.board.name}: the stack of {size} bytes is used to its last word, so it may have overflowed; reserve more"
        )
    return InferenceRun(
        instructions=instructions,
        cycles=cycles,
        cycle_bracket=bracket_m7(instructions, cycles) if board.board.core == "cortex-m7f" else None,
        histogram=board.counter.histogram(part),
        functions=board.counter.by_function(part, board.image),
        calls=calls,
        stack=stack,
    )
