"""The generated C of one small network, byte for byte.

After an intended change: TINYKIT_UPDATE_GOLDEN=1 python -m pytest tests/engine/test_golden_c.py
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))

import nets  # noqa: E402

from tinykit.engine.generate import build_engine  # noqa: E402
from tinykit.engine.lower import plan_problem  # noqa: E402
from tinykit.graph.plan.planner import make_plan  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"


def network():
    """Two convolutions that share a function, two pointwise ones that share another, a residual sum, a pool, a dense layer."""
    net = nets.Net(11)
    x = net.input((7, 5, 2))
    x = net.conv(x, out=3, act="relu6")
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
    assert text.count("TK_KERNEL void tk_conv2d_3x3(") == 1  # two layers of different shapes, one function
    assert text.count("    tk_conv2d_3x3(arena + ") == 2
    assert "out_w = 5" in text  # equal in both, so a constant of the function
    body = text[text.index("TK_KERNEL void tk_depthwise_3x3(") :]
    signature = body[: body.index("{")]
    assert "int32_t" not in signature  # used once: everything but the two addresses is a constant


def test_quantisation_constants_stay_within_nine_bytes_a_channel() -> None:
    graph = network()
    engine = build_engine(graph)
    channels = sum(len(op.bias) for op in graph.ops if hasattr(op, "bias"))
    pads = engine.files["golden.c"].count("tk_c_pad")
    assert engine.table_bytes <= 9 * channels + 16 * pads


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
