"""What a compiled network says about coded weights: bytes and instructions before and after, per layer and in all, and why not."""

import csv
import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))

from nets import Net  # noqa: E402

from tinykit.boards.artefacts import layers_text  # noqa: E402
from tinykit.boards.pipeline import compile_graph, layer_table, report_json  # noqa: E402
from tinykit.boards.storage import storage_json, storage_lines  # noqa: E402
from tinykit.boards.table import board  # noqa: E402
from tinykit.engine.storage import DENSE, StorageWish  # noqa: E402
from tinykit.graph import ir  # noqa: E402
from tinykit.report.sections import layer_rows  # noqa: E402

needs_gcc = pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed")


def network(zeros: float) -> ir.Graph:
    """A convolution that is worth coding, and a dense layer that is not."""
    net = Net(8)
    x = net.conv(net.input((9, 9, 16)), 64, (3, 3))
    x = net.pool("average", x)
    net.dense(x, 10)
    graph = net.done()
    for op in graph.ops:
        if isinstance(op, ir.Weighted):
            op.weights.ravel()[np.argsort(np.abs(op.weights.astype(int)), axis=None)[: int(zeros * op.weights.size)]] = 0
    return graph


@needs_gcc
def test_bytes_and_instructions_before_and_after(tmp_path, tally) -> None:
    wish = StorageWish("bitmap", 0.4)
    compiled = compile_graph(network(0.8), board("nano33ble"), tmp_path, name="net", toolchain="gcc", samples=2, storage=wish)
    tally("coded weights, compiled", compiled.verification.mismatches, compiled.verification.elements)
    plain = compile_graph(network(0.8), board("nano33ble"), tmp_path, name="net", toolchain="gcc", samples=2, storage=StorageWish(DENSE))
    totals, rows = storage_json(compiled), {row["kind"]: row for row in layer_table(compiled)}
    before = {row["kind"]: row for row in layer_table(plain)}
    assert totals is not None and totals["dense"] is not None
    assert (totals["layers_coded"], totals["layers_dense"]) == (1, 1)
    assert totals["dense"]["flash"] == plain.build.sizes.total > compiled.build.sizes.total
    assert totals["dense"]["instructions"] == plain.verification.run.instructions < compiled.verification.run.instructions
    conv = rows["conv2d"]
    assert conv["weights_stored"] <= 0.45 * conv["weights_dense"] == 0.45 * 64 * 144
    assert conv["instructions_dense"] == before["conv2d"]["instructions"]
    assert 0 < conv["decode_instructions"] <= conv["instructions"] - conv["instructions_dense"]
    assert conv["decode_instructions"] == totals["decode_instructions"]
    assert "limit 0.4" in rows["fully_connected"]["storage_reason"] or "too few" in rows["fully_connected"]["storage_reason"]
    text = "\n".join(storage_lines(compiled))
    assert "1 of 2 layers coded" in text and conv["storage_reason"] in text and "emulated(nano33ble)" in text
    assert report_json(compiled, model="m", source="s")["storage"] == totals
    assert storage_json(plain) is None and storage_lines(plain) == [] and plain.dense is None
    written = {row["kind"]: row for row in csv.DictReader(io.StringIO(layers_text(list(rows.values()))))}
    assert written["conv2d"]["storage"] == conv["storage"] and written["average_pool"]["storage"] == ""


def test_the_report_shows_coding_bytes_and_instructions() -> None:
    coded = {"storage": "ans", "weights_dense": 2000, "weights_stored": 500, "instructions_dense": 70000, "instructions": 80000}
    first, second, third = layer_rows([coded, {"storage": "dense", "storage_reason": "why"}, {}])
    assert first["stored"] == "ans: 2,000 → 500 B, 70,000 → 80,000 instructions"
    assert (second["stored"], second["stored_why"], third["stored"]) == ("dense", "why", "")
