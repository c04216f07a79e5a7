"""Coded weights in the engine: decoders in C against NumPy, whole networks byte for byte, and which layers are coded."""

import ctypes
import dataclasses
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bundles import make_case, run_on_board, run_on_host
from engine_host import CC, STRICT, compare, needs_cc, random_inputs
from nets import Net

from tinykit.boards.table import board
from tinykit.coding.lut import index_bits
from tinykit.coding.schemes import SCHEMES
from tinykit.engine import decoders
from tinykit.engine.call import Records, Table
from tinykit.engine.generate import build_engine
from tinykit.engine.goal import BALANCED, SIZE, SPEED
from tinykit.engine.select import Preference
from tinykit.engine.storage import DENSE, StorageWish
from tinykit.engine.support import HELPERS, with_needs
from tinykit.graph import ir
from tinykit.graph.plan.replay import replay_graph

ANY = StorageWish(limit=1000)
"""Whatever saves flash."""


def rounded(graph: ir.Graph, zeros: float, values: int = 256) -> ir.Graph:
    """The network with a share of its weights 0, and what is left moved to so many values."""
    for op in graph.ops:
        if isinstance(op, ir.Weighted):
            step = 256 // values
            weights = op.weights.astype(np.int64) // step * step
            order = np.argsort(np.abs(weights), axis=None)
            weights.ravel()[order[: int(zeros * weights.size)]] = 0
            op.weights = weights.astype(np.int8)
    return graph


def network(seed: int, zeros: float = 0.75, values: int = 256) -> ir.Graph:
    """Convolutions with an even and an odd number of channels, a pointwise one in place, a depthwise and two dense layers."""
    net = Net(seed)
    x = net.input((12, 11, 6))
    x = net.conv(x, 30, (3, 3), stride=(2, 2))
    x = net.conv(x, 61, (1, 1))
    x = net.depthwise(x)
    x = net.conv(x, 45, (3, 2), padding="valid")
    x = net.dense(x, 37, per_channel=True)
    x = net.dense(x, 11)
    return rounded(net.done(x), zeros, values)


def coded(engine) -> dict[str, str]:
    """Coding by op, of layers that have one."""
    return {call.op: call.storage.scheme for call in engine.calls if call.storage is not None and call.storage.scheme is not None}


