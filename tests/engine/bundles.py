"""Many generated networks in one program, on this computer or on boards: every tensor of every sample against the reference executor.

A compiler's start costs more than a small network, so a bundle shares it. On a board the networks lie one behind the other in one arena,
with marked gaps between them; the firmware is the one that any network gets.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from tinykit.boards.emulator import EmulatedBoard
from tinykit.boards.firmware import build_firmware
from tinykit.boards.image import Image
from tinykit.boards.profiling import profile_calls
from tinykit.boards.serial_harness import Device
from tinykit.boards.table import Board
from tinykit.boards.toolchain import HostCompiler, build_host_program
from tinykit.engine.access import tensor_bytes
from tinykit.engine.generate import Engine, build_engine
from tinykit.engine.memory import Samples, inputs_of, outputs_of, pack, random_samples, unpack
from tinykit.engine.select import DEFAULT, Preference
from tinykit.engine.selftest import selftest_header, selftest_source
from tinykit.graph import ir, reference

GAP, MARK = 12, 0xA5
"""Bytes between two networks' memories on a board; 12, so that an arena is aligned to 4 and no more."""

_SECONDS = 300
_INSTRUCTIONS = 100_000_000
"""Of one call on a board: far more than any network here has."""


@dataclass
class Comparison:
    """Elements compared, and where the first that differs is.

    Attributes:
        mismatches, elements: over all tensors.
        first: the first difference in words.
        digest: of all bytes compared, in order: equal for two machines that answer the same.
    """

    mismatches: int = 0
    elements: int = 0
    first: str | None = None
    bad: set[str] = field(default_factory=set)
    digest: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)

    def add(self, case: Case, sample: int, tensor: ir.Tensor, data: bytes, what: str) -> None:
        """Compares the bytes of one sample of a tensor."""
        want, got = case.truth[tensor.name][sample], unpack(tensor, data)
        self.digest.update(pack([tensor], {tensor.name: got[None]}, 0))  # without what lies behind the last element
        wrong = got != want
        count = int(np.count_nonzero(wrong))
        self.elements += want.size
        self.mismatches += count
        if count:
            self._note(case, f"{what} {tensor.name!r}, sample {sample}: {count} of {want.size} elements differ")

    def damaged(self, case: Case, text: str) -> None:
        """Notes a difference that is no element's."""
        self.mismatches += 1
        self._note(case, text)

    def _note(self, case: Case, text: str) -> None:
        self.bad.add(case.name)
        self.first = self.first or f"network {case.name}: {text}"


@dataclass(frozen=True)
class Case:
    """A network with inputs; `engine.name` is unique in a bundle."""

    engine: Engine
    samples: Samples

    @property
    def name(self) -> str:
        return self.engine.name

    @property
    def graph(self) -> ir.Graph:
        return self.engine.graph

    @cached_property
    def count(self) -> int:
        """Number of samples."""
        return len(next(iter(self.samples.values())))

    @cached_property
    def truth(self) -> reference.Values:
        """Every tensor of the reference executor, [count, ...] also where it follows from constants alone."""
        values = reference.run_all(self.graph, dict(self.samples))
        return {name: np.broadcast_to(v, (self.count, *v.shape[1:])) for name, v in values.items()}

    def inputs(self, sample: int) -> bytes:
        """The bytes of one sample's inputs."""
        return pack(inputs_of(self.graph), self.samples, sample)

    def outputs(self, sample: int) -> bytes:
        """The bytes that one sample's outputs must have."""
        return pack(outputs_of(self.graph), self.truth, sample)

    def layers(self) -> list[ir.Tensor]:
        """What each call of `invoke` writes."""
        outputs = {op.name: op.output for op in self.graph.ops}
        return [self.graph.tensors[outputs[call.op]] for call in self.engine.calls]


def make_case(graph: ir.Graph, name: str, samples: int, seed: int, preference: Preference = DEFAULT) -> Case:
    """A planned and generated network with random inputs; float inputs hold halves of a step too, where rounding decides."""
    inputs = dict(random_samples(graph, samples, seed))
    rng = np.random.default_rng(seed)
    for tensor in inputs_of(graph):
        if tensor.dtype == ir.Dtype.FLOAT:
            step = next((graph.tensors[op.output].scale for op in graph.readers(tensor.name) if isinstance(op, ir.Quantize)), 1.0)
            inputs[tensor.name][0] = (rng.integers(-600, 600, tensor.shape) * 0.5 * step).astype(np.float32)
    return Case(build_engine(graph, name, preference), inputs)


# ---------------------------------------------------------------- this computer

_HOOK = "void tk_after_layer(void *, int);\n#define TK_AFTER_LAYER(arena, layer) tk_after_layer((arena), (layer));\n"

