"""The weights of a network's layers, float or integer, under one name and in one form, so that steps can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

_DENSE = ("Dense", "Conv1D", "Conv2D")
_DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
_SEPARABLE = ("SeparableConv1D", "SeparableConv2D")


@dataclass(frozen=True, eq=False)
class Kernel:
    """The weights of one layer of a float Keras model.

    Attributes:
        name: the layer's; the depthwise half of a separable layer has `_depthwise` behind it, as in the integer network.
        variable: of Keras; shape [*window, in, out], or [*window, in, multiplier].
        depthwise: whether no output channel sums over several input channels.
        kind: class of the layer.
        layer: that it belongs to.
    """

    name: str
    variable: Any
    depthwise: bool
    kind: str
    layer: Any

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(np.prod(self.variable.shape))

    @property
    def inputs(self) -> int:
        """Input channels that an output channel sums over."""
        return 1 if self.depthwise else int(self.variable.shape[-2])

    def values(self) -> np.ndarray:
        """Float32, in the variable's shape."""
        return np.array(self.variable, np.float32)

    def columns(self, values: np.ndarray) -> np.ndarray:
        """An array of the variable's shape as [products, channels]: a column is what one output channel is made with."""
        return values.reshape(-1, values.shape[-2] * values.shape[-1] if self.depthwise else values.shape[-1])

    def runs(self, values: np.ndarray) -> np.ndarray:
        """An array of the variable's shape as [out * taps, in]: a row is what a kernel reads along the input channels at one tap."""
        return np.moveaxis(values, -1, 0).reshape(-1, self.inputs)

    def from_runs(self, runs: np.ndarray) -> np.ndarray:
        """The reverse of `runs`."""
        shape = self.variable.shape
        return np.moveaxis(runs.reshape(shape[-1], *shape[:-1]), 0, -1)


def kernels(model: keras.Model) -> list[Kernel]:
    """The weights of the dense and convolution layers of a float model, in the order of its layers; shared layers once."""
    found = []
    for layer in model.layers:
        kind = type(layer).__name__
        if kind in _DENSE:
            found.append(Kernel(layer.name, layer.kernel, False, kind, layer))
        elif kind in _DEPTHWISE:
            variable = layer.kernel if hasattr(layer, "kernel") else layer.depthwise_kernel
            found.append(Kernel(layer.name, variable, True, kind, layer))
        elif kind in _SEPARABLE:
            found.append(Kernel(f"{layer.name}_depthwise", layer.depthwise_kernel, True, kind, layer))
            found.append(Kernel(layer.name, layer.pointwise_kernel, False, kind, layer))
    return found


def weight_columns(model: keras.Model) -> dict[str, np.ndarray]:
    """Layer -> its weights as [products, channels]: float32 of a float network, the int8 codes of an integer one."""
    from tinykit.quant.model import QuantizedModel

    if not isinstance(model, QuantizedModel):
        return {kernel.name: kernel.columns(kernel.values()) for kernel in kernels(model)}
    return {layer.name: layer.codes().reshape(-1, layer.kernel_shape[-1]) for layer in model.weighted_layers()}
