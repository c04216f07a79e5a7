"""Nested models as one functional model, whose layers the rest of tinykit can walk."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from tinykit.models.graphs import calls, functional, is_model, unique_name
from tinykit.models.operations import KERAS_OPERATIONS, as_layer


def flatten_model(model: Any, without: Collection[Any] = ()) -> Any:
    """One functional model without models inside it: the same layers (new objects), weights and outputs.

    Layers keep their names; one that would occur twice gets the name of the model around it in front. Operators with a constant
    (x / 255) become Rescaling layers, and keras.ops functions that are activations become Activation layers.

    Args:
        model: a functional or built Sequential keras.Model; nested to any depth; layers may be shared.
        without: layers of it that are left out: what they are given goes on to what follows them. The inputs become float32.

    Raises:
        ModelError: a subclassed model, whose layers cannot be seen.
    """
    import keras

    flat = functional(model)
    copies: dict[int, Any] = {}
    used: set[str] = set()
    inputs = []
    for tensor in flat.inputs:
        name = unique_name(tensor.name.split(":")[0], "", used)
        inputs.append(keras.Input(batch_shape=tensor.shape, dtype="float32" if without else tensor.dtype, name=name))

    def copy(layer: Any, prefix: str) -> Callable[..., Any]:
        if id(layer) not in copies:
            copies[id(layer)] = _copy_layer(layer, unique_name(layer.name, prefix, used))
        return copies[id(layer)]

    outputs = _replay(flat, inputs, copy, "", {id(layer) for layer in without})
    result = keras.Model(
        _like(flat._inputs_struct, inputs), _like(flat._outputs_struct, outputs), name=model.name, trainable=model.trainable
    )
    copied = {id(layer): layer for layer in _layers(flat)}
    for key, layer in copied.items():
        if key in copies and getattr(layer, "weights", []):
            set_weights(copies[key], layer.get_weights())
    return result


def set_weights(layer: Any, weights: list[Any]) -> None:
    """Gives a Keras 3 layer its weights, and lets Normalization compute with them: it keeps what it adapted to a second time."""
    layer.set_weights(weights)
    finish = getattr(layer, "finalize_state", None)
    if callable(finish):
        finish()


def _copy_layer(layer: Any, name: str) -> Any:
    import keras

    if not isinstance(layer, keras.layers.Layer):
        return layer  # an operation such as keras.ops.add, without weights
    cls = type(layer)
    if cls.__module__.startswith("tinykit.models."):
        cls = cls.__bases__[0]  # the shim of `load` gives way to Keras's own class
    configuration = layer.get_config()
    configuration["name"] = name
    copied = cls.from_config(configuration)
    copied.trainable = layer.trainable
    return copied


def _replay(model: Any, inputs: list[Any], copy: Callable[[Any, str], Any], prefix: str, without: Collection[int]) -> list[Any]:
    """Calls copies of all layers but those with an id in `without` on new inputs; returns the new outputs, flat."""
    import keras

    known = {id(old): new for old, new in zip(model.inputs, inputs)}
    for node in calls(model):
        arguments, keywords = node.arguments.fill_in(known)
        if is_model(node.operation):
            nested = functional(node.operation)
            new = _replay(nested, keras.tree.flatten(arguments[0]), copy, node.operation.name, without)
        elif id(node.operation) in without:
            new = keras.tree.flatten(arguments[0])
        else:
            layer = copy(node.operation, prefix)
            standing = _stand_in(layer, arguments, keywords)
            new = keras.tree.flatten(standing[0](standing[1]) if standing else layer(*arguments, **keywords))
        known.update((id(old), value) for old, value in zip(node.outputs, new))
    return [known[id(tensor)] for tensor in model.outputs]


def _stand_in(operation: Any, arguments: Any, keywords: dict[str, Any]) -> tuple[Any, Any] | None:
    """The layer for an operation with a constant or for an activation; operations between tensors stay as they are."""
    import keras

    kind = KERAS_OPERATIONS.get(type(operation).__name__)
    given = [*arguments, *keywords.values()]
    if isinstance(operation, keras.layers.Layer) or kind is None or sum(isinstance(value, keras.KerasTensor) for value in given) != 1:
        return None
    return as_layer(kind, operation.name, given)


def _like(structure: Any, values: list[Any]) -> Any:
    """`values` in the nesting of `structure`; a single value stands alone, so that fit and predict take plain arrays."""
    import keras

    if len(values) == 1:
        return values[0]
    return keras.tree.pack_sequence_as(structure, values)


def _layers(model: Any) -> Iterator[Any]:
    for node in calls(model):
        if is_model(node.operation):
            yield from _layers(functional(node.operation))
        else:
            yield node.operation
