"""Accuracy of a model on the test split, or its AUC where the task is to find anomalies."""

from typing import TYPE_CHECKING

import numpy as np

from tinykit.errors import ModelError

if TYPE_CHECKING:
    import keras

    from tinykit.data import Chain, Dataset

_CHUNK = 2048


def top1(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows of `outputs` [N, C] whose largest value is at `labels` [N]; ties go to the lowest index; 0 to 1.

    Raises:
        ModelError: shapes disagree, no samples, or NaN among the outputs.
    """
    if outputs.ndim != 2 or len(outputs) != len(labels) or len(labels) == 0:
        raise ModelError(f"expected outputs [N, classes] for {len(labels)} labels, got shape {list(outputs.shape)}")
    if not np.isfinite(outputs).all():
        raise ModelError("the model's outputs contain NaN or infinity; training diverged: lower the learning rate")
    return float(np.mean(np.argmax(outputs, axis=1) == labels))


def score(model: "keras.Model", dataset: "Dataset", chain: "Chain") -> float | None:
    """Top-1 accuracy of `model` on the test split of `dataset`, 0 to 1; the area under the ROC curve where its task is 'anomaly'.

    Works for a float model and for a quantised one, through `predict`.

    Returns:
        None if the model's output is not one value a class (an autoencoder), or for anomalies, not of the input's shape.

    Raises:
        ModelError: the outputs contain NaN or infinity.
    """
    if dataset.task == "anomaly":
        from tinykit.recipe.anomaly import score_clips

        return score_clips(model, dataset, chain)
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[-1] != len(dataset.class_names):
        return None
    outputs = []
    for start in range(0, len(dataset.test.y), _CHUNK):
        x = chain.apply(dataset.test.x[start : start + _CHUNK])
        outputs.append(np.asarray(model.predict(x, batch_size=256, verbose=0)))
    return top1(np.concatenate(outputs), dataset.test.y)
