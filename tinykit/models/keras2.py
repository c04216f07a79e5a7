"""Conversion of a tf_keras (Keras 2) model to Keras 3, layer by layer, in one process."""

import inspect
from collections.abc import Iterator
from typing import Any

from tinykit.errors import ModelError, collected
from tinykit.models.flatten import set_weights
from tinykit.models.graphs import calls, unique_name
from tinykit.models.operations import TF_FUNCTIONS, as_layer

# Keys of Keras 2 layers that Keras 3 does not know, with the values for which leaving them out changes nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "batch_input_shape": (),
    "dtype": (),
    "fused": (),
    "groups": (1,),
    "implementation": (),
    "input_dim": (),
    "input_length": (None,),
    "noise_shape": (None,),
    "ragged": (False,),
    "renorm": (False,),
    "rng_type": (),
    "sparse": (False,),
    "time_major": (False,),
    "virtual_batch_size": (None,),
}
RENAMED = {("LeakyReLU", "alpha"): "negative_slope"}


def convert_keras2(model: Any) -> Any:
    """The same network in Keras 3: a flat functional model with the same weights.

    Args:
        model: a functional or built Sequential tf_keras model, nested to any depth; layers may be shared.

    Raises:
        ModelError: layers without a counterpart in Keras 3, or options that it does not have; all at once.
    """
    import keras

    source = _functional(model)
    problems: list[str] = []
    made: dict[int, Any] = {}
    used: set[str] = set()
    inputs = []
    for tensor in source.inputs:
        name = unique_name(tensor.name.split(":")[0], "", used)
        inputs.append(keras.Input(batch_shape=tuple(tensor.shape), dtype=tensor.dtype.name, name=name))
    for layer, prefix in _layers(source, ""):
        if id(layer) in made or _function(layer):
            continue
        with collected(ModelError, problems):
            made[id(layer)] = _counterpart(layer, unique_name(layer.name, prefix, used))
    if problems:
        raise ModelError(problems)
    outputs = _replay(source, inputs, made)
    result = keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs[0] if len(outputs) == 1 else outputs, name=model.name)
    for layer in {id(layer): layer for layer, _ in _layers(source, "") if not _function(layer)}.values():
        _copy_weights(layer, made[id(layer)], problems)
    if problems:
        raise ModelError(problems)
    return result


def _copy_weights(layer: Any, made: Any, problems: list[str]) -> None:
    expected, given = [tuple(w.shape) for w in made.weights], [tuple(w.shape) for w in layer.weights]
    if expected == given:
        set_weights(made, layer.get_weights())
    else:
        problems.append(
            f"layer {layer.name!r} ({type(layer).__name__}): its weights {given} are {expected} in Keras 3; options such as "
            "renorm have no counterpart"
        )


def _functional(model: Any) -> Any:
    import tf_keras

    if isinstance(model, tf_keras.Sequential):
        if not model.built or not model.inputs:
            raise ModelError(f"model {model.name!r}: a Sequential model without an input shape; begin it with an Input layer")
        return tf_keras.Model(model.inputs, model.outputs, name=model.name)
    if not getattr(model, "_is_graph_network", False):
        raise ModelError(f"model {model.name!r}: {type(model).__name__} is no functional model; its layers cannot be seen")
    return model


def _is_model(layer: Any) -> bool:
    import tf_keras

    return isinstance(layer, tf_keras.Model)


def _layers(model: Any, prefix: str) -> Iterator[tuple[Any, str]]:
    """Every layer call, nested models entered, with the name of the model around it."""
    for node in calls(model):
        if _is_model(node.layer):
            yield from _layers(_functional(node.layer), node.layer.name)
        else:
            yield node.layer, prefix


def _function(layer: Any) -> str:
    """What a layer that stands for a function of TensorFlow does, a value of TF_FUNCTIONS; "" for any other layer."""
    return TF_FUNCTIONS.get(getattr(layer, "symbol", None) or "", "") if type(layer).__name__ == "TFOpLambda" else ""


