"""Tables of 4 bytes a channel: decoding gives the very multipliers and shifts, and networks that use them give the reference's bytes."""

import dataclasses

import numpy as np
import pytest
from bundles import make_case, run_on_board, run_on_host
from engine_host import needs_cc
from narrow_samples import layers
from nets import Net

from tinykit.boards.table import board
from tinykit.engine import compact, registry
from tinykit.engine.generate import build_engine
from tinykit.engine.goal import BALANCED, SIZE
from tinykit.engine.select import Preference
from tinykit.graph import build, ir
from tinykit.graph.plan.replay import replay, replay_graph


def short(scale: np.ndarray) -> np.ndarray:
    """Float32 of 6 significant bits."""
    mantissa, exponent = np.frexp(np.asarray(scale, np.float64))
    return np.ldexp(np.round(mantissa * 64) / 64, exponent).astype(np.float32)


def shortened(graph: ir.Graph) -> ir.Graph:
    """The network with weight scales as training makes them."""
    for op in graph.ops:
        if isinstance(op, ir.Weighted):
            x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
            op.weight_scale = short(op.weight_scale)
            op.multiplier, op.shift = build.weight_multipliers(x, op.weight_scale, y, len(op.bias))
    return graph


def deep(seed: int, channels: int = 96) -> ir.Graph:
    """Four layers with enough channels that compact tables pay; biases of the last ones fit 16 bits, those of the first do not."""
    net = Net(seed)
    x = net.input((24, 23, 8))
    x = net.conv(x, channels // 8, (3, 3), stride=(2, 2), bits=4)
    x = net.conv(x, channels, (3, 3), stride=(3, 3), bits=4)
    x = net.depthwise(x, bits=4)
    x = net.conv(x, channels + 1, (1, 1), bits=4)
    graph = shortened(net.done(x))
    first, *rest = [op for op in graph.ops if isinstance(op, ir.Weighted)]
    first.bias = first.bias + 40_000
    for op in rest:
        op.bias = np.clip(op.bias, -200, 200)
        op.weights = np.clip(op.weights, -3, 3)
    return graph


# ---------------------------------------------------------------- codes


def test_every_short_scale_has_a_code(tally) -> None:
    """Random scales of layers: what is decoded is what TFLM's formula gives, in double and rounded to 31 bits."""
    rng, wrong, missing = np.random.default_rng(0), 0, 0
    for _ in range(2_000):
        scale = short(np.exp(rng.uniform(-10, 0, 24)))
        x, y = (ir.Tensor(n, (1,), scale=float(np.float32(np.exp(rng.uniform(-4, 2))))) for n in "xy")
        multiplier, shift = build.weight_multipliers(x, scale, y, 24)
        codes = compact.encode(scale, x.scale / y.scale, multiplier.astype(np.int64), -shift.astype(np.int64))
        missing += codes is None
        if codes is not None:
            decoded, right = codes.decoded()
            wrong += int((decoded != multiplier).sum() + (right != -shift).sum())
    tally("decoded multipliers and shifts", wrong, 2_000 * 48)
    assert wrong == 0
    assert missing <= 2  # a double rounded twice and a rate of 52 bits may disagree, once in a hundred thousand layers


@pytest.mark.parametrize(
    "spoil",
    [
        lambda scale, multiplier, shift: (np.nextafter(scale, np.float32(1)), multiplier, shift),  # more than 6 bits
        lambda scale, multiplier, shift: (
            scale * np.float32(2.0) ** np.array([0, -32] + [0] * (len(scale) - 2), np.float32),
            multiplier,
            shift,
        ),
        lambda scale, multiplier, shift: (scale, multiplier + (np.arange(len(scale)) == 3), shift),
        lambda scale, multiplier, shift: (scale, multiplier, shift + (np.arange(len(scale)) == 3)),
        lambda scale, multiplier, shift: (np.zeros_like(scale), multiplier, shift),
    ],
    ids=["long scale", "range of exponents", "another multiplier", "another shift", "zero"],
)
def test_what_has_no_code_is_refused(spoil) -> None:
    scale = short(np.linspace(0.001, 0.03, 12))
    x, y = ir.Tensor("x", (1,), scale=0.5), ir.Tensor("y", (1,), scale=0.25)
    multiplier, shift = (a.astype(np.int64) for a in build.weight_multipliers(x, scale, y, 12))
    assert compact.encode(scale, 2.0, multiplier, -shift) is not None
    assert (
        compact.encode(*(spoil(scale, multiplier, -shift)[i] if i != 1 else 2.0 for i in (0, 1)), *spoil(scale, multiplier, -shift)[1:])
        is None
    )


# ---------------------------------------------------------------- networks


@pytest.fixture(autouse=True)
def _portable(monkeypatch) -> None:
    """Only the portable kernels' tables are compact."""
    monkeypatch.setattr(registry, "FAST", {})


def source(graph: ir.Graph) -> str:
    engine = build_engine(graph, "net")
    return engine.files["net.c"]


@needs_cc
@pytest.mark.parametrize("seed", range(3))
def test_networks_on_the_host(seed, tally, tmp_path) -> None:
    case = make_case(deep(seed), f"n{seed}", 6, seed)
    text = case.engine.files[f"n{seed}.c"]
    assert "tk_tables(" in text and "uint8_t tk_q" in text and "int16_t tk_q" in text and "int32_t tk_q" in text
    assert replay(case.engine.problem, case.engine.plan) == []
    assert replay_graph(case.graph, case.engine.problem, case.engine.plan) == []
    found = run_on_host([case], tmp_path, sanitize=True, optimize="-O1")
    tally("compact tables, host", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


def preferring(flash_per_ram: float) -> Preference:
    """Compact tables where they save so many bytes of flash for each of RAM."""
    return Preference(dataclasses.replace(BALANCED, flash_per_ram=flash_per_ram))


@needs_cc
def test_packed_tensors_too(tally, tmp_path, monkeypatch) -> None:
    """Every kernel at 4 and 2 bits of weights, however little is saved."""
    monkeypatch.setattr("tinykit.engine.compact._HELPER_BYTES", -1_000_000)
    cases = [make_case(shortened(layers(8, w, o, False)), f"n{w}{o}", 6, 1, preferring(0)) for w in (4, 2) for o in (8, 4)]
    assert all("tk_tables(" in c.engine.files[f"{c.engine.name}.c"] for c in cases)
    found = run_on_host(cases, tmp_path)
    tally("compact tables, packed, host", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


@pytest.mark.parametrize("name", ["nano33ble", "disco_f746ng"])
def test_networks_on_a_board(name, tally, tmp_path) -> None:
    found = run_on_board([make_case(deep(7), "n", 4, 7)], board(name), tmp_path)
    tally(f"compact tables, emulated {name}", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


def test_flash_is_saved_and_counted() -> None:
    graph = deep(1)
    portable = {op.name: registry.portable(graph, op) for op in graph.ops}
    assert set(compact.offer(graph, portable).variants) == set(portable)
    engine = build_engine(graph, preference=Preference(SIZE))
    assert engine.table_bytes < 9 * (12 + 96 + 96 + 97) * 0.7


def test_few_channels_stay_as_they_are() -> None:
    """Where the code would take more than the tables save."""
    assert "tk_tables(" not in source(deep(1, channels=8))


def test_scales_of_other_tools_stay_as_they_are() -> None:
    graph = deep(1)
    for op in graph.ops:
        x, y = graph.tensors[op.inputs[0]], graph.tensors[op.output]
        op.weight_scale = np.nextafter(op.weight_scale, np.float32(1))
        op.multiplier, op.shift = build.weight_multipliers(x, op.weight_scale, y, len(op.bias))
    assert "tk_tables(" not in source(graph)


def test_ram_is_not_spent_for_little() -> None:
    """The wider arena must be worth its flash."""
    graph = deep(1)
    plain, small = (build_engine(graph, preference=preferring(limit)) for limit in (10_000, BALANCED.flash_per_ram))
    assert plain.table_bytes > small.table_bytes
    assert plain.plan.arena_bytes < small.plan.arena_bytes
