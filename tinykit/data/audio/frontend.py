"""What an audio front end computes, in named numbers, and what it will cost a device."""

import dataclasses
import math
from typing import Literal

import numpy as np

from tinykit.errors import ConfigError, DataError

FLOOR_BITS = 40  # fraction bits of the integer log floor
LOG_INTERVALS = 64  # of the base-2 logarithm's table
INT8 = (-128, 127)


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    """Clips of int16 samples -> int8 features [frames, coefficients or bands, 1]; docs/audio.md has the arithmetic.

    Frames without padding, periodic Hann window, magnitude of the Fourier transform, triangular mel bands (HTK's formula), natural
    logarithm, orthonormal-scale DCT-II (tf.signal's: every coefficient has the factor sqrt(2 / bands)), then
    q = clip(r(value / scale + zero_point), -128, 127) with r the rounding.

    Attributes:
        sample_rate: in Hz.
        clip_samples: samples of a clip.
        window: samples of a frame, at most `fft`.
        stride: samples from one frame to the next.
        fft: length of the transform, a power of two, 16 to 4096; frames are padded with zeros at their end.
        bands: mel bands, 1 to 128.
        low_hz, high_hz: outer edges of the first and the last band, 0 <= low < high <= sample_rate / 2.
        coefficients: of the DCT that are kept, from the zeroth; 0: no DCT, the features are the log-mel energies.
        log_floor: added to every band's energy before the logarithm, 1e-9 to 1e-3, where the clip's scale is 1.
        peak: what a sample of 1.0 is: `clip`, the largest sample of the clip (at least 1), or `full_scale`, 32768.
        scale, zero_point: of the int8 features: value = scale * (q - zero_point).
        rounding: `truncate` (towards zero, after the zero point is added, as MLPerf Tiny's files were made) or `nearest`.

    Raises:
        ConfigError: numbers outside these ranges, every problem at once.
    """

    sample_rate: int = 16000
    clip_samples: int = 16000
    window: int = 480
    stride: int = 320
    fft: int = 512
    bands: int = 40
    low_hz: float = 20.0
    high_hz: float = 4000.0
    coefficients: int = 10
    log_floor: float = 1e-6
    peak: Literal["clip", "full_scale"] = "clip"
    scale: float = 0.5847029089927673
    zero_point: int = 83
    rounding: Literal["truncate", "nearest"] = "truncate"

    def __post_init__(self) -> None:
        rules = [
            (16 <= self.fft <= 4096 and self.fft & (self.fft - 1) == 0, "fft", "a power of two, 16 to 4096"),
            (2 <= self.window <= self.fft, "window", f"2 to fft = {self.fft} samples"),
            (self.stride >= 1, "stride", "1 sample or more"),
            (self.window <= self.clip_samples <= 1 << 24, "clip_samples", f"window = {self.window} to 2^24 samples"),
            (1 <= self.bands <= 128, "bands", "1 to 128"),
            (0 <= self.coefficients <= self.bands, "coefficients", f"0 (log-mel) to bands = {self.bands}"),
            (0 <= self.low_hz < self.high_hz, "low_hz", f"0 to below high_hz = {self.high_hz}"),
            (self.high_hz <= self.sample_rate / 2, "high_hz", f"at most sample_rate / 2 = {self.sample_rate / 2}"),
            (1e-9 <= self.log_floor <= 1e-3, "log_floor", "1e-9 to 1e-3"),
            (1e-3 <= self.scale <= 1e3, "scale", "0.001 to 1000"),
            (-128 <= self.zero_point <= 127, "zero_point", "-128 to 127"),
            (self.peak in ("clip", "full_scale"), "peak", "clip or full_scale"),
            (self.rounding in ("truncate", "nearest"), "rounding", "truncate or nearest"),
        ]
        problems = [f"front end: {name}: expected {wanted}, received {getattr(self, name)!r}" for fits, name, wanted in rules if not fits]
        if problems:
            raise ConfigError(problems)

    @property
    def frames(self) -> int:
        """Frames of a clip."""
        return 1 + (self.clip_samples - self.window) // self.stride

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Shape of one clip's features: [frames, coefficients or bands, 1]."""
        return self.frames, self.coefficients or self.bands, 1

    @property
    def table_bytes(self) -> int:
        """Bytes of constant tables: half the window, a quarter sine, two numbers a mel bin, the logarithm, the DCT (int16)."""
        from tinykit.data.audio.tables import tables

        return sum(array.nbytes for array in tables(self).arrays())

    @property
    def ram_bytes(self) -> int:
        """Bytes of working memory beside clip and features: the transform in place (int32), band energies (int64), their logs (int32)."""
        return 4 * self.fft + 8 * self.bands + 4 * self.bands

    @property
    def clip_bytes(self) -> int:
        """Bytes of one clip of int16 samples; with `peak="full_scale"` a device needs to keep one window of it only."""
        return 2 * (self.clip_samples if self.peak == "clip" else self.window)

    @property
    def feature_bytes(self) -> int:
        """Bytes of one clip's features."""
        return math.prod(self.output_shape)

    def check_clips(self, clips: np.ndarray) -> None:
        """Raises DataError unless `clips` is int16 [N, clip_samples]."""
        if clips.dtype != np.int16 or clips.ndim != 2 or clips.shape[1] != self.clip_samples:
            raise DataError(
                f"front end: expected int16 clips [N, {self.clip_samples}], received {clips.dtype} {list(clips.shape)}; "
                f"pad or crop each clip to {self.clip_samples} samples at {self.sample_rate} Hz"
            )

    def mel_edges(self) -> np.ndarray:
        """Edges of the bands in mel, float64 [bands + 2]: band b rises from edge b to b + 1 and falls to b + 2."""
        return np.linspace(mel(self.low_hz), mel(self.high_hz), self.bands + 2)


def mel(hertz: float | np.ndarray) -> np.ndarray:
    """HTK's mel scale, 1127 ln(1 + f / 700), which tf.signal uses too."""
    return 1127.0 * np.log1p(np.asarray(hertz, np.float64) / 700.0)


KWS_MFCC = FrontEnd()
"""MLPerf Tiny's keyword spotting features, 49 x 10 x 1, quantised as the input of its int8 reference model (and of words3_mfcc.npz)."""

KWS_LOG_MEL = FrontEnd(coefficients=0, scale=0.08, zero_point=45, rounding="nearest")
"""The 40 log-mel energies under KWS_MFCC, 49 x 40 x 1; int8 covers ln(1e-6) = -13.8 to 6.6 in steps of 0.08 (0.7 dB)."""
