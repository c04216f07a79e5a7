"""A one-dimensional convolutional network for sensor windows."""

from typing import Any

import pydantic

from tinykit.models.blocks import ClassifierOptions, check_rank, classify, drop, normalise_relu


class Conv1dOptions(ClassifierOptions):
    """Options of `conv1d`.

    Attributes:
        filters: output channels of each stage.
        kernel: length of all kernels, in time steps.
        stride: stride of each stage, in time steps.
        dropout: rate before the logits, 0 to below 1.
    """

    filters: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(16, 32, 48), min_length=1)
    kernel: pydantic.PositiveInt = 5
    stride: pydantic.PositiveInt = 2
    dropout: float = pydantic.Field(default=0.1, ge=0, lt=1)


def build(input_shape: tuple[int, ...], classes: int, options: Conv1dOptions) -> Any:
    """Stages of Conv1D (same padding, no bias), batch normalisation and ReLU; average over time; classifier.

    Input [time, channels], such as accelerometer windows [128, 9]. Source: this project.

    Example:
        model: {name: conv1d, options: {filters: [16, 32, 48], kernel: 5, stride: 2}}
    """
    import keras

    shape = check_rank("conv1d", input_shape, "time, channels")
    inputs = x = keras.Input(shape, name="input")
    for filters in options.filters:
        x = keras.layers.Conv1D(filters, options.kernel, options.stride, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
        x = normalise_relu(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, classify(drop(x, options.dropout), classes, options.softmax), name="conv1d")
