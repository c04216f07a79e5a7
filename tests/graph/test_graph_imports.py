"""What importing the graph drags in, each in a clean interpreter."""

import subprocess
import sys

import pytest

RUN_REFERENCE = """
import sys
import numpy as np
from tinykit.graph import build, ir, reference
a, b = ir.Tensor("a", (4,), 0.5, 3), ir.Tensor("b", (4,), 0.25, -7)
g = ir.Graph({"a": a, "b": b}, [ir.Requantize("r", ("a",), "b", *build.requantize_parameters(a, b))], ("a",), ("b",))
g.validate()
y = reference.run(g, np.array([[1, 2, 3, 4]], np.int8))
if y.tolist() != [[-11, -9, -7, -5]]:
    sys.exit(f"got {y}")
"""
IMPORT_READER = "import sys\nfrom tinykit.graph import reader, writer\nimport tinykit.verify.compare, tinykit.verify.litert\n"
READ = IMPORT_READER + "from tinykit.graph.schema import schema\nschema()\n"
FORBIDDEN = "print(sorted({m.split('.')[0] for m in sys.modules} & set(%r)))\n"


@pytest.mark.parametrize(
    "code, forbidden",
    [
        (RUN_REFERENCE, ["tensorflow", "keras", "tflite_micro", "ai_edge_litert", "flatbuffers"]),
        (IMPORT_READER, ["tensorflow", "keras", "tflite_micro", "ai_edge_litert", "flatbuffers"]),
        (READ, ["tensorflow", "keras"]),
    ],
)
def test_nothing_heavy_is_imported(code: str, forbidden: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", code + FORBIDDEN % forbidden], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_reference_does_not_import_the_reader() -> None:
    code = RUN_REFERENCE + "print([m for m in sys.modules if m in ('tinykit.graph.reader', 'tinykit.graph.schema')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.strip() == "[]", done.stderr
