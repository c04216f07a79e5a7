"""Keras layers replaced by chains of cheaper ones in a functional model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinykit.models.graphs import calls, functional, unique_name
from tinykit.shrink.factors import Chain, Link

if TYPE_CHECKING:
    import keras

_LINEAR = ("Dense", "Conv1D", "Conv2D")


@dataclass(frozen=True)
class Site:
    """A layer that may be replaced.

    Attributes:
        name: of the layer.
        kernel: [*window, in, out].
        inputs, outputs: positions (pixels, or rows of a dense layer) that it reads and writes.
        causal: its window looks back only.
    """

    name: str
    kernel: np.ndarray
    inputs: int
    outputs: int
    causal: bool

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a sample."""
        return self.outputs * self.kernel.size


def sites(model: Any) -> tuple[list[Site], dict[str, str]]:
    """The layers of a model that chains could replace, and why others with a kernel of their kind cannot be.

    Raises:
        ModelError: no functional model.
    """
    found, refused = [], {}
    uses: dict[str, int] = {}
    nodes = [node for node in calls(functional(model)) if type(node.operation).__name__ in _LINEAR]
    for node in nodes:
        uses[node.operation.name] = uses.get(node.operation.name, 0) + 1
    for node in nodes:
        layer = node.operation
        reason = _refused(layer, uses[layer.name])
        if reason:
            refused[layer.name] = reason
            continue
        before, behind = node.input_tensors[0].shape[1:-1], node.outputs[0].shape[1:-1]
        kernel = np.asarray(layer.kernel)
        found.append(Site(layer.name, kernel, _product(before), _product(behind), getattr(layer, "padding", "") == "causal"))
    return found, refused


def _refused(layer: Any, uses: int) -> str:
    """Why a layer stays, '' if it need not."""
    if uses > 1:
        return f"it is called {uses} times with the same weights"
    if getattr(layer, "groups", 1) > 1:
        return f"it has {layer.groups} groups"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "its channels come first"
    if getattr(layer, "kernel_constraint", None) is not None or getattr(layer, "lora_enabled", False):
        return "its weights are constrained"
    return ""


def _product(shape: tuple[int | None, ...]) -> int:
    total = 1
    for size in shape:
        total *= size or 1
    return total


def replaced(model: keras.Model, chains: Mapping[str, Chain]) -> keras.Model:
    """A copy of a model whose named layers are chains, everything else with the weights that it has.

    Bias and activation come with the last link; strides, padding and dilation with the window; the kernel's regulariser with every link.
    """
    import keras

    whole = functional(model)
    names = {operation.name for operation in whole.operations} - set(chains)
    copies: dict[str, Any] = {}
    weights: list[tuple[Any, list[np.ndarray]]] = []

    def call(layer: Any, *arguments: Any, **given: Any) -> Any:
        if layer.name in chains:
            value = arguments[0]
            for part, values in _layers(layer, chains[layer.name], names):
                value = part(value)
                weights.append((part, values))
            return value
        if layer.name not in copies:
            copies[layer.name] = layer.__class__.from_config(layer.get_config())
            weights.append((copies[layer.name], layer.get_weights()))
        return copies[layer.name](*arguments, **given)

    result = keras.models.clone_model(whole, call_function=call, clone_function=lambda layer: layer)
    for layer, values in weights:
        layer.set_weights(values)
    return result


def _layers(layer: Any, chain: Chain, names: set[str]) -> list[tuple[Any, list[np.ndarray]]]:
    """The chain's layers with their weights, named after the layer."""
    made = []
    windowed = any(link.kind != "point" for link in chain.links)
    for i, link in enumerate(chain.links):
        last = i == len(chain.links) - 1
        # without a window the first link takes the strides: what it leaves out nobody reads
        options = _window_options(layer, link) if link.kind != "point" or (i == 0 and not windowed) else {}
        options["name"] = unique_name(f"{layer.name}_{i + 1}", "", names)
        options["use_bias"] = last and layer.use_bias
        if last:
            options["activation"] = layer.activation
        regulariser = "depthwise_regularizer" if link.kind == "depthwise" else "kernel_regularizer"
        options[regulariser] = layer.kernel_regularizer
        kernel = link.kernel.astype(np.float32)
        bias = [np.asarray(layer.bias)] if options["use_bias"] else []
        made.append((_made(layer, link, options), [_shaped(kernel, layer, link), *bias]))
    return made


def _window_options(layer: Any, link: Link) -> dict[str, Any]:
    if type(layer).__name__ == "Dense":
        return {}
    return {"strides": layer.strides, "padding": layer.padding, "dilation_rate": layer.dilation_rate}


def _made(layer: Any, link: Link, options: dict[str, Any]) -> Any:
    """A Keras layer of the same dimension as the one that is replaced."""
    import keras

    kind = type(layer).__name__
    if kind == "Dense":
        return keras.layers.Dense(link.outputs, **options)
    window = link.kernel.shape[:-2] if link.kind != "point" else (1,) * (2 if kind == "Conv2D" else 1)
    if link.kind == "depthwise":
        types = {"Conv1D": keras.layers.DepthwiseConv1D, "Conv2D": keras.layers.DepthwiseConv2D}
        return types[kind](window, depth_multiplier=link.kernel.shape[-1], **options)
    return type(layer)(link.outputs, window, **options)


def _shaped(kernel: np.ndarray, layer: Any, link: Link) -> np.ndarray:
    if type(layer).__name__ == "Dense" or link.kind != "point":
        return kernel
    return kernel.reshape((1,) * (layer.kernel.ndim - 2) + kernel.shape)
