"""Milliseconds of a training step on small networks: Keras's own loop, one call of Python a step, against tinykit's.

    python benchmarks/training_loop.py

Whole epochs of `fit` with a learning rate for every batch, both ways in turn in one process; medians. Samples are random numbers that lie
ready. Writes benchmarks/training_loop.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from training_speed import measured

HERE = Path(__file__).resolve().parent
STEPS = 64


@dataclass(frozen=True)
class Network:
    """The backbone of a configuration.

    Attributes:
        config: names it, and the batch size.
        shape, classes: of its data.
    """

    config: str
    shape: tuple[int, ...]
    classes: int


NETWORKS = (
    Network("search_har", (128, 9), 6),
    Network("search_words3", (49, 10, 1), 3),
    Network("search_digits", (8, 8, 1), 10),
    Network("search_cifar10", (32, 32, 3), 10),
    Network("cifar10", (32, 32, 3), 10),
)
WAYS = ("Keras", "loop", "tinykit")


def rate(number: int) -> float:
    """Of any schedule."""
    return 1e-3 / (1 + number % 7)


def epochs(network: Network) -> tuple[dict[str, Callable[[], None]], int, int]:
    """(name of a loop -> one epoch with it, batch size, multiply-accumulates of a sample)."""
    import keras
    import tensorflow as tf

    from tinykit.config.loading import load_config
    from tinykit.models.macs import count_macs
    from tinykit.models.registry import build_model
    from tinykit.steps.loop import Loop
    from tinykit.steps.norms import fused_norms

    config = load_config(network.config).config
    size = config.data.batch_size
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (STEPS * size, *network.shape)).astype(np.float32), rng.integers(0, network.classes, STEPS * size)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(size).cache().repeat()

    class Rates(keras.callbacks.Callback):
        """Sets the learning rate of every batch."""

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.model.optimizer.learning_rate.assign(rate(batch))

    def compiled() -> Any:
        keras.utils.set_random_seed(0)
        model = build_model(config.model.name, network.shape, network.classes, config.model.options)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        return model

    def by_keras(model: Any) -> Callable[[], None]:
        return lambda: model.fit(data, steps_per_epoch=STEPS, verbose=0, shuffle=False, callbacks=[Rates()])

    def by_loop(model: Any, norms: bool) -> Callable[[], None]:
        loop = Loop(model, rate, STEPS, lambda done, total: None, ())

        def epoch() -> None:
            loop.begin(0)
            with fused_norms([model] if norms else []), loop:
                model.fit(data, steps_per_epoch=STEPS, verbose=0, shuffle=False)

        return epoch

    ways = (by_keras(compiled()), by_loop(compiled(), norms=False), by_loop(compiled(), norms=True))
    return dict(zip(WAYS, ways, strict=True)), size, count_macs(compiled())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="medians are over so many epochs of each")
    options = parser.parse_args()
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()  # as in every run
    lines = [
        "# Loops of training",
        "",
        f"Host, {os.cpu_count()} cores, {datetime.date.today().isoformat()}; medians of {options.rounds} epochs of {STEPS} steps, in turn.",
        f"Command: `python benchmarks/training_loop.py --rounds {options.rounds}`. Load of the machine: {os.getloadavg()[2]:.1f}.",
        "Keras: `fit` with a callback that sets every batch's learning rate. loop: the same weights to the last bit (tests compare them),",
        "with as many steps between two looks of Python as 0.1 s hold. tinykit: that, and batch normalisation as one operation, which is",
        "how every float training runs. Sample data lie ready, nothing is evaluated. Wall times hold what threads wait for each other,",
        "which is much on some machines; CPU times do not.",
        "",
        "| network of | MACs | batch | Keras: wall, CPU ms a step | loop | tinykit | tinykit / Keras: wall | CPU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for network in NETWORKS:
        loops, size, macs = epochs(network)
        measured(loops, 1, 2)  # traces
        times = measured(loops, options.rounds, 1)
        walls, cpus = ([times[name][i] / STEPS for name in WAYS] for i in (0, 1))
        cells = [network.config, f"{macs:,}", str(size), *(f"{wall:.2f}, {cpu:.2f}" for wall, cpu in zip(walls, cpus, strict=True))]
        lines.append(f"| {' | '.join([*cells, f'{walls[-1] / walls[0]:.2f}', f'{cpus[-1] / cpus[0]:.2f}'])} |")
        print(lines[-1], flush=True)
    (HERE / "training_loop.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
