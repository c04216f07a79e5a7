"""A float Keras model as the list of operations that the board will do: batch norm folded, activations fused, 1-D layers as planes of height 1.

Whatever cannot be represented is listed at once, by layer name, before any training starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinykit.errors import ModelError
from tinykit.quant.layer import Shape, same_padding

IDENTITY_LAYERS = {
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization", "Identity",
    "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomContrast", "RandomBrightness",
}  # fmt: skip
FUSED = {"linear": "none", "relu": "relu", "relu6": "relu6"}
TABLES = {
    "sigmoid": "logistic",
    "tanh": "tanh",
    "hard_silu": "hard_swish",
    "hard_swish": "hard_swish",
    "relu": "relu",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu",
}
FIXED_OUTPUT = {"logistic": (1 / 256, -128), "tanh": (1 / 128, 0), "softmax": (1 / 256, -128)}


@dataclass
class Node:
    """One operation to be.

    Attributes:
        kind: of the integer layer (`QLayer.kind`).
        inputs: names of earlier nodes, or "input".
        config: constructor arguments of the integer layer beyond the shapes.
        weights: float arrays for `Weighted.assign`: kernel, bias and, where batch norm stays a variable, batch_norm.
        tied: the output must share the quantiser of its inputs.
        fixed: (scale, zero point) that the operation itself decides.
        signed: False when the output is never negative.
        max_real: largest real output (ReLU6).
        layers: names of the Keras layers that went into it.
    """

    name: str
    kind: str
    inputs: list[str]
    input_shapes: list[Shape]
    output_shape: Shape
    config: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] | None = None
    tied: bool = False
    fixed: tuple[float, int] | None = None
    signed: bool = True
    max_real: float | None = None
    layers: list[str] = field(default_factory=list)


@dataclass
class Program:
    """The fused model: nodes in execution order, the shape of the input as the user's model has it."""

    nodes: list[Node]
    input_shape: Shape
    output: str
    name: str


class _Unsupported(Exception):
    """Why one layer cannot be represented."""


@dataclass
class _Value:
    name: str
    shape: Shape
    signed: bool = True


def fuse(model: Any, batch_norm: str = "frozen") -> Program:
    """The operations of a float functional Keras model.

    Args:
        model: built functional model with one input and one output of fixed shape, no nested models.
        batch_norm: "frozen" folds batch norm into the weights for good; "update" leaves gamma, beta and the moving statistics variable.

    Raises:
        ModelError: every layer that has no exact integer counterpart, by name and with the reason.
    """
    return _Fuser(model, batch_norm).run()


def plane(shape: tuple[int | None, ...]) -> Shape:
    """Shape of a Keras tensor (without batch) as the graph sees it: (L, C) becomes (1, L, C)."""
    if any(d is None for d in shape):
        raise _Unsupported(f"its shape {tuple(shape)} is not fixed; give the model's input a fixed size")
    if len(shape) not in (1, 2, 3):
        raise _Unsupported(f"a tensor of {len(shape)} dimensions without the batch; 1 to 3 are supported")
    sizes = tuple(int(d) for d in shape if d is not None)
    return (1, *sizes) if len(sizes) == 2 else sizes


