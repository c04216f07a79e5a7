"""Graph and plan to C99 text. Pure: the same graph and plan give the same bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from tinykit.engine import access
from tinykit.engine.call import Argument, Call, Function, Name, PadRow, Place, Routine, Storage, Table, Variant
from tinykit.engine.ctext import array, comment, float_literal
from tinykit.engine.lower import chosen_variants, executed, planned
from tinykit.engine.memory import is_packed, last_mask
from tinykit.engine.select import DEFAULT, Preference
from tinykit.engine.support import HELPERS, with_needs
from tinykit.errors import ModelError
from tinykit.graph import costs, ir
from tinykit.graph.plan.problem import Plan, Problem

_KERNEL_MACRO = """\
#if defined(__GNUC__) && !defined(__clang__)
#define TK_KERNEL static __attribute__((noinline, noclone))
#elif defined(__clang__)
#define TK_KERNEL static __attribute__((noinline))
#else
#define TK_KERNEL static
#endif

/* Helpers; some are called only where others have no assembly. */
#if defined(__GNUC__)
#define TK_INLINE static inline __attribute__((unused))
#else
#define TK_INLINE static inline
#endif

/* Called after every layer with its number; a profiler may define it. As it is, it keeps a compiler from leaving out a layer whose result
   nobody reads: the n-th call stays the n-th layer. */
