"""MLPerf Tiny's keyword model as a package of every target for two boards: compiled with the cores' flags, run on the emulated boards."""

import os
from pathlib import Path

import arduino_builds as arduino
import framework_builds
import numpy as np
import pytest
from test_framework_packages import sources_of

from tinykit.deploy import deploy
from tinykit.packaging.network import network_of_model

MODEL = Path(os.environ.get("TINYKIT_DATA", "nowhere")) / "reference_models/kws_ref_model_int8.tflite"


@pytest.fixture(scope="module")
def model() -> Path:
    if not MODEL.is_file():
        pytest.skip("TINYKIT_DATA names no folder with reference_models/kws_ref_model_int8.tflite")
    return MODEL


def check(self_test: arduino.Running, serial_infer: arduino.Running, model: Path) -> int:
    """Golden vectors whose printed largest score is wrong; the self-test must pass."""
    network = network_of_model(model)
    count = len(network.vectors)
    assert self_test.lines()[-1] == f"self-test passed: {count} of {count}"
    assert serial_infer.lines()[0].startswith("ready kws_ref_model_int8: send 490 bytes")
    wrong = 0
    for given, expected in network.vectors:
        scores, largest, _ = serial_infer.ask(given.hex())
        output = np.frombuffer(expected, np.int8).astype(int)
        printed = [float(word) for word in scores.split()[1:]]
        wrong += largest != f"largest {output.argmax()}" or not np.allclose(printed, (output + 128) / 256, atol=0.0011)
    return wrong


@pytest.mark.parametrize("name", arduino.BOARDS)
def test_arduino(name, model, tmp_path, tally):
    arduino.need_tools()
    libraries = deploy("arduino", name, model=model, out=tmp_path / "package", log=lambda line: None)
    hardware = arduino.make_hardware(tmp_path / "hardware")
    examples = libraries / "KwsRefModelInt8Net/examples"
    programs = [
        arduino.Running(name, arduino.build_sketch(examples / sketch, libraries, name, hardware, tmp_path / sketch))
        for sketch in ("SelfTest", "SerialInfer")
    ]
    wrong = check(*programs, model)
    tally("scores of kws_ref_model's sketch vs reference", wrong, len(network_of_model(model).vectors))
    assert wrong == 0


@pytest.mark.parametrize("name", arduino.BOARDS)
@pytest.mark.parametrize("target", ["platformio", "mbed", "cmake"])
def test_other_targets(target, name, model, tmp_path, tally):
    framework_builds.need_tools()
    folder = deploy(target, name, model=model, out=tmp_path / "package", log=lambda line: None)
    programs = []
    for app in ("self_test", "serial_infer"):
        sources, include = sources_of(target, folder, app)
        programs.append(arduino.Running(name, framework_builds.build(sources, include, name, tmp_path / app)))
    wrong = check(*programs, model)
    tally(f"scores of kws_ref_model's program ({target}) vs reference", wrong, len(network_of_model(model).vectors))
    assert wrong == 0
