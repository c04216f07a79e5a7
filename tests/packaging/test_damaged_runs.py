"""Run directories that are damaged, unfinished or of other things: one clear error, nothing written."""

import json
import os
import shutil

import numpy as np
import pytest

from tinykit.deploy import deploy
from tinykit.errors import ConfigError, ModelError, TinykitError
from tinykit.export.golden import golden_npz
from tinykit.packaging.network import network_of_run


@pytest.fixture
def run(workdir, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(workdir, tmp_path / "run")


def refused(run, tmp_path) -> str:
    """The one message of deploy."""
    with pytest.raises(TinykitError) as caught:
        deploy("arduino", "nano33ble", workdir=run, out=tmp_path / "out", log=lambda line: None)
    assert not (tmp_path / "out").exists()
    return str(caught.value)


def test_what_is_missing_is_named(run, tmp_path):
    for name in ("model.tflite", "golden.npz", "config.resolved.yaml"):
        kept = (run / name).read_bytes()
        (run / name).unlink()
        assert name in refused(run, tmp_path)
        (run / name).write_bytes(kept)
    shutil.rmtree(run / "engine")
    assert "has no engine/" in refused(run, tmp_path) and "recipe=int8" in refused(run, tmp_path)


def test_two_networks_are_one_too_many(run, tmp_path):
    for suffix in (".h", ".c"):
        shutil.copy(run / f"engine/small{suffix}", run / f"engine/other{suffix}")
    assert "expected one network, found other.h, small.h" in refused(run, tmp_path)


@pytest.mark.parametrize(
    "old,new",
    [
        ("#define SMALL_ARENA_SIZE ", "#define SMALL_ARENA_SIZE x"),
        ("#define SMALL_OUTPUT_SIZE ", "#define SMALL_NOTHING "),
        ("int8_t *small_input", "void small_input"),
        ("const int8_t *small_output", "const double *small_output"),
        ("SMALL_", "9" * 5000),
    ],
)
def test_a_header_that_is_not_ours_is_told(run, tmp_path, old, new):
    header = run / "engine/small.h"
    header.write_text(header.read_text().replace(old, new))
    assert "is not a header that tinykit generates" in refused(run, tmp_path)


def test_a_file_that_is_no_text_and_a_name_that_is_no_name(run, tmp_path):
    (run / "engine/small.h").write_bytes(b"\xff\xfe\x00")
    assert "is not text" in refused(run, tmp_path)
    for suffix in (".h", ".c"):
        (run / f"engine/small{suffix}").rename(run / f"engine/a(b{suffix}")
    assert "is not called like a network of tinykit's" in refused(run, tmp_path)


def test_golden_samples_of_another_network(run, tmp_path):
    (run / "golden.npz").write_bytes(golden_npz(np.zeros((2, 7), np.int8), np.zeros((2, 4), np.int8)))
    assert "a sample has 7 and 4 bytes, the engine takes 216 and gives 4" in refused(run, tmp_path)


def test_golden_samples_that_the_engine_does_not_give_are_a_parity_error(run, tmp_path):
    golden = network_of_run(run)
    inputs = np.stack([np.frombuffer(given, np.int8) for given, _ in golden.vectors])
    outputs = np.stack([np.frombuffer(expected, np.int8) for _, expected in golden.vectors]) ^ 1
    (run / "golden.npz").write_bytes(golden_npz(inputs, outputs))
    assert "golden vector 1: 4 output bytes differ on the emulated nano33ble" in refused(run, tmp_path)


def test_a_quicktest_is_called_one(run):
    assert "quicktest" not in network_of_run(run).origin
    (run / "metrics.json").write_text('{"quicktest": true}')
    assert "quicktest, whose accuracy means nothing" in network_of_run(run).origin
    (run / "metrics.json").write_text("{")
    with pytest.raises(ModelError, match="metrics.json: is not JSON"):
        network_of_run(run)


@pytest.mark.parametrize("text", ['["a"]', "3", '{"a": 1}', '"abcd"'])
def test_classes_that_do_not_fit_are_left_out(run, text):
    (run / "classes.json").write_text(text)
    assert network_of_run(run).labels == ()


def test_hostile_classes_become_harmless_text(run, tmp_path):
    (run / "classes.json").write_text(json.dumps(["*/ #error", 'a"; system("x'.ljust(5000, "z"), "\x1b[31m\n", "\ud800"]))
    labels = network_of_run(run).labels
    assert all(label.isprintable() and len(label) <= 40 for label in labels)
    deploy("cmake", "nano33ble", workdir=run, out=tmp_path / "out", log=lambda line: None)
    for name in ("classes.json", "golden.npz", "config.resolved.yaml"):
        (run / name).write_bytes(b"\xff[")
        with pytest.raises(TinykitError):
            network_of_run(run)


def test_a_place_that_is_read_only(run, tmp_path, monkeypatch):
    from tinykit import atomic

    def no(path, data):
        raise OSError(30, os.strerror(30), str(path))

    monkeypatch.setattr(atomic, "write_bytes", no)
    with pytest.raises(ConfigError, match="Read-only file system"):
        deploy("arduino", "nano33ble", workdir=run, out=tmp_path / "out", log=lambda line: None)


def test_model_and_workdir_are_one_too_many(run, model):
    with pytest.raises(ConfigError, match="one of --workdir"):
        deploy("arduino", "nano33ble", workdir=run, model=model, log=lambda line: None)
    with pytest.raises(ModelError, match="no such folder"):
        deploy("arduino", "nano33ble", workdir=run / "none", log=lambda line: None)
