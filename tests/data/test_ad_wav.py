"""Dataset ad from .wav files: features against a plain float computation, splits by the folders, machines by the names, faults."""

import hashlib
import math
import os
import random as plain_random
import shutil
import struct
import sys
import wave

import numpy as np
import pytest
from scalar_front_end import i32, i64, log2, shift, transform, turn

from tinykit.data import adwav, load_dataset
from tinykit.data.audio import AD_LOG_MEL, FrontEnd, float_features, float_values, integer_features
from tinykit.data.audio.tables import tables
from tinykit.errors import ConfigError, DataError

TABLES_SHA256 = "7373f67a6bc5a94a667c6a54dc0f4b6958f3400ab92246ec0130bb36afb2cf53"
FEATURES_SHA256 = "e7ed3b73ed42bf2741592fb69eebc60c8dde409e0c9dfce7aecbc88db86fba31"
SCALE, ZERO = 0.3910152316093445, 89
RATE = 16000
MACHINES = (1, 4)
TRAIN, NORMAL, ANOMALOUS = 6, 3, 2  # clips of each machine
LENGTHS = (128000, 131073, 130001, 128511)  # the shortest that will do, and odd ones


def machine_sound(seed, count, level=4000):
    """A hum with overtones, a slow beat and noise, int16 [count]; `level` is about its loudest sample."""
    random = np.random.RandomState(seed)
    t = np.arange(count) / RATE
    hum = sum(np.sin(2 * np.pi * (70 + 7 * seed % 60) * k * t + 0.3 * np.sin(2 * np.pi * t)) / k for k in (1, 2, 3, 5, 9, 20, 31))
    return np.round(level / 4 * (hum + random.normal(0, 0.4, count))).clip(-32768, 32767).astype(np.int16)


