"""The MLPerf Tiny reference models, as their converters made them, on real inputs: reference executor against TFLM, every byte."""

import os
from pathlib import Path

import numpy as np
import pytest

from tinykit.graph import reference
from tinykit.graph.reader import read_tflite
from tinykit.graph.simplify import simplify
from tinykit.graph.writer import write_tflite
from tinykit.verify.compare import compare_tflm

DATA = Path(os.environ["TINYKIT_DATA"]) if "TINYKIT_DATA" in os.environ else None
pytestmark = pytest.mark.skipif(DATA is None, reason="set TINYKIT_DATA to the folder with reference_models/ and the test sets")


def load(name: str) -> np.ndarray:
    return np.load(DATA / f"{name}.npz")["x"]


def centred(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.int16) - 128).astype(np.int8)


def cifar() -> np.ndarray:
    return centred(load("cifar10_test")[:60])


def speech() -> np.ndarray:
    return load("kws01_mfcc")[:80]


def machines() -> np.ndarray:
    clips = load("ad01_toycar_logmel")[:20]
    return np.concatenate([np.stack([c[i : i + 5].reshape(-1) for i in range(196)]) for c in clips])


def persons() -> np.ndarray:
    return np.pad(centred(load("person_inria_64x32")[::50][:54]), ((0, 0), (16, 16), (32, 32), (0, 0)), mode="edge")


MODELS = {"ic_pretrainedResnet_int8": cifar, "kws_ref_model_int8": speech, "ad01_int8": machines, "vww_96_int8": persons}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_inner_tensors_are_tflms(name: str, tally) -> None:
    path, x = DATA / "reference_models" / f"{name}.tflite", MODELS[name]()
    graph = read_tflite(path)
    outputs = compare_tflm(graph, path.read_bytes(), x)
    inner = compare_tflm(graph, path.read_bytes(), x[:12], "all")
    written = compare_tflm(graph, None, x[:12], "all")
    for c in (outputs, inner, written):
        tally("TFLM vs reference", c.mismatches, c.elements)
    assert outputs.samples >= 50
    assert (outputs.mismatches, inner.mismatches, written.mismatches) == (0, 0, 0), (outputs, inner, written)
    assert inner.elements == written.elements > outputs.elements // len(x) * 12


@pytest.mark.parametrize("name", MODELS)
def test_simplified_graphs_are_tflms_too(name: str, tally) -> None:
    """The simplified graph against TFLM on the file as shipped, and the simplified file in TFLM against the simplified graph, inner tensors
    and
    logits included."""
    path, x = DATA / "reference_models" / f"{name}.tflite", MODELS[name]()
    simple = simplify(read_tflite(path)).graph
    shipped = compare_tflm(simple, path.read_bytes(), x)
    inner = compare_tflm(simple, None, x[:12], "all")
    tally("TFLM vs simplified reference", shipped.mismatches + inner.mismatches, shipped.elements + inner.elements)
    assert shipped.samples >= 50
    assert (shipped.mismatches, inner.mismatches) == (0, 0), (shipped, inner)


@pytest.mark.parametrize("name", MODELS)
def test_written_files_are_smaller_and_mean_the_same(name: str) -> None:
    path, x = DATA / "reference_models" / f"{name}.tflite", MODELS[name]()[:5]
    graph, shipped = read_tflite(path), path.read_bytes()
    written = write_tflite(graph)
    assert len(written) < len(shipped)
    again = read_tflite(written, graph.name)
    assert np.array_equal(reference.run(again, x), reference.run(graph, x))
    assert write_tflite(again) == written


def test_float_model_is_refused_in_one_line() -> None:
    from tinykit.errors import ModelError

    with pytest.raises(ModelError) as caught:
        read_tflite(DATA / "reference_models" / "ic_pretrainedResnet_fp32.tflite")
    assert len(caught.value.problems) == 1
    assert "a FLOAT32 model: none of its 38 tensors holds 8-bit integers; convert the model with full integer" in str(caught.value)
