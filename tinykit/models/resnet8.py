"""ResNet-8, the image classification model of MLPerf Tiny."""

from typing import Any

import pydantic

from tinykit.models.blocks import (
    L2_MLPERF_TINY,
    ClassifierOptions,
    average_flatten,
    check_rank,
    classify,
    normalise_relu,
    regulariser,
)


class Resnet8Options(ClassifierOptions):
    """Options of `resnet8`.

    Attributes:
        filters: channels of each stack; stacks after the first halve the resolution.
        l2: weight decay of the kernels of the convolutions.
    """

    filters: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(16, 32, 64), min_length=1)
    l2: float = pydantic.Field(default=L2_MLPERF_TINY, ge=0)


def build(input_shape: tuple[int, ...], classes: int, options: Resnet8Options) -> Any:
    """A first convolution and one residual block a stack; 12,501,632 MACs for 32x32x3 and ten classes.

    Input [height, width, channels]. All convolutions have biases; the shortcut of a stack after the first is a 1x1 convolution
    of stride 2 without batch normalisation. Sources: arXiv:1512.03385; layers as in MLPerf Tiny's image classification
    reference, arXiv:2106.07597.

    Example:
        model: {name: resnet8, options: {filters: [16, 32, 64]}}
    """
    import keras

    shape = check_rank("resnet8", input_shape, "height, width, channels")
    inputs = keras.Input(shape, name="input")
    decay = regulariser(options.l2)

    def convolution(x: Any, channels: int, kernel: int = 3, stride: int = 1) -> Any:
        return keras.layers.Conv2D(
            channels,
            kernel,
            stride,
            padding="same",
            kernel_initializer="he_normal",
            kernel_regularizer=decay,
        )(x)

    x = normalise_relu(convolution(inputs, options.filters[0]))
    for stack, channels in enumerate(options.filters):
        stride = 1 if stack == 0 else 2
        y = normalise_relu(convolution(x, channels, stride=stride))
        y = keras.layers.BatchNormalization()(convolution(y, channels))
        shortcut = x if stack == 0 else convolution(x, channels, kernel=1, stride=stride)
        x = keras.layers.Activation("relu")(keras.layers.Add()([shortcut, y]))
    x = average_flatten(x)
    return keras.Model(inputs, classify(x, classes, options.softmax, "he_normal"), name="resnet8")
