"""How each Keras layer becomes nodes of the fused program: one small function a layer class, in one table."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tinykit.graph.windows import same_padding_2d
from tinykit.quant.folding import Affine, absorbs, compose, into_weights
from tinykit.quant.layer import Shape, pair
from tinykit.quant.program import Unsupported, Value, plane

if TYPE_CHECKING:
    from tinykit.quant.fuse import Fuser


CONCAT_INPUTS = 10  # that TFLM takes at once
SCALING = ("Rescaling", "Normalization")


def function_of(layer: Any) -> str:
    """Name of the activation function of any layer, "linear" where it has none; of what is no function of Keras, a description that is
    refused later."""
    import keras

    activation = getattr(layer, "activation", None)
    if activation is None:
        return "linear"
    name = getattr(activation, "__name__", "")
    if name and getattr(keras.activations, name, None) is activation:
        return str(name)
    return f"{name or type(activation).__name__} (not a function of keras.activations)"


def activation_of(layer: Any) -> tuple[str, float]:
    """(function name, alpha) of an activation layer."""
    kind = type(layer).__name__
    if kind == "LeakyReLU":
        return "leaky_relu", float(layer.negative_slope)
    if kind == "ReLU":
        slope, top, threshold = float(layer.negative_slope or 0), layer.max_value, float(layer.threshold or 0)
        if threshold or (slope and top is not None) or top not in (None, 6, 6.0):
            raise Unsupported(f"ReLU with max_value={top}, negative_slope={slope}, threshold={threshold}; max_value 6 or none, threshold 0")
        return ("leaky_relu", slope) if slope else ("relu6" if top is not None else "relu", 0.0)
    if kind == "Softmax":
        if layer.axis not in (-1, None):
            raise Unsupported(f"softmax over axis {layer.axis}; only the last one")
        return "softmax", 0.0
    given = getattr(layer, "activation", None)
    if type(given).__name__ in ("LeakyReLU", "ReLU", "Softmax", "Activation"):  # a layer in the place of a function
        return activation_of(given)
    function = function_of(layer)
    return function, 0.2 if function == "leaky_relu" else 0.0


def check_call(node: Any, layer: Any) -> None:
    """Refuses what a layer of any kind must not be: channels first, or called as in training."""
    if getattr(layer, "data_format", None) not in (None, "channels_last"):
        raise Unsupported(f"data_format {layer.data_format}; build the model with channels_last")
    if node.arguments.kwargs.get("training") and not _trains_by_default(layer):
        raise Unsupported("it is called with training=True, which the integer network never does")


def _trains_by_default(layer: Any) -> bool:
    """Whether training=True in a call may be the default of a Keras 3 layer (RandomFlip, Resizing) and no wish: a model then passes on
    what it is called with itself."""
    parameter = inspect.signature(layer.call).parameters.get("training")
    return parameter is not None and parameter.default is True


def _finite(arrays: dict[str, Any]) -> None:
    """Refuses NaN and infinity."""
    for name, values in arrays.items():
        if not np.isfinite(np.asarray(values, np.float64)).all():
            raise Unsupported(f"its {name} contains NaN or infinity")


def _check_ranks(node: Any, layer: Any) -> None:
    """Keras's merging layers put the missing axes behind the batch, as the board does; `x + y` puts them in front of it."""
    ranks = {len(t.shape) for t in node.arguments.keras_tensors}
    if len(ranks) > 1 and not hasattr(layer, "weights"):
        raise Unsupported("its operands differ in rank; use the layer of the same name, or reshape one of them")


def norm_arrays(layer: Any) -> dict[str, Any]:
    """Parameters and moving statistics of a batch normalisation over the last axis."""
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    rank = layer.input_spec.ndim
    if axis not in (-1, rank - 1):
        raise Unsupported(f"batch normalisation over axis {axis}; only the last one")
    size = layer.moving_mean.shape[0]
    arrays = {
        "gamma": np.asarray(layer.gamma) if layer.scale else np.ones(size, np.float32),
        "beta": np.asarray(layer.beta) if layer.center else np.zeros(size, np.float32),
        "moving_mean": np.asarray(layer.moving_mean),
        "moving_variance": np.asarray(layer.moving_variance),
        "epsilon": float(layer.epsilon),
        "momentum": float(layer.momentum),
    }
    _finite(arrays)
    return arrays


