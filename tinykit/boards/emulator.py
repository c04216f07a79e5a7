"""A board emulated on Unicorn: its memory map, its UART, exact counts of what runs; the image is the one that would be flashed.

What lies outside the board's memory and its modelled registers faults. Not modelled: interrupts, exceptions (a program that raises
one has failed), caches, wait states, time; unaligned LDRD and LDM, which a core refuses, pass: QEMU is the referee for these.

Traps of Unicorn 2.1 that shape this file: its mode MCLASS forces another core; a stop by timer repeats accesses to registers, so
a program is stopped only from inside a hook; its `until` address does not bind in code that is already translated, so it is not used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unicorn import Uc, UcError
from unicorn import arm_const as arm
from unicorn import unicorn_const as uc

from tinykit.boards.counting import FPU_OFF, NOT_DECODED, OVER_LIMIT, RUNNING, TABLE_FULL, Counter, PythonCounter
from tinykit.boards.cycles import conditional_instructions
from tinykit.boards.image import Image
from tinykit.boards.memory import BoardFault, Memory, painted
from tinykit.boards.native import NativeCounter, library
from tinykit.boards.peripherals import PAGE, Host, Peripherals
from tinykit.boards.serialline import SerialLine, Terminal
from tinykit.boards.table import Board

MOST_INSTRUCTIONS = 20_000_000_000
"""Default budget of a run: some five minutes."""

_NO_END = 1 << 60
_NOWHERE = 0xFFFFFFFE
_CORES = {"cortex-m4f": arm.UC_CPU_ARM_CORTEX_M4, "cortex-m7f": arm.UC_CPU_ARM_CORTEX_M7}
_JUNK = 0xD15EA5E5
_ACCESSES = {
    uc.UC_MEM_READ_UNMAPPED: "read of",
    uc.UC_MEM_READ_PROT: "read of",
    uc.UC_MEM_WRITE_UNMAPPED: "write to",
    uc.UC_MEM_WRITE_PROT: "write to flash at",
    uc.UC_MEM_FETCH_UNMAPPED: "execution at",
    uc.UC_MEM_FETCH_PROT: "execution at",
}
_NO_INSTRUCTION = "an instruction that this core does not have"
_EXCEPTIONS = {1: _NO_INSTRUCTION, 2: "SVC", 3: "a prefetch abort", 4: "a data abort", 7: "BKPT"}


class EmulatedBoard:
    """One board with one image in its flash.

    Args:
        board: from the table; not the host.
        image: what is flashed.
        native: False takes the counter in Python although there is a compiler.

    Attributes:
        board, image: the arguments.
        counter: the counts, for snapshots.
        fault: why the program cannot go on before a reset, None if it can.

    Raises:
        BoardFault: the image does not fit the board, or the board cannot be emulated.
    """

    def __init__(self, board: Board, image: Image, *, native: bool = True) -> None:
        if board.core not in _CORES:
            raise BoardFault(f"{board.name}: a board with the core '{board.core}' cannot be emulated")
        self.board, self.image = board, image
        self._engine = Uc(uc.UC_ARCH_ARM, uc.UC_MODE_THUMB)
        self._engine.ctl_set_cpu_model(_CORES[board.core])
        self._memory = Memory(board, image)
        self._memory.map_into(self._engine)
        self._conditional = conditional_instructions(self._memory.read, image.code)
        self.counter = self._make_counter(native)
        self._line = SerialLine()
        host = Host(lambda: self.cycles, self._stop_for_input, self._fail, self._switch_fpu)
        self._peripherals = Peripherals(board, self._memory, self._line, host)
        for page in self._peripherals.pages:
            self._engine.mmio_map(page, PAGE, self._read_register, page, self._write_register, page)
        self._engine.hook_add(uc.UC_HOOK_MEM_INVALID, self._on_bad_access)
        self._engine.hook_add(uc.UC_HOOK_INTR, self._on_exception)
        self._watchers: dict[int, list[Callable[[EmulatedBoard], None]]] = {}
        self._vectors = self._find_vectors()
        self._terminal: Terminal | None = None
        self._fresh = self._engine.context_save()
        self.reset()

    def _make_counter(self, native: bool) -> Counter:
        sites = [site for site in self._conditional if site.more]
        hooks = library() if native else None
        if hooks is None:
            return PythonCounter(self._engine, self._memory.read, sites)
        return NativeCounter(self._engine, self._memory.read, sites, hooks)

    def _find_vectors(self) -> int:
        """Address of the vector table: the section .isr_vector, or else where the image's part in flash begins."""
        section = self.image.sections.get(".isr_vector")
        if section is not None and section.alloc and section.size >= 8:
            return section.address
        starts = [address for address, _ in self.image.segments if not self._memory.in_ram(address, 1)]
        if not starts:
            raise BoardFault(f"{self.image.path}: nothing in the flash of {self.board.name}, so no vector table")
        return min(starts)

    # ---- running ----

    def reset(self) -> None:
        """As at power-on: RAM and registers hold junk, counts are zero, stack pointer and program counter come from the vector table.

        Flash stays, with what `write` put there. Watchers stay.
        """
        self._memory.fill_ram()
        self.counter.reset()
        self._line.reset()
        self._peripherals.reset()
        self._engine.context_restore(self._fresh)
        for number in range(arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R12 + 1):
            self._engine.reg_write(number, _JUNK)
        stack, start = (int.from_bytes(self.read(self._vectors + k, 4), "little") for k in (0, 4))
        self._engine.reg_write(arm.UC_ARM_REG_SP, stack)
        self._engine.reg_write(arm.UC_ARM_REG_LR, 0xFFFFFFFF)
        if not start & 1:
            raise BoardFault(f"{self.image.path}: the reset vector 0x{start:08x} is no Thumb address")
        self._pc = start & ~1
        self._forget()

    def _forget(self) -> None:
        """No run is under way, none has failed."""
        self._departing: int | None = None
        self._inside: int | None = None
        self._target: int | None = None
        self._reason: str | None = None
        self.fault: BoardFault | None = None

    def run_to(self, where: str | int, max_instructions: int = MOST_INSTRUCTIONS) -> None:
        """Runs until just before the instruction at a symbol or address; at least one instruction is executed.

        Raises:
            ImageError: no such symbol.
            BoardFault: the program did what the board cannot do, or did not get there in `max_instructions`; or the instruction
                is in an IT block, behind whose condition a program cannot be resumed.
        """
        address = self.address_of(where)
        if any(site.address == address for site in self._conditional):
            raise BoardFault(f"{self.board.name}: cannot stop at {self.image.where(address)}, within an IT block")
        self._hook(address)
        self._target = address
        try:
            self._run(max_instructions)
        except BoardFault as problem:
            if self.counter.status == OVER_LIMIT:
                raise BoardFault(f"{problem}; it did not reach {where if isinstance(where, str) else self.image.where(address)}") from None
            raise
        finally:
            self._target = None

    def run_until_input(self, max_instructions: int = MOST_INSTRUCTIONS) -> None:
        """Runs until the program waits for a byte on its UART. Raises BoardFault as `run_to`."""
        self._run(max_instructions)

    def _run(self, max_instructions: int) -> None:
        if self._inside is not None:
            raise BoardFault(f"{self.board.name}: a callback can neither run nor watch the board")
        if self.fault is not None:
            raise self.fault
        if self._terminal is not None:
            raise BoardFault(f"{self.board.name}: a pseudo-terminal is being served; close() it first")
        self._execute(max_instructions)

    def _execute(self, max_instructions: int) -> None:
        """Runs until a hook stops the processor."""
        counter = self.counter
        counter.limit(counter.instructions + max_instructions)
        self._reason = None
        error = ""
        try:
            self._engine.emu_start(self._pc | 1, _NOWHERE)
        except UcError as problem:
            error = _NO_INSTRUCTION if problem.errno == uc.UC_ERR_INSN_INVALID else str(problem)
        self._pc = self._engine.reg_read(arm.UC_ARM_REG_PC) & ~1
        self._departing = None
        if self.fault is None and counter.status != RUNNING:
            self._pc = counter.status_address
            self._fail(_words(counter.status, max_instructions), self._pc, final=counter.status != OVER_LIMIT)
        elif self.fault is None and (error or self._reason is None):
            self._fail(f"{error or 'it stopped by itself (WFI?)'}", self._pc)
        else:
            counter.cut(self._pc)
        if self.fault is not None:
            fault = self.fault
            self.fault = fault if self._reason != "limit" else None
            raise fault
        self._departing = self._pc if self._pc in self._watchers else None

    def _fail(self, text: str, pc: int | None = None, final: bool = True) -> None:
        """Records a fault, the first one of a run, and stops the processor."""
        if self.fault is None:
            place = "" if pc is None else f" at pc=0x{pc:08x} ({self.image.where(pc)})"
            self.fault = BoardFault(f"{self.board.name}: {text}{place}")
            self._reason = "fault" if final else "limit"
        self._engine.emu_stop()

    # ---- hooks ----

    def watch(self, where: str | int, callback: Callable[[EmulatedBoard], None]) -> None:
        """Calls `callback(board)` each time before the instruction at a symbol or address is executed (not: skipped in an IT block).

        The callback may read and write memory; it may not run the board.

        Raises:
            ImageError: no such symbol.
        """
        address = self.address_of(where)
        self._hook(address)
        self._watchers[address].append(callback)

    def _hook(self, address: int) -> None:
        if self._inside is not None:
            raise BoardFault(f"{self.board.name}: a callback can neither run nor watch the board")
        if address not in self._watchers:
            self._watchers[address] = []
            self._engine.hook_add(uc.UC_HOOK_CODE, self._on_instruction, begin=address, end=address)
            self._engine.ctl_flush_tb()  # type: ignore[attr-defined]

    def _on_instruction(self, engine: Uc, address: int, size: int, _: Any) -> None:
        if self._departing == address:
            self._departing = None
            return
        self._inside = address
        try:
            for callback in self._watchers[address]:
                callback(self)
        finally:
            self._inside = None
        if self._target == address:
            self._reason = "target"
            engine.emu_stop()

    def _on_bad_access(self, engine: Uc, access: int, address: int, size: int, value: int, _: Any) -> bool:
        pc = engine.reg_read(arm.UC_ARM_REG_PC)
        caller = (engine.reg_read(arm.UC_ARM_REG_LR) & ~1) - 4
        text = f"bus fault: {size}-byte {_ACCESSES.get(access, 'access to')} 0x{address:08x}"
        self._fail(f"{text} (called from {self.image.where(caller & 0xFFFFFFFF)})", pc)
        return False

    def _on_exception(self, engine: Uc, number: int, _: Any) -> None:
        self._fail(f"{_EXCEPTIONS.get(number, f'exception {number}')}", engine.reg_read(arm.UC_ARM_REG_PC) & ~1)

    def _read_register(self, engine: Uc, offset: int, size: int, page: int) -> int:
        return self._peripherals.read(page + offset)

    def _write_register(self, engine: Uc, offset: int, size: int, value: int, page: int) -> None:
        self._peripherals.write(page + offset, value)

    def _stop_for_input(self) -> None:
        self._reason = "input"
        self._engine.emu_stop()

    def _switch_fpu(self, enabled: bool) -> None:
        self.counter.enable_fpu(enabled)

    # ---- memory ----

    def address_of(self, where: str | int) -> int:
        """The address of a symbol; an address is returned without its Thumb bit. Raises ImageError if there is no such symbol."""
        return self.image.symbol(where).address if isinstance(where, str) else where & ~1

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes of flash or RAM. Raises BoardFault if there are none."""
        return self._memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Writes to RAM, or to constants in flash, as a debugger would; the change survives `reset`, in flash.

        Raises:
            BoardFault: there is no memory, or the program's code is there: what is translated and counted would not be what is written.
        """
        for function in self.image.functions:
            if function.address < address + len(data) and address < function.address + function.size:
                raise BoardFault(f"{self.board.name}: {len(data)} bytes at 0x{address:08x} would overwrite the code of {function.name}")
        self._memory.write(address, data)

    def register(self, number: int) -> int:
        """A register of the core, by Unicorn's number."""
        return self._engine.reg_read(number)

    @property
    def pc(self) -> int:
        """Address of the next instruction."""
        return self._pc if self._inside is None else self._inside

    # ---- figures ----

    @property
    def instructions(self) -> int:
        """Instructions executed since the last reset, exactly; a skipped one in an IT block counts."""
        return self.counter.instructions - (self.counter.ahead(self._inside)[0] if self._inside is not None else 0)

    @property
    def cycles(self) -> int:
        """Cycles of cycles.py's model since the last reset; on a Cortex-M7 no more than an upper bound.

        What a program reads of it (CYCCNT) is the count to the end of the current block.
        """
        return self.counter.cycles - (self.counter.ahead(self._inside)[1] if self._inside is not None else 0)

    def paint_stack(self) -> None:
        """Fills the free part of the stack, from `_stack_limit` to the stack pointer, for `stack_high_water`.

        A reset does the same. Needed once more where the program has painted its stack itself, or where only what runs from here
        on is of interest.

        Raises:
            ImageError: the image has no `_stack_limit` and `_estack`.
            BoardFault: the stack pointer is not in the stack.
        """
        low, high = self.image.symbol("_stack_limit").address, self.image.symbol("_estack").address
        pointer = self._engine.reg_read(arm.UC_ARM_REG_SP)
        if not low <= pointer <= high:
            raise BoardFault(f"{self.board.name}: the stack pointer 0x{pointer:08x} is outside the stack, 0x{low:08x} to 0x{high:08x}")
        self._memory.paint(low, pointer & ~3)

    @property
    def stack_high_water(self) -> int:
        """Bytes from `_estack` down to the lowest word of the stack that was written since it was painted.

        A frame counts as far as it is written. All of it is as much as overflow shows: compare with the stack's size.
        """
        low, high = self.image.symbol("_stack_limit").address, self.image.symbol("_estack").address
        stack, paint = self.read(low, high - low), painted(low, high - low)
        if stack == paint:
            return 0
        first = next(i for i, (a, b) in enumerate(zip(stack, paint)) if a != b)
        return high - ((low + first) & ~3)

    # ---- serial line ----

    def serial_write(self, data: bytes) -> None:
        """Bytes for the board's UART; it reads them when it runs."""
        self._line.feed(data)

    def serial_read(self) -> bytes:
        """What the board has sent since the last call."""
        data = bytes(self._line.sent)
        self._line.sent.clear()
        return data

    def pty(self) -> str:
        """Serves the UART on a pseudo-terminal from a thread of its own, until `close`; returns the terminal's path.

        A fault is kept in `fault`, and sent as the line 'e-[...]' and 'm-ready'.
        """
        if self._terminal is not None:
            raise BoardFault(f"{self.board.name}: a pseudo-terminal is being served already")
        self._terminal = Terminal(self._line, self._serve)
        return self._terminal.path

    def _serve(self) -> None:
        try:
            self._execute(_NO_END)
        except BoardFault as problem:
            if self._line.closed:
                return  # it is `close` that stopped it
            self._line.send(f"\r\ne-[{problem}]\r\nm-ready\r\n".encode())

    def close(self) -> None:
        """Ends the service of `pty`; the program is stopped where it is."""
        if self._terminal is not None:
            self._terminal.close(self.counter.interrupt)
            self._terminal = None


def _words(status: int, limit: int) -> str:
    """Why the counter stopped the processor."""
    return {
        OVER_LIMIT: f"still running after {limit:,} instructions",
        FPU_OFF: "a floating-point instruction before CPACR enables the FPU",
        TABLE_FULL: "more code than the counter can tell apart",
        NOT_DECODED: "a block that cannot be decoded",
    }[status]
