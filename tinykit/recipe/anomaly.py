"""Judging of autoencoders: the error of each window, the score of each clip, the area under the ROC curve. See docs/anomaly.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tinykit.errors import ModelError

if TYPE_CHECKING:
    import keras

    from tinykit.data import Chain, Dataset
    from tinykit.data.dataset import Clips
    from tinykit.graph import ir
    from tinykit.quant.model import QuantizedModel

_CHUNK = 2048
Part = Callable[[int, int], np.ndarray]
"""(first, last) -> float32 test samples [last - first, ...]."""


def window_errors(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Mean squared difference of real inputs and outputs [N, ...] over the values of each window; float64 [N]."""
    difference = inputs.astype(np.float64) - outputs.reshape(inputs.shape)
    return np.asarray(np.mean(difference.reshape(len(inputs), -1) ** 2, axis=1))


def clip_scores(errors: np.ndarray, clips: Clips) -> np.ndarray:
    """Score of each clip [C]: the mean error of its windows. The higher, the less normal."""
    return np.asarray(np.bincount(clips.of, errors, len(clips)) / np.bincount(clips.of, minlength=len(clips)))


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve: the chance that an anomalous clip scores higher than a normal one, ties count half; 0 to 1.

    Args:
        scores: [C] of clips.
        labels: [C], 1 anomalous, 0 normal.

    Raises:
        ModelError: scores that are no numbers, or clips of one kind only.
    """
    from sklearn.metrics import roc_auc_score

    if not np.isfinite(scores).all():
        raise ModelError("the model's outputs contain NaN or infinity; training diverged: lower the learning rate")
    if len(np.unique(labels)) != 2:
        raise ModelError(f"an area under the ROC curve needs normal and anomalous clips, got {len(labels)} of one kind")
    return float(roc_auc_score(labels, scores))


def auc_by_machine(scores: np.ndarray, clips: Clips) -> dict[int, float | None]:
    """The area for the clips of each machine, by its number; None where all of them are of one kind."""
    found: dict[int, float | None] = {}
    for machine in np.unique(clips.machine):
        mine = clips.machine == machine
        found[int(machine)] = auc(scores[mine], clips.y[mine]) if len(np.unique(clips.y[mine])) == 2 else None
    return found


def dequantized(stored: np.ndarray, scale: float, zero_point: float) -> np.ndarray:
    """Real values of stored integers, float64."""
    return (stored.astype(np.float64) - zero_point) * scale


def model_errors(model: keras.Model, part: Part, count: int) -> np.ndarray:
    """Error of each window [N] of `count` test samples, of a float model or of an integer one.

    An integer network is compared with what it sees: its own quantised input.
    """
    from tinykit.quant.model import QuantizedModel

    errors = []
    for start in range(0, count, _CHUNK):
        x = part(start, min(start + _CHUNK, count))
        if isinstance(model, QuantizedModel):
            errors.append(_integer_errors(model, x))
        else:
            errors.append(window_errors(x, np.asarray(model.predict(x, batch_size=256, verbose=0))))
    return np.concatenate(errors)


def _integer_errors(model: QuantizedModel, x: np.ndarray) -> np.ndarray:
    from tinykit.quant.model import stored_numpy

    stored = stored_numpy(model, x)
    last = next(spec["quantizer"] for spec in model.specs if spec["name"] == model.output_node)
    reals = []
    for name, index in (("input", model.input_quantizer), (model.output_node, last)):
        quantizer = model.quantizers[index]
        reals.append(dequantized(stored[name], float(quantizer.scale()), float(quantizer.zero_point)))
    return window_errors(reals[0], reals[1])


def score_clips(model: keras.Model, dataset: Dataset, chain: Chain) -> float | None:
    """Area under the ROC curve of `model` over the clips of the test split; None if it does not rebuild its input."""
    test = dataset.test
    if test.clips is None or not _rebuilds(model, dataset, chain):
        return None
    errors = model_errors(model, lambda first, last: chain.apply(test.x[first:last]), len(test))
    return auc(clip_scores(errors, test.clips), test.clips.y)


def _rebuilds(model: keras.Model, dataset: Dataset, chain: Chain) -> bool:
    shape = model.output_shape
    return isinstance(shape, tuple) and tuple(shape[1:]) == tuple(chain.output_shape(dataset.input_shape))


def judge(
    model: QuantizedModel, float_model: keras.Model | None, graph: ir.Graph, outputs: np.ndarray, dataset: Dataset, part: Part
) -> tuple[dict[str, Any], dict[str, Any]]:
    """AUC of the integer network from its stored outputs, overall and for each machine, beside that of the float model.

    Args:
        model: the integer network in Keras, for test samples beyond `outputs` (check.samples): the check has shown it to be the same.
        graph: the integer graph; inputs are quantised, outputs dequantised with its scales.
        outputs: stored outputs [M, ...] of the reference executor for the first M test samples.
        part: preprocessed test samples.

    Returns:
        (keys of metrics.json, keys of the report).
    """
    clips = dataset.test.clips
    if clips is None or outputs.shape[1:] != graph.tensors[graph.inputs[0]].shape:
        return {}, {"notes": ["The network does not rebuild its input: it has no score for anomalies."]}
    errors = _graph_errors(graph, outputs, part)
    if len(errors) < len(dataset.test):
        done = len(errors)
        rest = model_errors(model, lambda first, last: part(done + first, done + last), len(dataset.test) - done)
        errors = np.concatenate([errors, rest])
    scores = {"integer": clip_scores(errors, clips)}
    if float_model is not None:
        scores["float"] = clip_scores(model_errors(float_model, part, len(dataset.test)), clips)
    areas = {name: auc_by_machine(values, clips) for name, values in scores.items()}
    rows = [
        {
            "machine": machine,
            "normal": int(np.count_nonzero((clips.machine == machine) & (clips.y == 0))),
            "anomalous": int(np.count_nonzero((clips.machine == machine) & (clips.y == 1))),
            "float": areas["float"][machine] if "float" in areas else None,
            "integer": areas["integer"][machine],
        }
        for machine in areas["integer"]
    ]
    metrics = {"accuracy": {"integer": auc(scores["integer"], clips.y), "metric": "auc"}, "auc_by_machine": rows}
    return metrics, {"machines": rows}


def _graph_errors(graph: ir.Graph, outputs: np.ndarray, part: Part) -> np.ndarray:
    """Error of each window from stored outputs [M, ...] and the stored inputs that gave them."""
    from tinykit.graph import reference

    source, result = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    errors = []
    for start in range(0, len(outputs), _CHUNK):
        stop = min(start + _CHUNK, len(outputs))
        stored = reference.quantize_input(graph, part(start, stop))
        inputs = dequantized(stored, source.scale, source.zero_point)
        errors.append(window_errors(inputs, dequantized(outputs[start:stop], result.scale, result.zero_point)))
    return np.concatenate(errors)
