"""The declared preprocessing: a list of ops from the configuration, run by NumPy and by TensorFlow to the same last bit."""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, Protocol

import numpy as np
import pydantic
from pydantic.dataclasses import dataclass as checked_dataclass

from tinykit.data.arithmetic import NUMPY, TENSORFLOW, Arithmetic
from tinykit.errors import ConfigError, DataError, collected
from tinykit.options import nearest, parse_options

STRICT = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)
CHUNK_VALUES = 1 << 22
Size = pydantic.PositiveInt


@dataclasses.dataclass(frozen=True)
class Grid:
    """Real value = scale * u + offset for every integer u that can occur; `raw` while u is what the op sees."""

    scale: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)
    raw: bool = True

    def then(self, scale: Fraction, offset: Fraction) -> "Grid":
        """The grid after value -> scale * value + offset."""
        return Grid(self.scale * scale, self.offset * scale + offset, raw=False)


class Op(Protocol):
    """One op of a chain. Shapes are without the batch."""

    def infer(self, shape: tuple[int, ...], dtype: str | None) -> tuple[tuple[int, ...], str | None]:
        """Shape and dtype of the result (dtype None: not known); raises DataError where the op does not apply."""

    def run(self, x: Any, np_or_tf: Arithmetic) -> Any:
        """The result for a batch [N, ...]."""

    def affine(self, grid: Grid) -> Grid | None:
        """The grid of the result, None where there is none that holds for the whole tensor."""


class _Elementwise:
    """An op that maps every value alone, to float32."""

    def infer(self, shape: tuple[int, ...], dtype: str | None) -> tuple[tuple[int, ...], str | None]:
        return shape, "float32"


@checked_dataclass(frozen=True, config=STRICT)
class Scale(_Elementwise):
    """float32(by * x + offset), product and sum in float64.

    Example:
        {scale: {by: 0.0625}}
    """

    by: float
    offset: float = 0.0

    def run(self, x: Any, np_or_tf: Arithmetic) -> Any:
        return np_or_tf.single(np_or_tf.real(x) * np.float64(self.by) + np.float64(self.offset))

    def affine(self, grid: Grid) -> Grid | None:
        return grid.then(Fraction(self.by), Fraction(self.offset))


@checked_dataclass(frozen=True, config=STRICT)
class Divide(_Elementwise):
    """float32(x * r) where r is 1 / by in float64: a product on both sides, because TensorFlow makes one of the division.

    Example:
        {divide: {by: 255}}
    """

    by: float

    def __post_init__(self) -> None:
        if self.by == 0 or not np.isfinite(1.0 / self.by):
            raise ValueError("by must not be 0 or next to it")

    def run(self, x: Any, np_or_tf: Arithmetic) -> Any:
        return np_or_tf.single(np_or_tf.real(x) * np.float64(1.0 / self.by))

    def affine(self, grid: Grid) -> Grid | None:
        return grid.then(1 / Fraction(self.by), Fraction(0))


@checked_dataclass(frozen=True, config=STRICT)
class Normalize(_Elementwise):
    """float32((x - mean) * (1 / std)) for each channel of the last axis, in float64; one value serves all channels.

    Example:
        {normalize: {mean: [125.3, 123.0, 113.9], std: [63.0, 62.1, 66.7]}}
    """

    mean: tuple[float, ...] = pydantic.Field(min_length=1)
    std: tuple[float, ...] = pydantic.Field(min_length=1)

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} values and std {len(self.std)}")
        if any(value == 0 or not np.isfinite(1.0 / value) for value in self.std):
            raise ValueError("std must not be 0 or next to it")

    def infer(self, shape: tuple[int, ...], dtype: str | None) -> tuple[tuple[int, ...], str | None]:
        if len(self.mean) > 1 and (not shape or shape[-1] != len(self.mean)):
            raise DataError(f"normalize: {len(self.mean)} means for samples of shape {list(shape)}; one a channel is needed")
        return shape, "float32"

    def run(self, x: Any, np_or_tf: Arithmetic) -> Any:
        reciprocal = 1.0 / np.array(self.std, np.float64)
        return np_or_tf.single((np_or_tf.real(x) - np.array(self.mean, np.float64)) * reciprocal)

    def affine(self, grid: Grid) -> Grid | None:
        if len(set(self.mean)) > 1 or len(set(self.std)) > 1:
            return None
        scale = 1 / Fraction(self.std[0])
        return grid.then(scale, -Fraction(self.mean[0]) * scale)


