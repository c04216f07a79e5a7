"""The float oracle against a plain Fourier sum, the integer front end against the oracle and against itself number by number."""

import dataclasses
import hashlib
import math
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
from scalar_front_end import scalar_features

from tinykit.data.audio import KWS_LOG_MEL, KWS_MFCC, FrontEnd, float_features, float_values, integer_features
from tinykit.data.audio.integer import bit_length, log2_q15, root, shifted
from tinykit.data.audio.oracle import mel_matrix
from tinykit.data.audio.tables import tables
from tinykit.errors import ConfigError, DataError

REAL = Path(os.environ.get("TINYKIT_DATA", "/absent")) / "words3_audio16k.npz"
needs_clips = pytest.mark.skipif(not REAL.is_file(), reason="TINYKIT_DATA has no words3_audio16k.npz")
TABLES_SHA256 = "3a8cad80e175823711251bffd1e35db918951b9e81874a33ff5a5865e86ad674"
FEATURES_SHA256 = "84acb22cbcac6751bdd42b2348672595e3d0dcd8a5137d6a61bc79faf76ca2cc"
SMALL = dataclasses.replace(KWS_MFCC, clip_samples=1120)  # three frames
OTHERS = [
    SMALL,
    dataclasses.replace(KWS_LOG_MEL, clip_samples=1120),
    FrontEnd(sample_rate=8000, clip_samples=700, window=200, stride=80, fft=256, bands=20, high_hz=4000.0, coefficients=13, scale=0.5),
    FrontEnd(clip_samples=3000, window=1023, stride=500, fft=1024, bands=64, low_hz=0.0, high_hz=8000.0, peak="full_scale", scale=1.0),
    FrontEnd(clip_samples=40, window=16, stride=5, fft=16, bands=3, low_hz=100.0, high_hz=8000.0, coefficients=2, rounding="nearest"),
]


def noise(count, level, seed=0):
    """int16 noise without any library's generator: a linear congruential sequence, the same everywhere for ever."""
    state, values = seed + 1, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        values.append((state >> 40) % (2 * level + 1) - level)
    return np.array(values, np.int16)


