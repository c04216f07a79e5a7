"""The runners: shapes, several inputs, processes, arenas, and clear words when an interpreter refuses or is missing."""

import builtins
import sys

import numpy as np
import pytest
from nets import Net

from tinykit.errors import ModelError
from tinykit.graph import reference
from tinykit.graph.writer import write_tflite
from tinykit.verify.compare import compare_runner
from tinykit.verify.litert import LiteRtRunner
from tinykit.verify.runner import OracleMissing, captured_stderr
from tinykit.verify.tflm import TflmRunner


def net_and_file() -> tuple[Net, bytes]:
    net = Net(2)
    net.conv(net.input((9, 9, 4), scale=0.1), 8, act="relu")
    net.done()
    return net, write_tflite(net.graph)


def test_run_returns_every_output_for_every_sample() -> None:
    net, file = net_and_file()
    x = net.samples(7)
    (y,) = TflmRunner(file).run(x)
    assert y.shape == (7, 9, 9, 8) and y.dtype == np.int8
    assert np.array_equal(y, reference.run(net.graph, x))


def test_two_processes_give_the_same() -> None:
    net, file = net_and_file()
    x, runner = net.samples(9), TflmRunner(file)
    assert np.array_equal(runner.run(x, processes=2)[0], runner.run(x)[0])


def test_several_inputs() -> None:
    net = Net(4)
    net.binary("add", net.input((5, 3)), net.input((5, 3)))
    graph = net.done()
    a, b = (net.rng.integers(-128, 128, (6, 5, 3)).astype(np.int8) for _ in range(2))
    (y,) = TflmRunner(write_tflite(graph)).run([a, b])
    expected = reference.run_all(graph, dict(zip(graph.inputs, (a, b))))[graph.outputs[0]]
    assert np.array_equal(y, expected)


def test_arena_is_found_and_is_the_smallest() -> None:
    _, file = net_and_file()
    runner = TflmRunner(file)
    least = runner.smallest_arena()
    assert 9 * 9 * 12 < runner.arena_used <= least
    assert TflmRunner(file, least).arena_size == least
    with pytest.raises(ModelError, match="TFLM refuses the model with an arena of"):
        TflmRunner(file, least - 16)


def test_large_arena_is_reached_by_growing() -> None:
    net = Net(1)
    net.conv(net.input((300, 300, 8)), 8, (1, 1))
    net.done()
    runner = TflmRunner(write_tflite(net.graph))
    assert runner.arena_used > 2 * 300 * 300 * 8


@pytest.mark.parametrize("x", [np.zeros((2, 9, 9, 4), np.float32), np.zeros((2, 9, 4, 9), np.int8), np.zeros((0, 9, 9, 4), np.int8)])
def test_wrong_input_is_refused(x: np.ndarray) -> None:
    with pytest.raises(ModelError):
        TflmRunner(net_and_file()[1]).run(x)


def test_refusal_carries_tflms_words() -> None:
    net = Net(3)
    x = net.input((2, 2, 1))
    net.concat([x] * 11, 2)
    with pytest.raises(ModelError, match="TFLM refuses the model"):
        TflmRunner(write_tflite(net.done()))


@pytest.mark.parametrize("runner, package", [(TflmRunner, "tflite_micro"), (LiteRtRunner, "ai_edge_litert")])
def test_missing_oracle_says_how_to_install_it(runner: type, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, file = net_and_file()
    real = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith(package):
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(OracleMissing, match="pip install"):
        runner(file)


def test_litert_reads_written_files() -> None:
    pytest.importorskip("ai_edge_litert")
    total = bad = 0
    for seed in range(6):
        net = Net(seed)
        a = net.conv(net.input((7, 7, 3), scale=0.1), 4, act="relu", bits=[8, 4][seed % 2])
        b = net.binary("add", a, net.depthwise(a))
        c = net.pool("max", b, (2, 2), (2, 2))
        d = net.table("logistic", c)
        net.transpose(d, (2, 0, 1))
        graph = net.done()
        file = write_tflite(graph, keep_names=True, debug_outputs=True)
        result = compare_runner(graph, LiteRtRunner(file), [op.output for op in graph.ops], net.samples(4))
        bad, total = bad + result.mismatches, total + result.elements
    print(f"LiteRT reference kernels: {bad} of {total} elements differ")
    assert bad < total / 100


def test_stderr_is_given_back() -> None:
    import os

    with captured_stderr() as lines:
        os.write(2, b"inside\n")
    assert lines == ["inside"]
    assert sys.stderr is not None


@pytest.mark.parametrize(
    ("system", "machine", "words"),
    [
        ("linux", "x86_64", "install it: `pip install tflite-micro=="),
        ("linux", "aarch64", "there are wheels for Linux on x86-64 only: run the same command there"),
        ("darwin", "arm64", "there are wheels for Linux on x86-64 only"),
        ("win32", "AMD64", "there are wheels for Linux on x86-64 only"),
    ],
)
def test_how_to_get_tflm_depends_on_the_system(system: str, machine: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinykit.verify import tflm

    monkeypatch.setattr(tflm.sys, "platform", system)
    monkeypatch.setattr(tflm.platform, "machine", lambda: machine)
    assert tflm.how_to_install().startswith(words)
