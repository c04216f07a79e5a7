"""Inputs for a device as a network stores them, with labels where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinykit.data.files import read_npz
from tinykit.engine.memory import dtype, inputs_of
from tinykit.errors import ConfigError, DataError
from tinykit.export.golden import read_golden
from tinykit.graph import ir, reference


@dataclass(frozen=True)
class Samples:
    """A part of a data split.

    Attributes:
        x: stored values of the network's input, [N, *shape].
        y: class indices [N] below the number of scores, None where there is nothing to judge by: no labels, or an autoencoder.
        source: where they come from.
        available: how many there are; N of them, evenly spaced, were taken.
    """

    x: np.ndarray
    y: np.ndarray | None
    source: str
    available: int


def only_input(graph: ir.Graph) -> ir.Tensor:
    """The input of a network that has one. Raises ConfigError: it has several."""
    inputs = inputs_of(graph)
    if len(inputs) != 1:
        raise ConfigError(f"{graph.name}: {len(inputs)} inputs; samples can be streamed to networks with one")
    return inputs[0]


def spread(available: int, most: int) -> np.ndarray:
    """Indices of `most` of `available` samples (0: all), evenly spaced: files are often sorted by class."""
    count = available if most == 0 else min(most, available)
    return np.arange(count) * available // count if count else np.arange(0)


def from_npz(path: Path, graph: ir.Graph, most: int) -> Samples:
    """Arrays x [N, ...] and, where it is there, y [N] of a file.

    x may be what the network stores (int8, int16), pixels (uint8, for int8 inputs: stored = pixel - 128), or real values (float32,
    quantised as the input is).

    Raises:
        DataError: no such file, or arrays that do not fit the network.
    """
    tensor = only_input(graph)
    arrays = read_npz(path, ("x",), ("y",))
    x, y = arrays["x"], arrays.get("y")
    if x.ndim < 2 or len(x) == 0 or x[0].size != tensor.size:
        raise DataError(
            f"{path}, array 'x': expected [N, {', '.join(map(str, tensor.shape))}] for the network's input, got {list(x.shape)}"
        )
    if y is not None and (y.shape != (len(x),) or y.dtype.kind not in "iu"):
        raise DataError(f"{path}, array 'y': expected [{len(x)}] class indices, got {y.dtype} {list(y.shape)}")
    labels = None if y is None else _labels(f"{path}, array 'y'", y, graph)
    chosen = spread(len(x), most)
    stored = _stored(path, graph, tensor, x[chosen].reshape(len(chosen), *tensor.shape))
    return Samples(stored, None if labels is None else labels[chosen], path.name, len(x))


def _labels(where: str, y: np.ndarray, graph: ir.Graph) -> np.ndarray | None:
    """Class indices that can be judged by, None for an autoencoder. Raises DataError: the network has no such classes."""
    scores = graph.tensors[graph.outputs[0]].size
    if is_autoencoder(graph):
        return None
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < scores:
        raise DataError(f"{where}: classes {y.min()}..{y.max()}; the network has {scores} scores; without labels bytes alone are compared")
    return y.astype(np.int64)


def is_autoencoder(graph: ir.Graph) -> bool:
    """Whether the network gives back something like its input, so that its largest output is no class."""
    return graph.tensors[graph.outputs[0]].size == only_input(graph).size


def _stored(path: Path, graph: ir.Graph, tensor: ir.Tensor, x: np.ndarray) -> np.ndarray:
    if x.dtype == np.float32:
        return reference.quantize_input(graph, x)
    if x.dtype == np.uint8 and tensor.dtype == ir.Dtype.INT and tensor.bits == 8:
        return (x.astype(np.int16) - 128).astype(np.int8)
    if x.dtype.newbyteorder("<") == dtype(tensor) and tensor.dtype == ir.Dtype.INT:
        if x.size and (x.min() < tensor.low or x.max() > tensor.high):
            raise DataError(f"{path}, array 'x': values {x.min()}..{x.max()}; the network stores {tensor.low}..{tensor.high}")
        return x
    raise DataError(f"{path}, array 'x': expected float32, uint8 pixels or {dtype(tensor).name} as the network stores it, got {x.dtype}")


def from_config(name: str, overrides: Sequence[str], graph: ir.Graph, most: int) -> Samples:
    """The test split of a configuration, preprocessed as it says and quantised as the network's input is.

    Raises:
        ConfigError, DataError: it cannot be read, is synthetic, or is not what the network takes.
    """
    from tinykit.config.loading import load_config
    from tinykit.data.preprocess import Chain
    from tinykit.data.registry import load_dataset

    tensor = only_input(graph)
    run = load_config(name, overrides).config
    dataset = load_dataset(run.data.name, run.data.options, seed=run.seed, quicktest=False)
    chosen = spread(len(dataset.test), most)
    real = Chain.parse(run.data.preprocess).apply(dataset.test.x[chosen])
    if real.size != len(chosen) * tensor.size:
        raise DataError(f"{name}: samples of shape {list(real.shape[1:])}; the network's input is {list(tensor.shape)}")
    stored = reference.quantize_input(graph, real.reshape(len(chosen), *tensor.shape))
    labels = _labels(name, dataset.test.y, graph) if dataset.task == "classification" else None
    return Samples(
        stored, None if labels is None else labels[chosen], f"{run.data.name}, test split {dataset.split_sha256[:12]}", len(dataset.test)
    )


def from_run(workdir: Path, graph: ir.Graph, most: int) -> Samples:
    """The test split of a finished run. Raises ConfigError, DataError."""
    config = workdir / "config.resolved.yaml"
    if not config.is_file():
        raise ConfigError(f"{workdir}: expected a run directory with config.resolved.yaml; name the data with --data or --config")
    from tinykit.config.loading import load_config

    if load_config(str(config)).config.model.path is not None:
        raise ConfigError(
            f"{workdir}: its network came from a file, whose own preprocessing is not part of the configuration; "
            "name the stored inputs with --data=FILE.npz"
        )
    return from_config(str(config), (), graph, most)


def golden_samples(path: Path, graph: ir.Graph) -> np.ndarray:
    """The inputs of a golden.npz, [N, *shape].

    Raises:
        DataError: they are not this network's: another shape, or other outputs than the reference executor's.
        ModelError: the file is damaged.
    """
    tensor = only_input(graph)
    golden = read_golden(path)
    x = golden.input
    if x.ndim < 2 or len(x) == 0 or x[0].size != tensor.size or x.dtype != dtype(tensor):
        raise DataError(f"{path}: inputs {x.dtype} {list(x.shape)}; the network takes {dtype(tensor).name} {list(tensor.shape)}")
    x = x.reshape(len(x), *tensor.shape)
    truth = reference.run_all(graph, x)[graph.outputs[0]]
    if truth.size != golden.output.size or (truth.reshape(golden.output.shape) != golden.output).any():
        raise DataError(f"{path}: its outputs are not those of {graph.name}; they belong to another network")
    return x