@checked_dataclass(frozen=True, config=STRICT)
class Dequantize(_Elementwise):
    """float32((x - zero_point) * scale) in float64: the real value of stored integers, such as int8 MFCC.

    Example:
        {dequantize: {scale: 0.5847029, zero_point: 83}}
    """

    scale: float = pydantic.Field(gt=0)
    zero_point: int = 0

    def run(self, x: Any, np_or_tf: Arithmetic) -> Any:
        return np_or_tf.single((np_or_tf.real(x) - np.float64(self.zero_point)) * np.float64(self.scale))

    def affine(self, grid: Grid) -> Grid | None:
        return grid.then(Fraction(self.scale), -Fraction(self.scale) * self.zero_point)


def resize_weights(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bilinear coordinates of one axis in integers, with half-pixel centres, as a device would compute them.

    Pixel d of the result lies at ((2 d + 1) source - target) / (2 target) source pixels, kept inside the image; its distance
    from the lower neighbour is rounded to 1/256.

    Returns:
        (low, high, weight): int64 [target]; result = (p[low] * (256 - weight) + p[high] * weight) / 256, weight 0 to 256.
    """
    at = (2 * np.arange(target, dtype=np.int64) + 1) * source - target
    at = np.clip(at, 0, (source - 1) * 2 * target)
    low = at // (2 * target)
    weight = ((at - low * 2 * target) * 256 + target) // (2 * target)
    return low, np.minimum(low + 1, source - 1), weight


@checked_dataclass(frozen=True, config=STRICT)
class Resize:
    """Images [h, w, c] of another size, without antialiasing; integers stay integers of the same dtype.

    nearest: pixel d comes from source pixel ((2 d + 1) source) // (2 target).
    bilinear: coordinates and 8-bit weights of `resize_weights`; integers: (sum of four products + 2^15) >> 16 in int32;
    float32: first along the rows, then along the columns, each a float64 sum of two products rounded to float32.

    Example:
        {resize: {size: [96, 96], method: bilinear}}
    """

    size: tuple[Size, Size]
    method: Literal["nearest", "bilinear"] = "bilinear"

    def infer(self, shape: tuple[int, ...], dtype: str | None) -> tuple[tuple[int, ...], str | None]:
        if len(shape) != 3:
            raise DataError(f"resize: needs images [height, width, channels], received shape {list(shape)}")
        return (*self.size, shape[2]), dtype

    def run(self, x: Any, np_or_tf: Arithmetic) -> Any:
        height, width = int(x.shape[1]), int(x.shape[2])
        if (height, width) == self.size:
            return x
        if self.method == "nearest":
            for axis, source, target in ((1, height, self.size[0]), (2, width, self.size[1])):
                x = np_or_tf.take(x, (2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target), axis)
            return x
        if np_or_tf.floating(x):
            return self._float(self._float(x, 2, width, self.size[1], np_or_tf), 1, height, self.size[0], np_or_tf)
        return self._integer(x, height, width, np_or_tf)

    @staticmethod
    def _float(x: Any, axis: int, source: int, target: int, np_or_tf: Arithmetic) -> Any:
        low, high, weight = resize_weights(source, target)
        shape = (1, target, 1, 1) if axis == 1 else (1, 1, target, 1)
        share = (weight / 256.0).reshape(shape)
        y = np_or_tf.real(x)
        return np_or_tf.single(np_or_tf.take(y, low, axis) * (1.0 - share) + np_or_tf.take(y, high, axis) * share)

    def _integer(self, x: Any, height: int, width: int, np_or_tf: Arithmetic) -> Any:
        dtype = np.dtype(x.dtype.name).name
        y_low, y_high, y_weight = resize_weights(height, self.size[0])
        x_low, x_high, x_weight = resize_weights(width, self.size[1])
        across = x_weight.astype(np.int32).reshape(1, 1, -1, 1)
        down = y_weight.astype(np.int32).reshape(1, -1, 1, 1)
        wide = np_or_tf.cast(x, "int32")
        rows = np_or_tf.take(wide, x_low, 2) * (256 - across) + np_or_tf.take(wide, x_high, 2) * across
        total = np_or_tf.take(rows, y_low, 1) * (256 - down) + np_or_tf.take(rows, y_high, 1) * down
        return np_or_tf.cast(np_or_tf.shift_right(total + np.int32(1 << 15), 16), dtype)

    def affine(self, grid: Grid) -> Grid | None:
        return grid if self.method == "nearest" or grid.raw else None


GRAY_WEIGHTS = (77, 150, 29)


def gray_numpy(x: np.ndarray) -> np.ndarray:
    """(77 R + 150 G + 29 B) >> 8 of uint8 [..., 3], as uint8 [..., 1]; the weights are BT.601's times 256 and add up to 256."""
    return (x.astype(np.int32) @ np.array(GRAY_WEIGHTS, np.int32) >> 8).astype(np.uint8)[..., np.newaxis]


@checked_dataclass(frozen=True, config=STRICT)
class Grayscale:
    """(77 R + 150 G + 29 B) >> 8 of uint8 images [h, w, 3], as uint8 [h, w, 1]; must come before any op that gives float32.

    The weights are ITU-R BT.601's 0.299, 0.587, 0.114 times 256, rounded; they add up to 256, so white stays 255.

    Example:
        {grayscale: {}}
    """

    def infer(self, shape: tuple[int, ...], dtype: str | None) -> tuple[tuple[int, ...], str | None]:
        if len(shape) != 3 or shape[2] != 3:
            raise DataError(f"grayscale: needs images [height, width, 3], received shape {list(shape)}")
        if dtype not in (None, "uint8"):
            raise DataError(f"grayscale: needs uint8 values, received {dtype}; put it before ops that scale")
        return (*shape[:2], 1), dtype

    def run(self, x: Any, np_or_tf: Arithmetic) -> Any:
        red, green, blue = (
            np_or_tf.cast(np_or_tf.take(x, np.array([channel]), 3), "int32") * np.int32(weight)
            for channel, weight in enumerate(GRAY_WEIGHTS)
        )
        return np_or_tf.cast(np_or_tf.shift_right(red + green + blue, 8), "uint8")

    def affine(self, grid: Grid) -> Grid | None:
        return grid if grid.raw else None


@checked_dataclass(frozen=True, config=STRICT)
class PadOrCrop:
    """Samples cut or filled, centred, to `size` along their first axes ([time] or [height, width]).

    With an odd difference the extra element is cut or filled at the end. `mode` edge repeats the border, constant puts `value`.

    Example:
        {pad_or_crop: {size: [96, 96], mode: edge}}
    """

    size: tuple[Size, ...] = pydantic.Field(min_length=1, max_length=3)
    mode: Literal["edge", "constant"] = "constant"
    value: float = 0.0

    def infer(self, shape: tuple[int, ...], dtype: str | None) -> tuple[tuple[int, ...], str | None]:
        if len(shape) < len(self.size):
            raise DataError(f"pad_or_crop: {len(self.size)} sizes for samples of shape {list(shape)}")
        if self.mode == "constant" and dtype is not None and dtype != "float32":
            info = np.iinfo(dtype)
            if self.value != int(self.value) or not info.min <= self.value <= info.max:
                raise DataError(f"pad_or_crop: value {self.value} cannot be stored as {dtype} ({info.min} to {info.max})")
        return (*self.size, *shape[len(self.size) :]), dtype

    def run(self, x: Any, np_or_tf: Arithmetic) -> Any:
        rank = len(x.shape)
        for axis, target in enumerate(self.size, start=1):
            source = int(x.shape[axis])
            if source == target:
                continue
            first = (source - target) // 2 if source > target else -((target - source) // 2)
            at = np.arange(target, dtype=np.int64) + first
            x = np_or_tf.take(x, np.clip(at, 0, source - 1), axis)
            if self.mode == "constant" and target > source:
                mask = ((at >= 0) & (at < source)).reshape([-1 if i == axis else 1 for i in range(rank)])
                x = np_or_tf.choose(mask, x, self.value)
        return x

    def affine(self, grid: Grid) -> Grid | None:
        return grid if self.mode == "edge" or grid.raw else None


@checked_dataclass(frozen=True, config=STRICT)
class Reshape:
    """Samples of another shape with the same number of values, in row-major order.

    Example:
        {reshape: {shape: [640]}}
    """

    shape: tuple[Size, ...] = pydantic.Field(min_length=1)

    def infer(self, shape: tuple[int, ...], dtype: str | None) -> tuple[tuple[int, ...], str | None]:
        if int(np.prod(shape)) != int(np.prod(self.shape)):
            raise DataError(f"reshape: shape {list(shape)} has another number of values than {list(self.shape)}")
        return self.shape, dtype

    def run(self, x: Any, np_or_tf: Arithmetic) -> Any:
        return np_or_tf.reshape(x, self.shape)

    def affine(self, grid: Grid) -> Grid | None:
        return grid


OPS: dict[str, type] = {
    "dequantize": Dequantize,
    "divide": Divide,
    "grayscale": Grayscale,
    "normalize": Normalize,
    "pad_or_crop": PadOrCrop,
    "reshape": Reshape,
    "resize": Resize,
    "scale": Scale,
}


def parse_declared(declared: Any, registry: dict[str, type], where: str) -> list[Any]:
    """Builds the objects of a declared list such as `[{scale: {by: 2}}, grayscale]`.

    Args:
        declared: list; an entry is a name, or a mapping of one name to its parameters.
        registry: class by name.
        where: what the messages begin with.

    Raises:
        ConfigError: with every problem of the list.
    """
    if not isinstance(declared, Sequence) or isinstance(declared, str):
        raise ConfigError(f"{where}: expected a list of ops, received {declared!r}")
    built: list[Any] = []
    problems: list[str] = []
    for index, item in enumerate(declared):
        at = f"{where}[{index}]"
        if isinstance(item, str):
            item = {item: None}
        if not isinstance(item, dict) or len(item) != 1:
            problems.append(f"{at}: expected one op such as {{name: {{parameter: value}}}}, received {item!r}")
            continue
        ((name, parameters),) = item.items()
        if name not in registry:
            problems.append(f"{at}: unknown op {name!r}: {nearest(name, registry)}")
            continue
        with collected(ConfigError, problems):
            built.append(parse_options(registry[name], {} if parameters is None else parameters, f"{at} {name}"))
    if problems:
        raise ConfigError(problems)
    return built


@dataclasses.dataclass(frozen=True)
class Chain:
    """A parsed list of ops; the empty chain only converts to float32."""

    ops: tuple[Op, ...] = ()

    @classmethod
    def parse(cls, declared: Any, where: str = "preprocess") -> "Chain":
        """Parses a declared list such as `[{divide: {by: 255}}, {reshape: {shape: [784]}}]`; nothing is evaluated.

        Raises:
            ConfigError: with every problem; a misspelt op comes with its nearest match.
        """
        return cls(tuple(parse_declared(declared, OPS, where)))

    def apply(self, x: np.ndarray) -> np.ndarray:
        """The chain on a batch.

        Args:
            x: [N, ...] raw samples: uint8, int8, int16 or float32.

        Returns:
            [N, *output_shape] float32.

        Raises:
            DataError: an op does not apply to samples of this shape or dtype.
        """
        shape = self._infer(x.shape[1:], x.dtype.name)
        result = np.empty((len(x), *shape), np.float32)
        rows = max(1, CHUNK_VALUES // max(1, int(np.prod(shape)), int(np.prod(x.shape[1:]))))
        for start in range(0, len(x), rows):
            part = x[start : start + rows]
            for op in self.ops:
                part = op.run(part, NUMPY)
            result[start : start + rows] = part
        return result

    def tf(self, x: Any) -> Any:
        """The chain on a tensor [N, ...] (N may be unknown), float32, every bit as `apply` gives it; also inside tf.data.

        Raises:
            DataError: as `apply`.
        """
        import tensorflow as tf

        shape = tuple(x.shape[1:])
        if None in shape:
            raise DataError(f"preprocess: samples must have a fixed shape, received {list(shape)}")
        self._infer(shape, x.dtype.name)
        for op in self.ops:
            x = op.run(x, TENSORFLOW)
        return tf.cast(x, tf.float32)

    def output_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of a preprocessed sample for raw samples of `shape`, both without the batch.

        Raises:
            DataError: an op does not apply to this shape.
        """
        return self._infer(shape, None)

    def affine(self, dtype: Any) -> tuple[float, float] | None:
        """(scale, offset) such that the declared chain maps the integer u to scale * u + offset, the same for all channels.

        u is the raw integer, or the one that shape-only ops (reshape, resize, grayscale, pad_or_crop) made of raw integers.
        The constants of several ops are combined exactly and then rounded to float64; `apply` rounds to float32 after each op.

        Args:
            dtype: of the raw samples, anything numpy.dtype takes.

        Returns:
            None for float samples, for constants that differ between channels, and for interpolation or constant padding of
            values that were already scaled.
        """
        if np.dtype(dtype).kind not in "iu":
            return None
        grid = Grid()
        for op in self.ops:
            after = op.affine(grid)
            if after is None:
                return None
            grid = after
        try:
            return float(grid.scale), float(grid.offset)
        except OverflowError:
            return None

    def describe(self) -> list[dict[str, Any]]:
        """The list that `parse` would make this chain of, with every default written out."""
        names = {cls: name for name, cls in OPS.items()}
        return [{names[type(op)]: _plain(op)} for op in self.ops]

    def _infer(self, shape: Sequence[int], dtype: str | None) -> tuple[int, ...]:
        now = tuple(int(size) for size in shape)
        if dtype is not None and dtype not in ("uint8", "int8", "int16", "float32"):
            raise DataError(f"preprocess: raw samples must be uint8, int8, int16 or float32, received {dtype}")
        for index, op in enumerate(self.ops):
            try:
                now, dtype = op.infer(now, dtype)
            except DataError as error:
                raise DataError([f"preprocess[{index}] {problem}" for problem in error.problems]) from error
        return now


def _plain(op: Any) -> dict[str, Any]:
    values = {field.name: getattr(op, field.name) for field in dataclasses.fields(op)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