class _Fuser:
    def __init__(self, model: Any, batch_norm: str) -> None:
        self.model, self.batch_norm = model, batch_norm
        self.values: dict[int, _Value] = {}
        self.nodes: list[Node] = []
        self.done: set[int] = set()
        self.alias: set[int] = set()
        self.names: set[str] = {"input"}
        self.problems: list[str] = []

    def run(self) -> Program:
        model = self.model
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ModelError(
                f"model {model.name!r} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; one of each is supported"
            )
        order = [n for depth in sorted(model._nodes_by_depth, reverse=True) for n in model._nodes_by_depth[depth]]
        self.readers: dict[int, list[Any]] = {}
        for node in order:
            for t in node.arguments.keras_tensors:
                self.readers.setdefault(id(t), []).append(node)
        self.outputs = {id(t) for t in model.outputs}
        try:
            self._input(model.inputs[0])
        except _Unsupported as e:
            raise ModelError(f"model {model.name!r}: the input: {e}") from None
        for node in order:
            if not node.is_input and id(node) not in self.done:
                self._convert(node)
        if self.problems:
            head = f"model {model.name!r} has {len(self.problems)} layer(s) without an exact integer counterpart:"
            raise ModelError([head, *self.problems])
        final = self._final(model.outputs[0])
        return Program(self.nodes, tuple(model.inputs[0].shape[1:]), final, model.name)

    def _input(self, tensor: Any) -> None:
        shape = plane(tensor.shape[1:])
        value = _Value("input", shape)
        if len(tensor.shape) == 3:
            sample = tuple(int(d) for d in tensor.shape[1:])
            value = self._emit("to_plane", "reshape", [_Value("input", sample)], shape, tied=True)
        self.values[id(tensor)] = value

    def _final(self, tensor: Any) -> str:
        value = self.values[id(tensor)]
        if len(tensor.shape) == 3:
            value = self._emit("from_plane", "reshape", [value], tuple(int(d) for d in tensor.shape[1:]), tied=True)
        return value.name

    def _convert(self, node: Any) -> None:
        layer = node.operation
        kind = type(layer).__name__
        missing = [t for t in node.arguments.keras_tensors if id(t) not in self.values]
        if missing:  # an earlier layer was refused; carry on with what a reader needs to know, so that all problems are found
            for t in missing:
                self._stand_in(t)
        try:
            handler = _HANDLERS.get(kind)
            if kind in IDENTITY_LAYERS:
                self.values[id(node.outputs[0])] = self.values[id(node.arguments.keras_tensors[0])]
            elif handler is None:
                raise _Unsupported("there is no integer counterpart")
            else:
                handler(self, node, layer)
        except _Unsupported as e:
            self.problems.append(f"  layer {layer.name!r} ({kind}): {e}")
            for t in node.outputs:
                self._stand_in(t)

    def _stand_in(self, tensor: Any) -> None:
        try:
            self.values[id(tensor)] = _Value("?", plane(tensor.shape[1:]))
        except _Unsupported:
            self.values[id(tensor)] = _Value("?", (1,))

    # helpers for the handlers -----------------------------------------------------------------------------------------------

    def inputs(self, node: Any) -> list[_Value]:
        """The values that a node reads."""
        return [self.values[id(t)] for t in node.arguments.keras_tensors]

    def unique(self, name: str) -> str:
        """`name`, or `name` with a number where it is taken (a shared layer)."""
        candidate, i = name, 1
        while candidate in self.names:
            candidate, i = f"{name}_{i}", i + 1
        self.names.add(candidate)
        return candidate

    def _emit(self, name: str, kind: str, inputs: list[_Value], shape: Shape, **attributes: Any) -> _Value:
        node = Node(self.unique(name), kind, [v.name for v in inputs], [v.shape for v in inputs], shape, **attributes)
        if node.tied:
            node.signed = any(v.signed for v in inputs)
        self.nodes.append(node)
        return _Value(node.name, shape, node.signed)

    def following(self, tensor: Any) -> Any | None:
        """The only node that reads `tensor`, looking through layers that do nothing at inference; None where there are several."""
        while True:
            readers = self.readers.get(id(tensor), [])
            if len(readers) != 1 or id(tensor) in self.outputs:
                return None
            node = readers[0]
            layer = node.operation
            passive = type(layer).__name__ in IDENTITY_LAYERS or (type(layer).__name__ == "Activation" and _function(layer) == "linear")
            if not passive:
                return node
            self.done.add(id(node))
            tensor = node.outputs[0]
            self.alias.add(id(tensor))

    def absorb_padding(self, value: _Value, tensor: Any) -> tuple[_Value, tuple[int, int, int, int]]:
        """Takes a padding layer that only this reader uses into the reader."""
        node = next((n for n in self.nodes if n.name == value.name), None)
        if node is None or node.kind != "pad" or len(self.readers[id(tensor)]) != 1:
            return value, (0, 0, 0, 0)
        self.nodes.remove(node)
        return _Value(node.inputs[0], node.input_shapes[0], value.signed), tuple(node.config["padding"])

    def fused_tail(self, layer: Any, tensor: Any) -> tuple[dict[str, Any] | None, str, str, Any]:
        """Batch norm and activation that directly follow `layer`: (batch norm arrays, fused activation, leftover activation, last tensor)."""
        norm, activation = None, _function(layer)
        leftover = "" if activation in FUSED else activation
        if activation == "linear":
            node = self.following(tensor)
            if node is not None and type(node.operation).__name__ == "BatchNormalization":
                norm = _norm_arrays(node.operation)
                tensor = self._take(node)
                node = self.following(tensor)
            if node is not None and type(node.operation).__name__ in ("Activation", "ReLU"):
                function, _ = _activation_of(node.operation)
                if function in FUSED:
                    activation = function
                    tensor = self._take(node)
        return norm, FUSED.get(activation, "none"), leftover, tensor

    def fused_activation(self, tensor: Any) -> tuple[str, Any]:
        """(activation, last tensor) of a ReLU that directly follows an operation without weights."""
        node = self.following(tensor)
        if node is not None and type(node.operation).__name__ in ("Activation", "ReLU"):
            function, _ = _activation_of(node.operation)
            if function in FUSED:
                return FUSED[function], self._take(node)
        return "none", tensor

    def _take(self, node: Any) -> Any:
        self.done.add(id(node))
        return node.outputs[0]

    def publish(self, tensor: Any, value: _Value) -> None:
        """Makes `value` the meaning of `tensor`, and of what passive layers that were looked through make of it."""
        self.values[id(tensor)] = value
        for node in self.readers.get(id(tensor), []):
            if id(node) in self.done and id(node.outputs[0]) in self.alias:
                self.publish(node.outputs[0], value)

    def activation(self, name: str, function: str, value: _Value, alpha: float = 0.0) -> _Value:
        """Emits a stand-alone activation."""
        if function in ("linear", ""):
            return value
        if function == "softmax":
            return self._emit(name, "softmax", [value], value.shape, fixed=FIXED_OUTPUT["softmax"], signed=False)
        if function in ("silu", "swish"):
            gate = self._emit(
                f"{name}_gate", "table", [value], value.shape, config={"function": "logistic"}, fixed=FIXED_OUTPUT["logistic"], signed=False
            )
            return self._emit(name, "mul", [value, gate], value.shape)
        if function not in TABLES:
            raise _Unsupported(f"activation {function!r}; there are {', '.join(sorted({*TABLES, 'linear', 'softmax', 'silu'}))}")
        table = TABLES[function]
        config = {"function": table, "alpha": alpha}
        positive = table in ("relu", "relu6", "logistic")
        return self._emit(
            name, "table", [value], value.shape, config=config, fixed=FIXED_OUTPUT.get(table), signed=not positive, max_real=6.0 if table == "relu6" else None
        )  # fmt: skip


