"""Milliseconds of a training step: float, and with the board's integers at 8 and 4 bits, one network at a time.

    python benchmarks/training_speed.py

One process, the variants in turn, so that what else the machine does falls on all of them alike; medians. CPU time is of all cores
together (`os.times`) and says more than the wall time where other work runs beside. Batches are random numbers that lie ready: neither the
data pipeline nor the evaluation is measured. Writes benchmarks/training_speed.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
BATCH = 64


@dataclass(frozen=True)
class Network:
    """What is trained.

    Attributes:
        name: of a model family with its default options.
        shape: of a sample.
        classes: number of classes.
    """

    name: str
    shape: tuple[int, ...]
    classes: int


NETWORKS = (Network("resnet8", (32, 32, 3), 10), Network("ds_cnn", (49, 10, 1), 12))


@dataclass(frozen=True)
class Variant:
    """How it is trained.

    Attributes:
        bits: of all weights and activations; None: the float network.
        distill: share of the loss that compares with the float network.
    """

    name: str
    bits: int | None = None
    distill: float = 0.0


VARIANTS = (
    Variant("float"),
    Variant("w8a8", 8),
    Variant("w4a4, distilled", 4, 0.7),
)


def compiled(network: Network, variant: Variant, x: np.ndarray) -> tuple[Any, Any]:
    """(the compiled model, a context within which it is trained)."""
    import keras

    from tinykit.models.registry import build_model

    keras.utils.set_random_seed(0)
    model = build_model(network.name, network.shape, network.classes, {})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=variant.bits is not None)
    trained: Any = model if variant.bits is None else quantized(model, variant, x)
    trained.compile(keras.optimizers.Adam(2e-4), loss, metrics=["accuracy"], jit_compile=False)
    if variant.bits is None:
        return trained, contextlib.nullcontext()
    return trained, trained.training_on_logits((lambda t: model(t, training=False)) if variant.distill else None, variant.distill)


def quantized(model: Any, variant: Variant, x: np.ndarray) -> Any:
    """The calibrated integer network of a float model."""
    from tinykit.quant.allocation.network import Bits
    from tinykit.quant.calibrate import calibrate
    from tinykit.quant.convert import InputRange, from_program, fused_program, tied_program

    program, scale = fused_program(model), InputRange.from_samples(x)
    tied = tied_program(program, scale)
    width = variant.bits or 8
    groups = tuple(8 if g.fixed or i == tied.index[program.output] else width for i, g in enumerate(tied.groups))
    integers = from_program(program, scale, Bits(groups, tuple(width for n in tied.nodes if n.weights is not None)))
    calibrate(integers, [x], "minmax")
    return integers


def stepper(network: Network, variant: Variant, until_the_end: contextlib.ExitStack) -> tuple[Callable[[], None], float]:
    """(one training step, CPU seconds of the first two)."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (BATCH, *network.shape)).astype(np.float32) / 255
    model, training = compiled(network, variant, x)
    until_the_end.enter_context(training)
    y = rng.integers(0, network.classes, BATCH)
    batches = iter(tf.data.Dataset.from_tensors((x, y)).cache().repeat())
    began = _cpu()
    model.make_train_function()
    function = model.train_function

    def step() -> None:
        function(batches)

    step()
    step()
    return step, _cpu() - began


def _cpu() -> float:
    used = os.times()
    return used.user + used.system


def measured(steps: dict[str, Callable[[], None]], rounds: int, repeat: int) -> dict[str, tuple[float, float]]:
    """Name -> median (wall, CPU) milliseconds of a step; `repeat` steps of each in a round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            wall, cpu = time.perf_counter(), _cpu()
            for _ in range(repeat):
                step()
            found[name].append(((time.perf_counter() - wall) / repeat * 1e3, (_cpu() - cpu) / repeat * 1e3))
    return {name: (statistics.median(w for w, _ in t), statistics.median(c for _, c in t)) for name, t in found.items()}


def table(network: Network, times: dict[str, tuple[float, float]], first: dict[str, float]) -> list[str]:
    """Lines of Markdown."""
    wall, cpu = times["float"]
    lines = [f"## {network.name}, {'x'.join(map(str, network.shape))}, batch {BATCH}", ""]
    lines += ["| training | wall, ms a step | against float | CPU, ms a step | against float | first two steps, CPU s |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, (w, c) in times.items():
        lines.append(f"| {name} | {w:.1f} | {w / wall:.2f} | {c:.1f} | {c / cpu:.2f} | {first[name]:.1f} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="medians are over so many")
    parser.add_argument("--repeat", type=int, default=3, help="steps of each variant in a round")
    options = parser.parse_args()
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()  # as in every run
    lines: list[str] = []
    for network in NETWORKS:
        with contextlib.ExitStack() as until_the_end:
            made = {v.name: stepper(network, v, until_the_end) for v in VARIANTS}
            times = measured({name: step for name, (step, _) in made.items()}, options.rounds, options.repeat)
        lines += table(network, times, {name: seconds for name, (_, seconds) in made.items()})
        print("\n".join(lines), flush=True)
        (HERE / "training_speed.md").write_text("\n".join([*head(options.rounds, options.repeat), *lines]), encoding="utf-8")


def head(rounds: int, repeat: int) -> list[str]:
    """The first lines of the file."""
    cores, load = os.cpu_count(), os.getloadavg()[2]
    return [
        "# Speed of training",
        "",
        f"Host, {cores} cores, {datetime.date.today().isoformat()}; medians of {rounds} rounds of {repeat} steps, variants in turn.",
        f"Command: `python benchmarks/training_speed.py --rounds {rounds} --repeat {repeat}`.",
        f"Load of the machine in the mean: {load:.0f}. Wall times hold the other work too, CPU times (of all cores together) only what",
        "it does to the caches. Neither the data pipeline nor the evaluation is in them. The first two steps hold the tracing of the",
        "graph and the compilation. Float training normalises by its batches; the integer networks have that folded.",
        "",
    ]


if __name__ == "__main__":
    main()