def _spatial(layer: Any, shape: Shape, one_dimensional: bool) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    """(stride, dilation, padding) of a convolution on a plane."""
    kernel, stride, dilation = (
        tuple(layer.kernel_size),
        tuple(layer.strides),
        tuple(getattr(layer, "dilation_rate", (1,) * len(layer.kernel_size))),
    )
    if one_dimensional:
        kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
    if layer.padding == "same":
        return stride, dilation, same_padding_2d(pair(shape[:2]), kernel, stride, dilation)
    if layer.padding == "causal":
        return stride, dilation, (0, 0, (kernel[1] - 1) * dilation[1], 0)
    return stride, dilation, (0, 0, 0, 0)


def _plus(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(i + j for i, j in zip(a, b))


def _weighted(
    f: Fuser,
    name: str,
    kind: str,
    value: Value,
    kernel: np.ndarray,
    bias: np.ndarray,
    shape: Shape,
    tail: tuple,
    raw: np.ndarray,
    **config: Any,
) -> Value:
    """Emits a layer with weights; folds the batch norm of `tail` (norm, activation). `raw`: the layer's own weights, nothing folded."""
    norm, activation = tail
    weights: dict[str, Any] = {"kernel": kernel, "bias": bias}
    if norm is not None and (f.batch_norm == "frozen" or kind == "fully_connected"):
        gain = norm["gamma"] / np.sqrt(norm["moving_variance"] + norm["epsilon"])
        weights = {"kernel": kernel * gain, "bias": (bias - norm["moving_mean"]) * gain + norm["beta"]}
    elif norm is not None:
        weights["batch_norm"] = {k: norm[k] for k in ("gamma", "beta", "moving_mean", "moving_variance")}
        config["batch_norm"] = {k: norm[k] for k in ("epsilon", "momentum")}
    _finite({k: v for k, v in weights.items() if k != "batch_norm"})
    weights["raw"] = raw
    config = {"kernel_shape": kernel.shape, "activation": activation, **config}
    return f.emit(name, kind, [value], shape, config=config, weights=weights, **_range_after(activation))


def _range_after(activation: str, positive: bool = False) -> dict[str, Any]:
    """What a fused activation says about the output's range."""
    return {"signed": activation == "none" and not positive, "max_real": 6.0 if activation == "relu6" else None}


def _bias(layer: Any, size: int) -> np.ndarray:
    return np.asarray(layer.bias) if layer.use_bias else np.zeros(size, np.float32)


def _convolution(
    f: Fuser, node: Any, layer: Any, kind: str, kernel: np.ndarray, bias: np.ndarray, raw: np.ndarray, one_dimensional: bool
) -> None:
    tensor = node.arguments.keras_tensors[0]
    value, extra = f.absorb_padding(f.values[id(tensor)], tensor)
    if getattr(layer, "groups", 1) != 1:
        raise Unsupported(f"groups={layer.groups}; only ungrouped and depthwise convolutions")
    stride, dilation, padding = _spatial(layer, f.values[id(tensor)].shape, one_dimensional)
    norm, activation, leftover, last = f.fused_tail(layer, node.outputs[0])
    shape = plane(node.outputs[0].shape[1:])
    out = _weighted(
        f,
        layer.name,
        kind,
        value,
        kernel,
        bias,
        shape,
        (norm, activation),
        raw,
        stride=stride,
        dilation=dilation,
        padding=_plus(padding, extra),
    )
    f.publish(last, f.activation(f"{layer.name}_{leftover[0]}", leftover[0], out, leftover[1]))


def _conv(f: Fuser, node: Any, layer: Any) -> None:
    one_dimensional = type(layer).__name__ == "Conv1D"
    raw = np.asarray(layer.kernel)
    kernel, bias = into_weights(_folded(f, node), raw, _bias(layer, layer.kernel.shape[-1]))
    _convolution(f, node, layer, "conv2d", kernel[None] if one_dimensional else kernel, bias, raw, one_dimensional)


def _depthwise(f: Fuser, node: Any, layer: Any) -> None:
    one_dimensional = type(layer).__name__ == "DepthwiseConv1D"
    raw = np.asarray(layer.kernel if hasattr(layer, "kernel") else layer.depthwise_kernel)
    kernel = raw[None] if one_dimensional else raw
    kh, kw, channels, multiplier = kernel.shape
    kernel, bias = into_weights(_folded(f, node), kernel, _bias(layer, channels * multiplier), depthwise=True)
    _convolution(f, node, layer, "depthwise_conv2d", kernel.reshape(kh, kw, channels * multiplier), bias, raw, one_dimensional)


def _separable(f: Fuser, node: Any, layer: Any) -> None:
    one_dimensional = type(layer).__name__ == "SeparableConv1D"
    tensor = node.arguments.keras_tensors[0]
    value, extra = f.absorb_padding(f.values[id(tensor)], tensor)
    stride, dilation, padding = _spatial(layer, f.values[id(tensor)].shape, one_dimensional)
    raw, second = np.asarray(layer.depthwise_kernel), np.asarray(layer.pointwise_kernel)
    if one_dimensional:
        raw, second = raw[None], second[None]
    kh, kw, channels, multiplier = raw.shape
    shape = plane(node.outputs[0].shape[1:])
    middle = (*shape[:2], channels * multiplier)
    first, first_bias = into_weights(_folded(f, node), raw, np.zeros(channels * multiplier, np.float32), depthwise=True)
    inner = _weighted(
        f,
        f"{layer.name}_depthwise",
        "depthwise_conv2d",
        value,
        first.reshape(kh, kw, -1),
        first_bias,
        middle,
        (None, "none"),
        raw,
        stride=stride,
        dilation=dilation,
        padding=_plus(padding, extra),
    )
    norm, activation, leftover, last = f.fused_tail(layer, node.outputs[0])
    out = _weighted(f, layer.name, "conv2d", inner, second, _bias(layer, second.shape[-1]), shape, (norm, activation), second)
    f.publish(last, f.activation(f"{layer.name}_{leftover[0]}", leftover[0], out, leftover[1]))


def _dense(f: Fuser, node: Any, layer: Any) -> None:
    value = f.inputs(node)[0]
    raw = np.asarray(layer.kernel)
    kernel, bias = into_weights(_folded(f, node), raw, _bias(layer, layer.kernel.shape[-1]))
    norm, activation, leftover, last = f.fused_tail(layer, node.outputs[0])
    shape = plane(node.outputs[0].shape[1:])
    flat = len(value.shape) == 1
    kind, w = ("fully_connected", kernel) if flat else ("conv2d", kernel[None, None])
    out = _weighted(f, layer.name, kind, value, w, bias, shape, (norm, activation), raw)
    f.publish(last, f.activation(f"{layer.name}_{leftover[0]}", leftover[0], out, leftover[1]))


def _folded(f: Fuser, node: Any) -> Affine | None:
    """The scale and shift in front of a layer with weights that it is to take in, None where there is none."""
    return f.affine.pop(id(node.arguments.keras_tensors[0]), None)


def _affine(f: Fuser, node: Any, layer: Any, gain: np.ndarray, offset: np.ndarray) -> None:
    """A per-channel scale and shift: into the weights that follow, else a depthwise convolution of one tap."""
    value = f.inputs(node)[0]
    channels = value.shape[-1]
    flat = len(value.shape) == 1
    for array in (gain, offset):
        if array.size != 1 and (array.size != channels or array.shape[-1] != channels):
            raise Unsupported(f"parameters of shape {array.shape} for {channels} channels; one value, or one a channel")
    own = (np.broadcast_to(array.reshape(-1), (channels,)).astype(np.float64) for array in (gain, offset))
    affine = compose(_folded(f, node), *own)
    _finite({"scale": affine[0], "shift": affine[1]})
    reader = f.following(node.outputs[0])
    scaling = type(layer).__name__ in SCALING  # a batch norm on its own is kept: it evens out what it reads, which its reader may need
    if scaling and reader is not None and (absorbs(reader, affine[1]) or type(reader.operation).__name__ in SCALING):
        f.affine[id(reader.arguments.keras_tensors[0])] = affine
        f.publish(node.outputs[0], value)
        return
    activation, last = f.fused_activation(node.outputs[0])
    if flat:
        value = f.emit(f"{layer.name}_in", "reshape", [value], (1, 1, channels), tied=True)
    kernel, bias = affine[0].astype(np.float32).reshape(1, 1, channels), affine[1].astype(np.float32)
    out = _weighted(f, layer.name, "depthwise_conv2d", value, kernel, bias, value.shape, (None, activation), kernel)
    if flat:
        out = f.emit(f"{layer.name}_out", "reshape", [out], (channels,), tied=True)
    f.publish(last, out)


def _batch_norm(f: Fuser, node: Any, layer: Any) -> None:
    norm = norm_arrays(layer)
    gain = norm["gamma"] / np.sqrt(norm["moving_variance"] + norm["epsilon"])
    _affine(f, node, layer, gain, norm["beta"] - norm["moving_mean"] * gain)


def _rescaling(f: Fuser, node: Any, layer: Any) -> None:
    _affine(f, node, layer, np.asarray(layer.scale, np.float32), np.asarray(layer.offset, np.float32))


def _normalization(f: Fuser, node: Any, layer: Any) -> None:
    mean, variance = (np.asarray(v, np.float32) for v in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    if getattr(layer, "invert", False):
        _affine(f, node, layer, deviation, mean)
    else:
        _affine(f, node, layer, 1.0 / deviation, -mean / deviation)


def _activation_layer(f: Fuser, node: Any, layer: Any) -> None:
    function, alpha = activation_of(layer)
    f.publish(node.outputs[0], f.activation(layer.name, function, f.inputs(node)[0], alpha))


def broadcast_shape(*shapes: Shape) -> Shape:
    """Shape of an element-wise operation."""
    return tuple(int(d) for d in np.broadcast_shapes(*shapes))


def _binary(kind: str) -> Callable[[Fuser, Any, Any], None]:
    def handler(f: Fuser, node: Any, layer: Any) -> None:
        values = f.inputs(node)
        if len(values) < 2:
            raise Unsupported("an operand is a constant; only operations between two tensors")
        _check_ranks(node, layer)
        activation, last = f.fused_activation(node.outputs[0])
        out = values[0]
        for i, value in enumerate(values[1:], 1):
            final = i == len(values) - 1
            name = layer.name if final else f"{layer.name}_{i}"
            fused = activation if final else "none"
            shape = broadcast_shape(out.shape, value.shape)
            positive = kind != "sub" and not out.signed and not value.signed
            out = f.emit(name, kind, [out, value], shape, config={"activation": fused}, **_range_after(fused, positive))
        f.publish(last, out)

    return handler


def _extremum(kind: str) -> Callable[[Fuser, Any, Any], None]:
    def handler(f: Fuser, node: Any, layer: Any) -> None:
        values = f.inputs(node)
        if len(values) != 2:
            raise Unsupported("only of two tensors")
        _check_ranks(node, layer)
        shape = broadcast_shape(*(v.shape for v in values))
        f.publish(node.outputs[0], f.emit(layer.name, kind, values, shape, tied=True))

    return handler


def _concat(f: Fuser, node: Any, layer: Any) -> None:
    rank = len(node.outputs[0].shape)
    axis = layer.axis % rank - 1
    if axis < 0:
        raise Unsupported("concatenation along the batch")
    values = f.inputs(node)
    axis += rank == 3
    part = 0
    while len(values) > CONCAT_INPUTS:
        part += 1
        length = sum(v.shape[axis] for v in values[:CONCAT_INPUTS])
        shape = (*values[0].shape[:axis], length, *values[0].shape[axis + 1 :])
        first = f.emit(f"{layer.name}_part{part}", "concat", values[:CONCAT_INPUTS], shape, config={"axis": axis}, tied=True)
        values = [first, *values[CONCAT_INPUTS:]]
    shape = plane(node.outputs[0].shape[1:])
    f.publish(node.outputs[0], f.emit(layer.name, "concat", values, shape, config={"axis": axis}, tied=True))


def _pool(kind: str) -> Callable[[Fuser, Any, Any], None]:
    def handler(f: Fuser, node: Any, layer: Any) -> None:
        value = f.inputs(node)[0]
        one_dimensional = type(layer).__name__.endswith("1D")
        window, stride = tuple(layer.pool_size), tuple(layer.strides)
        if one_dimensional:
            window, stride = (1, *window), (1, *stride)
        padding = (0, 0, 0, 0)
        if layer.padding == "same":
            padding = same_padding_2d(pair(value.shape[:2]), window, stride)
        shape = plane(node.outputs[0].shape[1:])
        config = {"window": window, "stride": stride, "padding": padding}
        f.publish(node.outputs[0], f.emit(layer.name, kind, [value], shape, config=config, tied=True))

    return handler


def _global_average(f: Fuser, node: Any, layer: Any) -> None:
    value = f.inputs(node)[0]
    shape = plane(node.outputs[0].shape[1:])
    f.publish(node.outputs[0], f.emit(layer.name, "mean", [value], shape, config={"axes": (0, 1)}, signed=value.signed))


def _global_max(f: Fuser, node: Any, layer: Any) -> None:
    value = f.inputs(node)[0]
    shape = plane(node.outputs[0].shape[1:])
    h, w, c = value.shape
    out = f.emit(f"{layer.name}_pool", "max_pool", [value], (1, 1, c), config={"window": (h, w), "stride": (1, 1)}, tied=True)
    f.publish(node.outputs[0], f.emit(layer.name, "reshape", [out], shape, tied=True))


def _zero_padding(f: Fuser, node: Any, layer: Any) -> None:
    value = f.inputs(node)[0]
    if type(layer).__name__ == "ZeroPadding1D":
        padding = (0, 0, *layer.padding)
    else:
        (top, bottom), (left, right) = layer.padding
        padding = (top, bottom, left, right)
    shape = plane(node.outputs[0].shape[1:])
    f.publish(node.outputs[0], f.emit(layer.name, "pad", [value], shape, config={"padding": padding}, tied=True))


def _cropping(f: Fuser, node: Any, layer: Any) -> None:
    value = f.inputs(node)[0]
    crops = ((0, 0), tuple(layer.cropping)) if type(layer).__name__ == "Cropping1D" else tuple(layer.cropping)
    begin = (crops[0][0], crops[1][0], 0)
    end = (value.shape[0] - crops[0][1], value.shape[1] - crops[1][1], value.shape[2])
    config = {"begin": begin, "end": end, "step": (1, 1, 1)}
    f.publish(node.outputs[0], f.emit(layer.name, "strided_slice", [value], plane(node.outputs[0].shape[1:]), config=config, tied=True))


def _reshape(f: Fuser, node: Any, layer: Any) -> None:
    value = f.inputs(node)[0]
    shape = plane(node.outputs[0].shape[1:])
    if shape == value.shape:
        f.publish(node.outputs[0], value)
        return
    f.publish(node.outputs[0], f.emit(layer.name, "reshape", [value], shape, tied=True))


def _permute(f: Fuser, node: Any, layer: Any) -> None:
    value = f.inputs(node)[0]
    permutation = tuple(d - 1 for d in layer.dims)
    if len(permutation) == 2:
        permutation = (0, permutation[0] + 1, permutation[1] + 1)
    out = plane(node.outputs[0].shape[1:])
    f.publish(node.outputs[0], f.emit(layer.name, "transpose", [value], out, config={"permutation": permutation}, tied=True))


HANDLERS: dict[str, Callable[[Fuser, Any, Any], None]] = {
    "Conv2D": _conv,
    "Conv1D": _conv,
    "DepthwiseConv2D": _depthwise,
    "DepthwiseConv1D": _depthwise,
    "SeparableConv2D": _separable,
    "SeparableConv1D": _separable,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "Activation": _activation_layer,
    "ReLU": _activation_layer,
    "LeakyReLU": _activation_layer,
    "Softmax": _activation_layer,
    "Add": _binary("add"),
    "Subtract": _binary("sub"),
    "Multiply": _binary("mul"),
    "Maximum": _extremum("maximum"),
    "Minimum": _extremum("minimum"),
    "Concatenate": _concat,
    "MaxPooling2D": _pool("max_pool"),
    "MaxPooling1D": _pool("max_pool"),
    "AveragePooling2D": _pool("average_pool"),
    "AveragePooling1D": _pool("average_pool"),
    "GlobalAveragePooling2D": _global_average,
    "GlobalAveragePooling1D": _global_average,
    "GlobalMaxPooling2D": _global_max,
    "GlobalMaxPooling1D": _global_max,
    "ZeroPadding2D": _zero_padding,
    "ZeroPadding1D": _zero_padding,
    "Cropping2D": _cropping,
    "Cropping1D": _cropping,
    "Flatten": _reshape,
    "Reshape": _reshape,
    "Permute": _permute,
}
