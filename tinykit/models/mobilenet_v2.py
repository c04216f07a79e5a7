"""MobileNetV2."""

from typing import Any

import pydantic

from tinykit.models.blocks import ClassifierOptions, average_flatten, check_rank, classify, drop, regulariser, round_channels

FIRST_CHANNELS = 32
# (expansion, output channels at alpha 1, repeats, stride of the first): table 2 of arXiv:1801.04381
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class MobilenetV2Options(ClassifierOptions):
    """Options of `mobilenet_v2`.

    Attributes:
        alpha: width of the network; channel counts are multiples of 8.
        last: channels of the last 1x1 convolution, 0 for none (1280 in the paper, which is most of the weights of a small one).
        dropout: rate before the classifier, 0 to below 1.
        l2: weight decay of the kernels of full convolutions.
    """

    alpha: float = pydantic.Field(default=0.35, gt=0, le=2)
    last: pydantic.NonNegativeInt = 1280
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    l2: float = pydantic.Field(default=0.0, ge=0)


def build(input_shape: tuple[int, ...], classes: int, options: MobilenetV2Options) -> Any:
    """Inverted residuals with linear bottlenecks.

    Input [height, width, channels]. Convolutions without biases, same padding, batch normalisation, ReLU6 except after the
    projections. Source: arXiv:1801.04381, table 2.

    Example:
        model: {name: mobilenet_v2, options: {alpha: 0.35, last: 256}}
    """
    import keras

    shape = check_rank("mobilenet_v2", input_shape, "height, width, channels")
    inputs = keras.Input(shape, name="input")
    decay = regulariser(options.l2)

    def convolution(x: Any, channels: int, kernel: int = 1, stride: int = 1, linear: bool = False) -> Any:
        x = keras.layers.Conv2D(
            channels,
            kernel,
            stride,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=decay,
        )(x)
        x = keras.layers.BatchNormalization()(x)
        return x if linear else keras.layers.ReLU(6.0)(x)

    x = convolution(inputs, round_channels(FIRST_CHANNELS * options.alpha), 3, 2)
    for expansion, full, repeats, first_stride in STAGES:
        channels = round_channels(full * options.alpha)
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            y = x if expansion == 1 else convolution(x, expansion * int(x.shape[-1]))
            y = keras.layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(y)
            y = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(y))
            y = convolution(y, channels, linear=True)
            x = keras.layers.Add()([x, y]) if stride == 1 and int(x.shape[-1]) == channels else y
    if options.last:
        x = convolution(x, round_channels(options.last * max(1.0, options.alpha)))
    x = average_flatten(x)
    return keras.Model(inputs, classify(drop(x, options.dropout), classes, options.softmax), name="mobilenet_v2")
