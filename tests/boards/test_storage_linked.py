"""Coded weights never make the linked image larger than it is with dense ones, whatever the estimates say."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))

from nets import Net  # noqa: E402

from tinykit.boards.pipeline import compile_graph, layer_table  # noqa: E402
from tinykit.boards.storage import storage_json  # noqa: E402
from tinykit.boards.table import board  # noqa: E402
from tinykit.engine import decoders, storage  # noqa: E402
from tinykit.engine.storage import AS_IT_PAYS, DENSE, StorageWish  # noqa: E402
from tinykit.graph import ir  # noqa: E402

pytestmark = pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed")


def sparse_network(seed: int) -> ir.Graph:
    """Up to three convolutions and a dense layer, each with a share of zeros and a number of values of its own."""
    rng = np.random.default_rng(seed)
    net = Net(seed)
    x = net.input((int(rng.integers(4, 10)), int(rng.integers(4, 10)), int(rng.integers(1, 17))))
    for _ in range(rng.integers(1, 4)):
        side = int(rng.choice([1, 3]))
        x = net.conv(x, int(rng.integers(4, 41)), (side, side))
    net.dense(net.pool("average", x), 10)
    graph = net.done()
    for op in graph.ops:
        if isinstance(op, ir.Weighted):
            if rng.random() < 0.5:
                op.weights[...] = op.weights // (step := int(rng.choice([8, 16, 32]))) * step
            gone = int(rng.uniform(0, 0.95) * op.weights.size)
            op.weights.ravel()[np.argsort(np.abs(op.weights.astype(int)), axis=None)[:gone]] = 0
    return graph


def compiled(graph: ir.Graph, folder: Path, wish: StorageWish, lines: list[str] | None = None):
    log = (lambda line: None) if lines is None else lines.append
    return compile_graph(graph, board("nano33ble"), folder, name="net", toolchain="gcc", samples=1, storage=wish, log=log)


@pytest.mark.parametrize("seed", range(8))
def test_a_coded_image_is_smaller_or_there_is_none(seed, tmp_path) -> None:
    graph = sparse_network(seed)
    found, plain = (compiled(graph, tmp_path / name, wish) for name, wish in (("auto", AS_IT_PAYS), ("dense", StorageWish(DENSE))))
    assert found.build.sizes.total <= plain.build.sizes.total
    assert (found.build.sizes.total < plain.build.sizes.total) == (storage_json(found) is not None)


def test_coding_that_links_larger_is_given_up_with_its_reason(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(decoders, "CODE_BYTES", dict.fromkeys(decoders.CODE_BYTES, 0))
    monkeypatch.setattr(decoders, "SLICE_BYTES", 0)
    monkeypatch.setattr(storage, "_LEAST_SAVED", 1)
    net = Net(3)
    net.dense(net.pool("average", net.conv(net.input((6, 6, 4)), 8, (3, 3))), 4)
    graph = net.done()
    conv = next(op for op in graph.ops if isinstance(op, ir.Conv2D))
    conv.weights[..., :3] = 0
    lines: list[str] = []
    found = compiled(graph, tmp_path / "auto", StorageWish("auto", 100.0), lines)
    plain = compiled(graph, tmp_path / "dense", StorageWish(DENSE))
    assert found.build.sizes.total == plain.build.sizes.total and found.dense is None and storage_json(found) is None
    row = next(row for row in layer_table(found) if row["kind"] == "conv2d")
    assert row["storage"] == "dense" and "bytes larger with coded weights" in row["storage_reason"]
    assert any("larger with coded weights, so they stay dense" in line for line in lines)
