"""Exported files: they compile, read back, and are the same every time."""

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tinykit.errors import ModelError
from tinykit.export.arena import arena_json, memory_row
from tinykit.export.c_array import model_data
from tinykit.export.golden import golden_npz, read_golden
from tinykit.export.resolver import op_resolver_header, resolver_snippet
from tinykit.export.tables import COLUMNS, layers_csv
from tinykit.graph.costs import ArenaEstimate, LayerRow, StepMemory

TFLITE = b"\x1c\0\0\0TFL3" + bytes(range(256)) + b"\xff"
COMPILER = shutil.which("g++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no g++ on the PATH")

STUB = """
#pragma once
enum TfLiteStatus { kTfLiteOk, kTfLiteError };
namespace tflite {
template <unsigned int N> class MicroMutableOpResolver {
 public:
  TfLiteStatus AddConv2D() { return add(); }
  TfLiteStatus AddSoftmax() { return add(); }
  TfLiteStatus AddReshape() { return add(); }
  unsigned int used = 0;
 private:
  TfLiteStatus add() { return used++ < N ? kTfLiteOk : kTfLiteError; }
};
}
"""


def run_cpp(folder: Path, main: str, *sources: str) -> str:
    """Compiles main.cc and `sources` strictly, runs it, returns what it prints."""
    (folder / "main.cc").write_text(main)
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run([COMPILER, *flags, "-I", ".", "main.cc", *sources, "-o", "program"], cwd=folder, check=True, timeout=120)
    return subprocess.run([folder / "program"], capture_output=True, text=True, check=True, timeout=60).stdout


def test_model_data_holds_every_byte():
    files = model_data(TFLITE, "vww_96")
    assert set(files) == {"vww_96_data.h", "vww_96_data.cc"}
    body = files["vww_96_data.cc"].partition("{")[2]
    assert bytes(int(value, 16) for value in re.findall(r"0x([0-9a-f]{2})", body)) == TFLITE
    assert f"vww_96_data_size = {len(TFLITE)};" in files["vww_96_data.h"]
    assert files == model_data(TFLITE, "vww_96")


@needs_compiler
def test_model_data_compiles_and_is_aligned(tmp_path):
    for name, text in model_data(TFLITE).items():
        (tmp_path / name).write_text(text)
    main = """
    #include <cstdint>
    #include <cstdio>
    #include "model_data.h"
    #include "model_data.h"
    static_assert(sizeof(model_data) == model_data_size, "size");
    int main() {
      unsigned long sum = 0;
      for (unsigned int i = 0; i < model_data_size; ++i) sum = sum * 31 + model_data[i];
      std::printf("%u %lu", (unsigned)(reinterpret_cast<uintptr_t>(model_data) % 16), sum & 0xffffffffu);
    }
    """
    expected = 0
    for value in TFLITE:
        expected = (expected * 31 + value) & 0xFFFFFFFF
    assert run_cpp(tmp_path, main, "model_data.cc") == f"0 {expected}"


@pytest.mark.parametrize("name", ["", "9lives", "a-b", "int", "a__b", "_x", "é", "a;b"])
def test_names_that_c_cannot_say_are_refused(name):
    with pytest.raises(ModelError, match="cannot be used in C"):
        model_data(TFLITE, name)
    with pytest.raises(ModelError, match="cannot be used in C"):
        op_resolver_header(["AddConv2D"], name)


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\x1c\0\0\0TFL2abc"])
def test_what_is_no_tflite_is_refused(data):
    with pytest.raises(ModelError, match="not a .tflite"):
        model_data(data)


def test_resolver_counts_each_operator_once():
    header = op_resolver_header(["AddConv2D", "AddSoftmax", "AddConv2D"])
    assert "model_op_count = 2;" in header
    assert header.count("AddConv2D()") == 1
    assert "MicroMutableOpResolver<2>" in resolver_snippet(["AddConv2D", "AddSoftmax", "AddConv2D"])
    assert resolver_snippet([]) == ""


@needs_compiler
@pytest.mark.parametrize("ops", [["AddSoftmax"], ["AddConv2D", "AddReshape", "AddConv2D", "AddSoftmax"]])
def test_resolver_compiles_and_fits_exactly(tmp_path, ops):
    folder = tmp_path / "tensorflow/lite/micro"
    folder.mkdir(parents=True)
    (folder / "micro_mutable_op_resolver.h").write_text(STUB)
    (tmp_path / "op_resolver.h").write_text(op_resolver_header(ops, "kws"))
    main = """
    #include <cstdio>
    #include "op_resolver.h"
    int main() {
      kws_op_resolver resolver;
      int first = kws_add_ops(resolver) == kTfLiteOk, second = kws_add_ops(resolver) == kTfLiteOk;
      std::printf("%d %d %u", first, second, kws_op_count);
    }
    """
    assert run_cpp(tmp_path, main) == f"1 0 {len(set(ops))}"


def test_resolver_lists_every_operator_it_does_not_know():
    with pytest.raises(ModelError) as caught:
        op_resolver_header(["CONV_2D", "AddConv2D", "AddCustom", "AddX(); evil"])
    assert len(caught.value.problems) == 3
    with pytest.raises(ModelError, match="no operators"):
        op_resolver_header([])