_MAIN = """\
typedef struct { int32_t offset, bytes; } Span;
typedef struct {
    size_t arena, input, output;
    void (*load)(void *, const void *);
    void (*invoke)(void *);
    void (*store)(const void *, void *);
    uint32_t (*check)(const void *, const void *);
    const Span *layers;
} Net;
@SPANS@
static const Net nets[] = {
@NETS@};
static const Span *layers;

void tk_after_layer(void *arena, int layer)
{
    fwrite((char *)arena + layers[layer].offset, 1, (size_t)layers[layer].bytes, stdout);
}

int main(void)
{
    for (size_t n = 0; n < sizeof nets / sizeof *nets; ++n) {
        const Net net = nets[n];
        for (size_t sample = 0; sample < @SAMPLES@; ++sample) {
            const size_t shift = sample % 2 * 4; /* an arena need not be aligned to more than 4 */
            char *const memory = malloc(shift + net.arena), *const arena = memory + shift;
            char *const input = malloc(net.input), *const output = malloc(net.output);
            if (!memory || !input || !output || fread(input, 1, net.input, stdin) != net.input) {
                return 2;
            }
            memset(memory, @MARK@, shift + net.arena);
            layers = net.layers;
            net.load(arena, input);
            net.invoke(arena);
            net.store(arena, output);
            fwrite(output, 1, net.output, stdout);
            if (net.check(arena, output) != 0) {
                fprintf(stderr, "network %d: its check does not know its own output\\n", (int)n);
                return 3;
            }
            free(output);
            free(input);
            free(memory);
        }
    }
    return 0;
}
"""


