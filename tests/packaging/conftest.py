"""Packages to test: of a small run and of a small `.tflite`, both made without training."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))

import nets  # noqa: E402
import numpy as np  # noqa: E402

from tinykit.boards.artefacts import write_engine  # noqa: E402
from tinykit.boards.pipeline import compile_graph  # noqa: E402
from tinykit.boards.table import board  # noqa: E402
from tinykit.export.golden import golden_npz  # noqa: E402
from tinykit.graph import ir, reference  # noqa: E402
from tinykit.graph.writer import write_tflite  # noqa: E402

CLASSES = ["up", 'say "hi"', "größe??/", "*/ end"]


def small_graph(seed: int = 3, outputs: int = 4) -> ir.Graph:
    """A few layers of each kind that networks for microcontrollers have."""
    net = nets.Net(seed)
    x = net.input((9, 8, 3))
    x = net.conv(x, out=6, stride=(2, 2), act="relu")
    x = net.depthwise(x)
    x = net.pool("average", x)
    net.dense(x, out=outputs)
    return net.done()


def make_run(folder: Path, name: str = "small") -> Path:
    """What a finished run leaves, as far as deploy looks at it."""
    graph = small_graph()
    folder.mkdir(parents=True)
    stored = np.random.default_rng(5).integers(-128, 128, (6, 9, 8, 3)).astype(np.int8)
    write_engine(compile_graph(graph, board("nano33ble"), folder, name=name, inputs=stored), folder / "engine")
    truth = reference.run_all(graph, {graph.inputs[0]: stored})[graph.outputs[0]]
    (folder / "golden.npz").write_bytes(golden_npz(stored, truth.astype(np.int8), model_sha256="0" * 64))
    (folder / "model.tflite").write_bytes(write_tflite(graph))
    (folder / "classes.json").write_text(json.dumps(CLASSES))
    (folder / "config.resolved.yaml").write_text("task: small\n")
    (folder / "metrics.json").write_text("{}")
    (folder / "DONE").write_text("")
    return folder


@pytest.fixture(scope="session")
def workdir(tmp_path_factory) -> Path:
    """A run whose path has a space in it."""
    return make_run(tmp_path_factory.mktemp("runs") / "my run")


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.tflite"
    path.write_bytes(write_tflite(small_graph(4, 5)))
    return path