def _stand_in(layer: Any, arguments: Any, keywords: dict[str, Any]) -> Any:
    """The result, in Keras 3, of a function of TensorFlow."""
    given = [*arguments, *(value for key, value in keywords.items() if key != "name")]
    standing = as_layer(_function(layer), layer.name, given)
    if standing is None:
        raise ModelError(
            f"layer {layer.name!r} ({type(layer).__name__}): tf.{layer.symbol} of {len(given)} values such as these has no counterpart "
            "among Keras 3's layers; replace it by standard layers"
        )
    return standing[0](standing[1])


def _parameters(cls: type) -> set[str]:
    names: set[str] = {"name", "trainable"}
    for base in cls.__mro__:
        if "__init__" in base.__dict__:
            names |= set(inspect.signature(base.__dict__["__init__"]).parameters)
    return names - {"self", "args", "kwargs"}


def _plain(value: Any) -> Any:
    """An initialiser, regulariser or constraint as Keras 3 reads it."""
    if isinstance(value, dict) and "class_name" in value:
        return {"class_name": value["class_name"].split(">")[-1], "config": value.get("config", {})}
    return value


def _counterpart(layer: Any, name: str) -> Any:
    """The untrained Keras 3 layer of the same class and configuration."""
    import keras

    kind = type(layer).__name__
    cls = getattr(keras.layers, kind, None)
    where = f"layer {layer.name!r} ({kind})"
    if kind == "Lambda" or cls is None or not type(layer).__module__.startswith("tf_keras."):
        raise ModelError(f"{where}: has no counterpart among Keras 3's layers; replace it by standard layers")
    known = _parameters(cls)
    configuration, problems = {}, []
    for key, value in layer.get_config().items():
        if key == "axis" and isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]
        key = RENAMED.get((kind, key), key)
        if key in known and key != "dtype":
            configuration[key] = _plain(value)
        elif key.endswith(("_initializer", "_regularizer", "_constraint")):
            continue  # of a weight that the layer does not have
        elif key not in NEUTRAL or (NEUTRAL[key] and value not in NEUTRAL[key]):
            problems.append(f"{where}: option {key}={value!r} does not exist in Keras 3")
    if getattr(layer, "renorm", False):
        problems.append(f"{where}: renorm does not exist in Keras 3")
    if layer.compute_dtype not in (None, "float32"):
        problems.append(f"{where}: computes in {layer.compute_dtype}; only float32 is converted")
    if "hard_sigmoid" in (configuration.get("activation"), configuration.get("recurrent_activation")):
        problems.append(f"{where}: hard_sigmoid of Keras 2 (0.2 x + 0.5) is another function in Keras 3 (x / 6 + 0.5)")
    if problems:
        raise ModelError(problems)
    configuration["name"] = name
    wrapped = getattr(layer, "forward_layer", None) or getattr(layer, "layer", None)
    try:
        if "layer" in configuration and wrapped is not None:  # Bidirectional, TimeDistributed: what is inside is converted likewise
            configuration.pop("backward_layer", None)
            made = cls(**{**configuration, "layer": _counterpart(wrapped, wrapped.name)})
        else:
            made = cls.from_config(configuration)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{where}: Keras 3 refuses its options: {error}") from error
    made.trainable = layer.trainable
    return made


def _replay(model: Any, inputs: list[Any], made: dict[int, Any]) -> list[Any]:
    """Calls the Keras 3 layers on new inputs as the source's were called; returns the outputs, flat."""
    import keras
    import tensorflow as tf

    known = {id(old): new for old, new in zip(model.inputs, inputs)}

    def translate(value: Any) -> Any:
        return known.get(id(value), value)

    for node in calls(model):
        arguments = tf.nest.map_structure(translate, node.call_args)
        keywords = {key: value for key, value in node.call_kwargs.items() if value is not None}
        keywords = tf.nest.map_structure(translate, keywords)
        if _is_model(node.layer):
            new = _replay(_functional(node.layer), keras.tree.flatten(arguments[0]), made)
        elif _function(node.layer):
            new = [_stand_in(node.layer, arguments, keywords)]
        else:
            new = keras.tree.flatten(made[id(node.layer)](*arguments, **keywords))
        old = tf.nest.flatten(node.outputs)
        known.update((id(tensor), value) for tensor, value in zip(old, new))
    return [known[id(tensor)] for tensor in model.outputs]
