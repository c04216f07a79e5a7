"""The front end in integers of at most 64 bits: tables, shifts, sums, products, no division. docs/audio.md defines every step.

NumPy's part of it is only that many frames go at once. The layout is [index, frames], so that each operation of a stage runs over
contiguous numbers. Right shifts are arithmetic (floor); `>> s` after adding 2^(s-1) rounds to nearest, halves up.
"""

import numpy as np

from tinykit.data.audio.frontend import FLOOR_BITS, INT8, FrontEnd
from tinykit.data.audio.tables import LOG_BITS, SINE_BITS, WEIGHT_BITS, WINDOW_BITS, Tables, tables

CHUNK_CLIPS = 4  # about 200 frames, whose transforms stay in a core's cache
FRAME_BITS = 28  # windowed frames are scaled to below 2^28, so that no sum of the transform leaves int32
# By `power`: magnitudes of fewer bits are shifted like those of so many, so that the log floor fits 64 bits beside them.
QUIET_BITS = {1: 15, 2: 28}
SQUARE_BITS = 12  # that squares lose, so that their weighted sums stay below 2^62; it is 141 dB below a full-scale tone


def integer_features(clips: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """int8 features [N, frames, coefficients or bands, 1] of int16 clips [N, clip_samples], computed in integers.

    About 5 ms a clip of one second on one core of the host.

    Raises:
        DataError: clips of another dtype or length.
    """
    front_end.check_clips(clips)
    features = np.empty((len(clips), *front_end.output_shape), np.int8)
    index = np.arange(front_end.frames)[:, np.newaxis] * front_end.stride + np.arange(front_end.window)
    for start in range(0, len(clips), CHUNK_CLIPS):
        part = clips[start : start + CHUNK_CLIPS].astype(np.int64)
        peak = np.maximum(part.max(axis=1), 1) if front_end.peak == "clip" else np.full(len(part), 1 << 15, np.int64)
        frames = part[:, index].reshape(-1, front_end.window).T
        logs = log_mel(np.ascontiguousarray(frames), np.repeat(peak, front_end.frames), front_end)
        features[start : start + len(part)] = quantise(logs, front_end).T.reshape(len(part), *front_end.output_shape)
    return features


def log_mel(frames: np.ndarray, peak: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """log2 of (mel energies / peak + log_floor) of frames of samples.

    Args:
        frames: int64 [window, F], values of int16.
        peak: int64 [F], 1 to 32768.
        front_end: what to compute.

    Returns:
        int64 [bands, F], Q15; fits int32.
    """
    table = tables(front_end)
    power = front_end.power
    data, shift = windowed(frames, table, QUIET_BITS[power])
    spectrum = squares(data, front_end, table)
    spectrum = root(spectrum) if power == 1 else (spectrum + (1 << (SQUARE_BITS - 1))) >> SQUARE_BITS
    energy = mel_energies(spectrum, front_end, table)
    # fraction bits of an energy: window, the frame's shift, the transform's division by fft / 2, mel weight
    fraction = WINDOW_BITS + shift - (front_end.fft.bit_length() - 2)
    fraction = fraction + WEIGHT_BITS if power == 1 else 2 * fraction + WEIGHT_BITS - SQUARE_BITS
    floor = shifted(peak**power * table.floor, fraction - FLOOR_BITS)
    logs = log2_q15(np.maximum(energy + floor, 1), table) - (fraction << LOG_BITS) - power * log2_q15(peak, table)
    return logs + table.gain.astype(np.int64)[:, np.newaxis] if len(table.gain) else logs


def windowed(frames: np.ndarray, table: Tables, quiet_bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames times window, each shifted so that its largest magnitude has 28 bits (those below `quiet_bits`: as if it had these).

    Returns:
        (int64 [window, F] of magnitude at most 2^28, int64 [F] shift to the left, -18 to 28 - quiet_bits).
    """
    length = len(frames)
    position = np.arange(length)
    products = frames * table.window.astype(np.int64)[np.minimum(position, length - position)][:, np.newaxis]
    shift = FRAME_BITS - np.maximum(bit_length(np.abs(products).max(axis=0)), quiet_bits)
    return shifted(products, shift), shift


def shifted(x: np.ndarray, left: np.ndarray) -> np.ndarray:
    """x * 2^left: shifted to the left, or to the right with rounding to nearest, halves up."""
    right = np.maximum(-left, 0)
    half = (np.int64(1) << right) >> 1
    return ((x << np.maximum(left, 0)) + half) >> right


def bit_length(x: np.ndarray) -> np.ndarray:
    """Number of bits of non-negative int64 values: 0 for 0, else 1 + floor(log2 x)."""
    rest, bits = x.copy(), np.zeros(x.shape, np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        more = (rest >= (np.int64(1) << step)) * np.int64(step)
        rest >>= more
        bits += more
    return bits + rest


def sines(front_end: FrontEnd, table: Tables) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin of 2 pi k / fft for k = 0 .. fft / 2 - 1, int64 [fft / 2], Q30, read from the quarter table."""
    quarter = front_end.fft // 4
    table_sine = table.sine.astype(np.int64)
    k = np.arange(2 * quarter)
    sine = table_sine[np.where(k <= quarter, k, 2 * quarter - k)]
    cosine = np.where(k <= quarter, table_sine[np.abs(quarter - k)], -table_sine[np.abs(k - quarter)])
    return cosine, sine


def rotate(re: np.ndarray, im: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(re + i im) * (cosine - i sine), Q30, each part rounded once: products and their sum need 64 bits."""
    half = np.int64(1) << (SINE_BITS - 1)
    return (re * cosine + im * sine + half) >> SINE_BITS, (im * cosine - re * sine + half) >> SINE_BITS


def half_transform(re: np.ndarray, im: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Discrete Fourier transform of M = fft / 2 complex numbers, divided by M: radix 2, decimation in time, halved at each stage.

    Args:
        re, im: int64 [M, F], magnitude of re + i im at most 2^28.5.
        cosine, sine: of 2 pi k / (2 M), int64 [M], Q30.
    """
    size, count = re.shape
    bits = size.bit_length() - 1
    reverse = np.array([int(format(k, f"0{bits}b")[::-1], 2) for k in range(size)])
    re, im = re[reverse], im[reverse]
    span = 1
    while span < size:
        step = size // span  # exp(-2 pi i j / (2 span)) is entry j * step of a table for 2 M
        c, s = cosine[::step][:span, np.newaxis], sine[::step][:span, np.newaxis]
        re, im = re.reshape(-1, 2, span, count), im.reshape(-1, 2, span, count)
        right_re, right_im = rotate(re[:, 1], im[:, 1], c, s)
        re = np.stack([(re[:, 0] + right_re + 1) >> 1, (re[:, 0] - right_re + 1) >> 1], axis=1).reshape(size, count)
        im = np.stack([(im[:, 0] + right_im + 1) >> 1, (im[:, 0] - right_im + 1) >> 1], axis=1).reshape(size, count)
        span *= 2
    return re, im


def squares(data: np.ndarray, front_end: FrontEnd, table: Tables) -> np.ndarray:
    """(|X[k]| * 2 / fft)^2 of real frames for the bins with a mel weight.

    Args:
        data: int64 [window, F], magnitude at most 2^28; zeros follow up to fft.
        front_end, table: what to compute.

    Returns:
        int64 [bins, F], below 2^61; their sum for a frame is below 2^58.
    """
    half = front_end.fft // 2
    padded = np.zeros((front_end.fft, data.shape[1]), np.int64)
    padded[: len(data)] = data
    cosine, sine = sines(front_end, table)
    # even samples are the real, odd ones the imaginary parts of half as many complex numbers
    re, im = half_transform(padded[0::2], padded[1::2], cosine, sine)
    k = table.first_bin + np.arange(len(table.mel_band))
    even_re, even_im = re[k] + re[half - k], im[k] - im[half - k]
    odd_re, odd_im = re[k] - re[half - k], im[k] + im[half - k]
    turned_re, turned_im = rotate(odd_re, odd_im, cosine[k][:, np.newaxis], sine[k][:, np.newaxis])
    x_re, x_im = (even_re + turned_im + 1) >> 1, (even_im - turned_re + 1) >> 1
    return x_re * x_re + x_im * x_im


def root(power: np.ndarray) -> np.ndarray:
    """Square root of non-negative int64 values, 16 significant bits: floor(sqrt(power >> 2 s)) << s.

    s is the smallest number, 0 or more, with power >> 2 s below 2^32.
    """
    s = np.maximum(bit_length(power) - 31, 0) >> 1
    rest = (power >> (2 * s)).astype(np.uint32)
    result = np.zeros(power.shape, np.uint32)
    for position in range(15, -1, -1):  # digit by digit: `result` holds the root so far, placed for comparison with `rest`
        trial = result + np.uint32(1 << (2 * position))
        fits = rest >= trial
        rest -= np.where(fits, trial, np.uint32(0))
        result = (result >> np.uint32(1)) + (fits.astype(np.uint32) << np.uint32(2 * position))
    return result.astype(np.int64) << s


def mel_energies(magnitude: np.ndarray, front_end: FrontEnd, table: Tables) -> np.ndarray:
    """Sums of the bins' magnitudes (or squares) with the triangles' weights, int64 [bands, F] from int64 [bins, F]; below 2^62."""
    rising = magnitude * table.mel_weight.astype(np.int64)[:, np.newaxis]
    falling = (magnitude << WEIGHT_BITS) - rising
    energy = np.zeros((front_end.bands + 2, magnitude.shape[1]), np.int64)
    for band in range(front_end.bands + 1):
        members = slice(*np.searchsorted(table.mel_band, [band, band + 1]))
        energy[band + 1] += rising[members].sum(axis=0)
        energy[band] += falling[members].sum(axis=0)
    return energy[1:-1]


def log2_q15(x: np.ndarray, table: Tables) -> np.ndarray:
    """Base-2 logarithm of positive int64 values, Q15, by a table of 64 intervals and a straight line in each; error below 6e-5.

    The 32 leading bits count: after the leading one, 6 bits choose the interval and 16 the place in it.
    """
    bits = bit_length(x)
    leading = (x >> np.maximum(bits - 32, 0)) << np.maximum(32 - bits, 0)
    interval = (leading >> 25) & 63
    place = (leading >> 9) & 0xFFFF
    values = table.log2.astype(np.int64)
    rise = values[interval + 1] - values[interval]
    return ((bits - 1) << LOG_BITS) + values[interval] + ((rise * place + (1 << 15)) >> 16)


def quantise(logs: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """int8 [coefficients or bands, F] of base-2 logarithms int64 [bands, F], Q15: DCT, units and zero point in one product sum."""
    table = tables(front_end)
    matrix, bits = table.matrix.astype(np.int64), table.matrix_bits + LOG_BITS
    total = matrix @ logs if front_end.coefficients else logs * matrix[0, 0]
    total += front_end.zero_point << bits
    if front_end.rounding == "nearest":
        rounded = (total + (1 << (bits - 1))) >> bits
    else:
        rounded = np.where(total < 0, -(-total >> bits), total >> bits)  # towards zero
    return np.clip(rounded, *INT8).astype(np.int8)
