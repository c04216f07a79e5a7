"""`python -m tinykit.bits`: the published allocations, what its JSON holds, exit codes."""

import json
import subprocess
import sys

import pytest

from tinykit.bits import family_model, limits_of
from tinykit.errors import ConfigError


def bits(folder, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "tinykit.bits", *arguments], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )


def test_a_network_of_the_literature_from_its_family():
    """The rule on a real Keras model, 28 layers found by fusing it, gives the published allocation."""
    from tinykit.quant.allocation.accounting import Granularity, flash_bytes, peak_bytes
    from tinykit.quant.allocation.program import network_of
    from tinykit.quant.allocation.rule import allocate
    from tinykit.quant.fuse import fuse

    model = family_model("mobilenet_v1", ["model.alpha=0.5", "model.input=224x224x3", "model.classes=1000"])
    network = network_of(fuse(model))
    outcome = allocate(network, 2_048_000, 512_000, Granularity.PER_CHANNEL)
    assert outcome.bits.activations(network) == [8, 8, 4] + [8] * 24
    assert outcome.bits.weights == (8,) * 28
    assert flash_bytes(network, outcome.bits, Granularity.PER_CHANNEL) == 1_381_588
    assert peak_bytes(network, outcome.bits) == 401_408


def test_from_a_configuration(tmp_path):
    done = bits(tmp_path, "--config", "digits", "--flash", "12kB", "--ram", "1200", "--json", "bits.json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "bits.json").read_text())
    layers = found["layers"]
    assert len(found["weight_bits"]) == len(found["engine_weight_bits"]) == len(layers) == len(found["activation_bits"]) + 1
    assert found["feasible"] and found["flash_bytes"] <= 12_000 and found["ram_bytes"] <= 1200
    assert found["engine_feasible"] and found["engine_flash_bytes"] <= 12_000 and found["engine_ram_bytes"] <= 1200
    assert min(found["engine_weight_bits"]) < 8
    assert "engine: fits" in done.stdout and all(name in done.stdout for name in layers)
    impossible = bits(tmp_path, "--config", "digits", "--flash", "100", "--ram", "50", "--json", "none.json")
    assert impossible.returncode == 3
    assert not json.loads((tmp_path / "none.json").read_text())["feasible"]
    assert "of RAM" in impossible.stderr and "Traceback" not in impossible.stderr


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "model.input: expected a shape such as 224x224x3"),
        (["model.input=3x0", "model.classes=2"], "received '3x0'"),
        (["model.input=8x8x3", "model.classes=0"], "model.classes: expected a number from 1"),
        (["model.input=8x8x3", "model.classes=2", "model.alhpa=1"], "unknown option 'alhpa': did you mean 'alpha'?"),
        (["data.name=digits"], "only model.input"),
        (["model=3"], "expected model.input"),
    ],
)
def test_wrong_overrides(overrides, words):
    with pytest.raises(ConfigError) as caught:
        family_model("mobilenet_v1", overrides)
    assert words in str(caught.value)


def test_limits():
    assert (limits_of(None, None, None).board, limits_of(None, None, None).flash) == ("nano33ble", 983_040)
    only = limits_of(None, "60kB", None)
    assert (only.flash, only.ram) == (60_000, None)
    assert limits_of("nucleo_f401re", "60kB", None).ram is not None
    assert limits_of(None, "1500000", "512000").board == "nucleo_l4r5zi"
    with pytest.raises(ConfigError, match="--flash: expected a size.*\n--ram: expected a size.*\n--board: "):
        limits_of("nanno", "many", "-1")
    with pytest.raises(ConfigError, match="runs no firmware"):
        limits_of("host", None, None)


@pytest.mark.parametrize(
    ("arguments", "words"), [((), "expected --model or --config"), (("--config", "digits", "--model", "cnn"), "one of them")]
)
def test_wrong_flags(tmp_path, arguments, words):
    done = bits(tmp_path, *arguments)
    assert done.returncode == 2 and words in done.stderr
