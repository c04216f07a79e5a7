"""What a network listens to or looks at, and what a sketch needs to feed it from the sensors of the Nano 33 BLE Sense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinykit.data.audio import KWS_LOG_MEL, KWS_MFCC, FrontEnd
from tinykit.data.audio.tables import tables
from tinykit.engine.ctext import array
from tinykit.packaging.interface import Interface, Port

CAMERA = (176, 144)
"""Width and height of the OV7675's pictures that the sketch takes (QCIF)."""

_AXES = (3, 6)
_SMALLEST_PICTURE = 16
_CLOSE = 1e-4


def front_end_of(interface: Interface) -> FrontEnd | None:
    """The audio front end whose features are the network's input: shape, step and zero point are the same. None: there is none."""
    port = _only(interface)
    if port is None:
        return None
    for candidate in (KWS_MFCC, KWS_LOG_MEL):
        same_scale = abs(_scale(port) - candidate.scale) <= _CLOSE * candidate.scale
        if _shape(port) == candidate.output_shape[:2] and same_scale and port.zero_point == candidate.zero_point:
            return candidate
    return None


def motion_of(interface: Interface) -> tuple[int, int] | None:
    """(readings, axes) of a network over a window of an inertial sensor: 3 axes of acceleration in g, or 6 with rotation in degrees per
    second. None: its input is something else."""
    port = _only(interface)
    shape = () if port is None else _shape(port)
    return (shape[0], shape[1]) if len(shape) == 2 and shape[1] in _AXES and shape[0] > shape[1] else None


def picture_of(interface: Interface) -> tuple[int, int, int] | None:
    """(height, width, channels) of a network over pictures of one or three colours. None: its input is something else."""
    port = _only(interface)
    if port is None or front_end_of(interface) is not None or len(port.shape) not in (2, 3):
        return None
    height, width, channels = (*port.shape, 1)[:3]
    fits = _SMALLEST_PICTURE <= height <= CAMERA[1] and _SMALLEST_PICTURE <= width <= CAMERA[0]
    return (height, width, channels) if fits and channels in (1, 3) else None


def pixel_table(interface: Interface) -> list[int]:
    """The stored value for each brightness 0 to 255. What training made of a pixel, the input's range tells: 0 to 1, -1 to 1, 0 to 255."""
    port = interface.inputs[0]
    scale, zero = _scale(port), port.zero_point
    low, high = scale * (-128 - zero), scale * (127 - zero)
    pixels = np.arange(256, dtype=np.float64)
    real = pixels if high > 16 else pixels / 127.5 - 1 if low < -0.5 else pixels / 255
    return np.clip(np.rint(real / scale) + zero, -128, 127).astype(int).tolist()


def frontend_values(front_end: FrontEnd) -> Mapping[str, Any]:
    """What the template of the C front end needs."""
    table = tables(front_end)
    named = {
        "window": ("int32_t", table.window), "sine": ("int32_t", table.sine), "mel_band": ("uint8_t", table.mel_band),
        "mel_weight": ("uint16_t", table.mel_weight), "logarithm": ("uint16_t", table.log2), "matrix": ("int16_t", table.matrix.ravel()),
    }  # fmt: skip
    text = "\n".join(array(ctype, name, values) for name, (ctype, values) in named.items())
    return {"front_end": front_end, "table": table, "half_bits": front_end.fft.bit_length() - 2, "arrays": text}


def _only(interface: Interface) -> Port | None:
    """The one int8 input, None if there are several or it is another type."""
    port = interface.inputs[0]
    return port if len(interface.inputs) == 1 and port.ctype == "int8_t" else None


def _shape(port: Port) -> tuple[int, ...]:
    """The shape without dimensions of 1."""
    return tuple(size for size in port.shape if size != 1)


def _scale(port: Port) -> float:
    text = port.scale.rstrip("f")
    return float.fromhex(text) if "0x" in text else float(text)