def test_layers_csv_has_all_columns_of_a_layer_row():
    row = LayerRow("a, b", "conv2d", (28, 28, 1), (14, 14, 8), 14112, 4, 8, 36, 32, 64, 2352)
    assert tuple(vars(row)) == COLUMNS
    text = layers_csv([row, {"name": "mean", "kind": "mean", "output_shape": (), "macs": 0, "bias_bytes": None}])
    header, first, second = csv.reader(io.StringIO(text))
    assert tuple(header) == COLUMNS
    assert first == ["a, b", "conv2d", "28x28x1", "14x14x8", "14112", "4", "8", "36", "32", "64", "2352"]
    assert second == ["mean", "mean", "", "1", "0", "", "", "", "", "", ""]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.float32])
def test_golden_reads_back(tmp_path, dtype):
    x = np.arange(-60, 60).reshape(5, 4, 3, 2).astype(dtype)[:, ::-1]
    y = np.arange(15).reshape(5, 3).astype(np.int8)
    data = golden_npz(x, y, input_quantization=(0.1, -128), output_quantization=(1 / 256, -128), model_sha256="ab" * 32)
    assert data == golden_npz(x.copy(), y, input_quantization=(0.1, -128), output_quantization=(1 / 256, -128), model_sha256="ab" * 32)
    (tmp_path / "golden.npz").write_bytes(data)
    golden = read_golden(tmp_path / "golden.npz")
    assert golden.input.dtype == dtype
    np.testing.assert_array_equal(golden.input, x)
    np.testing.assert_array_equal(golden.output, y)
    assert golden.input_quantization == (0.1, -128)
    assert golden.output_quantization == (1 / 256, -128)
    assert golden.model_sha256 == "ab" * 32
    with np.load(io.BytesIO(data)) as archive:
        np.testing.assert_array_equal(archive["output"], y)


def test_golden_bytes_hold_no_time():
    data = golden_npz(np.zeros((1, 2), np.int8), np.zeros((1, 1), np.int8))
    header = data[10:14]  # time and date of the first entry: 00:00, 1980-01-01
    assert header == b"\x00\x00\x21\x00"


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((2, 3), np.int8), np.zeros((1, 3), np.int8)),
        (np.zeros((0, 3), np.int8), np.zeros((0, 3), np.int8)),
        (np.int8(3), np.int8(3)),
        (np.zeros((1, 3), np.float64), np.zeros((1, 3), np.int8)),
        (np.zeros((1, 3), np.int8), np.array([["a"]])),
    ],
)
def test_golden_refuses_what_no_board_could_check(x, y):
    with pytest.raises(ModelError, match="golden"):
        golden_npz(np.asarray(x), np.asarray(y))


def _npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def test_damaged_golden_is_reported_and_never_unpickled(tmp_path):
    good = golden_npz(np.zeros((4, 50), np.int8), np.zeros((4, 1), np.int8))
    damaged = bytearray(good)
    damaged[120:160] = bytes(40)
    arrays = dict(np.load(io.BytesIO(good)))
    path = tmp_path / "golden.npz"
    for data in (
        b"",
        b"hello",
        good[:200],
        bytes(damaged),
        _npz(input=np.array([{}], dtype=object)),
        _npz(**arrays | {"input_quantization": np.zeros(3)}),
        _npz(**arrays | {"input_quantization": np.array(["a", "b"])}),
        _npz(**arrays | {"model_sha256": np.array([200], np.uint8)}),
    ):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=re.escape(str(path))):
            read_golden(path)
    path.write_bytes(_npz(input=np.zeros(3)))
    with pytest.raises(ModelError, match="'output' is missing"):
        read_golden(path)
    with pytest.raises(ModelError, match="absent.npz"):
        read_golden(tmp_path / "absent.npz")


def test_arena_labels_each_figure():
    memory = [StepMemory("conv", {"x": 784, "y": 6272}, 7056), StepMemory("pool", {"y": 6272, "z": 8}, 6280)]
    found = arena_json(memory, host_bytes=9000, estimate=ArenaEstimate(7056, 800, 7856, "within 116 B"))
    assert found["host"]["bytes"] == 9000
    assert found["host"]["source"] == "measured(host)"
    assert found["estimate"]["bytes"] == 7856
    assert re.fullmatch(r"estimated\(.+, within 116 B\)", found["estimate"]["source"])
    assert found["peak"] == {"op": "conv", "bytes": 7056, "source": "counted(graph)"}
    assert found["ops"][1] == {"op": "pool", "bytes": 6280, "tensors": {"y": 6272, "z": 8}}
    assert json.loads(json.dumps(found)) == found


def test_arena_knows_nothing_without_figures():
    found = arena_json([])
    assert found["ops"] == []
    assert {value for part in ("host", "estimate", "peak") for value in found[part].values()} == {None}


def test_memory_row_takes_both_forms():
    row = {"op": "conv", "total": 3, "tensors": {"x": 1, "y": 2}}
    assert memory_row(StepMemory("conv", {"x": 1, "y": 2}, 3)) == row == memory_row(row)