def signals(count=16000, rate=16000):
    """Named clips, int16 [count], that are hard in one way or another."""
    t = np.arange(count) / rate
    quiet_then_loud = np.where(t < t[-1] / 2, 3, 20000) * np.sin(2 * np.pi * 300 * t)
    clips = {
        "silence": np.zeros(count),
        "tone": 8000 * np.sin(2 * np.pi * 1000 * t),
        "tone between bins": 8000 * np.sin(2 * np.pi * 1015.6 * t),
        "full-scale tone": 32767 * np.sin(2 * np.pi * 440 * t),
        "clipped tone": np.clip(200000 * np.sin(2 * np.pi * 220 * t), -32768, 32767),
        "alternating full scale": np.where(np.arange(count) % 2, -32768, 32767),
        "square wave": np.where(np.arange(count) // 40 % 2, -32768, 32767),
        "noise": noise(count, 3000),
        "full-scale noise": noise(count, 32767),
        "one least significant bit": noise(count, 1),
        "direct current": np.full(count, 12345),
        "negative direct current": np.full(count, -32768),
        "impulse": np.arange(count) == 700 % count,
        "sweep": 15000 * np.sin(2 * np.pi * (50 * t + 2000 * t * t)),
        "quiet, then loud": quiet_then_loud,
        "negative peak": -32768.0 * (np.arange(count) % 97 == 0) + noise(count, 2),
    }
    return {name: np.round(clip).astype(np.int16) for name, clip in clips.items()}


SIGNALS = signals()


def plain_values(clip, front_end):
    """Features of one clip by definition: Fourier sums, triangles bin by bin in Hz, scipy's DCT."""

    def mel(f):
        return 2595 * math.log10(1 + f / 700)

    def hertz(m):
        return 700 * (10 ** (m / 2595) - 1)

    n, bins = np.arange(front_end.window), np.arange(front_end.fft // 2 + 1)
    fourier = np.exp(-2j * np.pi * np.outer(bins, n) / front_end.fft)
    window = np.sin(np.pi * n / front_end.window) ** 2
    low, high = mel(front_end.low_hz), mel(front_end.high_hz)
    edges = [hertz(low + (high - low) * i / (front_end.bands + 1)) for i in range(front_end.bands + 2)]
    peak = max(clip.max(), 1) if front_end.peak == "clip" else 32768
    rows = []
    for frame in range(front_end.frames):
        samples = clip[frame * front_end.stride :][: front_end.window] / peak
        spectrum = np.abs(fourier @ (samples * window))
        energies = np.zeros(front_end.bands)
        for k in bins[1:]:
            place = mel(k * front_end.sample_rate / front_end.fft)
            for band in range(front_end.bands):
                left, top, right = (mel(edge) for edge in edges[band : band + 3])
                energies[band] += spectrum[k] * max(0, min((place - left) / (top - left), (right - place) / (right - top)))
        logs = np.log(energies + front_end.log_floor)
        unscaled = scipy.fft.dct(logs, type=2)  # 2 sum x cos
        rows.append(unscaled[: front_end.coefficients] / math.sqrt(2 * front_end.bands) if front_end.coefficients else logs)
    return np.array(rows)


# ---- the float oracle


@pytest.mark.parametrize("front_end", OTHERS, ids=str)
def test_oracle_is_the_definition(front_end):
    clip = noise(front_end.clip_samples, 9000)
    assert np.allclose(float_values(clip[np.newaxis], front_end)[0], plain_values(clip, front_end), rtol=0, atol=1e-8)


def test_silence_is_the_floor():
    values = float_values(np.zeros((1, 16000), np.int16), KWS_LOG_MEL)
    assert np.allclose(values, math.log(1e-6), atol=1e-12)
    expected = np.full((49, 10, 1), 83)
    expected[:, 0] = -128  # ln(1e-6) sqrt(80) / 0.5847 + 83 = -128.3
    for features in (float_features, integer_features):
        assert np.array_equal(features(np.zeros((1, 16000), np.int16), KWS_MFCC)[0], expected)


def test_mel_triangles_of_neighbours_add_up_to_one():
    weights = mel_matrix(KWS_MFCC)
    assert weights.shape == (257, 40) and weights.min() == 0 and weights.max() <= 1 and not weights[0].any()
    inside = weights.sum(axis=1)[(np.arange(257) >= 3) & (np.arange(257) <= 120)]
    assert np.allclose(inside, 1)


def test_the_features_do_not_depend_on_the_loudness():
    clip = SIGNALS["noise"]
    assert np.array_equal(float_features(clip[np.newaxis], KWS_MFCC), float_features(4 * clip[np.newaxis], KWS_MFCC))
    assert np.array_equal(integer_features(clip[np.newaxis], KWS_MFCC), integer_features(4 * clip[np.newaxis], KWS_MFCC))


# ---- integer arithmetic


@pytest.mark.parametrize("front_end", OTHERS, ids=str)
@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_numpy_computes_what_a_c_program_would(front_end, name, tally):
    clip = signals(front_end.clip_samples, front_end.sample_rate)[name]
    fast = integer_features(clip[np.newaxis], front_end)[0, ..., 0]
    slow = np.array(scalar_features(clip, front_end))
    tally("integer front end: NumPy vs one number at a time", (fast != slow).sum(), fast.size)
    assert np.array_equal(fast, slow)


@pytest.mark.parametrize("seed", range(40))
def test_any_front_end_fits_its_types(seed):
    """Random front ends over the whole range of every number; the scalar version checks that nothing overflows."""
    random = np.random.RandomState(seed)
    fft = 2 ** (4 + seed % 9 if seed < 9 else random.randint(4, 9))
    window, bands, rate = random.randint(2, fft + 1), random.randint(1, 129), int(random.choice([8000, 16000, 44100]))
    high = rate / 2 if seed % 2 else random.uniform(10, rate / 2)
    front_end = FrontEnd(
        sample_rate=rate,
        clip_samples=window + random.randint(0, window),
        window=window,
        stride=max(1, window // 2),
        fft=fft,
        bands=bands,
        low_hz=high * random.uniform(0, 0.9) * (seed % 3 > 0),
        high_hz=high,
        coefficients=random.randint(0, bands + 1),
        log_floor=10 ** random.uniform(-9, -3),
        peak=("clip", "full_scale")[seed // 2 % 2],
        scale=10 ** random.uniform(-3, 3),
        zero_point=random.randint(-128, 128),
        rounding=("truncate", "nearest")[seed // 4 % 2],
    )
    count = front_end.clip_samples
    loudest = np.where(random.randint(0, 2, count), 32767, -32768)
    for clip in (random.randint(-32768, 32768, count), loudest, random.randint(-1, 2, count), np.full(count, -32768)):
        samples = clip.astype(np.int16)
        assert np.array_equal(integer_features(samples[np.newaxis], front_end)[0, ..., 0], scalar_features(samples, front_end))


def test_bit_length_and_shift():
    values = [0, 1, 2, 3, 4, 255, 256, (1 << 32) - 1, 1 << 32, (1 << 62) + 5]
    assert bit_length(np.array(values)).tolist() == [value.bit_length() for value in values]
    x, left = np.array([5, 5, -5, 6, 7, -7, 9]), np.array([3, 0, -1, -2, -2, -2, -1])
    assert shifted(x, left).tolist() == [40, 5, -2, 2, 2, -2, 5]  # halves up


def test_root():
    values = [*range(70000), *((1 << b) + d for b in range(17, 62) for d in (-1, 0, 1, 12345))]
    found = root(np.array(values, np.int64))
    assert found[:70000].tolist() == [math.isqrt(value) for value in range(70000)]
    for value, result in zip(values, found.tolist()):
        exact = math.isqrt(value)
        assert exact - (exact >> 15) <= result <= exact


def test_log2():
    values = np.array([*range(1, 5000), *((1 << b) + (1 << b) * k // 77 for b in range(13, 60) for k in range(77))], np.int64)
    error = log2_q15(values, tables(KWS_MFCC)) / 32768 - np.log2(values)
    assert np.abs(error).max() < 6e-5


def test_tables():
    made = tables(KWS_MFCC)
    assert [(array.dtype.name, array.shape) for array in made.arrays()] == [
        ("int32", (241,)),
        ("int32", (129,)),
        ("uint8", (127,)),
        ("uint16", (127,)),
        ("uint16", (65,)),
        ("int16", (10, 40)),
    ]
    assert made.first_bin == 1 and made.matrix_bits == 16 and made.floor == round(1e-6 * 2**40)
    assert made.window[[0, 240]].tolist() == [0, 1 << 30] and made.sine[[0, 128]].tolist() == [0, 1 << 30]
    weights, oracle = np.zeros((257, 40)), mel_matrix(KWS_MFCC)
    for position, (band, weight) in enumerate(zip(made.mel_band, made.mel_weight / 32768)):
        if band < 40:
            weights[1 + position, band] = weight
        if band:
            weights[1 + position, band - 1] = 1 - weight
    assert np.abs(weights - oracle).max() <= 2**-16 + 1e-12
    digest = hashlib.sha256(b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in made.arrays()))
    assert digest.hexdigest() == TABLES_SHA256


def test_golden_features():
    """The bytes that every other implementation must give, for every signal."""
    clips = np.stack([noise(16000, level, seed) for seed, level in enumerate((1, 30, 1000, 32767))])
    assert hashlib.sha256(integer_features(clips, KWS_MFCC).tobytes()).hexdigest() == FEATURES_SHA256


def test_memory():
    assert KWS_MFCC.output_shape == (49, 10, 1) and KWS_LOG_MEL.output_shape == (49, 40, 1)
    assert KWS_MFCC.table_bytes == 241 * 4 + 129 * 4 + 127 * 3 + 65 * 2 + 400 * 2
    assert KWS_MFCC.ram_bytes == 512 * 4 + 40 * 8 + 40 * 4
    assert KWS_MFCC.clip_bytes == 32000 and KWS_MFCC.feature_bytes == 490
    assert dataclasses.replace(KWS_MFCC, peak="full_scale").clip_bytes == 960


# ---- agreement


@pytest.mark.parametrize("front_end", [KWS_MFCC, KWS_LOG_MEL], ids=["mfcc", "log_mel"])
@pytest.mark.parametrize("name", sorted(set(SIGNALS) - {"alternating full scale"}))
def test_integer_agrees_with_float(front_end, name):
    clip = SIGNALS[name][np.newaxis]
    difference = np.abs(integer_features(clip, front_end).astype(int) - float_features(clip, front_end))
    assert (difference <= 1).mean() >= 0.99 and difference.max() <= 2


def test_what_lies_170_dB_down_is_lost():
    """A full-scale tone at half the sample rate leaves the bands nothing but the window's far side lobes, below 2^-28 of it."""
    clip = SIGNALS["alternating full scale"][np.newaxis]
    for front_end, most in ((KWS_MFCC, 2), (KWS_LOG_MEL, 13)):
        assert np.abs(integer_features(clip, front_end).astype(int) - float_features(clip, front_end)).max() <= most


def real_clips():
    """Clips, the published features, labels."""
    with np.load(REAL, allow_pickle=False) as audio, np.load(REAL.with_name("words3_mfcc.npz"), allow_pickle=False) as features:
        rows = audio["row_in_words3_mfcc"]
        return audio["x"], features["x"][rows], audio["y"].astype(int), features["speaker"][rows]


@needs_clips
def test_published_features_are_reproduced(tally):
    clips, published, _, _ = real_clips()
    for name, features, most in (("float", float_features, 1), ("integer", integer_features, 2)):
        difference = np.abs(features(clips, KWS_MFCC).astype(int) - published)
        tally(f"{name} front end vs words3_mfcc, more than {most} LSB", (difference > most).sum(), difference.size)
        assert (difference <= most).mean() >= 0.99 and difference.max() <= 2
        assert (difference == 0).mean() > 0.999


@needs_clips
def test_a_classifier_does_as_well_on_either():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    clips, _, y, speaker = real_clips()
    fold = np.unique(speaker, return_inverse=True)[1] % 4  # no speaker is in two folds
    right = {}
    for name, features in (("float", float_features), ("integer", integer_features)):
        x = features(clips, KWS_MFCC).reshape(len(clips), -1).astype(float)
        right[name] = 0
        for k in range(4):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)).fit(x[fold != k], y[fold != k])
            right[name] += int((model.predict(x[fold == k]) == y[fold == k]).sum())
    assert right["float"] > 0.7 * len(clips)
    assert abs(right["float"] - right["integer"]) <= 0.01 * len(clips)


# ---- errors


def test_wrong_numbers():
    with pytest.raises(ConfigError) as caught:
        FrontEnd(fft=500, window=600, bands=0, low_hz=9000.0, high_hz=9000.0, scale=0.0, rounding="up")
    text = str(caught.value)
    assert "fft: expected a power of two, 16 to 4096, received 500" in text and "rounding: expected truncate or nearest" in text
    assert len(caught.value.problems) == 8


@pytest.mark.parametrize("clips", [np.zeros((2, 15999), np.int16), np.zeros((2, 16000), np.int32), np.zeros(16000, np.int16)])
def test_wrong_clips(clips):
    for features in (float_features, integer_features):
        with pytest.raises(DataError, match=r"expected int16 clips \[N, 16000\]"):
            features(clips, KWS_MFCC)


def test_no_clips():
    assert integer_features(np.zeros((0, 16000), np.int16), KWS_MFCC).shape == (0, 49, 10, 1)
