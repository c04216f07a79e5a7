"""Exact counts of what the emulated board executes, block by block.

Unicorn announces every block (a run of instructions without a jump into or out of it) before it runs. A block's instructions
and costs are worked out once (cycles.py); executing it adds them up. Where execution stops inside a block, `cut` takes back the
part that did not run; so counts do not depend on where a program was stopped or watched. An instruction that an IT block skips is
issued all the same, and counts. A hook at each conditional instruction of more than one cycle tells whether it was executed; Unicorn
looks through all of them at each, so a program that spends its time in such instructions and has hundreds of them runs slowly.

Two counters give the same numbers: one in C (native.py), one in Python below, tens of times slower, for systems without a compiler.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from unicorn import UC_HOOK_BLOCK, UC_HOOK_CODE, Uc

from tinykit.boards.cycles import CLASSES, ENDS_WITH_ACCESS, NEEDS_FPU, STARTS_WITH_LOAD, TAKEN, Block, Decoder, Site
from tinykit.boards.image import Image

RUNNING, OVER_LIMIT, FPU_OFF, TABLE_FULL, NOT_DECODED = range(5)
"""Why a counter stopped the processor."""

NO_LIMIT = 1 << 62

Reader = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Snapshot:
    """The state of a counter: executions by block, int64 [blocks], and of conditional instructions by site, int64 [sites].

    Attributes:
        runs: how often each block ran.
        taken: after how many of them the flow changed.
        paired: before how many of them the block's first load followed another access.
        executed: how often the conditional instruction at each site was not skipped.
    """

    runs: np.ndarray
    taken: np.ndarray
    paired: np.ndarray
    executed: np.ndarray

    def since(self, earlier: "Snapshot") -> "Snapshot":
        """What ran between `earlier` and this."""

        def less(now: np.ndarray, then: np.ndarray) -> np.ndarray:
            result = now.copy()
            result[: len(then)] -= then
            return result

        return Snapshot(
            less(self.runs, earlier.runs),
            less(self.taken, earlier.taken),
            less(self.paired, earlier.paired),
            less(self.executed, earlier.executed),
        )


class Counter:
    """What the two counters share.

    Args:
        read: read(address, size) -> bytes of the board's memory.
        sites: instructions that cost more when their condition holds.

    Attributes:
        blocks: every block met so far, in the order of the snapshots' arrays.
        status, status_address: why and where the counter stopped the processor, RUNNING if it did not.
    """

    status = RUNNING
    status_address = 0

    def __init__(self, read: Reader, sites: Sequence[Site]) -> None:
        self.blocks: list[Block] = []
        self.sites = tuple(sites)
        self._site_numbers = {site.address: number for number, site in enumerate(self.sites)}
        self._read = read
        self._decoder = Decoder(frozenset(self._site_numbers))

    def _analyse(self, address: int, size: int) -> Block:
        block = self._decoder.block(self._read(address, size), address)
        self.blocks.append(block)
        return block

    @property
    def instructions(self) -> int:
        """Instructions executed since the last reset; while the processor runs, to the end of the current block."""
        raise NotImplementedError

    @property
    def cycles(self) -> int:
        """Cycles of the model in cycles.py since the last reset; while the processor runs, to the end of the current block."""
        raise NotImplementedError

    def reset(self) -> None:
        """Back to zero; what is known of blocks stays."""
        raise NotImplementedError

    def limit(self, instructions: int) -> None:
        """Stops the processor, with the status OVER_LIMIT, before the block that would exceed this total since the last reset."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """Stops the processor before its next block, as at a limit; may be called from another thread."""
        raise NotImplementedError

    def enable_fpu(self, enabled: bool) -> None:
        """Unless enabled, a block with a floating-point instruction stops the processor with the status FPU_OFF."""
        raise NotImplementedError

    def cut(self, address: int) -> None:
        """Execution stopped before the instruction at `address` of the current block: what follows it there did not run."""
        raise NotImplementedError

    def current(self) -> Block | None:
        """The block that was entered last."""
        raise NotImplementedError

    def ahead(self, address: int) -> tuple[int, int]:
        """(instructions, cycles) that are counted already although the processor is only just before `address` in its block."""
        block = self.current()
        if block is None or not block.address <= address < block.address + block.size:
            return 0, 0
        done = self._decoder.block(self._read(block.address, address - block.address), block.address)
        return block.instructions - done.instructions, block.cost - done.cost

    def snapshot(self) -> Snapshot:
        """Executions by block. Exact only while the processor is stopped."""
        raise NotImplementedError

    def histogram(self, part: Snapshot) -> dict[str, int]:
        """Instructions by class (cycles.CLASSES), classes without one left out; a skipped instruction counts."""
        if not self.blocks:
            return {}
        table = np.stack([block.classes for block in self.blocks[: len(part.runs)]])
        totals = part.runs @ table
        return {name: int(n) for name, n in zip(CLASSES, totals) if n}

    def total(self, part: Snapshot) -> tuple[int, int]:
        """(instructions, cycles) of what ran in `part`."""
        rows = self.by_function(part, None).values()
        return sum(row[0] for row in rows), sum(row[1] for row in rows)

    def by_function(self, part: Snapshot, image: Image | None) -> dict[str, tuple[int, int]]:
        """(instructions, cycles) by function, most cycles first; without an image all under ''."""
        sums: dict[str, list[int]] = {}

        def row(address: int) -> list[int]:
            found = image.function_at(address) if image else None
            name = "" if image is None else found.name if found else "?"
            return sums.setdefault(name, [0, 0])

        for number in np.flatnonzero(part.runs | part.taken | part.paired):
            block, runs = self.blocks[number], int(part.runs[number])
            entry = row(block.address)
            entry[0] += runs * block.instructions
            entry[1] += runs * block.cost + TAKEN * int(part.taken[number]) - int(part.paired[number])
        for site, executed in zip(self.sites, part.executed):
            if executed:
                row(site.address)[1] += int(executed) * site.more
        return {name: (n, cycles) for name, (n, cycles) in sorted(sums.items(), key=lambda item: (-item[1][1], item[0]))}


class PythonCounter(Counter):
    """The counter without a compiler, and the specification of the one in C."""

    def __init__(self, engine: Uc, read: Reader, sites: Sequence[Site]) -> None:
        super().__init__(read, sites)
        self._engine = engine
        self._numbers: dict[tuple[int, int], int] = {}
        self._limit, self._fpu = NO_LIMIT, False
        self.reset()
        engine.hook_add(UC_HOOK_BLOCK, self._on_block)
        for number, site in enumerate(self.sites):
            engine.hook_add(UC_HOOK_CODE, self._on_site, user_data=number, begin=site.address, end=site.address)

    def reset(self) -> None:
        """See Counter."""
        self._runs = [0] * len(self.blocks)
        self._taken, self._paired = list(self._runs), list(self._runs)
        self._executed = [0] * len(self.sites)
        self._instructions = self._cycles = 0
        self._last = self._previous = -1
        self._last_taken = self._last_paired = False
        self.status = RUNNING

    @property
    def instructions(self) -> int:
        """See Counter."""
        return self._instructions

    @property
    def cycles(self) -> int:
        """See Counter."""
        return self._cycles

    def limit(self, instructions: int) -> None:
        """See Counter."""
        self._limit, self.status = instructions, RUNNING

    def interrupt(self) -> None:
        """See Counter."""
        self._limit = 0

    def enable_fpu(self, enabled: bool) -> None:
        """See Counter."""
        self._fpu = enabled

    def current(self) -> Block | None:
        """See Counter."""
        return self.blocks[self._last] if self._last >= 0 else None

    def snapshot(self) -> Snapshot:
        """See Counter."""
        return Snapshot(*(np.array(column, np.int64) for column in (self._runs, self._taken, self._paired, self._executed)))

    def _find(self, address: int, size: int) -> int:
        number = self._numbers.get((address, size))
        if number is None:
            number = self._numbers[address, size] = len(self.blocks)
            self._analyse(address, size)
            for column in (self._runs, self._taken, self._paired):
                column.append(0)
        return number

    def _enter(self, number: int) -> None:
        block = self.blocks[number]
        self._last_taken = self._last_paired = False
        if self._last >= 0:
            last = self.blocks[self._last]
            if last.address + last.size != block.address:
                self._taken[self._last] += 1
                self._last_taken = True
                self._cycles += TAKEN
            elif last.flags & ENDS_WITH_ACCESS and block.flags & STARTS_WITH_LOAD:
                self._paired[number] += 1
                self._last_paired = True
                self._cycles -= 1
        self._runs[number] += 1
        self._instructions += block.instructions
        self._cycles += block.cost
        self._previous, self._last = self._last, number

    def _on_block(self, engine: Uc, address: int, size: int, _: Any) -> None:
        if self.status:
            engine.emu_stop()
            return
        number = self._find(address, size)
        block = self.blocks[number]
        if self._instructions + block.instructions > self._limit:
            self.status = OVER_LIMIT
        elif block.flags & NEEDS_FPU and not self._fpu:
            self.status = FPU_OFF
        else:
            self._enter(number)
            return
        self.status_address = address
        engine.emu_stop()

    def cut(self, address: int) -> None:
        """See Counter."""
        if self._last < 0:
            return
        number, block = self._last, self.blocks[self._last]
        if not block.address <= address < block.address + block.size:
            return
        self._runs[number] -= 1
        self._paired[number] -= self._last_paired
        self._instructions -= block.instructions
        self._cycles += self._last_paired - block.cost
        if self._last_taken:
            self._taken[self._previous] -= 1
            self._cycles -= TAKEN
        self._last, self._previous = self._previous, -1
        self._last_taken = self._last_paired = False
        if address > block.address:
            self._enter(self._find(block.address, address - block.address))

        if address in self._site_numbers:  # its hook has run already
            self._add_site(self._site_numbers[address], -1)

    def _on_site(self, engine: Uc, _: int, __: int, number: int) -> None:
        self._add_site(number, 1)

    def _add_site(self, number: int, times: int) -> None:
        self._executed[number] += times
        self._cycles += times * self.sites[number].more
