"""What the emulated boards have beside memory: the UART, the cycle counter, SysTick, system control, and registers that only store.

Anything else faults. There are no interrupts: enabling one is a fault rather than an event that never comes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tinykit.boards.memory import Memory
from tinykit.boards.serialline import SerialLine
from tinykit.boards.table import Board

PAGE = 0x1000
_SCS, _DWT = 0xE000E000, 0xE0001000
_CPUID, _VTOR, _AIRCR, _CPACR = 0xE000ED00, 0xE000ED08, 0xE000ED0C, 0xE000ED88
_SYST_CSR, _SYST_RVR, _SYST_CVR = 0xE000E010, 0xE000E014, 0xE000E018
_NVIC_ISER, _NVIC_ISER_END = 0xE000E100, 0xE000E140
_DWT_CTRL, _DWT_CYCCNT, _DEMCR = 0xE0001000, 0xE0001004, 0xE000EDFC
_CPUIDS = {"cortex-m4f": 0x410FC241, "cortex-m7f": 0x411FC271}
_WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class Host:
    """What peripherals need of the board they are on.

    Attributes:
        cycles: cycles since the last reset.
        stop: stops the processor before the access that is under way, which is repeated when it goes on.
        fault: stops the processor for good, with a reason.
        fpu: told whether floating-point instructions are allowed.
    """

    cycles: Callable[[], int]
    stop: Callable[[], None]
    fault: Callable[[str], None]
    fpu: Callable[[bool], None]


class Uart:
    """The registers of a UART family; `read` and `write` take the offset from its base."""

    def __init__(self, line: SerialLine, host: Host, memory: Memory) -> None:
        self.line, self.host, self.memory = line, host, memory
        self.registers: dict[int, int] = {}

    def reset(self) -> None:
        """State after a reset."""
        self.registers.clear()

    def read(self, offset: int) -> int:
        """Value of a register."""
        return self.registers.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Stores to a register."""
        self.registers[offset] = value

    def has_byte(self) -> bool:
        """Is there a byte? Stops the processor if it waits for one that is not there."""
        ready, stop = self.line.poll()
        if stop:
            self.host.stop()
        return ready


class Usart(Uart):
    """STM32's USART: status, data and control registers at offsets that differ between its two versions."""

    STATUS, RECEIVE, SEND, CONTROL = 0x00, 0x04, 0x04, 0x0C
    ENABLED, SENDER, RECEIVER = 1 << 13, 1 << 3, 1 << 2
    _RECEIVED, _DONE = 1 << 5, 3 << 6  # RXNE; TC and TXE

    def _on(self, bits: int) -> bool:
        return self.registers.get(self.CONTROL, 0) & (self.ENABLED | bits) == self.ENABLED | bits

    def read(self, offset: int) -> int:
        """See Uart."""
        if offset == self.STATUS:
            return self._DONE | (self._RECEIVED if self._on(self.RECEIVER) and self.has_byte() else 0)
        if offset == self.RECEIVE:
            return self.line.take() if self._on(self.RECEIVER) else 0
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """See Uart."""
        super().write(offset, value)
        if offset == self.SEND and self._on(self.SENDER):
            self.line.send(bytes([value & 0xFF]))


class UsartV2(Usart):
    """STM32F7, L4 and H7."""

    STATUS, RECEIVE, SEND, CONTROL = 0x1C, 0x24, 0x28, 0x00
    ENABLED = 1


class Uarte(Uart):
    """nRF52's UARTE: bytes move between the line and RAM by EasyDMA, which cannot reach flash."""

    _START_RX, _START_TX, _END_RX, _END_TX, _ENABLE = 0x000, 0x008, 0x110, 0x120, 0x500
    _RX_POINTER, _RX_SIZE, _RX_AMOUNT = 0x534, 0x538, 0x53C
    _TX_POINTER, _TX_SIZE, _TX_AMOUNT = 0x544, 0x548, 0x54C

    def reset(self) -> None:
        """See Uart."""
        super().reset()
        self._left = self._next = 0

    def read(self, offset: int) -> int:
        """See Uart."""
        if offset == self._END_RX and self._left and self.has_byte():
            self._receive()
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """See Uart."""
        super().write(offset, value)
        if not value or self.registers.get(self._ENABLE) != 8:
            return
        if offset == self._START_TX:
            self._send(super().read(self._TX_POINTER), super().read(self._TX_SIZE))
        elif offset == self._START_RX:
            self._next, self._left = super().read(self._RX_POINTER), super().read(self._RX_SIZE)
            self.registers[self._RX_AMOUNT] = 0
            if not self._in_ram("RXD", self._next, self._left):
                self._left = 0

    def _in_ram(self, what: str, pointer: int, size: int) -> bool:
        inside = self.memory.in_ram(pointer, size)
        if not inside:
            self.host.fault(f"EasyDMA: {what}.PTR 0x{pointer:08x} with {size} bytes is not in RAM; it cannot reach flash")
        return inside

    def _send(self, pointer: int, size: int) -> None:
        if self._in_ram("TXD", pointer, size):
            self.line.send(self.memory.read(pointer, size))
            self.registers[self._TX_AMOUNT] = size
            self.registers[self._END_TX] = 1

    def _receive(self) -> None:
        self.memory.write(self._next, bytes([self.line.take()]))
        self._next, self._left = self._next + 1, self._left - 1
        self.registers[self._RX_AMOUNT] += 1
        if not self._left:
            self.registers[self._END_RX] = 1


