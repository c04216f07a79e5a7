"""DS-CNN, the keyword spotting model of MLPerf Tiny."""

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


class DsCnnOptions(ClassifierOptions):
    """Options of `ds_cnn`.

    Attributes:
        filters: channels of every stage.
        blocks: number of depthwise separable blocks.
        kernel: [time, frequency] of the first convolution.
        strides: [time, frequency] of the first convolution.
        dropout: rates after the first stage and before the classifier, 0 to below 1.
        l2: weight decay of the convolution kernels.
    """

    filters: pydantic.PositiveInt = 64
    blocks: pydantic.NonNegativeInt = 4
    kernel: tuple[pydantic.PositiveInt, pydantic.PositiveInt] = (10, 4)
    strides: tuple[pydantic.PositiveInt, pydantic.PositiveInt] = (2, 2)
    dropout: tuple[pydantic.NonNegativeFloat, pydantic.NonNegativeFloat] = (0.2, 0.4)
    l2: float = pydantic.Field(default=L2_MLPERF_TINY, ge=0)

    @pydantic.field_validator("dropout")
    @classmethod
    def _below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if max(value) >= 1:
            raise ValueError("rates must be below 1")
        return value


def build(input_shape: tuple[int, ...], classes: int, options: DsCnnOptions) -> Any:
    """One convolution and depthwise separable blocks on spectral features; 2,656,768 MACs for 49x10x1 and 12 classes.

    Input [time, frequency, 1]. All convolutions have biases, each is followed by batch normalisation and ReLU. Sources:
    "Hello Edge", arXiv:1711.07128; layers and sizes as in MLPerf Tiny's keyword spotting reference, arXiv:2106.07597.

    Example:
        model: {name: ds_cnn, options: {filters: 64, blocks: 4}}
    """
    import keras

    shape = check_rank("ds_cnn", input_shape, "time, frequency, channels")
    inputs = keras.Input(shape, name="input")
    decay = regulariser(options.l2)
    x = keras.layers.Conv2D(options.filters, options.kernel, options.strides, padding="same", kernel_regularizer=decay)(inputs)
    x = normalise_relu(x)
    x = drop(x, options.dropout[0])
    for _ in range(options.blocks):
        x = keras.layers.DepthwiseConv2D(3, padding="same", depthwise_regularizer=decay)(x)
        x = normalise_relu(x)
        x = keras.layers.Conv2D(options.filters, 1, padding="same", kernel_regularizer=decay)(x)
        x = normalise_relu(x)
    x = drop(x, options.dropout[1])
    return keras.Model(inputs, classify(average_flatten(x), classes, options.softmax), name="ds_cnn")
