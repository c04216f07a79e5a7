"""Live sketches: built with stand-ins for the sensors' libraries and fed recordings on the emulated Nano 33 BLE; every answer is the
reference's for the features that training would have computed."""

import os
import shutil
import sys
from pathlib import Path

import arduino_builds as arduino
import framework_builds
import numpy as np
import pytest

from tinykit.data.audio import KWS_LOG_MEL, KWS_MFCC, FrontEnd, integer_features
from tinykit.deploy import deploy
from tinykit.engine.ctext import array
from tinykit.graph import ir, reference
from tinykit.graph.writer import write_tflite
from tinykit.packaging import sensors
from tinykit.packaging.network import Network, network_of_model

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))

import nets  # noqa: E402

FRONT_ENDS = {"mfcc": KWS_MFCC, "log_mel": KWS_LOG_MEL}
DATA = Path(os.environ.get("TINYKIT_DATA", "nowhere"))


def network(folder: Path, shape: tuple[int, ...], scale: float, zero_point: int, name: str = "live") -> Path:
    """A small network with such an input, as a file."""
    net = nets.Net(21)
    x = net.conv(net.input(shape, scale=scale, zero_point=zero_point), out=6, stride=(2, 2), act="relu")
    net.dense(net.pool("average", x), out=5)
    path = folder / f"{name}.tflite"
    path.write_bytes(write_tflite(net.done()))
    return path


def run_live(sketch: str, model: Path, folder: Path, recording: str) -> tuple[list[str], Network]:
    """What the live sketch of `model`'s package prints while it is fed `recording`, C text."""
    arduino.need_tools()
    package = deploy("arduino", "nano33ble", model=model, out=folder / "package", log=lambda line: None)
    (library,) = (path for path in package.iterdir() if path.is_dir())
    assert (library / f"examples/{sketch}/{sketch}.ino").is_file(), sorted(p.name for p in (library / "examples").iterdir())
    assert "Not run on hardware" in (library / f"examples/{sketch}/{sketch}.ino").read_text()
    libraries = folder / "libraries"
    shutil.copytree(framework_builds.STUBS / "sensors", libraries)
    shutil.copytree(library, libraries / library.name)
    made = folder / sketch
    shutil.copytree(library / "examples" / sketch, made)
    (made / "recording.c").write_text(f"#include <stdint.h>\n{recording}")
    hardware = arduino.make_hardware(folder / "hardware")
    elf = arduino.build_sketch(made, libraries, "nano33ble", hardware, folder / "build")
    return arduino.Running("nano33ble", elf).lines(), network_of_model(model)


def recorded(ctype: str, name: str, values: np.ndarray, count: str, number: int) -> str:
    """C text of a recording; its symbols are for everybody, and used by nobody in this file."""
    text = array(ctype, name, values).removeprefix("static ")
    return f"extern const {ctype} {name}[{values.size}];\n{text}extern const uint32_t {count};\nconst uint32_t {count} = {number};\n"


def answers(graph: ir.Graph, stored: np.ndarray) -> list[tuple[int, float]]:
    """(largest score's number, its value) of each sample."""
    output = graph.tensors[graph.outputs[0]]
    scores = reference.run_all(graph, {graph.inputs[0]: stored.reshape(len(stored), *graph.tensors[graph.inputs[0]].shape)})[output.name]
    best = scores.reshape(len(stored), -1).argmax(axis=1)
    return [(int(b), output.scale * (int(row.ravel()[b]) - output.zero_point)) for b, row in zip(best, scores)]


def differences(lines: list[str], verb: str, wanted: list[tuple[int, float]]) -> int:
    """Lines `<verb> <number> <score>` that are not as wanted."""
    found = [line.split() for line in lines]
    assert len(found) == len(wanted), lines
    return sum(f[0] != verb or int(f[1]) != best or abs(float(f[2]) - score) > 0.0011 for f, (best, score) in zip(found, wanted))


