"""golden.npz: stored inputs and the outputs that any implementation must give for them, byte for byte."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinykit.data.files import read_npz
from tinykit.errors import DataError, ModelError

_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the earliest that ZIP can say
_DTYPES = ("int8", "uint8", "int16", "int32", "float32")
_ARRAYS = ("input", "output", "input_quantization", "output_quantization", "model_sha256")


@dataclass(frozen=True)
class Golden:
    """Samples with their exact results.

    Attributes:
        input: stored inputs [N, ...], as a rule int8.
        output: stored outputs [N, ...].
        input_quantization, output_quantization: (scale, zero point): real = scale * (stored - zero point).
        model_sha256: of the .tflite that gave them; '' if there is none.
    """

    input: np.ndarray
    output: np.ndarray
    input_quantization: tuple[float, int] = (1.0, 0)
    output_quantization: tuple[float, int] = (1.0, 0)
    model_sha256: str = ""


def golden_npz(
    input: np.ndarray,
    output: np.ndarray,
    *,
    input_quantization: tuple[float, int] = (1.0, 0),
    output_quantization: tuple[float, int] = (1.0, 0),
    model_sha256: str = "",
) -> bytes:
    """The bytes of golden.npz; equal arguments give equal bytes (no timestamps, no compression).

    `numpy.load` reads it too. Arguments: see Golden.

    Raises:
        ModelError: no samples, different numbers of samples, or values that are no stored integers.
    """
    problems = [
        f"golden {label}: dtype {array.dtype}, expected one of {', '.join(_DTYPES)}"
        for label, array in (("input", input), ("output", output))
        if str(array.dtype) not in _DTYPES
    ]
    if input.ndim == 0 or output.ndim == 0 or len(input) != len(output) or len(input) == 0:
        shapes = f"input {list(input.shape)}, output {list(output.shape)}"
        problems.append(f"golden: expected [N, ...] with the same N >= 1, received {shapes}")
    if problems:
        raise ModelError(problems)
    arrays = {
        "input": input,
        "output": output,
        "input_quantization": np.array(input_quantization, np.float64),
        "output_quantization": np.array(output_quantization, np.float64),
        "model_sha256": np.frombuffer(model_sha256.encode("ascii"), np.uint8),
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _TIMESTAMP), _npy(array))
    return stream.getvalue()


def read_golden(path: Path) -> Golden:
    """Reads a file that `golden_npz` made.

    Raises:
        ModelError: the file cannot be read, is damaged, or lacks an array; says which.
    """
    try:
        arrays = read_npz(path, _ARRAYS)
    except DataError as error:
        raise ModelError(f"{error}; golden samples are made by running the recipe again") from error
    try:
        return Golden(
            arrays["input"],
            arrays["output"],
            _pair(arrays["input_quantization"]),
            _pair(arrays["output_quantization"]),
            arrays["model_sha256"].tobytes().decode("ascii"),
        )
    except ValueError as error:
        raise ModelError(f"{path}: holds no golden samples: {error}; they are made by running the recipe again") from error


def _pair(values: np.ndarray) -> tuple[float, int]:
    scale, zero_point = values  # raises ValueError unless two
    return float(scale), int(zero_point)


def _npy(array: np.ndarray) -> bytes:
    """`array` in NumPy's own file format, C order, little-endian."""
    stream = io.BytesIO()
    order = array.dtype.newbyteorder("<")
    np.lib.format.write_array(stream, np.ascontiguousarray(array, dtype=order), version=(1, 0), allow_pickle=False)
    return stream.getvalue()
