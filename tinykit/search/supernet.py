"""A network that is every architecture of a space at once. Imports TensorFlow; import it late.

Each layer has one kernel, as large as any architecture needs. What is decided is relaxed to vectors of probabilities: a width
multiplies channels by the chance that they exist (prefix masks), a kernel multiplies its taps likewise (all share their centre),
kinds of blocks and numbers of blocks mix outputs. With one-hot vectors the network is the architecture, and its weights are slices.
Sources: FBNetV2, arXiv:2004.05565 (masks); MicroNets, arXiv:2010.11267 (the search); Gumbel-softmax, arXiv:1611.01144.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tinykit.errors import ModelError
from tinykit.search.costs import Backend, Node, nodes
from tinykit.search.space import Space
from tinykit.steps.norms import batch_norm, normed

TENSORS = Backend(
    lambda vector, values: tf.reduce_sum(vector * tf.constant(values, vector.dtype)),
    lambda values: tf.reduce_max(tf.stack([tf.cast(value, tf.float32) for value in values])),
)
EPSILON = 1e-3  # of batch normalisation, as in Keras
_MOMENTUM = 0.9
NORM = ("gamma", "beta", "mean", "variance")
"""Parameters of batch normalisation, in Keras's order."""


class Supernet:
    """Weights of every architecture, and the decisions' logits.

    Attributes:
        weights: layer/parameter -> trainable variable.
        statistics: layer/mean and layer/variance of batch normalisation -> variable.
        logits: decision -> variable [choices], from zeros.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed
        self.weights: dict[str, tf.Variable] = {}
        self.statistics: dict[str, tf.Variable] = {}
        self.logits = {d.name: tf.Variable(tf.zeros([len(d.values)]), name=d.name) for d in space.decisions}
        self.nodes = {node.name: node for node in nodes(space)}
        for node in self.nodes.values():
            if node.kind in ("conv", "depthwise"):
                self._make(node)
        dense = self.nodes["logits"]
        features = self._most(dense.inputs[0].width)
        self._weight("logits/kernel", (features, space.classes), math.sqrt(1.0 / features))
        self.weights["logits/bias"] = tf.Variable(tf.zeros([space.classes]))

    def _make(self, node: Node) -> None:
        given, made = self._most(node.inputs[0].width), self._most(node.output.width)
        height, width = self.largest(node)
        fan_in = height * width * (1 if node.kind == "depthwise" else given)
        shape = (height, width, given, 1) if node.kind == "depthwise" else (height, width, given, made)
        self._weight(f"{node.name}/kernel", shape, math.sqrt(2.0 / fan_in))
        self.weights[f"{node.name}/gamma"] = tf.Variable(tf.ones([made]))
        self.weights[f"{node.name}/beta"] = tf.Variable(tf.zeros([made]))
        self.statistics[f"{node.name}/mean"] = tf.Variable(tf.zeros([made]), trainable=False)
        self.statistics[f"{node.name}/variance"] = tf.Variable(tf.ones([made]), trainable=False)

    def _weight(self, name: str, shape: Sequence[int], scale: float) -> None:
        seed = [self.seed, zlib.crc32(name.encode()) & 0x7FFFFFFF]
        self.weights[name] = tf.Variable(scale * tf.random.stateless_normal(shape, seed, alg="philox"))

    def _most(self, width: int | str) -> int:
        return width if isinstance(width, int) else max(self.space.by_name[width].values)

    def largest(self, node: Node) -> tuple[int, int]:
        """[height, width] of the node's kernel."""
        if node.kernel is None:
            return 1, 1
        sizes = self.space.kernels(node.stage)
        return max(size[0] for size in sizes), max(size[1] for size in sizes)

    def probabilities(self) -> dict[str, np.ndarray]:
        """Decision -> probability of each choice, float64, in sum 1."""
        return {name: _softmax(variable.numpy().astype(np.float64)) for name, variable in self.logits.items()}

    def relaxed(self) -> dict[str, tf.Tensor]:
        """Decision -> probability of each choice, with gradients."""
        return {name: tf.nn.softmax(variable) for name, variable in self.logits.items()}

    def gates(self, step: tf.Tensor, temperature: tf.Tensor, hard: bool) -> dict[str, tf.Tensor]:
        """Index vectors for one batch.

        Args:
            step: int32 scalar, decides the noise together with the seed.
            hard: one-hot forward, with the gradient of the relaxed ones (straight-through).
        """
        found = {}
        for number, (name, variable) in enumerate(self.logits.items()):
            seed = tf.stack([tf.constant((self.seed + 7919 * number) % 2**31, tf.int32), step])
            uniform = tf.random.stateless_uniform(variable.shape, seed, minval=1e-6, maxval=1.0 - 1e-6, alg="philox")
            soft = tf.nn.softmax((tf.nn.log_softmax(variable) - tf.math.log(-tf.math.log(uniform))) / temperature)
            if hard:
                soft += tf.stop_gradient(tf.one_hot(tf.argmax(soft), variable.shape[0]) - soft)
            found[name] = soft
        return found

    def __call__(
        self, x: tf.Tensor, vectors: Mapping[str, tf.Tensor], training: bool, momentum: float | tf.Tensor = _MOMENTUM
    ) -> tf.Tensor:
        """Logits [batch, classes] of samples [batch, ...] under index vectors; in training batch statistics are used and followed.

        Args:
            momentum: what remains of the statistics that were followed before.
        """
        run = _Pass(self, vectors, training, momentum)
        if self.space.series:
            x = x[:, tf.newaxis]
        mask = None
        for number in range(1, len(self.space.stages) + 1):
            x, mask = run.stage(x, mask, number)
        return tf.reduce_mean(x, axis=(1, 2)) @ self.weights["logits/kernel"] + self.weights["logits/bias"]

    def variables(self) -> list[tf.Variable]:
        """Everything that training changes, in a fixed order."""
        return [*self.weights.values(), *self.statistics.values(), *self.logits.values()]


