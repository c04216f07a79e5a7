"""Random changes of raw training samples. They run inside tf.data and take all their randomness from the seed they are given."""

import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import pydantic
from pydantic.dataclasses import dataclass as checked_dataclass

from tinykit.data.preprocess import STRICT, parse_declared
from tinykit.errors import ConfigError, DataError

SEEDS_PER_BATCH = 16  # one for each op


class Augmentation(Protocol):
    """A random change of raw samples that keeps shape and dtype."""

    def check(self, shape: tuple[int, ...], dtype: str) -> None:
        """Raises DataError where samples of this shape (without the batch) and dtype cannot be changed so."""

    def tf(self, x: Any, seed: Any) -> Any:
        """The changed batch [N, ...]; `seed`: int32 [2] for TensorFlow's stateless generators."""


def _uniform(x: Any, seed: Any, low: float, high: float) -> Any:
    """One float32 from low to high for each sample of x [N, h, w, c], as [N, 1, 1, 1]."""
    import tensorflow as tf

    return tf.random.stateless_uniform([tf.shape(x)[0], 1, 1, 1], seed, low, high, dtype=tf.float32, alg="philox")


def _check_image(name: str, shape: tuple[int, ...], hint: str = "") -> None:
    if len(shape) != 3:
        raise DataError(f"{name}: needs images [height, width, channels], received shape {list(shape)}{hint}")


