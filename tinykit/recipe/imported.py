"""A user's model that begins with preprocessing: what of it joins data.preprocess, and whether samples would be scaled twice."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinykit.data.preprocess import Chain, Dequantize, Divide, Normalize, Scale
from tinykit.errors import ModelError

if TYPE_CHECKING:
    import keras

    from tinykit.data import Dataset
    from tinykit.models.preprocessing import Scaling

_SCALING_OPS = (Dequantize, Divide, Normalize, Scale)
_LEAST_SPREAD = 1.0 / 64
"""8-bit samples that a model receives in a narrower range than this were divided by 255, or the like, twice."""
_LOOKED_AT = 256


def absorb(model: "keras.Model", dataset: "Dataset", chain: Chain) -> tuple["keras.Model", Chain, list[str]]:
    """Moves the Rescaling and Normalization layers that a model begins with into the preprocessing chain.

    The integer network's input is quantised behind the chain, so what is moved costs nothing on the board. One gain and offset for the
    whole tensor always moves. Constants that differ between channels move where samples are stored as float32 or int16; with 8-bit
    samples the input stays as it is stored, without error, and the first convolution takes them in.

    Args:
        model: a flat functional float model; any other is returned as it is.
        dataset: whose training samples are looked at.
        chain: as declared in data.preprocess.

    Returns:
        (model without the layers that moved, chain with their operations behind, lines that say what was done).

    Raises:
        ModelError: both the chain and the model scale 8-bit samples, down to almost nothing.
    """
    from tinykit.models.preprocessing import leading_scalings, without_scalings

    scalings = leading_scalings(model)
    if not scalings:
        return model, chain, []
    lines = _check_scaled_once(scalings, dataset, chain)
    eight_bits = dataset.train.x.dtype.itemsize == 1
    moved: list[Scaling] = []
    for scaling in scalings:
        if eight_bits and not scaling.per_tensor:
            break
        moved.append(scaling)
    operations = [scaling.operation() for scaling in moved]
    lines += [
        f"layer {scaling.layer.name!r} ({type(scaling.layer).__name__}) of the model is now the end of the preprocessing: {operation}"
        for scaling, operation in zip(moved, operations)
    ]
    longer = Chain((*chain.ops, *Chain.parse(operations, "the model's preprocessing").ops))
    return without_scalings(model, moved), longer, lines


def check_scores(model: "keras.Model", dataset: "Dataset", shape: Sequence[int], rebuilt: bool) -> list[str]:
    """Whether a user's model gives what the data are judged by: one score a class, or one for two classes.

    Args:
        shape: of a preprocessed sample, without the batch; a model that gives its input's shape is an autoencoder.
        rebuilt: the recipe trains it to give back its input.

    Returns:
        Lines that say what will not be measured.

    Raises:
        ModelError: the number of scores is not that of the classes.
    """
    wanted, classes = getattr(model, "output_shape", None), len(dataset.class_names)
    if not isinstance(wanted, tuple) or any(isinstance(size, (tuple, list)) for size in wanted):
        return []  # several outputs, which the steps refuse
    received = list(wanted[1:])
    if rebuilt or dataset.task != "classification" or received in ([classes], list(shape)):
        return []
    if received == [1] and classes == 2:
        return ["the model gives one value for two classes: its accuracy is not measured, parity is"]
    raise ModelError(
        f"model {model.name!r} gives an output of shape {received}, but the data have {classes} classes: expected [{classes}]; "
        "name the classes that the model was made for (data.options), or take the model of these data"
    )


def check_values(model: "keras.Model", dataset: "Dataset", chain: Chain) -> None:
    """Raises ModelError where the weights of a user's model, or what it makes of the first samples, are NaN or infinite."""
    wrong = [
        f"model {model.name!r}: layer {layer.name!r} ({type(layer).__name__}): its weights contain NaN or infinity; save the model of "
        "another epoch, or train it again at a lower learning rate"
        for layer in model.layers
        if not all(np.isfinite(np.asarray(weight)).all() for weight in layer.get_weights())
    ]
    if wrong:
        raise ModelError(wrong)
    if len(model.inputs) != 1:
        return  # which the steps refuse
    outputs = model.predict_on_batch(chain.apply(dataset.train.x[:8]))
    if all(np.isfinite(part).all() for part in (outputs if isinstance(outputs, list) else [outputs])):
        return
    peaks = {layer.name: max((float(np.abs(w).max(initial=0)) for w in layer.get_weights()), default=0.0) for layer in model.layers}
    worst = max(peaks, key=lambda name: peaks[name])
    raise ModelError(
        f"model {model.name!r}: its outputs for the first training samples are NaN or infinite; the largest weight, {peaks[worst]:.4g}, "
        f"is in layer {worst!r}: expected a model that was trained on samples like these"
    )


def _check_scaled_once(scalings: "list[Scaling]", dataset: "Dataset", chain: Chain) -> list[str]:
    """A warning where the declared chain scales and the model does, too."""
    declared = [type(op).__name__.lower() for op in chain.ops if isinstance(op, _SCALING_OPS)]
    if not declared:
        return []
    before = chain.apply(dataset.train.x[:_LOOKED_AT])
    after: Any = before.astype(np.float64)
    for scaling in scalings:
        after = after * scaling.gain + scaling.offset
    spread = float(after.max() - after.min()) if after.size else 0.0
    layers = ", ".join(f"{scaling.layer.name!r} ({type(scaling.layer).__name__})" for scaling in scalings)
    both = (
        f"data.preprocess scales ({', '.join(declared)}; {before.min():.4g} to {before.max():.4g} afterwards) and so does the model's "
        f"layer {layers} ({after.min():.4g} to {after.max():.4g} afterwards)"
    )
    shrunk = 0 < spread < _LEAST_SPREAD and spread < float(before.max() - before.min())
    if shrunk and dataset.train.x.dtype.itemsize == 1:
        raise ModelError(f"{both}: the samples are scaled twice; take the scaling out of data.preprocess, or out of the model")
    return [f"warning: {both}; right only if the model was trained on samples that were scaled already"]
