"""The few array operations that the preprocessing ops are written in, once for NumPy and once for TensorFlow.

Both give the same bits because each step leaves no freedom: real arithmetic is done in float64, at most one product and one sum
between two roundings to float32, with reciprocals taken in advance (TensorFlow's graph optimiser turns a division by a constant into
a product, and merges longer sums); float32 values below the smallest normal number are replaced by +0 on both sides, because
TensorFlow's threads flush them and NumPy does not; resampling of integers is done in int32.
"""

from typing import Any, Protocol

import numpy as np

SMALLEST_NORMAL = 2.0**-126


class Arithmetic(Protocol):
    """What an op may do with a batch [N, ...] of either library."""

    def real(self, x: Any) -> Any:
        """float64 of an integer or float32 array; subnormal values become +0."""

    def single(self, y: Any) -> Any:
        """float32 of a float64 array; values below the smallest normal float32 become +0."""

    def take(self, x: Any, index: np.ndarray, axis: int) -> Any:
        """Elements `index` (int64 [K]) along `axis`."""

    def cast(self, x: Any, dtype: str) -> Any:
        """Conversion that the caller knows to be exact."""

    def choose(self, mask: np.ndarray, x: Any, value: float) -> Any:
        """x where `mask` (broadcast) is True, else `value` in the dtype of x."""

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        """Samples of another shape (without the batch)."""

    def shift_right(self, x: Any, bits: int) -> Any:
        """Arithmetic shift of an int32 array: floor(x / 2^bits)."""

    def floating(self, x: Any) -> bool:
        """Whether x is float32."""


class NumpyArithmetic:
    """The definition."""

    def real(self, x: np.ndarray) -> np.ndarray:
        y = x.astype(np.float64)
        return np.where(np.abs(y) < SMALLEST_NORMAL, 0.0, y) if self.floating(x) else y

    def single(self, y: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.where(np.abs(y) < SMALLEST_NORMAL, 0.0, y).astype(np.float32)

    def take(self, x: np.ndarray, index: np.ndarray, axis: int) -> np.ndarray:
        return np.take(x, index, axis=axis)

    def cast(self, x: np.ndarray, dtype: str) -> np.ndarray:
        return x.astype(dtype)

    def choose(self, mask: np.ndarray, x: np.ndarray, value: float) -> np.ndarray:
        return np.where(mask, x, np.asarray(value).astype(x.dtype))

    def reshape(self, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return x.reshape((len(x), *shape))

    def shift_right(self, x: np.ndarray, bits: int) -> np.ndarray:
        return np.right_shift(x, bits)

    def floating(self, x: np.ndarray) -> bool:
        return x.dtype == np.float32


class TensorFlowArithmetic:
    """The same on tensors, eager or inside a tf.data function."""

    def real(self, x: Any) -> Any:
        import tensorflow as tf

        y = tf.cast(x, tf.float64)
        return tf.where(tf.abs(y) < SMALLEST_NORMAL, tf.constant(0.0, tf.float64), y) if self.floating(x) else y

    def single(self, y: Any) -> Any:
        import tensorflow as tf

        return tf.cast(tf.where(tf.abs(y) < SMALLEST_NORMAL, tf.constant(0.0, tf.float64), y), tf.float32)

    def take(self, x: Any, index: np.ndarray, axis: int) -> Any:
        import tensorflow as tf

        return tf.gather(x, tf.constant(index, tf.int64), axis=axis)

    def cast(self, x: Any, dtype: str) -> Any:
        import tensorflow as tf

        return tf.cast(x, dtype)

    def choose(self, mask: np.ndarray, x: Any, value: float) -> Any:
        import tensorflow as tf

        return tf.where(mask, x, tf.constant(np.asarray(value).astype(x.dtype.as_numpy_dtype)))

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        import tensorflow as tf

        return tf.reshape(x, (-1, *shape))

    def shift_right(self, x: Any, bits: int) -> Any:
        import tensorflow as tf

        return tf.bitwise.right_shift(x, tf.constant(bits, tf.int32))

    def floating(self, x: Any) -> bool:
        return x.dtype.name == "float32"


NUMPY: Arithmetic = NumpyArithmetic()
TENSORFLOW: Arithmetic = TensorFlowArithmetic()