def write_wav(path, samples, rate=RATE, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as sound:
        sound.setparams((channels, 2, rate, 0, "NONE", ""))
        sound.writeframes(np.asarray(samples, "<i2").tobytes())


def files():
    """(path in the tree, machine, label), in no order."""
    listed = []
    for machine in MACHINES:
        listed += [(f"train/normal_id_{machine:02d}_{n:08d}.wav", machine, 0) for n in range(TRAIN)]
        listed += [(f"test/normal_id_{machine:02d}_{n:08d}.wav", machine, 0) for n in range(NORMAL)]
        listed += [(f"test/anomaly_id_{machine:02d}_{n:08d}.wav", machine, 1) for n in range(ANOMALOUS)]
    plain_random.Random(3).shuffle(listed)
    return listed


SOUNDS = {name: machine_sound(n, LENGTHS[n % len(LENGTHS)]) for n, (name, _, _) in enumerate(files())}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tree, made once; tests that change it change links to its files."""
    root = tmp_path_factory.mktemp("data")
    for name, samples in SOUNDS.items():
        write_wav(root / "ToyCar" / name, samples)
    (root / "ToyCar" / "train" / "README.md").write_text("no sound")
    (root / "ToyCar" / "test" / "._normal_id_01_00000000.wav").write_text("left by an archiver")
    return root


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    """A copy of the tree in TINYKIT_DATA; files are linked, so replace them, never write into them."""
    shutil.copytree(made, tmp_path, copy_function=os.link, dirs_exist_ok=True)
    monkeypatch.setenv("TINYKIT_DATA", str(tmp_path))
    return tmp_path


def ad(quicktest=False, **options):
    return load_dataset("ad", {"path": "ToyCar", "train_stride": 20, "test_stride": 7, **options}, seed=0, quicktest=quicktest)


def replace(path, samples, **how):
    path.unlink(missing_ok=True)
    write_wav(path, samples, **how)


# ---- the features, computed another way


def slaney_edges():
    """Edges of the 128 bands in Hz, one at a time: 3 mel are 200 Hz up to 1000 Hz, 27 mel a factor of 6.4 above."""
    top = 15 + 27 * math.log(8) / math.log(6.4)
    mels = [top * number / 129 for number in range(130)]
    return np.array([m * 200 / 3 if m < 15 else 1000 * math.exp((m - 15) / 27 * math.log(6.4)) for m in mels])


def mlperf_db(samples):
    """Log-mel energies in dB, float64 [frames, 128], by the published recipe: the clip mirrored at its ends by 512 samples, 1024-point
    power spectra every 512, triangles of area 1, 10 log10(energy + epsilon)."""
    padded = np.pad(samples / 32768.0, 512, mode="reflect")
    starts = range(0, len(padded) - 1023, 512)
    hann = np.sin(np.pi * np.arange(1024) / 1024) ** 2
    power = np.array([np.abs(np.fft.fft(padded[start : start + 1024] * hann)[:513]) ** 2 for start in starts])
    edges, bins = slaney_edges(), np.arange(513) * RATE / 1024
    triangles = np.array([np.interp(bins, edges[b : b + 3], [0, 2 / (edges[b + 2] - edges[b]), 0]) for b in range(128)])
    return 10 * np.log10(power @ triangles.T + sys.float_info.epsilon)


def quantised(db):
    return np.floor(db / SCALE + ZERO + 0.5).clip(-128, 127).astype(int)


def hard_sounds():
    count = adwav.CENTRE_SAMPLES
    t = np.arange(count) / RATE
    random = np.random.RandomState(8)
    return {
        "silence": np.zeros(count),
        "tone": 9000 * np.sin(2 * np.pi * 1000 * t),
        "full-scale tone": 32767 * np.sin(2 * np.pi * 440 * t),
        "square wave": np.where(np.arange(count) // 40 % 2, -32768, 32767),
        "one least significant bit": random.randint(-1, 2, count),
        "full-scale noise": random.randint(-32768, 32768, count),
        "direct current": np.full(count, -32768),
        "sweep": 15000 * np.sin(2 * np.pi * (50 * t + 400 * t * t)),
        "one sample at a window's edge": np.arange(count) == 1,
        "quiet, then loud": np.where(t < 4, 3, 20000) * np.sin(2 * np.pi * 300 * t),
    }


def centre(samples):
    return np.asarray(samples)[np.newaxis, adwav.FIRST_SAMPLE : adwav.CENTRE_SAMPLES].astype(np.int16)


@pytest.mark.parametrize("level", [40, 800, 12000])
def test_machine_sounds_against_the_float_computation(level):
    samples = machine_sound(5, 160321, level)
    db = mlperf_db(samples)[50:250]
    values = float_values(centre(samples), AD_LOG_MEL)[0] * 10 / math.log(10)
    assert np.abs(values - db)[db > -84.85].max() < (0.06 if level == 40 else 0.002)
    q = integer_features(centre(samples), AD_LOG_MEL)[0, :, :, 0].astype(int)
    assert np.abs(q - quantised(db)).max() <= 1 and (q == quantised(db)).mean() > 0.998


@pytest.mark.parametrize("name", sorted(hard_sounds()))
def test_hard_sounds_against_the_float_computation(name):
    samples = hard_sounds()[name].round()
    db = mlperf_db(samples)[50:250]
    values = float_values(centre(samples), AD_LOG_MEL)[0] * 10 / math.log(10)
    shown = db > -84.85
    assert np.abs(values - db)[shown].max(initial=0) < 0.06  # the floor, which is felt at the lower end
    q = integer_features(centre(samples), AD_LOG_MEL)[0, :, :, 0].astype(int)
    assert np.abs(q - quantised(db)).max() <= (2 if name == "full-scale tone" else 1) and (q == quantised(db)).mean() > 0.96


def scalar_powers(samples, front_end):
    """int8 features [frames][bands] of a front end with power 2, one number at a time; every value is checked to fit its C type."""
    table, fft = tables(front_end), front_end.fft
    rows = []
    for frame in range(front_end.frames):
        part = samples[frame * front_end.stride :][: front_end.window].tolist()
        peak = 32768 if front_end.peak == "full_scale" else max(1, *samples.tolist())
        products = [i64(s * int(table.window[min(n, front_end.window - n)])) for n, s in enumerate(part)]
        left = 28 - max(28, *(abs(p).bit_length() for p in products))
        data = [i32(shift(p, left)) for p in products] + [0] * (fft - front_end.window)
        angle = transform(data, fft, table.sine)
        energy = [0] * (front_end.bands + 2)
        for place, (band, weight) in enumerate(zip(table.mel_band.tolist(), table.mel_weight.tolist())):
            k = table.first_bin + place
            (a_re, a_im), (b_re, b_im) = data[2 * k : 2 * k + 2], data[fft - 2 * k : fft - 2 * k + 2]
            t_re, t_im = turn(i32(a_re - b_re), i32(a_im + b_im), *angle(k))
            re, im = i32(a_re + b_re + t_im + 1) >> 1, i32(a_im - b_im - t_re + 1) >> 1
            square = i64(re * re + im * im + (1 << 11)) >> 12
            energy[band + 1] = i64(energy[band + 1] + square * weight)
            energy[band] = i64(energy[band] + square * (32768 - weight))
        fraction = 2 * (30 + left - (fft.bit_length() - 2)) + 3
        floor = shift(i64(peak * peak * table.floor), fraction - 40)
        row = []
        for band in range(front_end.bands):
            log = i32(log2(max(i64(energy[band + 1] + floor), 1), table) - (fraction << 15) - 2 * log2(peak, table))
            log = i32(log + int(table.gain[band])) if len(table.gain) else log
            bits = table.matrix_bits + 15
            total = i64(int(table.matrix[0, 0]) * log + (front_end.zero_point << bits) + (1 << (bits - 1)))
            row.append(min(max(total >> bits, -128), 127))
        rows.append(row)
    return rows


SCALAR = ["full-scale noise", "full-scale tone", "one least significant bit", "direct current", "silence", "one sample at a window's edge"]


@pytest.mark.parametrize("name", SCALAR)
def test_numpy_computes_what_a_c_program_would(name):
    fronts = [
        AD_LOG_MEL,
        FrontEnd(fft=256, window=250, stride=100, bands=20, coefficients=0, power=2, scale=0.2, zero_point=60, rounding="nearest"),
        # the highest floor at the shortest transform, where int8 shows it
        FrontEnd(
            fft=256,
            window=250,
            stride=100,
            bands=20,
            coefficients=0,
            power=2,
            scale=0.2,
            zero_point=60,
            rounding="nearest",
            peak="full_scale",
        ),
    ]
    for front in fronts:
        front = FrontEnd(**{**vars(front), "clip_samples": front.window + front.stride})
        clip = hard_sounds()[name].round()[: front.clip_samples].astype(np.int16)
        assert integer_features(clip[np.newaxis], front)[0, :, :, 0].tolist() == scalar_powers(clip, front)


def test_golden_features():
    """The bytes that every other implementation must give: noise of a linear congruential sequence, from one bit to full scale."""
    state, clips = 1, []
    for level in (1, 30, 1000, 32767):
        values = []
        for _ in range(1024 + 512 * 9):
            state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
            values.append((state >> 40) % (2 * level + 1) - level)
        clips.append(values)
    front = FrontEnd(**{**vars(AD_LOG_MEL), "clip_samples": len(clips[0])})
    made = b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in tables(front).arrays())
    assert hashlib.sha256(made).hexdigest() == TABLES_SHA256
    assert hashlib.sha256(integer_features(np.array(clips, np.int16), front).tobytes()).hexdigest() == FEATURES_SHA256


def test_the_front_end_of_squares():
    assert AD_LOG_MEL.output_shape == (200, 128, 1) and len(tables(AD_LOG_MEL).gain) == 128
    assert np.allclose(AD_LOG_MEL.mel_edges(), slaney_edges(), rtol=1e-12)
    for changed in ({"power": 3}, {"power": 2, "fft": 128, "window": 100}, {"power": 2, "log_floor": 1e-4}, {"mel_scale": "bark"}):
        with pytest.raises(ConfigError, match="front end: "):
            FrontEnd(**changed)


# ---- the dataset


def expected_clips(names):
    """q [200, 128] of files, by the float computation."""
    return {name: quantised(mlperf_db(SOUNDS[name])[50:250]) for name in names}


def owners(part, expected):
    """File of each clip of a split: the one whose first window is nearest."""
    names = list(expected)
    firsts = np.array([expected[name][:5].reshape(-1) for name in names])
    rows = part.x[np.unique(part.clips.of, return_index=True)[1]].astype(int)
    nearest = [np.abs(firsts - row).max(1) for row in rows]
    assert all(distances.min() <= 1 and (distances <= 1).sum() == 1 for distances in nearest)
    return [names[int(distances.argmin())] for distances in nearest]


def test_the_whole_tree(root):
    data = ad()
    assert data.task == "anomaly" and data.input_shape == (640,) and data.train.x.dtype == np.int8 and not data.synthetic
    assert "ToyCar" in data.source and "10 and 2 normal clips, test 6 normal and 4 anomalous" in data.source
    expected = expected_clips(SOUNDS)
    found = {name: owners(getattr(data, name), expected) for name in ("train", "val", "test")}
    assert sorted(found["train"] + found["val"]) == sorted(name for name in SOUNDS if name.startswith("train/"))
    assert sorted(found["test"]) == sorted(name for name in SOUNDS if name.startswith("test/"))
    assert sorted(name[16:18] for name in found["val"]) == ["01", "04"]
    truth = {name: (machine, label) for name, machine, label in files()}
    for name, stride in (("train", 20), ("val", 20), ("test", 7)):
        part = getattr(data, name)
        assert list(zip(part.clips.machine.tolist(), part.clips.y.tolist())) == [truth[file] for file in found[name]]
        windows = [expected[file][start : start + 5].reshape(-1) for file in found[name] for start in range(0, 196, stride)]
        assert part.x.shape == (len(windows), 640) and np.abs(part.x - np.array(windows)).max() <= 1
        assert np.array_equal(part.y, part.clips.y[part.clips.of])
    assert ad(path=".").content_sha256 == ad().content_sha256 == data.content_sha256


def test_all_frames_of_clips_of_odd_lengths(root):
    for name, count in (("test/anomaly_id_01_00000000.wav", 3072), ("train/normal_id_04_00000003.wav", 40000)):
        replace(root / "ToyCar" / name, SOUNDS[name][:count])
    data = ad(clip_frames="all", train_stride=3, test_stride=1)
    counts = np.bincount(data.test.clips.of)
    frames = sorted((len(SOUNDS[name]) - 1024) // 512 + 1 for name in SOUNDS if name.startswith("test/"))
    assert counts.min() == 1 and data.test.clips.y[counts.argmin()] == 1 and max(counts) == frames[-1] - 4
    # between the mirrored ends the frames are those of the published recipe
    db = mlperf_db(SOUNDS["test/anomaly_id_01_00000000.wav"][:3072])[1:6]
    assert np.abs(data.test.x[data.test.clips.of == counts.argmin()][0] - quantised(db).reshape(-1)).max() <= 1
    assert len(data.train) + len(data.val) == sum(
        len(range(0, (40000 if name == "train/normal_id_04_00000003.wav" else len(SOUNDS[name])) // 512 - 1 - 4, 3))
        for name in SOUNDS
        if name.startswith("train/")
    )
    with pytest.raises(
        DataError, match="anomaly_id_01_00000000.wav: expected 3584 samples or more for a window of 6 frames, received 3072"
    ):
        ad(clip_frames="all", frames=6)
    replace(root / "ToyCar/test/anomaly_id_01_00000000.wav", np.zeros(60 * RATE + 1))
    with pytest.raises(DataError, match="00000000.wav: 960001 samples are longer than 60 s"):
        ad(clip_frames="all")


def test_float_front_end(root):
    data = ad(front_end="float", quicktest=True)
    first = float_features(centre(SOUNDS["train/normal_id_01_00000000.wav"]), AD_LOG_MEL)[0, :5].reshape(-1)
    assert "float front end" in data.source and (np.concatenate([data.train.x, data.val.x]) == first).all(1).any()


def test_quicktest_reads_few_files(root, monkeypatch):
    read, seen = adwav.read_wav, []
    monkeypatch.setattr(adwav, "read_wav", lambda path, rate: seen.append(path) or read(path, rate))
    monkeypatch.setattr(adwav, "QUICKTEST_FILES", 3)
    data = ad(quicktest=True, cache="f.npz")
    assert not data.synthetic and len(seen) == 2 * (3 + 3 + 2) and not (root / "f.npz").exists()
    assert {(m, y) for m, y in zip(data.test.clips.machine, data.test.clips.y)} == {(1, 0), (1, 1), (4, 0), (4, 1)}
    assert np.bincount(data.test.clips.of).max() == 4
    made = ad(quicktest=True, path="absent")
    assert made.synthetic and made.input_shape == (640,)


def test_cache(root, monkeypatch):
    for path in sorted((root / "ToyCar").glob("train/*.wav"))[4:]:
        path.unlink()
    write_wav(root / "ToyCar/train/normal_id_02_00000000.wav", SOUNDS["train/normal_id_01_00000000.wav"])
    first = ad(cache="cache/features.npz")
    with monkeypatch.context() as patch:
        patch.setattr(adwav, "read_wav", None)  # would fail if any file were read
        again = ad(cache="cache/features.npz")
        assert len(ad(cache="cache/features.npz", frames=7, test_stride=1).test) > len(first.test)
    assert again.content_sha256 == first.content_sha256 == ad().content_sha256
    replace(root / "ToyCar/test/anomaly_id_01_00000000.wav", machine_sound(77, 128000))
    assert ad(cache="cache/features.npz").content_sha256 != first.content_sha256
    assert len(ad(cache="cache/features.npz", clip_frames="all", test_stride=1).test) > 10 * 196
    (root / "cache/features.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cache: .*features.npz.*delete it"):
        ad(cache="cache/features.npz")


def test_progress(root, monkeypatch, capsys):
    monkeypatch.setattr(adwav, "MANY", 10)
    ad()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "features of ToyCar: 100 %, 22 of 22 clips" and len(lines) == 10


# ---- faults


def message(**options):
    with pytest.raises(DataError) as caught:
        ad(**options)
    assert all("\n" not in problem for problem in caught.value.problems)
    return "\n".join(caught.value.problems)


def test_missing_folders(root):
    assert "absent does not exist" in message(path="absent") and "--quicktest" in message(path="absent")
    assert "did you mean 'ToyCar'" in message(path=".", machine_type="ToyCare")
    (root / "other").mkdir()
    assert "other: expected an .npz file, or a folder with train/ and test/" in message(path="other")
    shutil.rmtree(root / "ToyCar" / "test")
    assert message() == message(path=".") and f"{root}/ToyCar/test: folder is missing" in message()
    (root / "ToyCar" / "test").mkdir()
    assert f"{root}/ToyCar/test: holds no .wav file; expected such as normal_id_01_00000000.wav" in message()
    with pytest.raises(ConfigError, match="is no name of a folder"):
        ad(machine_type="../fan")


def test_wrong_names(root):
    for number in range(7):
        write_wav(root / f"ToyCar/test/id_05_{number:08d}.wav", [0])
    write_wav(root / "ToyCar/train/normal_01.wav", [0])
    said = message()
    assert (
        f"{root}/ToyCar/test: 7 files have other names: id_05_00000000.wav, " in said
        and "id_05_00000004.wav and 2 more; expected normal_" in said
    )
    assert "train: 1 files have other names: normal_01.wav; expected" in said and len(said.splitlines()) == 2


def test_wrong_kinds(root):
    (root / "ToyCar/test/anomaly_id_01_00000000.wav").rename(root / "ToyCar/train/anomaly_id_01_00000000.wav")
    assert f"{root}/ToyCar/train: 1 anomalous clips: anomaly_id_01_00000000.wav; training takes normal ones only" in message()
    (root / "ToyCar/train/anomaly_id_01_00000000.wav").unlink()
    for path in (root / "ToyCar/test").glob("anomaly*"):
        path.unlink()
    assert f"{root}/ToyCar/test: no file anomaly_id_*.wav: without both kinds there is no area" in message()
    for path in (root / "ToyCar/test").glob("normal*"):
        path.rename(path.with_name(path.name.replace("normal", "anomaly")))
    assert "no file normal_id_*.wav" in message()
    assert "mark no clips as official" not in message()


def test_official_is_of_npz_files_only(root):
    (root / "ToyCar/test/normal_id_01_00000000.wav").unlink()
    (root / "ToyCar/test/normal_id_01_00000000.wav").write_bytes(b"is not read before")
    assert "mark no clips as official" in message(test="official")


def test_every_bad_file_is_named(root, monkeypatch):
    folder = root / "ToyCar" / "train"
    replace(folder / "normal_id_01_00000000.wav", np.zeros(300000), rate=44100)
    replace(folder / "normal_id_01_00000001.wav", np.zeros(300000), channels=2)
    replace(folder / "normal_id_01_00000002.wav", np.zeros(127999))
    whole = (folder / "normal_id_01_00000003.wav").read_bytes()
    for number, content in ((3, whole[:-1000]), (4, b"RIFF"), (5, whole[:40] + struct.pack("<I", 0))):
        (folder / f"normal_id_01_{number:08d}.wav").unlink()
        (folder / f"normal_id_01_{number:08d}.wav").write_bytes(content)
    parts = (
        "44100 Hz",
        "received 2 channels",
        "expected 128000 samples or more",
        "damaged: the header says",
        "cannot be read",
        "0 samples",
    )
    lines = message().splitlines()
    assert len(lines) == 6
    for number, (line, part) in enumerate(zip(lines, parts)):
        assert f"normal_id_01_{number:08d}.wav: " in line and part in line
    monkeypatch.setattr(adwav, "MOST_BAD", 3)
    assert len(message().splitlines()) == 4 and "19 other files were not looked at" in message()


def test_limits(root, monkeypatch):
    monkeypatch.setattr(adwav, "MAX_FILES", 21)
    assert "22 files, more than the limit of 21" in message()
    monkeypatch.setattr(adwav, "MAX_FILES", 22)
    monkeypatch.setattr(adwav, "MAX_ARRAY_BYTES", 22 * 25600 - 1)
    assert "22 clips of up to 25600 bytes exceed the limit" in message()
