"""The generated C of one small network, byte for byte.

After an intended change: TINYKIT_UPDATE_GOLDEN=1 python -m pytest tests/engine/test_golden_c.py
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))

import engine_host  # noqa: E402
import nets  # noqa: E402

from tinykit.engine.generate import build_engine, c_identifier, check_name  # noqa: E402
from tinykit.engine.lower import plan_problem  # noqa: E402
from tinykit.errors import ModelError  # noqa: E402
from tinykit.graph import ir  # noqa: E402
from tinykit.graph.plan.planner import make_plan  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"


def network():
    """Two convolutions that share a function, two pointwise ones, a residual sum, a pool, a dense layer."""
    net = nets.Net(11)
    x = net.input((7, 5, 3))
    x = net.conv(x, out=3)
    y = net.conv(x, out=5, kernel=(1, 1))
    y = net.depthwise(y, stride=(2, 1))
    y = net.conv(y, out=3, kernel=(1, 1), per_channel=False)
    x = net.conv(x, out=3, stride=(2, 1), spread=2.0)
    x = net.binary("add", x, y)
    x = net.pool("average", x)
    x = net.dense(x, out=4)
    graph = net.done()
    graph.name = "golden"
    return graph


@pytest.mark.parametrize("name", ["golden.h", "golden.c"])
def test_generated_text(name: str) -> None:
    text = build_engine(network()).files[name]
    if os.environ.get("TINYKIT_UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(text, encoding="utf-8")
    expected = (GOLDEN / name).read_text(encoding="utf-8")
    assert text == expected, f"{name} changed; if that was intended: TINYKIT_UPDATE_GOLDEN=1 python -m pytest {__file__}"


def test_generation_is_a_pure_function() -> None:
    first, second = build_engine(network()), build_engine(network())
    assert first.files == second.files and first.plan == second.plan


def test_a_function_is_shared_and_its_common_values_are_constants() -> None:
    text = build_engine(network()).files["golden.c"]
    assert text.count("TK_KERNEL void tk_conv2d_3x3_rests_p3_c3(") == 1  # two layers of different shapes, one function
    assert text.count("    tk_conv2d_3x3_rests_p3_c3(arena + ") == 2
    assert "out_w = 5" in text  # equal in both, so a constant of the function
    body = text[text.index("TK_KERNEL void tk_depthwise_3x3_by_") :]
    signature = body[: body.index("{")]
    assert "int32_t" not in signature  # used once: everything but the two addresses is a constant


def test_quantisation_constants_stay_within_ten_bytes_a_channel() -> None:
    """Nine, and in pairs of channels ten; the last channel of an odd number is in two pairs, and taps come in fours."""
    graph = network()
    engine = build_engine(graph)
    weighted = [op for op in graph.ops if isinstance(op, ir.Weighted)]
    channels = sum(len(op.bias) + len(op.bias) % 2 for op in weighted)
    weights = sum((len(op.bias) + 1) * (op.weights[0].size + 3) if isinstance(op, ir.Conv2D) else op.weights.size for op in weighted)
    pads = engine.files["golden.c"].count("tk_c_pad")
    assert engine.weight_bytes + engine.table_bytes <= weights + 10 * channels + 16 * pads


def test_hostile_names_do_not_reach_the_code() -> None:
    graph = network()
    graph.name = '*/ #error "x" /* \\\n??/'
    graph.ops[0].name = "*/ exit(1); /*\n#define int"
    problem = plan_problem(graph)
    assert make_plan(problem).arena_bytes > 0
    text = build_engine(graph).files
    assert set(text) == {"error_x.h", "error_x.c"}
    for line in text["error_x.c"].splitlines():
        assert not line.startswith("#define int")
        assert "exit(1)" not in line or line.strip().startswith("/* ") and line.strip().endswith("*/") and line.count("*/") == 1


NAMES = {
    "string": "net_string", "stdint": "net_stdint", "tk": "net_tk", "tk_model": "net_tk_model",
    "main": "main", "int8": "int8", "test-1": "test_1", "8": "net_8", "Ä": "net", "": "net",
}  # fmt: skip


@pytest.mark.parametrize("name, identifier", NAMES.items())
def test_names(name: str, identifier: str) -> None:
    """No network's header hides one of C or of tinykit."""
    assert c_identifier(name) == identifier
    if identifier == f"net_{name}" and name.isidentifier():
        with pytest.raises(ModelError, match="is taken"):
            check_name(name)


@engine_host.needs_cc
def test_a_network_called_string_compiles(tmp_path: Path) -> None:
    graph = network()
    graph.name = "string"
    engine = build_engine(graph)
    engine_host.write_files(engine, tmp_path)
    engine_host.run_cc([*engine_host.STRICT, "-I", str(tmp_path), "-c", str(tmp_path / f"{engine.name}.c"), "-o", str(tmp_path / "net.o")])
