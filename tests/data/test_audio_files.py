"""WAV files, right and wrong, and the changes of raw clips."""

import struct
import wave

import numpy as np
import pytest

from tinykit.data.audio import wav
from tinykit.data.audio.augment import augmented, mix, random_noise, random_volume, time_shift
from tinykit.data.audio.wav import fitted, read_wav
from tinykit.errors import DataError


def riff(samples, channels=1, bits=16, rate=16000, code=1, claimed=None):
    """Bytes of a WAV file, written field by field; `claimed`: the size that the header gives its samples."""
    data = samples if isinstance(samples, bytes) else samples.astype("<i2").tobytes()
    width = channels * bits // 8
    form = struct.pack("<HHIIHH", code, channels, rate, rate * width, width, bits)
    size = len(data) if claimed is None else claimed
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", 28 + size + 8) + body


def put(path, content):
    path.write_bytes(content)
    return path


# ---- WAV


def test_samples_come_back(tmp_path):
    samples = np.array([0, 1, -1, 32767, -32768, 12345], np.int16)
    read = read_wav(put(tmp_path / "a.wav", riff(samples)), 16000)
    assert read.dtype == np.int16 and read.tolist() == samples.tolist()
    with wave.open(str(tmp_path / "b.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(samples.tobytes())
    assert read_wav(tmp_path / "b.wav", 8000).tolist() == samples.tolist()


ODD = np.arange(100, dtype=np.int16)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a WAV file"),
        (b"no sound at all, just text", "cannot be read as a WAV file"),
        (riff(ODD)[:30], "cannot be read as a WAV file"),
        (riff(ODD)[:40], "cannot be read as a WAV file|damaged"),
        (riff(ODD, code=3), "cannot be read as a WAV file: unknown format: 3"),
        (riff(ODD, code=85), "cannot be read as a WAV file: unknown format"),
        (riff(ODD, channels=2), "1 channel, 16 bits, 16000 Hz, received 2 channels, 16 bits, 16000 Hz; convert"),
        (riff(ODD, rate=44100), "received 1 channels, 16 bits, 44100 Hz"),
        (riff(ODD, bits=8), "received 1 channels, 8 bits"),
        (riff(ODD, channels=0), "cannot be read as a WAV file"),
        (riff(ODD, bits=0), "cannot be read as a WAV file"),
        (riff(ODD[:0]), "the header says 0 samples"),
        (riff(ODD, claimed=2000), "damaged: the header says 1000 samples, 100 are there"),
        (riff(ODD, claimed=0xFFFFFF00), "damaged: the header says 2147483520 samples, 100 are there"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = put(tmp_path / "bad.wav", content)
    with pytest.raises(DataError, match=message) as caught:
        read_wav(path, 16000)
    assert str(path) in str(caught.value)


def test_absent_and_large_files(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="nothing.wav"):
        read_wav(tmp_path / "nothing.wav", 16000)
    path = put(tmp_path / "a.wav", riff(ODD))
    monkeypatch.setattr(wav, "MAX_WAV_BYTES", 243)
    with pytest.raises(DataError, match="244 bytes, more than the limit of 243"):
        read_wav(path, 16000)


def test_every_cut_is_an_error_or_a_sound(tmp_path):
    whole = riff(ODD)
    for length in range(len(whole)):
        with pytest.raises(DataError, match="cut.wav"):
            read_wav(put(tmp_path / "cut.wav", whole[:length]), 16000)


def test_fitted():
    assert fitted(np.array([1, 2, 3], np.int16), 5).tolist() == [1, 2, 3, 0, 0]
    assert fitted(np.array([1, 2, 3], np.int16), 2).tolist() == [1, 2]


# ---- augmentation

CLIP = np.arange(1, 9, dtype=np.int16)


def test_time_shift():
    assert time_shift(CLIP, 0).tolist() == CLIP.tolist()
    assert time_shift(CLIP, 3).tolist() == [0, 0, 0, 1, 2, 3, 4, 5]
    assert time_shift(CLIP, -3).tolist() == [4, 5, 6, 7, 8, 0, 0, 0]
    assert not time_shift(CLIP, 8).any() and not time_shift(CLIP, -8).any()


def test_mix_rounds_and_limits():
    random = np.random.RandomState(0)
    clip, noise = (random.randint(-32768, 32768, 5000).astype(np.int16) for _ in range(2))
    for volume in (0, 1, 3277, 20000, 32768):
        real = clip + noise * (volume / 32768)
        assert np.array_equal(mix(clip, noise, volume), np.clip(np.floor(real + 0.5), -32768, 32767))
    assert np.array_equal(mix(clip, noise, 0), clip)


def test_augmentation_stays_within_its_bounds():
    random = np.random.RandomState(1)
    clip, noise = np.zeros(400, np.int16), np.full(900, 1000, np.int16)
    clip[200] = 30000
    offsets, levels = [], []
    for _ in range(600):
        changed = augmented(clip, [noise], shift=7, probability=0.5, volume=0.1, random=random)
        offsets.append(int(np.argmax(changed)) - 200)
        levels.append(int(changed[0]))
    assert min(offsets) == -7 and max(offsets) == 7
    assert min(levels) == 0 and 90 <= max(levels) <= 100 and 0.4 < np.mean(np.array(levels) > 0) < 0.6
    quiet = [augmented(clip, noises, shift=0, probability=p, volume=1.0, random=random) for noises, p in (([], 1.0), ([noise], 0.0))]
    assert all(np.array_equal(changed, clip) for changed in quiet)
    assert augmented(clip, [noise], shift=0, probability=1.0, volume=1.0, random=random).min() > 0


def test_noise_comes_from_everywhere_in_the_recordings():
    random = np.random.RandomState(2)
    noises = [np.arange(5, dtype=np.int16), np.arange(100, 103, dtype=np.int16)]
    seen = {tuple(random_noise(noises, 3, random).tolist()) for _ in range(200)}
    assert seen == {(0, 1, 2), (1, 2, 3), (2, 3, 4), (100, 101, 102)}
    volumes = [random_volume(0.25, random) for _ in range(500)]
    assert 0 <= min(volumes) and 8000 < max(volumes) <= 8192
