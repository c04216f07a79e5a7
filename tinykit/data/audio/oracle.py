"""The front end in float64: what the integer version is measured against. Nothing on a device computes this."""

import numpy as np

from tinykit.data.audio.frontend import INT8, FrontEnd

CHUNK_CLIPS = 64


def mel_matrix(front_end: FrontEnd) -> np.ndarray:
    """Triangular weights, float64 [fft / 2 + 1, bands], linear in mel or Hz (`on_axis`), peak 1, none for the zeroth bin."""
    bins = front_end.on_axis(np.arange(front_end.fft // 2 + 1) * (front_end.sample_rate / front_end.fft))[:, np.newaxis]
    edges = front_end.mel_edges()
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    weights = np.maximum(0.0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    weights[0] = 0.0
    return weights


def hann(window: int) -> np.ndarray:
    """The periodic Hann window, float64 [window]: its first value is 0, its last is not."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / window)


def dct_matrix(front_end: FrontEnd) -> np.ndarray:
    """DCT-II with tf.signal's scale, float64 [coefficients, bands]: sqrt(2 / bands) cos(pi c (2 k + 1) / (2 bands))."""
    row = np.arange(front_end.coefficients)[:, np.newaxis]
    column = np.arange(front_end.bands)
    return np.sqrt(2.0 / front_end.bands) * np.cos(np.pi * row * (2 * column + 1) / (2 * front_end.bands))


def float_values(clips: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Features before quantisation.

    Args:
        clips: int16 [N, clip_samples].
        front_end: what to compute.

    Returns:
        float64 [N, frames, coefficients or bands].

    Raises:
        DataError: clips of another dtype or length.
    """
    front_end.check_clips(clips)
    index = np.arange(front_end.frames)[:, np.newaxis] * front_end.stride + np.arange(front_end.window)
    window, weights, gain = hann(front_end.window), mel_matrix(front_end), np.log(front_end.band_gain())
    values = np.empty((len(clips), front_end.frames, front_end.output_shape[1]))
    for start in range(0, len(clips), CHUNK_CLIPS):
        part = clips[start : start + CHUNK_CLIPS].astype(np.float64)
        peak = np.maximum(part.max(axis=1), 1.0) if front_end.peak == "clip" else np.full(len(part), 32768.0)
        frames = (part / peak[:, np.newaxis])[:, index] * window
        spectrum = np.abs(np.fft.rfft(frames, front_end.fft)) ** front_end.power
        logs = np.log(spectrum @ weights + front_end.log_floor) + gain
        values[start : start + len(part)] = logs @ dct_matrix(front_end).T if front_end.coefficients else logs
    return values


def quantise(values: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """clip(r(value / scale + zero_point), -128, 127) as int8, r the front end's rounding (`nearest`: halves up).

    Nine decimals are kept before r, or float64's own noise would decide where the true value is an integer, as in silent frames.
    """
    scaled = np.round(values / front_end.scale + front_end.zero_point, 9)
    rounded = np.trunc(scaled) if front_end.rounding == "truncate" else np.floor(scaled + 0.5)
    return np.clip(rounded, *INT8).astype(np.int8)


def float_features(clips: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """int8 features [N, frames, coefficients or bands, 1] of int16 clips [N, clip_samples], computed in float64.

    Raises:
        DataError: clips of another dtype or length.
    """
    return quantise(float_values(clips, front_end), front_end)[..., np.newaxis]