#ifndef TK_AFTER_LAYER
#if defined(__GNUC__)
#define TK_AFTER_LAYER(arena, layer) __asm__ volatile("" : : : "memory");
#else
#define TK_AFTER_LAYER(arena, layer)
#endif
#endif
"""


@dataclass(frozen=True)
class LayerCall:
    """One call that `<name>_invoke` makes; the n-th entry of `Engine.calls` is the n-th call.

    Attributes:
        op: name of the op; its output can be read from the arena when the call has returned.
        function: name in C.
        flash: bytes of the layer's own tables (those shared with an earlier layer count there).
        storage: how its weights are stored; None where that was not considered.
    """

    op: str
    function: str
    flash: int
    storage: Storage | None = None


@dataclass(frozen=True)
class Engine:
    """A generated network.

    Attributes:
        name: C identifier that all public names begin with.
        graph, problem, plan: what it was made from.
        files: path -> text of `<name>.h` and `<name>.c`.
        calls: in the order in which `<name>_invoke` makes them.
        weight_bytes, table_bytes: of the tables of weights (those of fast convolutions hold their channels' constants too), of others.
    """

    name: str
    graph: ir.Graph
    problem: Problem
    plan: Plan
    files: Mapping[str, str]
    calls: tuple[LayerCall, ...]
    weight_bytes: int
    table_bytes: int

    def where(self, tensor: str) -> tuple[int, int]:
        """(offset in the arena, bytes) of an activation."""
        return self.plan.offsets[tensor], access.tensor_bytes(self.graph.tensors[tensor])


# <name>.h must not hide a header of the C library from those who look for it
_C_HEADERS = frozenset(
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic stdbool stddef "
    "stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype".split()
)


def _taken(name: str) -> bool:
    """Whether a network must not have this name: its header would be one of the C library's, or its names tinykit's own."""
    return name in _C_HEADERS or name == "tk" or name.startswith("tk_")


def c_identifier(name: str) -> str:
    """`name` as a C identifier: what is neither letter nor digit becomes an underscore; never empty, never begins with a digit, never the
    name of a header of C or one of tinykit's own."""
    text = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return text if text and not text[0].isdigit() and not _taken(text) else f"net_{text}".rstrip("_")


def build_engine(graph: ir.Graph, name: str | None = None, preference: Preference = DEFAULT) -> Engine:
    """Plans and generates a network.

    Args:
        name: prefix of the public names; default: the graph's.
        preference: what decides between kernels.

    Raises:
        ModelError: an op has no kernel, or the graph is malformed.
    """
    lowered = planned(graph, preference)
    return generate(lowered.graph, lowered.problem, lowered.plan, c_identifier(name or graph.name), lowered.variants)


def generate(graph: ir.Graph, problem: Problem, plan: Plan, name: str, variants: Mapping[str, Variant] | None = None) -> Engine:
    """The C files of a planned graph.

    Args:
        variants: how each op is executed; default: as `plan_problem` assumes.
    """
    ops = executed(graph)
    ordered = [ops[i] for i in plan.order]
    chosen = chosen_variants(graph) if variants is None else variants
    calls = [_calls(chosen[op.name], op.name in plan.reversed) for op in ordered]
    tables = _Tables()
    for i, made in enumerate(calls):
        tables.add(i, made)
    functions = _functions([call for made in calls for call in made], tables)
    layers = tuple(
        LayerCall(op.name, functions[made[-1].function].name, tables.own_bytes[i], chosen[op.name].storage)
        for i, (op, made) in enumerate(zip(ordered, calls))
    )
    files = {f"{name}.h": _header(graph, plan, name), f"{name}.c": _source(graph, plan, name, ordered, calls, functions, tables)}
    return Engine(name, graph, problem, plan, files, layers, tables.total("w"), tables.total("q") + tables.total("c"))


def _calls(variant: Variant, reverse: bool) -> tuple[Call, ...]:
    """What executes an op: one call, or several where its weights are decoded first."""
    storage = variant.storage
    return (variant.call(reverse),) if storage is None or storage.calls is None else storage.calls(reverse)


class _Tables:
    """Constant arrays, each once, in the order of first use; rows of zero points of one value share the longest."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str, bytes], str] = {}
        self._tables: dict[str, Table] = {}
        self._pads: dict[int, int] = {}
        self.own_bytes: list[int] = []

    def add(self, layer: int, calls: Sequence[Call]) -> None:
        """Takes the tables of a layer's calls."""
        own = 0
        for parameter, argument in (item for call in calls for item in call.arguments.items()):
            if isinstance(argument, PadRow):
                self._pads[argument.value] = max(self._pads.get(argument.value, 0), argument.length)
            elif isinstance(argument, Table) and argument.key not in self._names:
                name = first = f"tk_{argument.role}_{layer}_{parameter}"
                for n in count(1):  # of a layer of several calls, the second has a table of the same parameter
                    if name not in self._tables:
                        break
                    name = f"{first}_{n}"
                self._names[argument.key], self._tables[name] = name, argument
                own += argument.values.nbytes
        self.own_bytes.append(own)

    def expression(self, argument: Argument, offsets: Mapping[str, int], scratch: int) -> str:
        """What a call passes."""
        if isinstance(argument, Table):
            return self._names[argument.key]
        if isinstance(argument, PadRow):
            return _pad_name(argument.value)
        if isinstance(argument, Place):
            base = scratch if argument.tensor is None else offsets[argument.tensor]
            place = f"arena + {base + argument.offset}"
            return f"({argument.ctype})(const void *)({place})" if argument.ctype else place
        return argument.name if isinstance(argument, Name) else str(argument)

    def total(self, role: str) -> int:
        """Bytes of all tables of a role."""
        pads = sum(self._pads.values()) if role == "c" else 0
        return pads + sum(t.values.nbytes for t in self._tables.values() if t.role == role)

    def text(self) -> str:
        """The definitions."""
        parts = [array(t.ctype, name, t.values) for name, t in self._tables.items()]
        parts += [array("int8_t", _pad_name(value), np.full(length, value, np.int8)) for value, length in sorted(self._pads.items())]
        return "\n".join(parts)


def _pad_name(value: int) -> str:
    return f"tk_c_pad_{'m' if value < 0 else ''}{abs(value)}"


@dataclass(frozen=True)
class _Emitted:
    """A function as it is emitted: which parameters are left, which became constants."""

    name: str
    varying: tuple[tuple[str, str], ...]
    text: str


def _functions(calls: Sequence[Call], tables: _Tables) -> dict[Function, _Emitted]:
    """Each distinct function with the parameters in which its calls differ."""
    found: dict[Function, list[Call]] = {}
    for call in calls:
        found.setdefault(call.function, []).append(call)
    names: dict[str, int] = {}
    emitted = {}
    for function, users in found.items():
        names[function.name] = names.get(function.name, 0) + 1
        suffix = f"_{names[function.name]}" if names[function.name] > 1 else ""
        emitted[function] = _emit(function, f"tk_{function.name}{suffix}", users, tables)
    return emitted


def _emit(function: Function, name: str, users: Sequence[Call], tables: _Tables) -> _Emitted:
    varying, integers, pointers = [], [], []
    for ctype, parameter in function.parameters:
        arguments = [call.arguments[parameter] for call in users]
        same = {tables.expression(a, {}, 0) for a in arguments if not isinstance(a, Place)}
        if any(isinstance(a, Place) for a in arguments) or len(same) > 1:
            varying.append((ctype, parameter))
        elif isinstance(arguments[0], int):
            integers.append(f"{parameter} = {arguments[0]}")
        else:  # a pointer that may be stepped, as a parameter may
            pointers.append(f"    {_declare(ctype, parameter)} = {same.pop()};\n")
    head = "" if not integers else _wrap("    enum { ", integers, " };\n", 11)
    signature = _wrap(f"TK_KERNEL void {name}(", [_declare(*p) for p in varying], ")\n", len(f"TK_KERNEL void {name}("))
    return _Emitted(name, tuple(varying), f"{signature}{{\n{head}{''.join(pointers)}{function.body}}}\n")


def _declare(ctype: str, name: str) -> str:
    return f"{ctype}{name}" if ctype.endswith("*") else f"{ctype} {name}"


def _wrap(start: str, items: Sequence[str], end: str, indent: int, width: int = 132) -> str:
    """Items separated by commas, broken into lines."""
    lines, line = [], start
    for i, item in enumerate(items):
        piece = item + (", " if i < len(items) - 1 else "")
        if len(line) + len(piece.rstrip()) > width and len(line) > indent:
            lines.append(line.rstrip())
            line = " " * indent
        line += piece
    return "\n".join([*lines, line]) + end


def _shape(tensor: ir.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _invoke(graph: ir.Graph, plan: Plan, name: str, ops: Sequence[ir.Op], calls: Sequence[Sequence[Call]],
            functions: Mapping[Function, _Emitted], tables: _Tables) -> str:  # fmt: skip
    layers, lines = [], [f"void {name}_invoke(void *memory)\n{{\n    int8_t *const arena = memory;\n"]
    for i, (op, made) in enumerate(zip(ops, calls)):
        statements = []
        for call in made:
            emitted = functions[call.function]
            arguments = [tables.expression(call.arguments[p], plan.offsets, plan.scratch.get(op.name, 0)) for _, p in emitted.varying]
            statements.append(_wrap(f"    {emitted.name}(", arguments, ");\n", 8, 128))
        shapes = ", ".join(_shape(graph.tensors[t]) for t in op.inputs)
        macs = costs.op_macs(graph, op)
        note = f"{i}: {comment(op.name)}, {shapes} -> {_shape(graph.tensors[op.output])}" + (f", {macs} MACs" if macs else "")
        lines.append(f"    /* {note} */\n")
        if len(made) > 1:  # one call a layer: a profiler counts them
            layers.append(f"/* Layer {i}, whose weights are decoded first. */\n")
            layers.append(f"TK_KERNEL void tk_layer_{i}(int8_t *arena)\n{{\n{''.join(statements)}}}\n\n")
            statements = [f"    tk_layer_{i}(arena);\n"]
        lines += statements
        lines.append(f"    TK_AFTER_LAYER(memory, {i})\n")
    if not ops:
        lines.append("    (void)arena;\n")
    return "".join([*layers, *lines]) + "}\n"


def _element(tensor: ir.Tensor) -> str:
    if tensor.dtype == ir.Dtype.FLOAT:
        return "float"
    return {2: "uint8_t", 4: "uint8_t", 8: "int8_t", 16: "int16_t", 32: "int32_t"}[tensor.bits]


def _source(graph: ir.Graph, plan: Plan, name: str, ops: Sequence[ir.Op], calls: Sequence[Sequence[Call]],
            functions: Mapping[Function, _Emitted], tables: _Tables) -> str:  # fmt: skip
    every = [call for made in calls for call in made]
    routines = _routines(every)
    texts = [(call.function.body, call.function.support) for call in every] + [(routine.text, routine.support) for routine in routines]
    used = with_needs(helper for text, support in texts for helper in (*support, *(("tk_dsp",) if "TK_DSP" in text else ())))
    parts = [f"/* {comment(graph.name)}: made by tinykit. Do not edit. */\n", f'#include "{name}.h"\n#include <string.h>\n', _KERNEL_MACRO]
    parts += [text for helper, text in HELPERS.items() if helper in used]
    parts += [routine.text for routine in routines]
    parts.append(tables.text())
    parts += [emitted.text for emitted in functions.values()]
    parts.append(_invoke(graph, plan, name, ops, calls, functions, tables))
    parts.append(_wrappers(graph, plan, name))
    return "\n".join(part for part in parts if part)


def _routines(calls: Sequence[Call]) -> list[Routine]:
    """What the calls need, each once, in the order of first use.

    Raises:
        ModelError: two routines have one name.
    """
    found: dict[str, Routine] = {}
    for routine in (r for call in calls for r in call.routines):
        if found.setdefault(routine.name, routine) != routine:
            raise ModelError(f"two routines are called {routine.name!r}")
    return list(found.values())


def _ports(graph: ir.Graph, names: Sequence[str], word: str) -> list[tuple[str, ir.Tensor]]:
    """(C name, tensor) of the network's inputs or outputs: `input`, `input_1`, ..."""
    return [(word if i == 0 else f"{word}_{i}", graph.tensors[t]) for i, t in enumerate(names)]


def _wrappers(graph: ir.Graph, plan: Plan, name: str) -> str:
    parts = []
    for port, tensor in _ports(graph, graph.inputs, "input"):
        parts.append(
            f"{_element(tensor)} *{name}_{port}(void *memory)\n{{\n    return (void *)((char *)memory + {plan.offsets[tensor.name]});\n}}\n"
        )
    for port, tensor in _ports(graph, graph.outputs, "output"):
        place = f"(const char *)memory + {plan.offsets[tensor.name]}"
        parts.append(f"const {_element(tensor)} *{name}_{port}(const void *memory)\n{{\n    return (const void *)({place});\n}}\n")
    for verb, names, word in (("load", graph.inputs, "input"), ("store", graph.outputs, "output")):
        parts.append(_copy(graph, plan, name, verb, _ports(graph, names, word)))
    parts.append(_check(graph, plan, name))
    run = f"    {name}_load(memory, input);\n    {name}_invoke(memory);\n    {name}_store(memory, output);\n"
    parts.append(f"void {name}_run(void *memory, const void *input, void *output)\n{{\n{run}}}\n")
    return "\n".join(parts)


def _copy(graph: ir.Graph, plan: Plan, name: str, verb: str, ports: Sequence[tuple[str, ir.Tensor]]) -> str:
    """`<name>_load` and `<name>_store`: all inputs or outputs to or from consecutive bytes."""
    load = verb == "load"
    signature = "void *memory, const void *bytes" if load else "const void *memory, void *bytes"
    lines, at = [], 0
    for _, tensor in ports:
        arena, outside = f"(char *)memory + {plan.offsets[tensor.name]}", f"(char *)bytes + {at}"
        target, source = (arena, f"(const {outside[1:]}") if load else (outside, f"(const {arena[1:]}")
        at += access.tensor_bytes(tensor)
        lines.append(f"    memcpy({target}, {source}, {access.tensor_bytes(tensor)});\n")
        if not load and last_mask(tensor) != 255:  # behind the last element lies whatever was there before
            lines.append(f"    ((uint8_t *)bytes)[{at - 1}] &= {last_mask(tensor)};\n")
    return f"void {name}_{verb}({signature})\n{{\n{''.join(lines)}}}\n"


def _check(graph: ir.Graph, plan: Plan, name: str) -> str:
    """`<name>_check`: how many bytes of the outputs differ from what is expected."""
    loops, at = [], 0
    for _, tensor in _ports(graph, graph.outputs, "output"):
        nbytes = access.tensor_bytes(tensor)
        offset, whole = plan.offsets[tensor.name], nbytes - (last_mask(tensor) != 255)
        if whole:
            loops.append(
                f"    for (int32_t i = 0; i < {whole}; ++i) {{\n        wrong += output[{offset} + i] != wanted[{at} + i];\n    }}\n"
            )
        if whole < nbytes:
            loops.append(f"    wrong += ((output[{offset + whole}] ^ wanted[{at + whole}]) & {last_mask(tensor)}) != 0;\n")
        at += nbytes
    head = "    const char *const output = memory, *const wanted = expected;\n    uint32_t wrong = 0;\n"
    return f"uint32_t {name}_check(const void *memory, const void *expected)\n{{\n{head}{''.join(loops)}    return wrong;\n}}\n"


def _port_macros(prefix: str, port: str, tensor: ir.Tensor) -> list[str]:
    lines = [f"#define {prefix}_{port.upper()}_SIZE {tensor.size} /* elements, {_shape(tensor)} */"]
    if tensor.dtype == ir.Dtype.INT:
        lines.append(f"#define {prefix}_{port.upper()}_SCALE {float_literal(tensor.scale)}")
        lines.append(f"#define {prefix}_{port.upper()}_ZERO_POINT {tensor.zero_point}")
    if is_packed(tensor):
        lines.append(f"#define {prefix}_{port.upper()}_BITS {tensor.bits} /* packed */")
        lines.append(f"#define {prefix}_{port.upper()}_LOW {tensor.low}")
    return lines


_PACKED = (
    " * Where there is a BITS, elements are packed: element i is the BITS bits from bit i * BITS on, counted from the lowest bit of",
    " * the first byte, and holds stored - LOW. Bits behind the last element mean nothing; store clears them. */",
)


def _header(graph: ir.Graph, plan: Plan, name: str) -> str:
    prefix, guard = name.upper(), f"{name.upper()}_H"
    inputs, outputs = _ports(graph, graph.inputs, "input"), _ports(graph, graph.outputs, "output")
    totals = [sum(access.tensor_bytes(t) for _, t in ports) for ports in (inputs, outputs)]
    lines = [
        f"/* {comment(graph.name)}: made by tinykit. Do not edit.",
        " *",
        f" * One inference: write the input to {name}_input(arena), call {name}_invoke(arena), read {name}_output(arena).",
        f" * The arena is {prefix}_ARENA_SIZE bytes, aligned to {prefix}_ARENA_ALIGN, and belongs to the caller; nothing else is",
        " * written, and several arenas may be used at once. The input may be overwritten. A real value is",
        " * SCALE * (stored - ZERO_POINT)." + ("" if any(is_packed(t) for _, t in (*inputs, *outputs)) else " */"),
        *(_PACKED if any(is_packed(t) for _, t in (*inputs, *outputs)) else ()),
        f"#ifndef {guard}\n#define {guard}\n",
        "#include <stdint.h>\n",
        '#ifdef __cplusplus\nextern "C" {\n#endif\n',
        f"#define {prefix}_ARENA_SIZE {max(plan.arena_bytes, 1)}",
        f"#define {prefix}_ARENA_ALIGN 4",
        f"#define {prefix}_INPUT_BYTES {totals[0]} /* of all inputs */",
        f"#define {prefix}_OUTPUT_BYTES {totals[1]} /* of all outputs */",
    ]
    for port, tensor in (*inputs, *outputs):
        lines += _port_macros(prefix, port, tensor)
    lines.append("")
    lines += [f"{_element(t)} *{name}_{port}(void *arena);" for port, t in inputs]
    lines.append(f"void {name}_invoke(void *arena);")
    lines += [f"const {_element(t)} *{name}_{port}(const void *arena);" for port, t in outputs]
    lines += [
        "",
        "/* All inputs or outputs one after the other, copied in or out; run does all three steps. */",
        f"void {name}_load(void *arena, const void *input);",
        f"void {name}_store(const void *arena, void *output);",
        f"void {name}_run(void *arena, const void *input, void *output);",
        "",
        "/* Number of output bytes that differ from the expected ones, for a self-test. */",
        f"uint32_t {name}_check(const void *arena, const void *expected);",
        "",
        "#ifdef __cplusplus\n}\n#endif\n#endif",
    ]
    return "\n".join(lines) + "\n"


def check_name(name: str) -> str:
    """A C identifier that the user chose. Raises ModelError where it is none."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name):
        raise ModelError(f"name {name!r}: expected lower-case letters, digits and underscores, at most 31, a letter first")
    if _taken(name):
        owner = f"<{name}.h> is a header of C" if name in _C_HEADERS else "tinykit's own names begin with tk_"
        raise ModelError(f"name {name!r} is taken: {owner}")
    return name