def _function(layer: Any) -> str:
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", "linear") if activation is not None else "linear"


def _activation_of(layer: Any) -> tuple[str, float]:
    """(function name, alpha) of an activation layer."""
    kind = type(layer).__name__
    if kind == "LeakyReLU":
        return "leaky_relu", float(layer.negative_slope)
    if kind == "ReLU":
        slope, top, threshold = float(layer.negative_slope or 0), layer.max_value, float(layer.threshold or 0)
        if threshold or (slope and top is not None) or top not in (None, 6, 6.0):
            raise _Unsupported(
                f"ReLU with max_value={top}, negative_slope={slope}, threshold={threshold}; max_value 6 or none, threshold 0"
            )
        return ("leaky_relu", slope) if slope else ("relu6" if top is not None else "relu", 0.0)
    if kind == "Softmax":
        if layer.axis not in (-1, None):
            raise _Unsupported(f"softmax over axis {layer.axis}; only the last one")
        return "softmax", 0.0
    function = _function(layer)
    return function, 0.2 if function == "leaky_relu" else 0.0


def _norm_arrays(layer: Any) -> dict[str, Any]:
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    rank = layer.input_spec.ndim
    if axis not in (-1, rank - 1):
        raise _Unsupported(f"batch normalisation over axis {axis}; only the last one")
    size = layer.moving_mean.shape[0]
    return {
        "gamma": np.asarray(layer.gamma) if layer.scale else np.ones(size, np.float32),
        "beta": np.asarray(layer.beta) if layer.center else np.zeros(size, np.float32),
        "moving_mean": np.asarray(layer.moving_mean),
        "moving_variance": np.asarray(layer.moving_variance),
        "epsilon": float(layer.epsilon),
        "momentum": float(layer.momentum),
    }