def run_on_host(
    cases: Sequence[Case], folder: Path, *, sanitize: bool = False, optimize: str = "-O2", compiler: HostCompiler | None = None
) -> Comparison:
    """Every tensor of every network in one program of this computer; each arena is exactly as large as its network says.

    Raises:
        RuntimeError: the program ended early, with the words of the sanitizer if it was one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = [folder / "main.c"]
    for case in cases:
        for path, text in case.engine.files.items():
            (folder / path).write_text((_HOOK if path.endswith(".c") else "") + text, encoding="utf-8")
        sources.append(folder / f"{case.name}.c")
    sources[0].write_text(_main(cases), encoding="utf-8")
    program = build_host_program(sources, folder / "program", sanitize=sanitize, include=[folder], optimize=optimize, compiler=compiler)
    given = b"".join(case.inputs(i) for case in cases for i in range(case.count))
    done = subprocess.run([str(program)], input=given, capture_output=True, timeout=_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"the program ended with {done.returncode}: {done.stderr.decode(errors='replace')[:3000]}")
    found, rest = Comparison(), memoryview(done.stdout)
    for case in cases:
        for sample in range(case.count):
            for what, tensors in (("tensor", case.layers()), ("output", outputs_of(case.graph))):
                for tensor in tensors:
                    nbytes = tensor_bytes(tensor)
                    found.add(case, sample, tensor, bytes(rest[:nbytes]), what)
                    rest = rest[nbytes:]
    if rest:
        raise RuntimeError(f"the program wrote {len(rest)} bytes too many")
    return found


def _main(cases: Sequence[Case]) -> str:
    spans, nets = [], []
    for case in cases:
        name, upper = case.name, case.name.upper()
        places = [case.engine.where(t.name) for t in case.layers()] or [(0, 0)]
        spans.append(f"static const Span {name}_layers[] = {{{', '.join(f'{{{o}, {n}}}' for o, n in places)}}};\n")
        sizes = f"{upper}_ARENA_SIZE, {upper}_INPUT_BYTES, {upper}_OUTPUT_BYTES"
        functions = ", ".join(f"{name}_{f}" for f in ("load", "invoke", "store", "check"))
        nets.append(f"    {{{sizes}, {functions}, {name}_layers}},\n")
    includes = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n" + "".join(f'#include "{c.name}.h"\n' for c in cases)
    text = _MAIN.replace("@SPANS@", "".join(spans)).replace("@NETS@", "".join(nets))
    return includes + text.replace("@SAMPLES@", str(cases[0].count)).replace("@MARK@", str(MARK))


# ---------------------------------------------------------------- boards


def _places(cases: Sequence[Case]) -> list[int]:
    """Where each network's memory begins in the common arena."""
    offsets, at = [], GAP
    for case in cases:
        offsets.append(at)
        at += -(-case.engine.plan.arena_bytes // 4) * 4 + GAP
    return [*offsets, at]


def bundle_sources(cases: Sequence[Case]) -> dict[str, str]:
    """What build_firmware needs: the networks as one model, whose input and output are theirs one behind the other."""
    given, wanted = (b"".join(part) for part in ([c.inputs(0) for c in cases], [c.outputs(0) for c in cases]))
    *offsets, total = _places(cases)
    bodies: dict[str, list[str]] = {"load": [], "invoke": [], "store": [], "check": []}
    at_input = at_output = 0
    for case, offset in zip(cases, offsets):
        bodies["load"].append(f"    {case.name}_load((char *)arena + {offset}, (const char *)bytes + {at_input});\n")
        bodies["invoke"].append(f"    {case.name}_invoke((char *)arena + {offset});\n")
        bodies["store"].append(f"    {case.name}_store((const char *)arena + {offset}, (char *)bytes + {at_output});\n")
        bodies["check"].append(f"    wrong += {case.name}_check((const char *)arena + {offset}, (const char *)bytes + {at_output});\n")
        at_input, at_output = at_input + len(case.inputs(0)), at_output + len(case.outputs(0))
    signatures = {
        "load": "void tk_model_load(void *arena, const void *bytes)",
        "invoke": "void tk_model_invoke(void *arena)",
        "store": "void tk_model_store(const void *arena, void *bytes)",
        "check": "uint32_t tk_model_check(const void *arena, const void *bytes)",
    }
    bodies["check"] = ["    uint32_t wrong = 0;\n", *bodies["check"], "    return wrong;\n"]
    header = (
        '#ifndef TK_MODEL_H\n#define TK_MODEL_H\n#include <stdint.h>\n#include "tk_selftest.h"\n#define TK_MODEL_NAME "bundle"\n'
        f"#define TK_ARENA_SIZE {total}\n#define TK_INPUT_SIZE {len(given)}\n#define TK_OUTPUT_SIZE {len(wanted)}\n"
        f"{''.join(f'{s};{chr(10)}' for s in signatures.values())}#endif\n"
    )
    model = '#include "tk_model.h"\n' + "".join(f'#include "{case.name}.h"\n' for case in cases)
    model += "".join(f"{signature}\n{{\n{''.join(bodies[name])}}}\n" for name, signature in signatures.items())
    files = {path: text for case in cases for path, text in case.engine.files.items()}
    return {
        **files, "tk_model.h": header, "bundle.c": model,
        "tk_selftest.h": selftest_header("tk", given, wanted), "tk_selftest.c": selftest_source("tk", given, wanted),
    }  # fmt: skip


def run_on_board(cases: Sequence[Case], board: Board, folder: Path, *, toolchain: str | None = None, optimize: str = "-O3") -> Comparison:
    """Every tensor of every network in one firmware on an emulated board; each sample from a reset.

    Raises:
        BuildError, BudgetError, BoardFault.
    """
    build = build_firmware(bundle_sources(cases), board, folder, toolchain=toolchain, optimize=optimize)
    emulated = EmulatedBoard(board, Image.load(build.elf))
    arena, vector = (emulated.image.symbol(name).address for name in ("tk_arena", "tk_selftest_input"))
    *offsets, total = _places(cases)
    ends = [0, *(offset + case.engine.plan.arena_bytes for case, offset in zip(cases, offsets))]
    gaps = list(zip(ends, [*offsets, total]))
    found = Comparison()
    for sample in range(cases[0].count):
        emulated.write(vector, b"".join(case.inputs(sample) for case in cases))
        emulated.reset()
        emulated.run_to("tk_bench_begin", _INSTRUCTIONS)
        for first, last in gaps:
            emulated.write(arena + first, bytes([MARK]) * (last - first))
        for case, offset in zip(cases, offsets):
            _call_by_call(emulated, case, arena + offset, sample, found)
        emulated.run_to("tk_bench_end", _INSTRUCTIONS)
        for case, offset in zip(cases, offsets):
            for tensor in outputs_of(case.graph):
                place, nbytes = case.engine.where(tensor.name)
                found.add(case, sample, tensor, emulated.read(arena + offset + place, nbytes), "output")
        for case, (first, last) in zip([cases[0], *cases], gaps):
            if emulated.read(arena + first, last - first) != bytes([MARK]) * (last - first):
                found.damaged(case, f"sample {sample}: bytes beside its memory were written")
    return found


def _call_by_call(emulated: EmulatedBoard, case: Case, base: int, sample: int, found: Comparison) -> None:
    layers = case.layers()

    def look(call: int) -> None:
        tensor = layers[call]
        place, nbytes = case.engine.where(tensor.name)
        found.add(case, sample, tensor, emulated.read(base + place, nbytes), "tensor")

    profile_calls(emulated, f"{case.name}_invoke", look, _INSTRUCTIONS)


def run_on_monitor(cases: Sequence[Case], device: Device) -> Comparison:
    """The outputs of every network through the monitor of a device that runs the bundle."""
    found = Comparison()
    for sample in range(cases[0].count):
        device.load(b"".join(case.inputs(sample) for case in cases))
        device.infer(1)
        rest = device.output()
        for case, tensor in ((c, t) for c in cases for t in outputs_of(c.graph)):
            nbytes = tensor_bytes(tensor)
            found.add(case, sample, tensor, rest[:nbytes], "output")
            rest = rest[nbytes:]
    return found


def parts(cases: Sequence[Case], size: int) -> Iterator[Sequence[Case]]:
    """Bundles of at most `size` networks."""
    for start in range(0, len(cases), size):
        yield cases[start : start + size]
