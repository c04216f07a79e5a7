"""A convolutional network given stage by stage: what an architecture search finds, and what a width multiplier cannot say."""

from typing import Any, Literal

import pydantic

from tinykit.errors import ModelError
from tinykit.models.blocks import ClassifierOptions, average_flatten, check_rank, classify, drop, regulariser
from tinykit.options import Options

Extent = pydantic.PositiveInt | tuple[pydantic.PositiveInt, pydantic.PositiveInt]
Block = Literal["conv", "separable", "inverted"]


class Stage(Options):
    """Blocks of one kind and width; the first one may have a stride.

    Attributes:
        block: conv; separable (depthwise, then 1x1, as MobileNetV1 and DS-CNN); inverted (1x1 that widens, depthwise, 1x1 without
            activation, as MobileNetV2; from the second on around a shortcut).
        filters: output channels of every block.
        kernel: of the convolution, of the depthwise one where there is one: one number, or [height, width].
        stride: of the first block.
        repeats: number of blocks.
        expanded: channels inside an inverted block.
    """

    block: Block
    filters: pydantic.PositiveInt
    kernel: Extent = 3
    stride: Extent = 1
    repeats: pydantic.PositiveInt = pydantic.Field(default=1, le=64)
    expanded: pydantic.PositiveInt | None = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> "Stage":
        if (self.expanded is not None) != (self.block == "inverted"):
            raise ValueError("`expanded` belongs to inverted blocks, and they need it")
        if self.block != "conv" and not isinstance(self.stride, int) and len(set(self.stride)) > 1:
            raise ValueError("depthwise convolutions have one stride for height and width")
        return self


DEFAULT = (Stage(block="conv", filters=16), Stage(block="separable", filters=32, stride=2, repeats=2))


class StagedOptions(ClassifierOptions):
    """Options of `staged`.

    Attributes:
        stages: in order, see `Stage`.
        dropout: rate before the logits, 0 to below 1.
        l2: weight decay of the kernels of full convolutions.
    """

    stages: tuple[Stage, ...] = pydantic.Field(default=DEFAULT, min_length=1, max_length=64)
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    l2: float = pydantic.Field(default=0.0, ge=0)


def build(input_shape: tuple[int, ...], classes: int, options: StagedOptions) -> Any:
    """Stages of convolutions, depthwise separable blocks or inverted residuals; average over all positions; classifier.

    Input [height, width, channels] or [time, channels]. Convolutions without biases, same padding, batch normalisation, ReLU. Sources of
    the blocks: arXiv:1704.04861, arXiv:1801.04381; layers are called stage2_1_depthwise: number of the stage, of the block, part.

    Example:
        model: {name: staged, options: {stages: [{block: conv, filters: 16, stride: 2}, {block: separable, filters: 32, repeats: 2}]}}
    """
    import keras

    axes = "time, channels" if len(input_shape) == 2 else "height, width, channels"
    inputs = keras.Input(check_rank("staged", input_shape, axes), name="input")
    builder = _Builder(flat=len(input_shape) == 2, l2=options.l2)
    x = inputs
    for number, stage in enumerate(options.stages, 1):
        for repeat in range(stage.repeats):
            x = builder.block(x, stage, number, repeat)
    x = keras.layers.GlobalAveragePooling1D()(x) if builder.flat else average_flatten(x)
    return keras.Model(inputs, classify(drop(x, options.dropout), classes, options.softmax), name="staged")


class _Builder:
    """Makes blocks of two dimensions, or where `flat` of one."""

    def __init__(self, flat: bool, l2: float) -> None:
        self.flat, self.l2 = flat, l2

    def block(self, x: Any, stage: Stage, number: int, repeat: int) -> Any:
        """Block `repeat` (from 0) of stage `number` (from 1)."""
        import keras

        name, stride = f"stage{number}_{repeat + 1}", stage.stride if repeat == 0 else 1
        if stage.block == "conv":
            return self._activated(self._conv(x, stage.filters, stage.kernel, stride, f"{name}_conv"), f"{name}_conv")
        if stage.block == "separable":
            x = self._activated(self._depthwise(x, stage.kernel, stride, f"{name}_depthwise"), f"{name}_depthwise")
            return self._activated(self._conv(x, stage.filters, 1, 1, f"{name}_pointwise"), f"{name}_pointwise")
        y = self._activated(self._conv(x, stage.expanded or 1, 1, 1, f"{name}_expand"), f"{name}_expand")
        y = self._activated(self._depthwise(y, stage.kernel, stride, f"{name}_spatial"), f"{name}_spatial")
        y = self._conv(y, stage.filters, 1, 1, f"{name}_project")
        y = keras.layers.BatchNormalization(name=f"{name}_project_norm")(y)
        return keras.layers.Add(name=f"{name}_sum")([x, y]) if repeat else y

    def _conv(self, x: Any, filters: int, kernel: Any, stride: Any, name: str) -> Any:
        import keras

        layer = keras.layers.Conv1D if self.flat else keras.layers.Conv2D
        return layer(
            filters,
            self._extent(kernel),
            self._extent(stride),
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=regulariser(self.l2),
            name=name,
        )(x)

    def _depthwise(self, x: Any, kernel: Any, stride: Any, name: str) -> Any:
        import keras

        layer = keras.layers.DepthwiseConv1D if self.flat else keras.layers.DepthwiseConv2D
        return layer(self._extent(kernel), self._extent(stride), padding="same", use_bias=False, name=name)(x)

    def _extent(self, value: Any) -> Any:
        if self.flat and not isinstance(value, int):
            raise ModelError(f"model staged: an input [time, channels] has one kernel length and stride, received {list(value)}")
        return value

    @staticmethod
    def _activated(x: Any, name: str) -> Any:
        import keras

        x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
        return keras.layers.Activation("relu", name=f"{name}_relu")(x)
