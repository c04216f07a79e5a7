"""The constant tables of the integer front end. They are data: a device gets these numbers, not the formulas."""

import dataclasses
import functools
import math

import numpy as np

from tinykit.data.audio.frontend import FLOOR_BITS, LOG_INTERVALS, FrontEnd
from tinykit.data.audio.oracle import dct_matrix, hann

WEIGHT_BITS = 15  # of mel weights
SINE_BITS = 30
WINDOW_BITS = 30  # with 15 the rounding of the window would be heard, 119 dB below a pure tone, where the log floor still shows it
LOG_BITS = 15  # fraction bits of a base-2 logarithm


@dataclasses.dataclass(frozen=True, eq=False)
class Tables:
    """Constants of one FrontEnd. Real numbers are rounded to the nearest integer, halves to even.

    Attributes:
        window: int32 [window // 2 + 1], Q30, the first half of the symmetric Hann window: w[n] = w[window - n].
        sine: int32 [fft / 4 + 1], Q30, sin(2 pi k / fft).
        first_bin: of the transform with a mel weight; bins first_bin .. first_bin + len(mel_band) - 1 have one.
        mel_band: uint8, for each of these bins the band (0 to bands) on whose rising side it lies; it lies on the falling side of
            the band before. There is no band `bands` and no band before the zeroth.
        mel_weight: uint16, Q15, weight in the rising band; 32768 - weight is that in the falling one.
        log2: uint16 [65], Q15, log2(1 + i / 64).
        matrix: int16 [coefficients or 1, bands or 1], Q`matrix_bits`: DCT (or 1) times ln 2 / scale.
        matrix_bits: as many as keep the largest entry below 2^15.
        floor: log_floor in Q40.
        gain: int32 [bands], Q15, log2 of the bands' factors; empty where all of them are 1.
    """

    window: np.ndarray
    sine: np.ndarray
    first_bin: int
    mel_band: np.ndarray
    mel_weight: np.ndarray
    log2: np.ndarray
    matrix: np.ndarray
    matrix_bits: int
    floor: int
    gain: np.ndarray

    def arrays(self) -> tuple[np.ndarray, ...]:
        """The arrays that a device stores."""
        stored = (self.window, self.sine, self.mel_band, self.mel_weight, self.log2, self.matrix)
        return (*stored, self.gain) if len(self.gain) else stored


@functools.lru_cache(maxsize=8)
def tables(front_end: FrontEnd) -> Tables:
    """The tables of `front_end`; all arrays are read-only."""
    fft = front_end.fft
    first, band, weight = _mel_table(front_end)
    real = (dct_matrix(front_end) if front_end.coefficients else np.ones((1, 1))) * (math.log(2) / front_end.scale)
    bits = _fraction_bits(float(np.abs(real).max()))
    gain = np.log2(front_end.band_gain()) * (1 << LOG_BITS)
    made = Tables(
        window=_rounded(hann(front_end.window)[: front_end.window // 2 + 1] * (1 << WINDOW_BITS), "int32"),
        sine=_rounded(np.sin(2.0 * np.pi * np.arange(fft // 4 + 1) / fft) * (1 << SINE_BITS), "int32"),
        first_bin=first,
        mel_band=band,
        mel_weight=weight,
        log2=_rounded(np.log2(1.0 + np.arange(LOG_INTERVALS + 1) / LOG_INTERVALS) * (1 << LOG_BITS), "uint16"),
        matrix=_rounded(real * 2.0**bits, "int16"),
        matrix_bits=bits,
        floor=round(front_end.log_floor * (1 << FLOOR_BITS)),
        gain=_rounded(gain[: front_end.bands * bool(gain.any())], "int32"),
    )
    for array in (*made.arrays(), made.gain):
        array.setflags(write=False)
    return made


def _rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    return np.round(values).astype(dtype)


def _mel_table(front_end: FrontEnd) -> tuple[int, np.ndarray, np.ndarray]:
    """First bin, band and weight of the bins that lie strictly between the outer edges; never the zeroth nor the last of the transform."""
    bins = front_end.on_axis(np.arange(front_end.fft // 2) * (front_end.sample_rate / front_end.fft))
    edges = front_end.mel_edges()
    inside = np.flatnonzero((bins > edges[0]) & (bins < edges[-1]) & (np.arange(len(bins)) > 0))
    band = np.searchsorted(edges, bins[inside], side="right") - 1
    weight = (bins[inside] - edges[band]) / (edges[band + 1] - edges[band])
    return int(inside[0]) if len(inside) else 1, band.astype(np.uint8), _rounded(weight * (1 << WEIGHT_BITS), "uint16")


def _fraction_bits(largest: float) -> int:
    """The most fraction bits with which `largest` rounds to less than 2^15; 4 to 28 for scales 0.001 to 1000."""
    bits = 15 - math.frexp(largest)[1]
    return bits - 1 if round(largest * 2.0**bits) >= 1 << 15 else bits