def _spatial(
    layer: Any, shape: Shape, one_dimensional: bool
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int], tuple[int, int]]:
    """(stride, dilation, padding, kernel) of a convolution on a plane."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise _Unsupported("data_format channels_first; build the model with channels_last")
    kernel, stride, dilation = (
        tuple(layer.kernel_size),
        tuple(layer.strides),
        tuple(getattr(layer, "dilation_rate", (1,) * len(layer.kernel_size))),
    )
    if one_dimensional:
        kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
    if layer.padding == "same":
        rows = same_padding(shape[0], kernel[0], stride[0], dilation[0])
        columns = same_padding(shape[1], kernel[1], stride[1], dilation[1])
        return stride, dilation, (*rows, *columns), kernel
    if layer.padding == "causal":
        return stride, dilation, (0, 0, (kernel[1] - 1) * dilation[1], 0), kernel
    return stride, dilation, (0, 0, 0, 0), kernel


def _plus(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(i + j for i, j in zip(a, b))


def _weighted(
    f: _Fuser,
    name: str,
    kind: str,
    value: _Value,
    kernel: np.ndarray,
    bias: np.ndarray,
    shape: Shape,
    tail: tuple,
    layers: list[str],
    **config: Any,
) -> _Value:
    """Emits a layer with weights; folds the batch norm of `tail` (norm, activation)."""
    norm, activation = tail
    weights: dict[str, Any] = {"kernel": kernel, "bias": bias}
    if norm is not None and f.batch_norm == "frozen":
        gain = norm["gamma"] / np.sqrt(norm["moving_variance"] + norm["epsilon"])
        weights = {"kernel": kernel * gain, "bias": (bias - norm["moving_mean"]) * gain + norm["beta"]}
    elif norm is not None:
        weights["batch_norm"] = {k: norm[k] for k in ("gamma", "beta", "moving_mean", "moving_variance")}
        config["batch_norm"] = {k: norm[k] for k in ("epsilon", "momentum")}
    config = {"kernel_shape": kernel.shape, "activation": activation, **config}
    return f._emit(
        name, kind, [value], shape, config=config, weights=weights, signed=activation == "none", max_real=6.0 if activation == "relu6" else None, layers=layers
    )  # fmt: skip


def _bias(layer: Any, size: int) -> np.ndarray:
    return np.asarray(layer.bias) if layer.use_bias else np.zeros(size, np.float32)


def _convolution(f: _Fuser, node: Any, layer: Any, kind: str, kernel: np.ndarray, one_dimensional: bool) -> None:
    tensor = node.arguments.keras_tensors[0]
    value, extra = f.absorb_padding(f.values[id(tensor)], tensor)
    if getattr(layer, "groups", 1) != 1:
        raise _Unsupported(f"groups={layer.groups}; only ungrouped and depthwise convolutions")
    stride, dilation, padding, _ = _spatial(layer, f.values[id(tensor)].shape, one_dimensional)
    norm, activation, leftover, last = f.fused_tail(layer, node.outputs[0])
    shape = plane(node.outputs[0].shape[1:])
    out = _weighted(
        f, layer.name, kind, value, kernel, _bias(layer, kernel.shape[-1]), shape, (norm, activation), [layer.name],
        stride=stride, dilation=dilation, padding=_plus(padding, extra),
    )  # fmt: skip
    f.publish(last, f.activation(f"{layer.name}_{leftover}", leftover, out))


def _conv(f: _Fuser, node: Any, layer: Any) -> None:
    one_dimensional = type(layer).__name__ == "Conv1D"
    kernel = np.asarray(layer.kernel)
    _convolution(f, node, layer, "conv2d", kernel[None] if one_dimensional else kernel, one_dimensional)


def _depthwise(f: _Fuser, node: Any, layer: Any) -> None:
    one_dimensional = type(layer).__name__ == "DepthwiseConv1D"
    kernel = np.asarray(layer.kernel if hasattr(layer, "kernel") else layer.depthwise_kernel)
    kernel = kernel[None] if one_dimensional else kernel
    kh, kw, channels, multiplier = kernel.shape
    _convolution(f, node, layer, "depthwise_conv2d", kernel.reshape(kh, kw, channels * multiplier), one_dimensional)


def _separable(f: _Fuser, node: Any, layer: Any) -> None:
    one_dimensional = type(layer).__name__ == "SeparableConv1D"
    tensor = node.arguments.keras_tensors[0]
    value, extra = f.absorb_padding(f.values[id(tensor)], tensor)
    stride, dilation, padding, _ = _spatial(layer, f.values[id(tensor)].shape, one_dimensional)
    first, second = np.asarray(layer.depthwise_kernel), np.asarray(layer.pointwise_kernel)
    if one_dimensional:
        first, second = first[None], second[None]
    kh, kw, channels, multiplier = first.shape
    shape = plane(node.outputs[0].shape[1:])
    middle = (*shape[:2], channels * multiplier)
    zeros = np.zeros(channels * multiplier, np.float32)
    inner = _weighted(
        f, f"{layer.name}_depthwise", "depthwise_conv2d", value, first.reshape(kh, kw, -1), zeros, middle, (None, "none"), [layer.name],
        stride=stride, dilation=dilation, padding=_plus(padding, extra),
    )  # fmt: skip
    norm, activation, leftover, last = f.fused_tail(layer, node.outputs[0])
    out = _weighted(f, layer.name, "conv2d", inner, second, _bias(layer, second.shape[-1]), shape, (norm, activation), [layer.name])
    f.publish(last, f.activation(f"{layer.name}_{leftover}", leftover, out))


def _dense(f: _Fuser, node: Any, layer: Any) -> None:
    value = f.inputs(node)[0]
    kernel = np.asarray(layer.kernel)
    norm, activation, leftover, last = f.fused_tail(layer, node.outputs[0])
    shape = plane(node.outputs[0].shape[1:])
    flat = len(value.shape) == 1
    kind, w = ("fully_connected", kernel) if flat else ("conv2d", kernel[None, None])
    out = _weighted(f, layer.name, kind, value, w, _bias(layer, kernel.shape[-1]), shape, (norm, activation), [layer.name])
    f.publish(last, f.activation(f"{layer.name}_{leftover}", leftover, out))


def _affine(f: _Fuser, node: Any, layer: Any, gain: np.ndarray, offset: np.ndarray) -> None:
    """A per-channel scale and shift that no convolution can absorb: a depthwise convolution of one tap."""
    value = f.inputs(node)[0]
    channels = value.shape[-1]
    flat = len(value.shape) == 1
    activation, last = f.fused_activation(node.outputs[0])
    if flat:
        value = f._emit(f"{layer.name}_in", "reshape", [value], (1, 1, channels), tied=True)
    kernel = np.broadcast_to(gain, (channels,)).astype(np.float32).reshape(1, 1, channels)
    bias = np.broadcast_to(offset, (channels,)).astype(np.float32)
    out = _weighted(f, layer.name, "depthwise_conv2d", value, kernel, bias, value.shape, (None, activation), [layer.name])
    if flat:
        out = f._emit(f"{layer.name}_out", "reshape", [out], (channels,), tied=True)
    f.publish(last, out)


def _batch_norm(f: _Fuser, node: Any, layer: Any) -> None:
    norm = _norm_arrays(layer)
    gain = norm["gamma"] / np.sqrt(norm["moving_variance"] + norm["epsilon"])
    _affine(f, node, layer, gain, norm["beta"] - norm["moving_mean"] * gain)


def _rescaling(f: _Fuser, node: Any, layer: Any) -> None:
    _affine(f, node, layer, np.asarray(layer.scale, np.float32), np.asarray(layer.offset, np.float32))


def _normalization(f: _Fuser, node: Any, layer: Any) -> None:
    mean, variance = (np.asarray(v, np.float32).reshape(-1) for v in (layer.mean, layer.variance))
    gain = 1.0 / np.maximum(np.sqrt(variance), 1e-7)
    if getattr(layer, "invert", False):
        gain, mean = 1.0 / gain, -mean * gain
    _affine(f, node, layer, gain, -mean * gain)


def _activation_layer(f: _Fuser, node: Any, layer: Any) -> None:
    function, alpha = _activation_of(layer)
    f.publish(node.outputs[0], f.activation(layer.name, function, f.inputs(node)[0], alpha))


def _binary(kind: str) -> Callable[[_Fuser, Any, Any], None]:
    def handler(f: _Fuser, node: Any, layer: Any) -> None:
        values = f.inputs(node)
        if len(values) < 2:
            raise _Unsupported("an operand is a constant; only operations between two tensors")
        activation, last = f.fused_activation(node.outputs[0])
        out = values[0]
        for i, value in enumerate(values[1:], 1):
            final = i == len(values) - 1
            name = layer.name if final else f"{layer.name}_{i}"
            fused = activation if final else "none"
            shape = tuple(int(d) for d in np.broadcast_shapes(out.shape, value.shape))
            positive = fused != "none" or (kind != "sub" and not out.signed and not value.signed)
            out = f._emit(
                name, kind, [out, value], shape, config={"activation": fused}, signed=not positive, max_real=6.0 if fused == "relu6" else None, layers=[layer.name]
            )  # fmt: skip
        f.publish(last, out)

    return handler


def _extremum(kind: str) -> Callable[[_Fuser, Any, Any], None]:
    def handler(f: _Fuser, node: Any, layer: Any) -> None:
        values = f.inputs(node)
        if len(values) != 2:
            raise _Unsupported("only of two tensors")
        shape = tuple(int(d) for d in np.broadcast_shapes(*(v.shape for v in values)))
        f.publish(node.outputs[0], f._emit(layer.name, kind, values, shape, tied=True))

    return handler


def _concat(f: _Fuser, node: Any, layer: Any) -> None:
    rank = len(node.outputs[0].shape)
    axis = layer.axis % rank - 1
    if axis < 0:
        raise _Unsupported("concatenation along the batch")
    values = f.inputs(node)
    shape = plane(node.outputs[0].shape[1:])
    f.publish(node.outputs[0], f._emit(layer.name, "concat", values, shape, config={"axis": axis + (rank == 3)}, tied=True))


def _pool(kind: str) -> Callable[[_Fuser, Any, Any], None]:
    def handler(f: _Fuser, node: Any, layer: Any) -> None:
        value = f.inputs(node)[0]
        if getattr(layer, "data_format", "channels_last") != "channels_last":
            raise _Unsupported("data_format channels_first; build the model with channels_last")
        one_dimensional = type(layer).__name__.endswith("1D")
        window, stride = tuple(layer.pool_size), tuple(layer.strides)
        if one_dimensional:
            window, stride = (1, *window), (1, *stride)
        padding = (0, 0, 0, 0)
        if layer.padding == "same":
            padding = (*same_padding(value.shape[0], window[0], stride[0]), *same_padding(value.shape[1], window[1], stride[1]))
        shape = plane(node.outputs[0].shape[1:])
        config = {"window": window, "stride": stride, "padding": padding}
        f.publish(node.outputs[0], f._emit(layer.name, kind, [value], shape, config=config, tied=True))

    return handler


def _global_average(f: _Fuser, node: Any, layer: Any) -> None:
    value = f.inputs(node)[0]
    shape = plane(node.outputs[0].shape[1:])
    f.publish(node.outputs[0], f._emit(layer.name, "mean", [value], shape, config={"axes": (0, 1)}, signed=value.signed))


def _global_max(f: _Fuser, node: Any, layer: Any) -> None:
    value = f.inputs(node)[0]
    shape = plane(node.outputs[0].shape[1:])
    h, w, c = value.shape
    out = f._emit(f"{layer.name}_pool", "max_pool", [value], (1, 1, c), config={"window": (h, w), "stride": (1, 1)}, tied=True)
    f.publish(node.outputs[0], f._emit(layer.name, "reshape", [out], shape, tied=True))


def _zero_padding(f: _Fuser, node: Any, layer: Any) -> None:
    value = f.inputs(node)[0]
    if type(layer).__name__ == "ZeroPadding1D":
        padding = (0, 0, *layer.padding)
    else:
        (top, bottom), (left, right) = layer.padding
        padding = (top, bottom, left, right)
    shape = plane(node.outputs[0].shape[1:])
    f.publish(node.outputs[0], f._emit(layer.name, "pad", [value], shape, config={"padding": padding}, tied=True))


def _cropping(f: _Fuser, node: Any, layer: Any) -> None:
    value = f.inputs(node)[0]
    crops = ((0, 0), tuple(layer.cropping)) if type(layer).__name__ == "Cropping1D" else tuple(layer.cropping)
    begin = (crops[0][0], crops[1][0], 0)
    end = (value.shape[0] - crops[0][1], value.shape[1] - crops[1][1], value.shape[2])
    config = {"begin": begin, "end": end, "step": (1, 1, 1)}
    f.publish(node.outputs[0], f._emit(layer.name, "strided_slice", [value], plane(node.outputs[0].shape[1:]), config=config, tied=True))


def _reshape(f: _Fuser, node: Any, layer: Any) -> None:
    value = f.inputs(node)[0]
    shape = plane(node.outputs[0].shape[1:])
    if shape == value.shape:
        f.publish(node.outputs[0], value)
        return
    f.publish(node.outputs[0], f._emit(layer.name, "reshape", [value], shape, tied=True))


def _permute(f: _Fuser, node: Any, layer: Any) -> None:
    value = f.inputs(node)[0]
    permutation = tuple(d - 1 for d in layer.dims)
    if len(permutation) == 2:
        permutation = (0, permutation[0] + 1, permutation[1] + 1)
    out = plane(node.outputs[0].shape[1:])
    f.publish(node.outputs[0], f._emit(layer.name, "transpose", [value], out, config={"permutation": permutation}, tied=True))


_HANDLERS: dict[str, Callable[[_Fuser, Any, Any], None]] = {
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


def supported_layers() -> list[str]:
    """Names of the Keras layers that have an exact integer counterpart or vanish at inference."""
    return sorted({*_HANDLERS, *IDENTITY_LAYERS})
