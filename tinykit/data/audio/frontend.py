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

    Frames without padding, periodic Hann window, magnitude of the Fourier transform (or its square), triangular mel bands, natural
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
        log_floor: added to every band's energy before the logarithm, 1e-9 to 1e-3 (1e-6 where `power` is 2), where the clip's scale is 1.
        peak: what a sample of 1.0 is: `clip`, the largest sample of the clip (at least 1), or `full_scale`, 32768.
        scale, zero_point: of the int8 features: value = scale * (q - zero_point).
        rounding: `truncate` (towards zero, after the zero point is added, as MLPerf Tiny's files were made) or `nearest`.
        power: of the magnitudes that the bands sum up, 1 or 2; 2 needs an fft of 256 or more.
        mel_scale: `htk` (1127 ln(1 + f / 700), triangles straight in mel, peak 1), or `slaney` (straight below 1000 Hz and logarithmic
            above; triangles straight in Hz, of area 1; librosa's default). The area's factor comes after the floor.

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
    power: Literal[1, 2] = 1
    mel_scale: Literal["htk", "slaney"] = "htk"

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
            # beyond these the floor of a quiet frame would not fit 64 bits
            (self.power != 2 or self.log_floor <= 1e-6, "log_floor", "at most 1e-6 with power 2"),
            (self.power != 2 or self.fft >= 256, "fft", "256 or more with power 2"),
            (1e-3 <= self.scale <= 1e3, "scale", "0.001 to 1000"),
            (-128 <= self.zero_point <= 127, "zero_point", "-128 to 127"),
            (self.peak in ("clip", "full_scale"), "peak", "clip or full_scale"),
            (self.rounding in ("truncate", "nearest"), "rounding", "truncate or nearest"),
            (self.power in (1, 2), "power", "1 or 2"),
            (self.mel_scale in ("htk", "slaney"), "mel_scale", "htk or slaney"),
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
        """Bytes of constant tables: half the window, a quarter sine, two numbers a mel bin, the logarithm, the DCT, the bands' areas."""
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

    def on_axis(self, hertz: float | np.ndarray) -> np.ndarray:
        """Frequencies on the axis where the triangles are straight: mel for `htk`, Hz for `slaney`."""
        return mel(hertz) if self.mel_scale == "htk" else np.asarray(hertz, np.float64)

    def mel_edges(self) -> np.ndarray:
        """Edges of the bands, equally wide in mel, on the axis of `on_axis`, float64 [bands + 2]: band b rises from edge b to b + 1 and
        falls to b + 2."""
        if self.mel_scale == "htk":
            return np.linspace(mel(self.low_hz), mel(self.high_hz), self.bands + 2)
        return slaney_hertz(np.linspace(slaney_mel(self.low_hz), slaney_mel(self.high_hz), self.bands + 2))

    def band_gain(self) -> np.ndarray:
        """Factor of each band, float64 [bands]: 1 for `htk`; for `slaney` 2 / (width in Hz), which makes the triangle's area 1."""
        edges = self.mel_edges()
        return np.ones(self.bands) if self.mel_scale == "htk" else 2.0 / (edges[2:] - edges[:-2])


def mel(hertz: float | np.ndarray) -> np.ndarray:
    """HTK's mel scale, 1127 ln(1 + f / 700), which tf.signal uses too."""
    return 1127.0 * np.log1p(np.asarray(hertz, np.float64) / 700.0)


def slaney_mel(hertz: float) -> float:
    """Slaney's mel scale: 3 mel are 200 Hz up to 1000 Hz; above it 27 mel are a factor of 6.4."""
    return hertz * 3.0 / 200.0 if hertz < 1000.0 else 15.0 + 27.0 * math.log(hertz / 1000.0) / math.log(6.4)


def slaney_hertz(mels: np.ndarray) -> np.ndarray:
    """Frequencies in Hz of numbers of Slaney's mel scale, float64."""
    return np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * 6.4 ** ((np.maximum(mels, 15.0) - 15.0) / 27.0))


KWS_MFCC = FrontEnd()
"""MLPerf Tiny's keyword spotting features, 49 x 10 x 1, quantised as the input of its int8 reference model (and of words3_mfcc.npz)."""

KWS_LOG_MEL = FrontEnd(coefficients=0, scale=0.08, zero_point=45, rounding="nearest")
"""The 40 log-mel energies under KWS_MFCC, 49 x 40 x 1; int8 covers ln(1e-6) = -13.8 to 6.6 in steps of 0.08 (0.7 dB)."""

AD_SCALE, AD_ZERO_POINT = 0.3910152316093445, 89
AD_LOG_MEL = FrontEnd(
    clip_samples=1024 + 199 * 512,
    window=1024,
    stride=512,
    fft=1024,
    bands=128,
    low_hz=0.0,
    high_hz=8000.0,
    coefficients=0,
    log_floor=1e-9,
    peak="full_scale",
    scale=AD_SCALE * math.log(10.0) / 10.0,
    zero_point=AD_ZERO_POINT,
    rounding="nearest",
    power=2,
    mel_scale="slaney",
)
"""MLPerf Tiny's anomaly detection features, 200 x 128 x 1: dB = 0.3910152316093445 (q - 89), which int8 covers from -84.9 to 14.9 dB."""
