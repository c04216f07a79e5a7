"""A small plain convolutional network."""

from typing import Any, Literal

import pydantic

from tinykit.errors import ModelError
from tinykit.models.blocks import ClassifierOptions, check_rank, classify, drop, normalise_relu


class CnnOptions(ClassifierOptions):
    """Options of `cnn`.

    Attributes:
        filters: output channels of each stage.
        strides: stride of each stage; default: 1 for the first, 2 for the others.
        kernel: height and width of all kernels, in pixels.
        head: `average` (over all positions) or `flatten`.
        dense: units of a hidden Dense layer with ReLU before the logits, 0 for none.
        dropout: rate before the logits, 0 to below 1.
    """

    filters: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(16, 32, 32), min_length=1)
    strides: tuple[pydantic.PositiveInt, ...] | None = None
    kernel: pydantic.PositiveInt = 3
    head: Literal["average", "flatten"] = "average"
    dense: pydantic.NonNegativeInt = 0
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)


def build(input_shape: tuple[int, ...], classes: int, options: CnnOptions) -> Any:
    """Stages of Conv2D (same padding, no bias), batch normalisation and ReLU, then a pooled or flattened classifier.

    Input [height, width, channels]. Made for images as small as 8x8: the default stages reach about 99 % on
    the `digits` set in 25 epochs (Adam, measured on the host). Source: this project.

    Example:
        model: {name: cnn, options: {filters: [8, 16], strides: [1, 2], dropout: 0.1}}
    """
    import keras

    shape = check_rank("cnn", input_shape, "height, width, channels")
    strides = options.strides or (1, *[2] * (len(options.filters) - 1))
    if len(strides) != len(options.filters):
        raise ModelError(f"model cnn: {len(options.filters)} filters and {len(strides)} strides; give one stride a stage")
    inputs = x = keras.Input(shape, name="input")
    for filters, stride in zip(options.filters, strides):
        x = keras.layers.Conv2D(filters, options.kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
        x = normalise_relu(x)
    x = keras.layers.GlobalAveragePooling2D()(x) if options.head == "average" else keras.layers.Flatten()(x)
    if options.dense:
        x = keras.layers.Dense(options.dense, activation="relu", kernel_initializer="he_normal")(x)
    return keras.Model(inputs, classify(drop(x, options.dropout), classes, options.softmax), name="cnn")
