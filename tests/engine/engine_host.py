"""Compiles generated networks for this machine and compares every tensor of every layer with the reference executor."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tinykit.engine import access
from tinykit.engine.generate import Engine, build_engine, generate
from tinykit.engine.lower import plan_problem
from tinykit.engine.memory import inputs_of, pack, unpack
from tinykit.graph import ir, reference
from tinykit.graph.plan.problem import Plan, Problem

CC = shutil.which("cc") or shutil.which("gcc")
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
GAP, MARK = 16, 0x5A
needs_cc = pytest.mark.skipif(CC is None, reason="no C compiler on the PATH")

_HOOK = "extern void (*tk_hook)(int);\n#define TK_AFTER_LAYER(arena, layer) if (tk_hook) tk_hook(layer);\n"


@dataclass
class Comparison:
    """Compared elements, and where the first that differs is."""

    mismatches: int = 0
    elements: int = 0
    first: str = ""

    def add(self, what: str, got: np.ndarray, expected: np.ndarray) -> None:
        wrong = (got != expected).ravel()
        self.elements += wrong.size
        self.mismatches += int(wrong.sum())
        if wrong.any() and not self.first:
            i = int(wrong.argmax())
            self.first = f"{what}[{i}]: engine {got.ravel()[i]}, reference {expected.ravel()[i]}"


# ---------------------------------------------------------------- plans


def spread_plan(problem: Problem, reverse: bool = False) -> Plan:
    """Every tensor in a place of its own with gaps between; in reverse every step that can."""
    offsets, scratch, at = {}, {}, GAP
    for t, size in problem.sizes.items():
        if problem.owner(t) == t:
            offsets[t] = at
            at += -(-size // 4) * 4 + GAP
    for t in problem.sizes:
        offsets[t] = offsets[problem.owner(t)]
    for step in problem.steps:
        if step.access.scratch:
            scratch[step.name] = at
            at += -(-step.access.scratch // 4) * 4 + GAP
    backwards = frozenset(s.name for s in problem.steps if reverse and s.access.reversible)
    return Plan(tuple(range(len(problem.steps))), offsets, scratch, backwards, at, at, True, ())


def spread_engine(graph: ir.Graph, reverse: bool = False, name: str = "net") -> Engine:
    """The network without any overlap in memory."""
    graph.validate()
    problem = plan_problem(graph)
    return generate(graph, problem, spread_plan(problem, reverse), name)


def all_engines(graph: ir.Graph) -> dict[str, Engine]:
    """Spread out forward, spread out in reverse, and as planned."""
    return {"forward": spread_engine(graph), "reverse": spread_engine(graph, True), "planned": build_engine(graph, "net")}


# ---------------------------------------------------------------- running


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tinykit-engine-"))
    (folder / "hook.h").write_text(_HOOK)
    return folder


def compile_engine(engine: Engine, flags: tuple[str, ...] = ("-O1",)) -> ctypes.CDLL:
    """The network as a shared library with a hook behind every layer. Fails on any warning."""
    text = engine.files[f"{engine.name}.c"]
    folder = _folder() / hashlib.sha256((text + " ".join(flags)).encode()).hexdigest()[:16]
    library = folder / "net.so"
    if not library.exists():
        folder.mkdir(exist_ok=True)
        write_files(engine, folder)
        with (folder / f"{engine.name}.c").open("a") as f:
            f.write("\nvoid (*tk_hook)(int);\n")
        hook = str(_folder() / "hook.h")
        run_cc([*STRICT, *flags, "-shared", "-fPIC", "-include", hook, str(folder / f"{engine.name}.c"), "-o", str(library)])
    return ctypes.CDLL(str(library))


def write_files(engine: Engine, folder: Path) -> None:
    """The generated files."""
    for name, text in engine.files.items():
        (folder / name).write_text(text)


def run_cc(arguments: list[str]) -> None:
    """Calls the compiler; its messages become the failure."""
    done = subprocess.run([str(CC), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]


def random_inputs(graph: ir.Graph, n: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs over the whole range; the first sample is all least, the last all largest."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for t in (graph.tensors[name] for name in graph.inputs):
        if t.dtype == ir.Dtype.FLOAT:
            inputs[t.name] = rng.normal(0, 1, (n, *t.shape)).astype(np.float32)
            continue
        inputs[t.name] = rng.integers(t.low, t.high + 1, (n, *t.shape))
        inputs[t.name][0], inputs[t.name][-1] = t.low, t.high
    return inputs


def compare(engine: Engine, inputs: dict[str, np.ndarray], flags: tuple[str, ...] = ("-O1",)) -> Comparison:
    """Runs every sample and compares each layer's output when its call has returned, and the network's outputs at the end."""
    graph, library = engine.graph, compile_engine(engine, flags)
    expected = {
        t: np.broadcast_to(v, (len(next(iter(inputs.values()))), *v.shape[1:])) for t, v in reference.run_all(graph, inputs).items()
    }
    produces = {op.name: op.output for op in graph.ops}
    result = Comparison()
    arena = np.full(engine.plan.arena_bytes + 2 * GAP, MARK, np.uint8)
    free = np.ones(len(arena), bool)
    for name in engine.problem.sizes:
        offset, size = engine.where(name)
        free[offset : offset + size] = False
    for step in engine.problem.steps:
        if step.access.scratch:
            offset = engine.plan.scratch[step.name]
            free[offset : offset + step.access.scratch] = False
    sample = 0

    def look(name: str, what: str) -> None:
        t = graph.tensors[name]
        offset, size = engine.where(name)
        result.add(what, unpack(t, arena[offset : offset + size].tobytes()), expected[name][sample])

    def after(layer: int) -> None:
        op = engine.calls[layer].op
        look(produces[op], f"layer {layer} ({op}, {engine.calls[layer].function}), sample {sample}, ")

    callback = ctypes.CFUNCTYPE(None, ctypes.c_int)(after)
    ctypes.c_void_p.in_dll(library, "tk_hook").value = ctypes.cast(callback, ctypes.c_void_p).value
    for sample in range(len(next(iter(inputs.values())))):
        for name in inputs:
            offset, size = engine.where(name)
            arena[offset : offset + size] = np.frombuffer(pack([graph.tensors[name]], inputs, sample), np.uint8)
        getattr(library, f"{engine.name}_invoke")(arena.ctypes.data_as(ctypes.c_void_p))
        for name in graph.outputs:
            look(name, f"output {name}, sample {sample}, ")
    result.add("bytes between tensors", arena[free], np.full(int(free.sum()), MARK, np.uint8))
    result.elements -= int(free.sum())
    return result


def compare_all(graph: ir.Graph, inputs: dict[str, np.ndarray] | None = None, seed: int = 0) -> Comparison:
    """Compares under each of `all_engines`; asserts that nothing differs, and returns the totals."""
    inputs = random_inputs(graph, seed=seed) if inputs is None else inputs
    total = Comparison()
    for name, engine in all_engines(graph).items():
        one = compare(engine, inputs)
        assert one.mismatches == 0, f"{name}: {one.first}"
        total.elements += one.elements
    return total


def run_sanitized(engine: Engine, inputs: dict[str, np.ndarray], folder: Path, like: dict[str, np.ndarray] | None = None) -> Comparison:
    """Runs the network as a program under AddressSanitizer and UndefinedBehaviorSanitizer, the arena exactly as large as it says, and
    compares the outputs. A finding of a sanitizer fails.

    Args:
        like: inputs that the reference takes instead, for inputs whose meaning it does not define.
    """
    write_files(engine, folder)
    name, upper = engine.name, engine.name.upper()
    (folder / "main.c").write_text(f"""\
