"""The simplifier on the MLPerf Tiny reference models (TINYKIT_DATA names the folder that holds them)."""

import os
from pathlib import Path

import numpy as np
import pytest
from simplify_graphs import inputs_for, mismatches

from tinykit.graph import ir
from tinykit.graph.reader import read_tflite
from tinykit.graph.simplify import simplify

DATA = os.environ.get("TINYKIT_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="TINYKIT_DATA is not set")


def model(name: str) -> ir.Graph:
    return read_tflite(Path(str(DATA)) / "reference_models" / f"{name}.tflite")


def people(count: int) -> np.ndarray:
    """Photographs spread over the set, edge-padded from 64x32 to the 96x96 that the model wants, as stored int8."""
    with np.load(Path(str(DATA)) / "person_inria_64x32.npz") as archive:
        images = archive["x"]
    chosen = images[np.linspace(0, len(images) - 1, count).astype(int)].astype(np.int64)
    return np.pad(chosen, ((0, 0), (16, 16), (32, 32), (0, 0)), mode="edge") - 128


def test_vww_loses_half_its_work_and_no_byte() -> None:
    graph = model("vww_96_int8")
    result = simplify(graph)
    assert result.removed.macs == (7_489_664, 3_727_313)
    assert result.removed.weight_bytes == (208_112, 29_066)
    assert len(result.graph.ops) == len(graph.ops)
    logits = graph.ops[-1].inputs[0]
    assert isinstance(graph.ops[-1], ir.Softmax)
    assert logits in result.kept
    x = np.concatenate([people(50), inputs_for(graph, count=2)])
    for i in range(0, len(x), 27):
        wrong, compared = mismatches(graph, result, x[i : i + 27])
        assert not wrong
        assert compared > len(x[i : i + 27]) * 200_000
    assert set(result.kept) == {t.name for t in graph.activations()}


@pytest.mark.parametrize("name", ["kws_ref_model_int8", "ic_pretrainedResnet_int8", "ad01_int8"])
def test_the_others_have_nothing_to_lose(name: str) -> None:
    graph = model(name)
    result = simplify(graph)
    assert result.removed.macs[0] == result.removed.macs[1]
    wrong, compared = mismatches(graph, result, inputs_for(graph, count=8))
    assert not wrong
    assert compared
    assert str(result.removed) == "nothing to simplify"
