"""MobileNetV1, the visual wake words model of MLPerf Tiny."""

from typing import Any

import pydantic

from tinykit.models.blocks import (
    L2_MLPERF_TINY,
    ClassifierOptions,
    average_flatten,
    check_rank,
    classify,
    drop,
    normalise_relu,
    regulariser,
)

FIRST_CHANNELS = 32
# (output channels at alpha 1, stride) of the 13 depthwise separable blocks: table 1 of arXiv:1704.04861
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)


class MobilenetV1Options(ClassifierOptions):
    """Options of `mobilenet_v1`.

    Attributes:
        alpha: width: every channel count is this share of the full network's, rounded down, at least 1.
        dropout: rate before the classifier, 0 to below 1.
        l2: weight decay of the kernels of full convolutions (depthwise kernels have none).
    """

    alpha: float = pydantic.Field(default=0.25, gt=0, le=2)
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    l2: float = pydantic.Field(default=L2_MLPERF_TINY, ge=0)


def build(input_shape: tuple[int, ...], classes: int, options: MobilenetV1Options) -> Any:
    """Depthwise separable blocks; 7,489,664 MACs for 96x96x3, two classes and alpha 0.25.

    Input [height, width, channels]. All convolutions have biases, each is followed by batch normalisation and ReLU; same
    padding. Sources: arXiv:1704.04861; layers as in MLPerf Tiny's visual wake words reference, arXiv:2106.07597.

    Example:
        model: {name: mobilenet_v1, options: {alpha: 0.25}}
    """
    import keras

    shape = check_rank("mobilenet_v1", input_shape, "height, width, channels")
    inputs = keras.Input(shape, name="input")
    decay = regulariser(options.l2)

    def convolution(x: Any, channels: int, kernel: int, stride: int) -> Any:
        x = keras.layers.Conv2D(
            max(1, int(channels * options.alpha)),
            kernel,
            stride,
            padding="same",
            kernel_initializer="he_normal",
            kernel_regularizer=decay,
        )(x)
        return normalise_relu(x)

    x = convolution(inputs, FIRST_CHANNELS, 3, 2)
    for channels, stride in BLOCKS:
        x = normalise_relu(keras.layers.DepthwiseConv2D(3, stride, padding="same")(x))
        x = convolution(x, channels, 1, 1)
    x = average_flatten(x)
    return keras.Model(inputs, classify(drop(x, options.dropout), classes, options.softmax), name="mobilenet_v1")
