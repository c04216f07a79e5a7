"""Changes of raw clips: shift in time and background noise, in integers. All randomness comes from the generator that is passed in."""

from collections.abc import Sequence

import numpy as np

VOLUME_BITS = 15


def time_shift(clip: np.ndarray, offset: int) -> np.ndarray:
    """The clip, int16 [samples], `offset` samples later (negative: earlier), zeros where nothing is left."""
    moved = np.zeros_like(clip)
    if offset >= 0:
        moved[offset:] = clip[: len(clip) - offset]
    else:
        moved[:offset] = clip[-offset:]
    return moved


def mix(clip: np.ndarray, noise: np.ndarray, volume: int) -> np.ndarray:
    """clip + noise * volume / 2^15 (rounded to nearest, halves up), limited to int16.

    Args:
        clip: int16 [samples].
        noise: int16 [samples].
        volume: Q15, 0 to 32768.
    """
    scaled = (noise.astype(np.int64) * volume + (1 << (VOLUME_BITS - 1))) >> VOLUME_BITS
    return np.clip(clip + scaled, -32768, 32767).astype(np.int16)


def random_noise(noises: Sequence[np.ndarray], length: int, random: np.random.RandomState) -> np.ndarray:
    """`length` samples from a random place of a random recording, int16; every recording is at least that long."""
    noise = noises[random.randint(len(noises))]
    start = random.randint(len(noise) - length + 1)
    return noise[start : start + length]


def random_volume(highest: float, random: np.random.RandomState) -> int:
    """A volume from 0 to `highest` (1.0 is full volume), Q15."""
    return int(random.uniform(0.0, highest) * (1 << VOLUME_BITS))


def augmented(
    clip: np.ndarray, noises: Sequence[np.ndarray], *, shift: int, probability: float, volume: float, random: np.random.RandomState
) -> np.ndarray:
    """A clip moved by -shift to shift samples and, with `probability`, mixed with background noise of up to `volume` (0 to 1).

    Args:
        clip: int16 [samples].
        noises: recordings of noise, int16, each at least as long as the clip; none: no noise is added.
        shift: largest shift, in samples, at most the clip's length.
        probability: of noise, 0 to 1.
        volume: of the noise at most.
        random: the source of all randomness.
    """
    moved = time_shift(clip, int(random.randint(-shift, shift + 1)))
    if not noises or random.uniform() >= probability:
        return moved
    return mix(moved, random_noise(noises, len(clip), random), random_volume(volume, random))