class _Pass:
    """One forward pass."""

    def __init__(self, net: Supernet, vectors: Mapping[str, tf.Tensor], training: bool, momentum: float | tf.Tensor) -> None:
        self.net, self.vectors, self.training, self.momentum = net, vectors, training, momentum

    def stage(self, x: tf.Tensor, given: tf.Tensor | None, number: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Output of a stage and the mask of its channels."""
        stage = self.net.space.stages[number - 1]
        made = self._mask(f"stage{number}.filters")
        outputs = []
        for repeat in range(max(stage.repeats.choices())):
            kinds = [self._block(block, number, repeat, x, given, made) for block in stage.blocks]
            x, given = self._mixed(f"stage{number}.block", kinds), made
            outputs.append(x)
        return self._mixed(f"stage{number}.repeats", [outputs[count - 1] for count in stage.repeats.choices()]), made

    def _mixed(self, decision: str, outputs: list[tf.Tensor]) -> tf.Tensor:
        if len(outputs) == 1:
            return outputs[0]
        return tf.add_n([self.vectors[decision][i] * output for i, output in enumerate(outputs)])

    def _block(self, block: str, number: int, repeat: int, x: tf.Tensor, given: tf.Tensor | None, made: tf.Tensor) -> tf.Tensor:
        name = f"stage{number}_{repeat + 1}"
        stride = self.net.space.stride(number) if repeat == 0 else (1, 1)
        if block == "conv":
            return self._layer(f"{name}_conv", x, made, stride)
        if block == "separable":
            return self._layer(f"{name}_pointwise", self._layer(f"{name}_depthwise", x, given, stride), made)
        inner = self._mask(f"stage{number}.expanded")
        y = self._layer(f"{name}_spatial", self._layer(f"{name}_expand", x, inner), inner, stride)
        y = self._layer(f"{name}_project", y, made, relu=False)
        return x + y if repeat else y

    def _layer(self, name: str, x: tf.Tensor, mask: tf.Tensor | None, stride: tuple[int, int] = (1, 1), relu: bool = True) -> tf.Tensor:
        """Convolution, batch normalisation, ReLU; what does not exist is 0."""
        node = self.net.nodes[name]
        kernel = self.net.weights[f"{name}/kernel"]
        if node.kernel is not None:
            kernel = kernel * self._taps(node)
        operation = tf.nn.depthwise_conv2d if node.kind == "depthwise" else tf.nn.conv2d
        y = self._normalised(name, operation(x, kernel, [1, *stride, 1], "SAME"))
        y = tf.nn.relu(y) if relu else y
        return y if mask is None else y * mask

    def _normalised(self, name: str, x: tf.Tensor) -> tf.Tensor:
        mean, variance = self.net.statistics[f"{name}/mean"], self.net.statistics[f"{name}/variance"]
        gamma, beta = self.net.weights[f"{name}/gamma"], self.net.weights[f"{name}/beta"]
        if not self.training:
            return normed(x, gamma, beta, mean, variance, EPSILON)
        y, now, spread = batch_norm(x, gamma, beta, EPSILON)
        for variable, value in ((mean, now), (variance, spread)):
            variable.assign(self.momentum * variable + (1 - self.momentum) * value)
        return y

    def _mask(self, decision: str) -> tf.Tensor:
        """[channels]: the chance that each channel exists."""
        widths = self.net.space.by_name[decision].values
        exists = np.arange(max(widths)) < np.array(widths)[:, None]
        return tf.linalg.matvec(tf.constant(exists.astype(np.float32)), self.vectors[decision], transpose_a=True)

    def _taps(self, node: Node) -> tf.Tensor:
        """[height, width, 1, 1]: the chance that each tap exists."""
        sizes = self.net.space.kernels(node.stage)
        largest = self.net.largest(node)
        windows = np.zeros((len(sizes), *largest), np.float32)
        for window, size in zip(windows, sizes, strict=True):
            window[_centre(largest, size)] = 1.0
        return tf.tensordot(self.vectors[f"stage{node.stage}.kernel"], tf.constant(windows), 1)[..., tf.newaxis, tf.newaxis]


def _centre(largest: tuple[int, int], size: tuple[int, int]) -> tuple[slice, slice]:
    starts = [(most - own) // 2 for most, own in zip(largest, size, strict=True)]
    return slice(starts[0], starts[0] + size[0]), slice(starts[1], starts[1] + size[1])


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def inherit(model: Any, net: Supernet) -> None:
    """Puts an architecture's share of the supernet's weights into its Keras model, of the family `staged`.

    Raises:
        ModelError: the model is of another space.
    """
    for layer in model.layers:
        name = layer.name.removesuffix("_norm")
        if layer.name == "logits":
            layer.set_weights([net.weights["logits/kernel"].numpy()[: layer.get_weights()[0].shape[0]], net.weights["logits/bias"].numpy()])
        elif name != layer.name:
            channels = len(layer.get_weights()[0])
            stored = {**net.weights, **net.statistics}
            layer.set_weights([stored[f"{name}/{part}"].numpy()[:channels] for part in NORM])
        elif layer.get_weights():
            layer.set_weights([_kernel(layer.name, layer.get_weights()[0].shape, net)])


def _kernel(name: str, shape: tuple[int, ...], net: Supernet) -> np.ndarray:
    """The share of a kernel that a layer of this shape has."""
    node = net.nodes.get(name)
    if node is None:
        raise ModelError(f"layer {name!r}: is not of the supernet")
    size = (1, shape[0]) if net.space.series else (shape[0], shape[1])
    taps = net.weights[f"{name}/kernel"].numpy()[_centre(net.largest(node), size)]
    return taps[:, :, : shape[-2], : shape[-1]].reshape(shape)