def sounds() -> list[np.ndarray]:
    """Clips of every loudness, silence and the extremes."""
    rng = np.random.default_rng(2)
    t = np.arange(16000) / 16000
    clips = [
        np.zeros(16000), np.full(16000, 32767), np.full(16000, -32768), np.where(np.arange(16000) % 40 < 20, 32767, -32768),
        32767 * np.sin(2 * np.pi * 440 * t), 3000 * np.sin(2 * np.pi * 2000 * t * t), rng.integers(-1, 2, 16000),
        rng.normal(0, 300, 16000), rng.normal(0, 9000, 16000), np.where(np.arange(16000) == 7777, 32767, 0),
    ]  # fmt: skip
    return [np.clip(np.rint(clip), -32768, 32767).astype(np.int16) for clip in clips]


@pytest.mark.parametrize("features", FRONT_ENDS)
def test_the_front_end_in_c_gives_the_bytes_of_training(features, tmp_path, tally):
    """On this computer, under the sanitizers' rules of C: the same features as `integer_features`, which training uses."""
    import ctypes

    from tinykit.boards.toolchain import build_host_library

    front_end = FRONT_ENDS[features]
    model = network(tmp_path, front_end.output_shape, front_end.scale, front_end.zero_point)
    package = deploy("arduino", "nano33ble", model=model, out=tmp_path / "package", log=lambda line: None) / "LiveNet/src"
    library = ctypes.CDLL(str(build_host_library([package / "live_frontend.c"], tmp_path / "frontend.so", include=[package])))
    clips = np.stack(sounds())
    wanted = integer_features(clips, front_end)
    work = (ctypes.c_uint64 * 4096)()
    wrong = 0
    for clip, features_of_clip in zip(clips, wanted):
        got = np.zeros(front_end.feature_bytes + 8, np.int8)
        library.live_features(ctypes.c_void_p(clip.ctypes.data), ctypes.c_void_p(got.ctypes.data), work)
        wrong += int((got[:-8] != features_of_clip.ravel()).sum()) + int(got[-8:].any())
    tally("audio front end in C vs training's", wrong, wanted.size)
    assert wrong == 0


def heard(front_end: FrontEnd, sound: np.ndarray) -> np.ndarray:
    """Features of every second that LiveAudio looks at: each time half a second more, silence before the first."""
    padded = np.concatenate([np.zeros(8000, np.int16), sound])
    clips = [padded[start : start + 16000] for start in range(0, len(padded) - 15999, 8000)]
    return integer_features(np.stack(clips), front_end)


@pytest.mark.parametrize("features", FRONT_ENDS)
def test_live_audio(features, tmp_path, tally):
    front_end = FRONT_ENDS[features]
    model = network(tmp_path, front_end.output_shape, front_end.scale, front_end.zero_point)
    sound = np.concatenate(sounds()[4:6])
    lines, found = run_live("LiveAudio", model, tmp_path, recorded("int16_t", "recorded_sound", sound, "recorded_samples", len(sound)))
    assert lines[0] == "listening"
    wanted = answers(found.graph, heard(front_end, sound))
    wrong = differences(lines[1:], "heard", wanted)
    tally("LiveAudio vs reference", wrong, len(wanted))
    assert len(wanted) == 4 and wrong == 0


def test_live_audio_of_the_reference_model_hears_recorded_words(tmp_path, tally):
    model, words = DATA / "reference_models/kws_ref_model_int8.tflite", DATA / "words3_audio16k.npz"
    if not model.is_file() or not words.is_file():
        pytest.skip("TINYKIT_DATA names no folder with MLPerf Tiny's keyword model and words3_audio16k.npz")
    with np.load(words) as data:
        clips = next(data[key] for key in data.files if data[key].dtype == np.int16 and data[key].ndim == 2)
    sound = np.concatenate([clips[0], clips[200 % len(clips)]])
    lines, found = run_live("LiveAudio", model, tmp_path, recorded("int16_t", "recorded_sound", sound, "recorded_samples", len(sound)))
    wanted = answers(found.graph, heard(KWS_MFCC, sound))
    wrong = differences(lines[1:], "heard", wanted)
    tally("LiveAudio of kws_ref_model vs reference", wrong, len(wanted))
    assert wrong == 0


