"""What the inner routines of fast convolutions share: all output channels of a few pixels, two channels at a time.

A routine of `blocks`, `nibble_blocks`, `lane_blocks` or `short_blocks` is straight-line code for short columns, or passes for columns of
any length, the first of which is entered in its middle. Each turn sums a pair of channels over the columns of its pixels; `finish` makes
outputs of the sums.

The assembly and its twin in C do the same, word for word; the host's tests run the twin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tinykit.engine.call import Routine
from tinykit.engine.ctext import filled
from tinykit.engine.kernels.finish import Finish
from tinykit.engine.kernels.widen import Layout

BLOCK = Routine(
    "tk_block",
    """\
/* Some output pixels: their inputs from `x` on, passes until `x_end`; outputs at `out`, `out + second` and so on. `skip`: bytes of code
   that the first pass leaves out. `pairs`: of channels; the initial sums, the weights, the parameters of each. */
typedef struct {
    int32_t second, third;
    int8_t *out;
    const int8_t *x, *x_end;
    int32_t skip;
    const int32_t *pairs;
    int32_t fourth;
} tk_block;

typedef void tk_routine(const tk_block *block);

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 8
#define TK_ASSEMBLY static __attribute__((naked, noinline, noipa, unused))
#else
#define TK_ASSEMBLY static __attribute__((naked, noinline, unused))
#endif
""",
    ("tk_dsp",),
)

STREAM = 16
"""Quads of a pass of the routines for columns of any length."""
_HELPERS = ("tk_dsp", "tk_load32", "tk_smlad", "tk_sxtb16", "tk_sxtb16_ror8", "tk_clamp")


@dataclass(frozen=True)
class Shape:
    """What is common to the shapes of all routines.

    Attributes:
        pixels: 1 to 3, or 1, 2 or 4.
        steps: of a pixel; of a pass. A step is `QUADS` quads.
        stream: there are passes of `steps` steps, of which the first may be entered in its middle (`skip`).
        finish: of the sums.
    """

    pixels: int
    steps: int
    stream: bool
    finish: Finish


class Frame(Shape, ABC):
    """A routine: r1 walks the pairs, r0 the inputs.

    Attributes:
        QUADS: of a step.
        KIND: part of the name.
        PLACES: where on the stack what is needed of the block lies, and how many bytes it has.
        MULTIPLIERS: two registers that, with r0, r11, r12 and lr, are free when the sums are made; the first may be r0.
        STRIDES: registers for the distances of pixels, three of four.
    """

    QUADS: ClassVar[int]
    KIND: ClassVar[str]
    PLACES: ClassVar[dict[str, int]] = {"out": 8, "x": 12, "end": 16, "entry": 20, "bytes": 28}
    MULTIPLIERS: ClassVar[tuple[str, str]] = ("r2", "r3")
    STRIDES: ClassVar[tuple[str, ...]] = ("r2", "r3")

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """Of the column buffer."""

    @property
    @abstractmethod
    def step_instructions(self) -> int:
        """That a step takes."""

    @abstractmethod
    def pair_instructions(self, quads: int) -> int:
        """How many a pair of channels takes."""

    @property
    def name(self) -> str:
        """In C; tells all attributes apart."""
        return f"tk_{self.KIND}{'stream' if self.stream else 'line'}{self.pixels}x{self.steps}{self._flags}{self.finish.tag}"

    @property
    def _flags(self) -> str:
        return ""

    @property
    def _below(self) -> int:
        """Bytes of the stack below what `PLACES` counts."""
        return 0

    def _at(self, what: str) -> int:
        return self._below + self.PLACES[what]

    def skip(self, quads: int) -> int:
        """Bytes of code to leave out for the first pass, where a stream has `quads` quads; the very first step comes before the passes."""
        return (1 - -(-quads // self.QUADS)) % self.steps * self.step_instructions * 4 if self.stream else 0

    def frame_instructions(self, steps: int) -> int:
        """What a pair takes for its steps, the jumps around them, and its stores."""
        passes = 1 + 3 * -(-(steps - 1) // self.steps) if self.stream else 0
        return steps * self.step_instructions + passes + 2 * self.pixels + 2 + (2 if self.finish.narrower else 1) + bool(self._below)

    @property
    def finish_instructions(self) -> int:
        """What a pair takes from the sums that `_sums` leaves to outputs."""
        each = 2 if self.finish.line is not None else 4
        return 2 * self.pixels * (each + self.finish.instructions) + (2 if self.finish.line is not None else 6)

    @property
    def code_bytes(self) -> int:
        """About how many the routine takes."""
        return 4 * self.steps * self.step_instructions + 250

    def routine(self) -> Routine:
        """The definition."""
        lines = "".join(f'        "{line}\\n"\n' for line in self._assembly())
        clobbers = '"r0", "r1", "r2", "r3", "r12", "cc", "memory"'
        text = (
            f"#if TK_DSP\nTK_ASSEMBLY void {self.name}(const tk_block *block __attribute__((unused)))\n{{\n    __asm__ volatile(\n{lines}"
            f"        : : : {clobbers});\n}}\n#else\n{self._twin()}#endif\n"
        )
        return Routine(self.name, text, (*_HELPERS, "tk_smmlar" if self.finish.line is None else "tk_smmla"))

    # ------------------------------------------------------------ assembly

    def _assembly(self) -> Iterator[str]:
        yield "push {r4-r11, lr}"
        yield from self._enter()
        yield from self._begin()
        yield from self._columns()
        yield from self._pass_end()
        if self.stream:
            yield f"ldr r12, [sp, #{self._at('end')}]; cmp r0, r12; bne 1b"
        a, b = self._registers
        yield from self._sums()
        yield from self._on_line(a, b) if self.finish.line is not None else self._twice(a, b)
        yield from self._stores(a, b)
        yield f"add sp, sp, #{self._at('bytes')}"
        yield "pop {r4-r11, pc}"

    def _enter(self) -> Iterator[str]:
        """The block to the stack, its pairs to r1."""
        yield "ldm r0, {r2-r8}"
        if self.stream:
            yield "adr r10, 1f; add r7, r7, r10; orr r7, r7, #1"
        yield "push {r2-r8}"
        yield "mov r1, r8"

    @abstractmethod
    def _begin(self) -> Iterator[str]:
        """The label 0, a pair's initial sums, the inputs to r0."""

    def _columns(self) -> Iterator[str]:
        """All steps but for the jump back to the passes."""
        yield self._step(first=True)
        if self.stream:
            yield f"ldr pc, [sp, #{self._at('entry')}]"
            yield ".balign 4"
            yield "1:"
        yield f".rept {self.steps if self.stream else self.steps - 1}"
        yield self._step()
        yield ".endr"

    @abstractmethod
    def _step(self, first: bool = False) -> str:
        """`QUADS` quads of all pixels; the first of a pair starts from the initial sums."""

    def _pass_end(self) -> Iterator[str]:
        """Behind each pass."""
        yield from ()

    @property
    @abstractmethod
    def _registers(self) -> tuple[Sequence[str], Sequence[str]]:
        """Where `_sums` leaves the sums of the first and the second channel."""

    @abstractmethod
    def _sums(self) -> Iterator[str]:
        """What the steps leave to sums, twice or times the powers of the line; r1 at the multipliers."""

    def _load(self, registers: str) -> str:
        """What reads a pair's parameters, where `_sums` has not."""
        return f"ldm r1!, {{{registers}}}; "

    def _on_line(self, a: Sequence[str], b: Sequence[str]) -> Iterator[str]:
        first, second = self.MULTIPLIERS
        yield f"{self._load(f'{first}, {second}, r11, r12')}asrs lr, r12, #1"
        for r in a:
            yield self.finish.on_line(r, first, "r11")
        for r in b:
            yield self.finish.on_line(r, second, "lr")

    def _twice(self, a: Sequence[str], b: Sequence[str]) -> Iterator[str]:
        free = self.MULTIPLIERS[1]
        yield f"{self._load(f'{free}, r11, r12')}asr r0, r12, #16; lsl r0, r0, r12"
        for r in a:
            yield self.finish.twice(r, free, "r12", "r0")
        yield f"ubfx {free}, r12, #8, #5; asrs r0, r12, #16; lsl r0, r0, {free}"
        for r in b:
            yield self.finish.twice(r, "r11", free, "r0")

    def _stores(self, a: Sequence[str], b: Sequence[str]) -> Iterator[str]:
        """Outputs to their pixels, and back to the next pair; r12 is its last word, carry its mark where no clamp has lost it."""
        loaded = f"{{{', '.join((*self.STRIDES[:2], 'r11', *self.STRIDES[2:]))}}}"
        yield f"add r0, sp, #{self._below}; ldm r0, {loaded}" if self._below else f"ldm sp, {loaded}"
        places = ("[r11], #1", *(f"[r11, {stride}]" for stride in self.STRIDES))
        yield "; ".join(f"strb {rs[i]}, {places[i]}" for rs in (a, b) for i in reversed(range(self.pixels)))
        yield f"str r11, [sp, #{self._at('out')}]"
        mark = "#0x8000" if self.finish.line is None else "#1"
        yield f"tst r12, {mark}; beq 0b" if self.finish.narrower else "bcc 0b"

    # ------------------------------------------------------------ the twin

    @abstractmethod
    def _twin(self) -> str:
        """The same in C."""

    def filled(self, text: str, end: str, values: dict[str, object]) -> str:
        """A twin's text with its end and its values in their places."""
        return filled(text.replace("@END@", end), self.finish.values | {"NAME": self.name, "PIXELS": self.pixels} | values)