# ---------------------------------------------------------------- decoders in C


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> ctypes.CDLL:
    """Every decoder, with all of its parameters."""
    folder = tmp_path_factory.mktemp("decoders")
    functions = (*decoders.CODED, decoders.WEAVE)
    used = with_needs({"tk_dsp", *(helper for f in functions for helper in f.support)})
    parts = ["#include <stdint.h>\n#include <string.h>\n#define TK_INLINE static inline __attribute__((unused))\n"]
    parts += [text for name, text in HELPERS.items() if name in used]
    for f in functions:
        parameters = ", ".join(f"{ctype} {name}" for ctype, name in f.parameters)
        parts.append(f"void tk_{f.name}({parameters});\nvoid tk_{f.name}({parameters})\n{{\n{f.body}}}\n")
    (folder / "decoders.c").write_text("\n".join(parts))
    for standard in (["-x", "c", *STRICT], ["-x", "c++", "-Wall", "-Wextra", "-Werror"]):
        command = [str(CC), *standard, "-O1", "-shared", "-fPIC", str(folder / "decoders.c"), "-o", str(folder / "decoders.so")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0 or "cc1plus" in done.stderr, done.stderr[:4000]
        if done.returncode == 0 and standard[1] == "c":
            (folder / "decoders.so").rename(folder / "c.so")
    return ctypes.CDLL(str(folder / "c.so"))


def decode_in_c(library: ctypes.CDLL, name: str, values: np.ndarray) -> np.ndarray:
    """`values` coded by NumPy, decoded by C in the order and in the memory that the engine uses."""
    scheme = SCHEMES[name]
    book = scheme.book(values)
    if book is None:
        pytest.skip("cannot be coded so")
    part = scheme.encode(book, values)
    space = np.full(len(values) + decoders.SLACK + 8 + scheme.coder.workspace(book), 0x5A, np.uint8)
    table = -(-(len(values) + decoders.SLACK) // 4) * 4
    stream, mask = (np.frombuffer(data, np.uint8) for data in (part.stream + bytes(scheme.coder.slack), part.mask + b"\0"))
    shared = np.frombuffer(book + b"\0", np.uint8)

    def at(array: np.ndarray, offset: int = 0) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data + offset)

    tail = len(values) - part.coded
    if scheme.coder.name == "lut":
        library.tk_unlut(at(space, tail), at(stream), at(shared), part.coded, index_bits(book))
    elif scheme.coder.name != "bytes":
        decode = library.tk_unhuffman if scheme.coder.name == "huffman" else library.tk_unans
        decode(at(space, tail), at(stream), at(shared), at(space, table), part.coded)
    if scheme.bitmap:
        source = at(stream) if scheme.coder.name == "bytes" else at(space, tail)
        library.tk_unbitmap(at(space), at(mask), source, len(values))
    assert (space[len(values) + decoders.SLACK : table] == 0x5A).all()
    return space[: len(values)].view(np.int8)


@needs_cc
@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 31, 33, 257, 4999])
@pytest.mark.parametrize(("zeros", "values"), [(0.0, 3), (0.75, 200), (0.5, 16), (0.95, 64)])
def test_decoders_in_c_are_those_of_numpy(library, tally, name: str, count: int, zeros: float, values: int) -> None:
    rng = np.random.default_rng(count)
    weights = np.where(rng.random(count) < zeros, 0, rng.integers(-values // 2, values // 2, count)).astype(np.int8)
    wrong = int((decode_in_c(library, name, weights) != weights).sum())
    tally("decoders in C vs NumPy", wrong, count)
    assert wrong == 0


@needs_cc
@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(("records", "words", "before", "after"), [(1, 1, 0, 0), (5, 3, 2, 3), (4, 8, 1, 0), (7, 5, 0, 2)])
def test_weaving_puts_weights_back_where_they_were(library, tally, joined: bool, records: int, words: int, before: int, after: int) -> None:
    rng = np.random.default_rng(words)
    pairs = rng.integers(-127, 128, (records, 2 * words, 2))
    halves = (pairs[..., 0] + 256 * pairs[..., 1] if joined else (pairs[..., 0] & 255) | (pairs[..., 1] & 255) << 8) & 0xFFFF
    middle = (halves[:, 0::2] | halves[:, 1::2] << 16).astype(np.uint32).view(np.int32)
    ends = [rng.integers(-(1 << 31), 1 << 31, (records, n)).astype(np.int32) for n in (before, after)]
    table = np.concatenate([ends[0], middle, ends[1]], axis=1).ravel()
    found = decoders.extract(Table("w", table, Records(before + words + after, 2, before, after, joined)))
    assert found is not None
    np.testing.assert_array_equal(found.values, pairs.ravel())
    space = np.zeros(len(table) + 2, np.int32)
    space.view(np.int8)[4 * len(table) - len(found.values) : 4 * len(table)] = found.values
    constants = np.append(found.constants.ravel(), 0).astype(np.int32)
    start = space.ctypes.data + 4 * len(table) - len(found.values)
    out, weights, own = (ctypes.c_void_p(p) for p in (space.ctypes.data, start, constants.ctypes.data))
    library.tk_weave(out, weights, own, records, before, words, after, int(joined))
    tally("woven words", int((space[: len(table)] != table).sum()), len(table))
    np.testing.assert_array_equal(space[: len(table)], table)


# ---------------------------------------------------------------- whole networks

CHOICES = ["auto", *SCHEMES]


def cases(goal=BALANCED) -> list:
    """The same networks in every coding, some with room for all weights at once and some without."""
    found = []
    for i, choice in enumerate(CHOICES):
        for values in (256, 16):
            wish = StorageWish(choice, 1000, 0.02)
            graph = network(10 * i, 0.8, values)
            found.append(make_case(graph, f"n{i}_{values}", 2, i, Preference(goal, storage=wish)))
    return found


@needs_cc
@pytest.mark.parametrize("goal", [BALANCED, SIZE], ids=lambda goal: goal.name)
def test_networks_are_exact_in_every_coding(tally, tmp_path: Path, goal) -> None:
    every = cases(goal)
    assert set(SCHEMES) == {scheme for case in every for scheme in coded(case.engine).values()}
    assert max(call.storage.slices for case in every for call in case.engine.calls if call.storage) > 1
    found = run_on_host(every, tmp_path, sanitize=True)
    tally(f"coded weights, host, {goal.name}", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first
    for case in every:
        assert not replay_graph(case.engine.graph, case.engine.problem, case.engine.plan)


@pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="arm-none-eabi-gcc is not installed")
@pytest.mark.parametrize("name", ["nano33ble", "disco_f746ng"])
def test_networks_are_exact_on_the_emulated_board(tally, tmp_path: Path, name: str) -> None:
    found = run_on_board(cases(), board(name), tmp_path)
    tally(f"coded weights, emulated {name}", found.mismatches, found.elements)
    assert found.mismatches == 0, found.first


@needs_cc
def test_slices_give_what_all_at_once_gives(tally) -> None:
    """A layer whose decoded weights are much larger than its tensors: even and odd channels, in as few slices as there is room for."""
    for channels in (64, 61):
        net = Net(channels)
        x = net.input((6, 6, 16))
        graph = rounded(net.done(net.conv(x, channels, (3, 3))), 0.7)
        engine = build_engine(graph, "net", Preference(dataclasses.replace(BALANCED, spare=0), storage=ANY))
        (call,) = engine.calls
        assert call.storage is not None and call.storage.slices > 2
        found = compare(engine, random_inputs(graph))
        tally("sliced layers, host", found.mismatches, found.elements)
        assert found.mismatches == 0, found.first
        dense = build_engine(graph, "net", Preference(storage=StorageWish(DENSE)))
        assert engine.plan.arena_bytes - dense.plan.arena_bytes < call.storage.dense_bytes / 3


# ---------------------------------------------------------------- which layers


def reasons(graph: ir.Graph, wish: StorageWish, goal=BALANCED) -> dict[str, str]:
    """Why each layer is stored as it is."""
    engine = build_engine(graph, "net", Preference(goal, storage=wish))
    return {call.op: call.storage.reason for call in engine.calls if call.storage is not None}


def test_a_sparse_network_takes_less_flash_and_says_how_much() -> None:
    graph = network(1, 0.75)
    dense, stored = (build_engine(graph, "net", Preference(storage=wish)) for wish in (StorageWish(DENSE), ANY))
    known = [call.storage for call in stored.calls if call.storage is not None]
    saved = sum(own.dense_bytes - own.bytes for own in known)
    assert len(coded(stored)) >= 3
    assert stored.weight_bytes <= dense.weight_bytes - saved + 4 * len(known)
    assert all(own.bytes <= 0.45 * own.dense_bytes for own in known if own.scheme is not None and own.dense_bytes > 2000)
    assert all(call.storage is None for call in dense.calls)


def test_weights_as_training_leaves_them_stay_dense() -> None:
    graph = network(2, 0.0)
    assert not coded(build_engine(graph, "net"))
    assert build_engine(graph, "net").files == build_engine(graph, "net", Preference(storage=StorageWish(DENSE))).files
    assert any("bits of entropy" in reason for reason in reasons(graph, StorageWish()).values())


def test_a_layer_that_would_slow_down_too_much_stays_dense_and_says_so() -> None:
    graph = network(3, 0.75)
    found = reasons(graph, StorageWish(limit=0.25))
    dense = [op.name for op in graph.ops if isinstance(op, ir.FullyConnected)]
    assert all("of the layer's own instructions, limit 0.25" in found[name] for name in dense[:1])
    assert not coded(build_engine(graph, "net", Preference(storage=StorageWish(limit=0))))


def test_a_layer_that_would_save_too_little_stays_dense() -> None:
    graph = network(4, 0.3)
    assert any("too few" in reason or "entropy" in reason for reason in reasons(graph, StorageWish("bitmap", 1000)).values())
    assert all("would add" in r or "entropy" in r or "few" in r for r in reasons(network(4, 0), StorageWish("bitmap", 1000, 0)).values())


def test_ram_is_not_spent_where_speed_is_wanted_and_there_is_none() -> None:
    net = Net(5)
    graph = rounded(net.done(net.conv(net.input((5, 5, 32)), 64, (3, 3))), 0.9)
    needed = build_engine(graph, "net", Preference(SPEED, storage=StorageWish(DENSE))).plan.arena_bytes
    engine = build_engine(graph, "net", Preference(SPEED, needed + 100, storage=ANY))
    assert engine.plan.arena_bytes <= needed + 100
    assert "arena would take" in next(call.storage.reason for call in engine.calls if call.storage)


def test_where_flash_is_scarce_ram_is_spent_for_it() -> None:
    net = Net(8)
    graph = rounded(net.done(net.conv(net.input((8, 8, 16)), 64, (3, 3))), 0.75)
    dear, cheap = (Preference(storage=dataclasses.replace(ANY, limit=0.25).within(*budget)) for budget in ((2**20, 2**18), (2**16, 2**18)))
    usual, scarce = (build_engine(graph, "net", preference) for preference in (dear, cheap))
    assert scarce.weight_bytes < usual.weight_bytes and scarce.plan.arena_bytes > usual.plan.arena_bytes
    assert dear.storage.price == ANY.price, "a byte of RAM is never worth more than where nobody asks"
    assert (
        ANY.within(2**16, None) == ANY.within(2**16, 0) == ANY.within(2**16, -400) == ANY and ANY.within(None, 2**18).price == ANY.price
    ), "no budget, no price"
    room = (usual.plan.arena_bytes + scarce.plan.arena_bytes) // 2
    tight = build_engine(graph, "net", Preference(storage=dataclasses.replace(ANY, limit=0.25).within(room // 4, room)))
    assert tight.plan.arena_bytes <= room, "nor is more spent than there is"
    assert StorageWish("bitmap").within(2**18, 2**18).price == 0.5 and StorageWish("bitmap").within(2**16, 2**18).price == 0.25


def test_packed_weights_are_left_alone() -> None:
    net = Net(6)
    graph = rounded(net.done(net.conv(net.input((9, 9, 16)), 32, (3, 3), bits=4)), 0.0, 256)
    assert reasons(graph, ANY) == {"op0": "weights of 4 bits are packed already"}


def test_the_choice_is_the_same_every_time() -> None:
    graph = network(7, 0.8, 16)
    assert build_engine(graph, "net", Preference(storage=ANY)).files == build_engine(graph, "net", Preference(storage=ANY)).files