#include "{name}.h"
#include <stdio.h>
#include <stdlib.h>
int main(void)
{{
    static char input[{upper}_INPUT_BYTES], output[{upper}_OUTPUT_BYTES];
    void *arena = malloc({upper}_ARENA_SIZE);
    while (fread(input, sizeof input, 1, stdin) == 1) {{
        {name}_run(arena, input, output);
        fwrite(output, sizeof output, 1, stdout);
    }}
    free(arena);
    return 0;
}}
""")
    program = folder / "program"
    run_cc([*STRICT, "-O1", "-g", *SANITIZE, str(folder / f"{name}.c"), str(folder / "main.c"), "-o", str(program)])
    graph, n = engine.graph, len(next(iter(inputs.values())))
    given = b"".join(pack(inputs_of(graph), inputs, i) for i in range(n))
    done = subprocess.run([str(program)], input=given, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[:4000]
    expected = reference.run_all(graph, like or inputs)
    result, at = Comparison(), 0
    for i in range(n):
        for t in (graph.tensors[o] for o in graph.outputs):
            size = access.tensor_bytes(t)
            wanted = np.broadcast_to(expected[t.name], (n, *t.shape))[i]
            result.add(f"output {t.name}, sample {i}, ", unpack(t, done.stdout[at : at + size]), wanted)
            at += size
    assert at == len(done.stdout)
    return result


@cache
def sanitizers() -> bool:
    """Whether the compiler can link the sanitizers."""
    if CC is None:
        return False
    source = _folder() / "empty.c"
    source.write_text("int main(void) { return 0; }\n")
    return subprocess.run([CC, *SANITIZE, str(source), "-o", str(_folder() / "empty")], capture_output=True).returncode == 0


def tampered(engine: Engine, old: str, new: str) -> Engine:
    """The same network with a change in its C text, which must occur once."""
    source = engine.files[f"{engine.name}.c"]
    assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times"
    return dataclasses.replace(engine, files={**engine.files, f"{engine.name}.c": source.replace(old, new)})
