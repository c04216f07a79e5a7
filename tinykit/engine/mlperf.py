"""MLPerf Tiny's tasks: the names by which the official runner chooses its script, and the form in which that script sends inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinykit.config.catalogue import check_name
from tinykit.engine.memory import inputs_of, outputs_of
from tinykit.errors import ConfigError
from tinykit.graph import ir


@dataclass(frozen=True)
class Task:
    """One task, as mlcommons/tiny's reference firmware answers to it.

    Attributes:
        inputs, outputs: elements of the network's input and output, int8.
        wire: what a byte of `db` is: 'stored' (int8 as the network takes it), 'pixels' (uint8, stored = pixel - 128) or 'float32' (little
            endian, quantised by the firmware, which answers with the mean squared error).
    """

    inputs: int
    outputs: int
    wire: str


TASKS = {
    "kws01": Task(490, 12, "stored"),
    "ic01": Task(3072, 10, "pixels"),
    "vww01": Task(27648, 2, "pixels"),
    "ad01": Task(640, 640, "float32"),
}


def check_task(task: str, graph: ir.Graph) -> Task:
    """The task called `task`, which `graph` can do.

    Raises:
        ConfigError: no such task, or the network's input and output are not those of the task.
    """
    check_name("MLPerf Tiny task", task, list(TASKS))
    entry = TASKS[task]
    given = [*inputs_of(graph), *outputs_of(graph)]
    fits = len(given) == 2 and all(t.dtype == ir.Dtype.INT and t.bits == 8 for t in given)
    if not fits or (given[0].size, given[1].size) != (entry.inputs, entry.outputs):
        has = ", ".join(f"{t.name!r} {t.dtype} of {t.bits} bits {list(t.shape)}" for t in given)
        raise ConfigError(
            f"--mlperf={task}: expected one int8 input of {entry.inputs:,} elements and one int8 output of {entry.outputs:,}; "
            f"the network has {has}; without --mlperf the monitor takes inputs as they are stored"
        )
    return entry


def wire_macros(task: str | None, source: ir.Tensor) -> str:
    """Lines for tk_model.h that tell the monitor what the host sends; none for a network that is no task of MLPerf Tiny."""
    if task is None:
        return ""
    name = f'#define TK_MLPERF_MODEL "{task}"\n'
    if TASKS[task].wire == "pixels":
        return name + "#define TK_INPUT_FLIP 0x80 /* the host sends pixels */\n"
    if TASKS[task].wire == "float32":
        scale = f"#define TK_INPUT_SCALE {float_literal(source.scale)}\n#define TK_INPUT_ZERO ({source.zero_point})\n"
        return name + "/* The host sends float32, and is answered with the mean squared error. */\n" + scale + "#define TK_RESULT_ERROR\n"
    return name


def float_literal(value: float) -> str:
    """A C99 literal that is exactly the float32 nearest to `value`."""
    return f"{float(np.float32(value)).hex()}f"
