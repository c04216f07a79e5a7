"""A float Keras model as the list of operations that the board will do: batch norm folded, activations fused, 1-D layers as planes of
height 1.

Whatever cannot be represented is listed at once, by layer name, before any training starts.
"""

from __future__ import annotations

from typing import Any

from tinykit.errors import ModelError
from tinykit.quant.folding import Affine
from tinykit.quant.handlers import HANDLERS, activation_of, check_call, function_of, norm_arrays
from tinykit.quant.layer import Shape
from tinykit.quant.program import Node, Program, Unsupported, Value, plane

IDENTITY_LAYERS = {
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "ActivityRegularization",
    "Identity",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "RandomContrast",
    "RandomBrightness",
}
HINTS = {
    "Resizing": "there is no integer counterpart; use `resize` in data.preprocess and save the model without it",
    "CenterCrop": "there is no integer counterpart; use `pad_or_crop` in data.preprocess and save the model without it",
}
FUSED = {"linear": "none", "relu": "relu", "relu6": "relu6"}
TABLES = {
    "sigmoid": "logistic",
    "tanh": "tanh",
    "hard_silu": "hard_swish",
    "hard_swish": "hard_swish",
    "relu": "relu",
    "relu6": "relu",
    "leaky_relu": "leaky_relu",
}
FIXED_OUTPUT = {"logistic": (1 / 256, -128), "tanh": (1 / 128, 0), "softmax": (1 / 256, -128)}


def fuse(model: Any, batch_norm: str = "frozen") -> Program:
    """The operations of a float functional Keras model.

    Args:
        model: built functional model with one input and one output of fixed shape, no nested models.
        batch_norm: "frozen" folds batch norm into the weights for good; "update" leaves gamma, beta and the moving statistics variable.

    Raises:
        ModelError: every layer that has no exact integer counterpart, by name and with the reason.
    """
    return Fuser(model, batch_norm).run()


