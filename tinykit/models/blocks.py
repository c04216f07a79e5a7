"""Options and layer sequences that several families share."""

from collections.abc import Sequence
from typing import Any

from tinykit.errors import ModelError
from tinykit.options import Options

L2_MLPERF_TINY = 1e-4  # weight decay of the MLPerf Tiny training scripts


class ClassifierOptions(Options):
    """Options of every classifier.

    Attributes:
        softmax: end in a separate Softmax layer; False: end in logits.
    """

    softmax: bool = True


def check_rank(family: str, input_shape: Sequence[int], axes: str) -> tuple[int, ...]:
    """The input shape as integers; raises ModelError unless it has the named axes (`height, width, channels`)."""
    shape = tuple(int(size) for size in input_shape)
    if len(shape) != len(axes.split(", ")) or min(shape, default=0) < 1:
        raise ModelError(f"model {family}: needs an input [{axes}], received shape {list(shape)}")
    return shape


def regulariser(l2: float) -> Any:
    """Keras's L2 regulariser, None for 0."""
    import keras

    return keras.regularizers.L2(l2) if l2 else None


def normalise_relu(x: Any, activation: str = "relu") -> Any:
    """Batch normalisation and activation as layers of their own."""
    import keras

    return keras.layers.Activation(activation)(keras.layers.BatchNormalization()(x))


def drop(x: Any, rate: float) -> Any:
    """Dropout, no layer at all for a rate of 0."""
    import keras

    return keras.layers.Dropout(rate)(x) if rate else x


def average_flatten(x: Any) -> Any:
    """Average over all positions of [h, w, c] as MLPerf Tiny's models do it: AveragePooling2D of the whole image, Flatten."""
    import keras

    x = keras.layers.AveragePooling2D(pool_size=tuple(x.shape[1:3]))(x)
    return keras.layers.Flatten()(x)


def classify(x: Any, classes: int, softmax: bool, initializer: str = "glorot_uniform") -> Any:
    """Dense logits, and a separate Softmax where asked."""
    import keras

    x = keras.layers.Dense(classes, kernel_initializer=initializer, name="logits")(x)
    return keras.layers.Softmax(name="softmax")(x) if softmax else x


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor` that is not below 90 % of `channels` (MobileNetV2's rule, arXiv:1801.04381)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