UARTS: dict[str, type[Uart]] = {"uarte": Uarte, "usart_v1": Usart, "usart_v2": UsartV2}


class SystemControl:
    """The part of Cortex-M's system control space, and of its trace unit, that polled programs use."""

    def __init__(self, board: Board, host: Host) -> None:
        self.board, self.host = board, host
        self.reset()

    def reset(self) -> None:
        """State after a reset: the FPU is off."""
        self.registers = {_CPUID: _CPUIDS.get(self.board.core, 0)}
        self._counter_start = self._tick_start = self._tick_read = 0
        self.host.fpu(False)

    def read(self, address: int) -> int:
        """Value of a register."""
        if address == _DWT_CYCCNT:
            return self._cycle_counter()
        if address == _SYST_CVR:
            return self._tick()[0]
        if address == _SYST_CSR:
            wraps = self._tick()[1]
            passed, self._tick_read = wraps > self._tick_read, wraps
            return self.registers.get(address, 0) | passed << 16
        return self.registers.get(address, 0)

    def write(self, address: int, value: int) -> None:
        """Stores to a register. What would bring an interrupt or a reset faults."""
        if address == _DWT_CYCCNT:
            self._counter_start, self.registers[address] = self.host.cycles() - value, value
            return
        if address in (_DWT_CTRL, _DEMCR):
            self._hold_counter()
        elif address == _SYST_CVR or address == _SYST_CSR and not self.registers.get(_SYST_CSR, 0) & 1:
            self._tick_start, self._tick_read = self.host.cycles(), 0
        elif address == _CPACR:
            self.host.fpu(value >> 20 & 15 == 15)
        if address == _SYST_CSR and value & 2 or _NVIC_ISER <= address < _NVIC_ISER_END and value:
            self.host.fault(f"write of 0x{value:x} to 0x{address:08x} enables an interrupt; the emulated board has none")
        if address == _AIRCR and value & 4:
            self.host.fault("the program asks for a system reset (AIRCR)")
        if address != _CPUID:
            self.registers[address] = value
        if address in (_DWT_CTRL, _DEMCR):
            self._counter_start = self.host.cycles() - self.registers.get(_DWT_CYCCNT, 0)

    def _counting(self) -> bool:
        return bool(self.registers.get(_DWT_CTRL, 0) & 1 and self.registers.get(_DEMCR, 0) >> 24 & 1)

    def _cycle_counter(self) -> int:
        return (self.host.cycles() - self._counter_start) & _WORD if self._counting() else self.registers.get(_DWT_CYCCNT, 0)

    def _hold_counter(self) -> None:
        """The counter is about to be switched on or off: it goes on from where it stands."""
        self.registers[_DWT_CYCCNT] = self._cycle_counter()

    def _tick(self) -> tuple[int, int]:
        """(SysTick's value, how often it has wrapped)."""
        top = self.registers.get(_SYST_RVR, 0) & 0xFFFFFF
        if not self.registers.get(_SYST_CSR, 0) & 1 or not top:
            return 0, 0
        wraps, passed = divmod(self.host.cycles() - self._tick_start, top + 1)
        return top - passed, wraps


class Peripherals:
    """Everything that is mapped to registers, by pages of 4 KiB.

    Attributes:
        pages: addresses of the pages.
    """

    def __init__(self, board: Board, memory: Memory, line: SerialLine, host: Host) -> None:
        self._system = SystemControl(board, host)
        self._plain: dict[int, int] = {}
        self._base = 0
        self._uart: Uart | None = None
        pages = {_SCS, _DWT}
        if board.uart is not None and board.uart.driver in UARTS:
            self._base = board.uart.base
            self._uart = UARTS[board.uart.driver](line, host, memory)
            pages |= {self._base & -PAGE} | {address & -PAGE for address, _, _ in board.uart.setup}
        self.pages = sorted(pages)
        self.reset()

    def reset(self) -> None:
        """State after a reset."""
        self._plain.clear()
        self._system.reset()
        if self._uart is not None:
            self._uart.reset()

    def read(self, address: int) -> int:
        """Value of the register at `address`."""
        page = address & -PAGE
        if page in (_SCS, _DWT):
            return self._system.read(address)
        if self._uart is not None and page == self._base & -PAGE:
            return self._uart.read(address - self._base)
        return self._plain.get(address, 0)

    def write(self, address: int, value: int) -> None:
        """Stores to the register at `address`."""
        page = address & -PAGE
        if page in (_SCS, _DWT):
            self._system.write(address, value)
        elif self._uart is not None and page == self._base & -PAGE:
            self._uart.write(address - self._base, value)
        else:
            self._plain[address] = value