class Fuser:
    def __init__(self, model: Any, batch_norm: str) -> None:
        self.model, self.batch_norm = model, batch_norm
        self.values: dict[int, Value] = {}
        self.nodes: list[Node] = []
        self.done: set[int] = set()
        self.alias: set[int] = set()
        self.names: set[str] = {"input"}
        self.problems: list[str] = []
        self.affine: dict[int, Affine] = {}  # by tensor: what its only reader is to take into its weights

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
        except Unsupported as e:
            raise ModelError(f"model {model.name!r}: the input: {e}") from None
        for node in order:
            if not node.is_input and id(node) not in self.done:
                self._convert(node)
        if not self.nodes and not self.problems:
            raise ModelError(f"model {model.name!r} has no layer that computes anything")
        if self.problems:
            raise ModelError([f"model {model.name!r}: {problem}" for problem in self.problems])
        final = self._final(model.outputs[0])
        return Program(self.nodes, tuple(model.inputs[0].shape[1:]), final, model.name)

    def _input(self, tensor: Any) -> None:
        shape = plane(tensor.shape[1:])
        value = Value("input", shape)
        if len(tensor.shape) == 3:
            sample = tuple(int(d) for d in tensor.shape[1:])
            value = self.emit("to_plane", "reshape", [Value("input", sample)], shape, tied=True)
        self.values[id(tensor)] = value

    def _final(self, tensor: Any) -> str:
        value = self.values[id(tensor)]
        if len(tensor.shape) == 3:
            value = self.emit("from_plane", "reshape", [value], tuple(int(d) for d in tensor.shape[1:]), tied=True)
        return value.name

    def _convert(self, node: Any) -> None:
        layer = node.operation
        kind = type(layer).__name__
        missing = [t for t in node.arguments.keras_tensors if id(t) not in self.values]
        if missing:  # an earlier layer was refused; carry on with what a reader needs to know, so that all problems are found
            for t in missing:
                self._stand_in(t)
        try:
            check_call(node, layer)
            handler = HANDLERS.get(kind)
            if kind in IDENTITY_LAYERS:
                self.values[id(node.outputs[0])] = self.values[id(node.arguments.keras_tensors[0])]
            elif handler is None:
                raise Unsupported(HINTS.get(kind, "there is no exact integer counterpart; replace it by layers that have one"))
            else:
                handler(self, node, layer)
        except Unsupported as e:
            self.problems.append(f"layer {layer.name!r} ({kind}): {e}")
            for t in node.outputs:
                self._stand_in(t)

    def _stand_in(self, tensor: Any) -> None:
        try:
            self.values[id(tensor)] = Value("?", plane(tensor.shape[1:]))
        except Unsupported:
            self.values[id(tensor)] = Value("?", (1,))

    # helpers for the handlers -----------------------------------------------------------------------------------------------

    def inputs(self, node: Any) -> list[Value]:
        """The values that a node reads."""
        return [self.values[id(t)] for t in node.arguments.keras_tensors]

    def unique(self, name: str) -> str:
        """`name`, or `name` with a number where it is taken (a shared layer)."""
        candidate, i = name, 1
        while candidate in self.names:
            candidate, i = f"{name}_{i}", i + 1
        self.names.add(candidate)
        return candidate

    def emit(self, name: str, kind: str, inputs: list[Value], shape: Shape, **attributes: Any) -> Value:
        node = Node(self.unique(name), kind, [v.name for v in inputs], [v.shape for v in inputs], shape, **attributes)
        if node.tied:
            node.signed = any(v.signed for v in inputs)
        self.nodes.append(node)
        return Value(node.name, shape, node.signed)

    def following(self, tensor: Any) -> Any | None:
        """The only node that reads `tensor`, looking through layers that do nothing at inference; None where there are several."""
        while True:
            readers = self.readers.get(id(tensor), [])
            if len(readers) != 1 or id(tensor) in self.outputs:
                return None
            node = readers[0]
            layer = node.operation
            passive = type(layer).__name__ in IDENTITY_LAYERS or (type(layer).__name__ == "Activation" and function_of(layer) == "linear")
            if not passive or not _plain_call(node):
                return node
            self.done.add(id(node))
            tensor = node.outputs[0]
            self.alias.add(id(tensor))

    def absorb_padding(self, value: Value, tensor: Any) -> tuple[Value, tuple[int, int, int, int]]:
        """Takes a padding layer that only this reader uses into the reader."""
        node = next((n for n in self.nodes if n.name == value.name), None)
        meaning = [t for t, v in self.values.items() if v.name == value.name]  # the padding's output, also behind a dropout
        if node is None or node.kind != "pad" or sum(len(self.readers.get(t, [])) for t in meaning) != len(meaning):
            return value, (0, 0, 0, 0)
        self.nodes.remove(node)
        return Value(node.inputs[0], node.input_shapes[0], value.signed), tuple(node.config["padding"])

    def fused_tail(self, layer: Any, tensor: Any) -> tuple[dict[str, Any] | None, str, tuple[str, float], Any]:
        """Batch norm and activation that directly follow `layer`: (batch norm arrays, fused activation, leftover activation and its alpha,
        last tensor)."""
        norm, (activation, alpha) = None, activation_of(layer)
        leftover = ("", 0.0) if activation in FUSED else (activation, alpha)
        if activation == "linear":
            node = self.following(tensor)
            if node is not None and type(node.operation).__name__ == "BatchNormalization" and _plain_call(node):
                norm = norm_arrays(node.operation)
                tensor = self._take(node)
                node = self.following(tensor)
            function = _fusable(node)
            if function:
                activation = function
                tensor = self._take(node)
        return norm, FUSED.get(activation, "none"), leftover, tensor

    def fused_activation(self, tensor: Any) -> tuple[str, Any]:
        """(activation, last tensor) of a ReLU that directly follows an operation without weights."""
        node = self.following(tensor)
        function = _fusable(node)
        return (FUSED[function], self._take(node)) if function else ("none", tensor)

    def _take(self, node: Any) -> Any:
        self.done.add(id(node))
        return node.outputs[0]

    def publish(self, tensor: Any, value: Value) -> None:
        """Makes `value` the meaning of `tensor`, and of what passive layers that were looked through make of it."""
        self.values[id(tensor)] = value
        for node in self.readers.get(id(tensor), []):
            if id(node) in self.done and id(node.outputs[0]) in self.alias:
                self.publish(node.outputs[0], value)

    def activation(self, name: str, function: str, value: Value, alpha: float = 0.0) -> Value:
        """Emits a stand-alone activation."""
        if function in ("linear", ""):
            return value
        if function == "softmax":
            return self.emit(name, "softmax", [value], value.shape, fixed=FIXED_OUTPUT["softmax"], signed=False)
        if function in ("silu", "swish"):
            gate = self.emit(
                f"{name}_gate", "table", [value], value.shape, config={"function": "logistic"}, fixed=FIXED_OUTPUT["logistic"], signed=False
            )
            return self.emit(name, "mul", [value, gate], value.shape)
        if function not in TABLES:
            raise Unsupported(f"activation {function!r}; there are {', '.join(sorted({*TABLES, 'linear', 'softmax', 'silu'}))}")
        ceiling = 6.0 if function == "relu6" else None
        table = TABLES[function]
        positive = table in ("relu", "logistic")
        config = {"function": table, "alpha": alpha, "ceiling": ceiling}
        fixed = FIXED_OUTPUT.get(table)
        return self.emit(name, "table", [value], value.shape, config=config, fixed=fixed, signed=not positive, max_real=ceiling)


def _fusable(node: Any | None) -> str:
    """Name of the activation that `node` is, where a layer with weights or a sum can do it itself; else ""."""
    if node is None or type(node.operation).__name__ not in ("Activation", "ReLU"):
        return ""
    try:
        function, _ = activation_of(node.operation)
    except Unsupported:  # reported when the node's own turn comes
        return ""
    return function if function in FUSED else ""


def _plain_call(node: Any) -> bool:
    """Whether a layer is called as it behaves at inference; the refusal comes when the node's own turn comes."""
    try:
        check_call(node, node.operation)
    except Unsupported:
        return False
    return True


def supported_layers() -> list[str]:
    """Names of the Keras layers that have an exact integer counterpart or vanish at inference."""
    return sorted({*HANDLERS, *IDENTITY_LAYERS})