def _check_value(name: str, value: float, dtype: str) -> None:
    if dtype != "float32" and not (value == int(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max):
        raise DataError(f"{name}: value {value} cannot be stored as {dtype} ({np.iinfo(dtype).min} to {np.iinfo(dtype).max})")


def _store(y: Any, dtype: Any, limits: tuple[float, float] | None) -> Any:
    """float32 values in the dtype of the raw samples: kept inside `limits` and what the dtype can hold; integers are rounded."""
    import tensorflow as tf

    if limits is not None:
        y = tf.clip_by_value(y, *limits)
    if dtype == tf.float32:
        return y
    return tf.cast(tf.clip_by_value(tf.round(y), dtype.min, dtype.max), dtype)


@checked_dataclass(frozen=True, config=STRICT)
class FlipLeftRight:
    """Mirrors each image [h, w, c] with probability 1/2.

    Example:
        {flip_lr: {}}
    """

    def check(self, shape: tuple[int, ...], dtype: str) -> None:
        _check_image("flip_lr", shape)

    def tf(self, x: Any, seed: Any) -> Any:
        import tensorflow as tf

        chosen = tf.random.stateless_uniform([tf.shape(x)[0], 1, 1, 1], seed, dtype=tf.float32, alg="philox") < 0.5
        return tf.where(chosen, tf.reverse(x, [2]), x)


def _shifted(x: Any, seed: Any, reach: int, axis: int, value: float | None = None) -> Any:
    """Each sample moved by a random -reach..reach along `axis`; what comes in is the border repeated, or `value`."""
    import tensorflow as tf

    size = x.shape[axis]
    offset = tf.random.stateless_uniform([tf.shape(x)[0], 1], seed, minval=-reach, maxval=reach + 1, dtype=tf.int32, alg="philox")
    at = tf.range(size, dtype=tf.int32)[tf.newaxis] + offset
    index = tf.clip_by_value(at, 0, size - 1)
    if axis == 1:
        moved = tf.gather(x, index, axis=1, batch_dims=1)
    else:
        swapped = tf.transpose(x, [0, 2, 1, 3])
        moved = tf.transpose(tf.gather(swapped, index, axis=1, batch_dims=1), [0, 2, 1, 3])
    if value is None:
        return moved
    inside = tf.equal(at, index)
    inside = inside[:, :, tf.newaxis, tf.newaxis] if axis == 1 else inside[:, tf.newaxis, :, tf.newaxis]
    return tf.where(inside, moved, tf.cast(value, x.dtype))


@checked_dataclass(frozen=True, config=STRICT)
class Shift:
    """Moves each image [h, w, c] by a random -pixels..pixels down and across: a crop of the padded image.

    What comes in is the border repeated (mode edge) or `value` (mode constant), a raw number.

    Example:
        {shift: {pixels: 4}}
    """

    pixels: int = pydantic.Field(ge=1)
    mode: Literal["edge", "constant"] = "edge"
    value: float = 0.0

    def check(self, shape: tuple[int, ...], dtype: str) -> None:
        _check_image("shift", shape, "; see time_shift")
        if self.mode == "constant":
            _check_value("shift", self.value, dtype)

    def tf(self, x: Any, seed: Any) -> Any:
        value = self.value if self.mode == "constant" else None
        return _shifted(_shifted(x, seed, self.pixels, 1, value), seed + [0, 1], self.pixels, 2, value)


@checked_dataclass(frozen=True, config=STRICT)
class TimeShift:
    """Moves each sample [time, ...] by a random -steps..steps along its first axis; the border is repeated.

    Example:
        {time_shift: {steps: 5}}
    """

    steps: int = pydantic.Field(ge=1)

    def check(self, shape: tuple[int, ...], dtype: str) -> None:
        if not shape:
            raise DataError("time_shift: needs samples [time, ...], received single values")

    def tf(self, x: Any, seed: Any) -> Any:
        return _shifted(x, seed, self.steps, 1)


class _Limited:
    """An op on the values of images, which stay inside `limits`."""

    limits: tuple[float, float] | None

    def __post_init__(self) -> None:
        if self.limits is not None and self.limits[0] >= self.limits[1]:
            raise ValueError(f"limits must be [low, high] with low below high, not {list(self.limits)}")


@checked_dataclass(frozen=True, config=STRICT)
class Brightness(_Limited):
    """Adds one random number of -by..by to all values of an image [h, w, c].

    `by` is in raw units (0 to 255 for most photographs). Integers are rounded. Values stay inside `limits`: without them
    inside what the dtype can hold, and floats are free.

    Example:
        {brightness: {by: 25}}
    """

    by: float = pydantic.Field(gt=0)
    limits: tuple[float, float] | None = None

    def check(self, shape: tuple[int, ...], dtype: str) -> None:
        _check_image("brightness", shape)

    def tf(self, x: Any, seed: Any) -> Any:
        import tensorflow as tf

        return _store(tf.cast(x, tf.float32) + _uniform(x, seed, -self.by, self.by), x.dtype, self.limits)


@checked_dataclass(frozen=True, config=STRICT)
class Contrast(_Limited):
    """Multiplies the distance of all values of an image [h, w, c] from the image's mean by one random 1 - by..1 + by.

    `by` is a share, up to 1. Rounding and `limits` are those of `brightness`.

    Example:
        {contrast: {by: 0.2}}
    """

    by: float = pydantic.Field(gt=0, le=1)
    limits: tuple[float, float] | None = None

    def check(self, shape: tuple[int, ...], dtype: str) -> None:
        _check_image("contrast", shape)

    def tf(self, x: Any, seed: Any) -> Any:
        import tensorflow as tf

        y = tf.cast(x, tf.float32)
        mean = tf.reduce_mean(y, [1, 2, 3], keepdims=True)
        return _store(mean + (y - mean) * _uniform(x, seed, 1 - self.by, 1 + self.by), x.dtype, self.limits)


def _turned(x: Any, cosine: Any, sine: Any) -> Any:
    """Images [N, h, w, c] drawn again about their centre, bilinearly; where they do not reach, the border is repeated.

    Pixel (row, column) of the result comes from (cosine * row - sine * column, sine * row + cosine * column), both counted from
    the centre ((h - 1) / 2, (w - 1) / 2); cosine and sine: float32 [N, 1, 1, 1], times a scale where there is one.
    """
    import tensorflow as tf

    height, width, channels = (int(size) for size in x.shape[1:])
    down = tf.constant(np.arange(height, dtype=np.float32).reshape(1, -1, 1) - np.float32((height - 1) / 2))
    across = tf.constant(np.arange(width, dtype=np.float32).reshape(1, 1, -1) - np.float32((width - 1) / 2))
    cosine, sine = cosine[..., 0], sine[..., 0]
    row = tf.clip_by_value(cosine * down - sine * across + (height - 1) / 2, 0.0, height - 1.0)
    column = tf.clip_by_value(sine * down + cosine * across + (width - 1) / 2, 0.0, width - 1.0)
    top, left = tf.floor(row), tf.floor(column)
    flat = tf.reshape(x, [-1, height * width, channels])

    def pixels(lower: int, right: int) -> Any:
        rows = tf.minimum(tf.cast(top, tf.int32) + lower, height - 1)
        columns = tf.minimum(tf.cast(left, tf.int32) + right, width - 1)
        index = tf.reshape(rows * width + columns, [-1, height * width])
        return tf.reshape(tf.cast(tf.gather(flat, index, axis=1, batch_dims=1), tf.float32), [-1, height, width, channels])

    lower, right = (row - top)[..., tf.newaxis], (column - left)[..., tf.newaxis]
    above = pixels(0, 0) * (1 - right) + pixels(0, 1) * right
    below = pixels(1, 0) * (1 - right) + pixels(1, 1) * right
    return _store(above * (1 - lower) + below * lower, x.dtype, None)


@checked_dataclass(frozen=True, config=STRICT)
class Rotate:
    """Turns each image [h, w, c] about its centre by a random -degrees..degrees; bilinear, the border is repeated.

    Example:
        {rotate: {degrees: 10}}
    """

    degrees: float = pydantic.Field(gt=0, le=180)

    def check(self, shape: tuple[int, ...], dtype: str) -> None:
        _check_image("rotate", shape)

    def tf(self, x: Any, seed: Any) -> Any:
        import tensorflow as tf

        angle = _uniform(x, seed, -math.radians(self.degrees), math.radians(self.degrees))
        return _turned(x, tf.cos(angle), tf.sin(angle))


@checked_dataclass(frozen=True, config=STRICT)
class Zoom:
    """Enlarges each image [h, w, c] about its centre by a random factor of 1 - by..1 + by; bilinear, the border is repeated.

    Example:
        {zoom: {by: 0.1}}
    """

    by: float = pydantic.Field(gt=0, le=0.9)

    def check(self, shape: tuple[int, ...], dtype: str) -> None:
        _check_image("zoom", shape)

    def tf(self, x: Any, seed: Any) -> Any:
        import tensorflow as tf

        scale = 1 / _uniform(x, seed, 1 - self.by, 1 + self.by)
        return _turned(x, scale, tf.zeros_like(scale))


@checked_dataclass(frozen=True, config=STRICT)
class Cutout:
    """Puts `value` (raw) into one square of `size` pixels of each image [h, w, c].

    Its centre is any pixel, so the square may reach over the border, where it is cut. Source: DeVries and Taylor, arXiv:1708.04552.

    Example:
        {cutout: {size: 8, value: 128}}
    """

    size: int = pydantic.Field(ge=1)
    value: float = 0.0

    def check(self, shape: tuple[int, ...], dtype: str) -> None:
        _check_image("cutout", shape)
        _check_value("cutout", self.value, dtype)

    def tf(self, x: Any, seed: Any) -> Any:
        import tensorflow as tf

        def covered(extent: int, own_seed: Any) -> Any:
            centre = tf.random.stateless_uniform([tf.shape(x)[0], 1], own_seed, 0, extent, dtype=tf.int32, alg="philox")
            distance = tf.range(extent, dtype=tf.int32)[tf.newaxis] - centre + self.size // 2
            return (distance >= 0) & (distance < self.size)

        rows, columns = covered(int(x.shape[1]), seed), covered(int(x.shape[2]), seed + [0, 1])
        square = rows[:, :, tf.newaxis, tf.newaxis] & columns[:, tf.newaxis, :, tf.newaxis]
        return tf.where(square, tf.cast(self.value, x.dtype), x)


AUGMENTATIONS: dict[str, type] = {
    "brightness": Brightness,
    "contrast": Contrast,
    "cutout": Cutout,
    "flip_lr": FlipLeftRight,
    "rotate": Rotate,
    "shift": Shift,
    "time_shift": TimeShift,
    "zoom": Zoom,
}


def parse_augmentations(declared: Sequence[Any], where: str = "augment") -> tuple[Augmentation, ...]:
    """Parses a declared list such as `[flip_lr, {shift: {pixels: 4}}]`.

    Raises:
        ConfigError: with every problem of the list.
    """
    if isinstance(declared, Sequence) and not isinstance(declared, str) and len(declared) > SEEDS_PER_BATCH:
        raise ConfigError(f"{where}: {len(declared)} ops, expected at most {SEEDS_PER_BATCH}")
    return tuple(parse_declared(declared, AUGMENTATIONS, where))
