"""Walks the layer calls of Keras 3 functional models."""

from collections.abc import Iterator
from typing import Any

from tinykit.errors import ModelError


def functional(model: Any) -> Any:
    """The functional model behind a functional or a built Sequential model.

    Raises:
        ModelError: a subclassed model, or a Sequential model without an input shape.
    """
    import keras

    if isinstance(model, keras.Sequential):
        if not model.built or not model.layers:
            raise ModelError(f"model {model.name!r}: a Sequential model without an input shape; begin it with keras.Input(shape)")
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not hasattr(model, "_nodes_by_depth") or not hasattr(model, "operations"):
        raise ModelError(
            f"model {getattr(model, 'name', model)!r}: {type(model).__name__} is no functional model; its layers cannot be seen. "
            "Build it with keras.Input and keras.Model(inputs, outputs)"
        )
    return model


def calls(model: Any) -> Iterator[Any]:
    """The nodes (calls of a layer) of a functional model, in an order in which they can be run, inputs left out."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.is_input:
                yield node


def is_model(operation: Any) -> bool:
    """Whether a layer is itself a functional or Sequential model."""
    import keras

    return isinstance(operation, keras.Sequential) or (isinstance(operation, keras.Model) and hasattr(operation, "_nodes_by_depth"))


def unique_name(name: str, prefix: str, used: set[str]) -> str:
    """`name`, with prefix and number in front and behind where it is already in `used`; adds it there."""
    candidates = [name, f"{prefix}_{name}"] if prefix else [name]
    number = 1
    while candidates[0] in used:
        candidates.pop(0)
        if not candidates:
            candidates = [f"{prefix}_{name}_{number}" if prefix else f"{name}_{number}"]
            number += 1
    used.add(candidates[0])
    return candidates[0]