@pytest.mark.parametrize("axes", [3, 6])
def test_live_motion(axes, tmp_path, tally):
    scale, zero, readings = 0.031, -7, 20
    model = network(tmp_path, (readings, axes, 1), scale, zero)
    motion = np.random.default_rng(4).normal(0, 3, (30, 6)).astype(np.float32)
    recording = recorded("float", "recorded_motion", motion.ravel(), "recorded_readings", len(motion))
    lines, found = run_live("LiveMotion", model, tmp_path, recording)
    assert lines[0] == "feeling"
    stored = np.clip(np.floor(motion[:, :axes] / np.float32(scale) + zero + 0.5), -128, 127).astype(np.int8)
    padded = np.concatenate([np.zeros((10, axes), np.int8), stored])
    wanted = answers(found.graph, np.stack([padded[start : start + readings] for start in (0, 10, 20)]))
    wrong = differences(lines[1:], "felt", wanted)
    tally("LiveMotion vs reference", wrong, len(wanted))
    assert wrong == 0


@pytest.mark.parametrize("shape", [(32, 32, 1), (48, 32, 3)])
def test_live_camera(shape, tmp_path, tally):
    height, width, channels = shape
    model = network(tmp_path, shape, 1 / 255, -128)
    random = np.random.default_rng(6).integers(0, 256, (2, 144, 176, 2 if channels == 3 else 1)).astype(np.uint8)
    lines, found = run_live("LiveCamera", model, tmp_path, recorded("uint8_t", "recorded_pictures", random.ravel(), "recorded_count", 2))
    assert lines[0] == "watching"
    wanted = answers(found.graph, np.stack([seen(picture, height, width, channels) for picture in random]))
    wrong = differences(lines[1:], "saw", wanted)
    tally("LiveCamera vs reference", wrong, len(wanted))
    assert wrong == 0


def seen(picture: np.ndarray, height: int, width: int, channels: int) -> np.ndarray:
    """int8 pixels: the middle part of the network's proportions, nearest pixel; 5, 6 and 5 bits of colour widened to 8."""
    part = min(144 / height, 176 / width)
    part_h, part_w = int(height * part), int(width * part)
    rows = (144 - part_h) // 2 + (2 * np.arange(height) + 1) * part_h // (2 * height)
    columns = (176 - part_w) // 2 + (2 * np.arange(width) + 1) * part_w // (2 * width)
    cut = picture[rows][:, columns].astype(int)
    if channels == 3:
        bits = cut[..., 0] << 8 | cut[..., 1]
        red, green, blue = bits >> 11, bits >> 5 & 63, bits & 31
        cut = np.stack([red << 3 | red >> 2, green << 2 | green >> 4, blue << 3 | blue >> 2], axis=-1)
    return (cut - 128).astype(np.int8)


@pytest.mark.parametrize(
    "shape,scale,zero,expected",
    [
        (KWS_MFCC.output_shape, KWS_MFCC.scale, KWS_MFCC.zero_point, "LiveAudio"),
        (KWS_MFCC.output_shape, 0.1, KWS_MFCC.zero_point, None),  # other features
        ((30, 3, 1), 0.1, 0, "LiveMotion"),
        ((30, 4, 1), 0.1, 0, None),
        ((96, 96, 3), 1 / 255, -128, "LiveCamera"),
        ((8, 8, 1), 1 / 16, -128, None),
        ((200, 200, 1), 1 / 255, -128, None),
    ],
)
def test_which_sketch_a_network_gets(shape, scale, zero, expected, tmp_path):
    model = network(tmp_path, shape, scale, zero)
    found = deploy("arduino", "nano33ble", model=model, out=tmp_path / "out", log=lambda line: None) / "LiveNet"
    names = {path.name for path in (found / "examples").iterdir()} - {"SerialInfer", "SelfTest", "Monitor"}
    assert names == ({expected} if expected else set())
    assert ("not run on hardware" in (found / "README.md").read_text()) == (expected is not None)
    other = deploy("arduino", "disco_f746ng", model=model, out=tmp_path / "other", log=lambda line: None)
    assert not list(other.glob("*/examples/Live*"))  # that board has none of these sensors


@pytest.mark.parametrize(
    "scale,zero,first,last", [(1 / 255, -128, -128, 127), (2 / 255, 0, -127, 127), (1.0, -128, -128, 127), (1 / 127, -1, -128, 126)]
)
def test_pixels_are_stored_as_training_did(scale, zero, first, last, tmp_path):
    interface = network_of_model(network(tmp_path, (32, 32, 1), scale, zero)).interface
    table = sensors.pixel_table(interface)
    assert len(table) == 256 and (table[0], table[-1]) == (first, last) and table == sorted(table)
