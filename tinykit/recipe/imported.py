"""A user's model that begins with preprocessing: what of it joins data.preprocess, and whether samples would be scaled twice."""

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
