"""Small networks, images and devices for the tests of the hardware loop."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))

import nets  # noqa: E402

from tinykit.boards.emulator import EmulatedBoard  # noqa: E402
from tinykit.boards.firmware import build_firmware  # noqa: E402
from tinykit.boards.image import Image  # noqa: E402
from tinykit.boards.pipeline import firmware_sources  # noqa: E402
from tinykit.boards.serial_harness import BoardStream, Device  # noqa: E402
from tinykit.boards.table import board  # noqa: E402
from tinykit.engine.generate import build_engine  # noqa: E402
from tinykit.engine.memory import random_samples  # noqa: E402
from tinykit.graph import ir  # noqa: E402
from tinykit.graph.writer import write_tflite  # noqa: E402

BOARDS = ("nano33ble", "nucleo_l4r5zi")
needs_compiler = pytest.mark.skipif(
    not shutil.which("arm-none-eabi-gcc") and not importlib.util.find_spec("ziglang"),
    reason="neither arm-none-eabi-gcc nor ziglang is installed",
)
needs_pyserial = pytest.mark.skipif(not importlib.util.find_spec("serial"), reason="pyserial is not installed")


def digits_like(seed: int = 7) -> ir.Graph:
    """8 x 8 pixels of 0..1 to ten scores, as the digits configuration gives them; the outputs of real digits differ."""
    net = nets.Net(seed)
    x = net.input((8, 8, 1), scale=1 / 255, zero_point=-128)
    x = net.conv(x, out=4, stride=(2, 2), act="relu")
    net.softmax(net.dense(x, out=10))
    return net.done()


def task_like(task: str, seed: int = 7) -> ir.Graph:
    """A network with the input and output of a task of MLPerf Tiny."""
    net = nets.Net(seed)
    if task == "ad01":
        y = net.dense(net.dense(net.input((640,), scale=0.39, zero_point=89), out=8, act="relu"), out=640)
        net.graph.tensors[y] = dataclasses.replace(net[y], scale=nets.f32(0.41))
        return net.done()
    shape, classes = {"ic01": ((32, 32, 3), 10), "vww01": ((96, 96, 3), 2), "kws01": ((49, 10, 1), 12)}[task]
    x = net.conv(net.input(shape), out=4, kernel=(3, 3), stride=(3, 3), act="relu")
    net.dense(net.pool("average", x, window=(3, 3), stride=(3, 3)), out=classes)
    return net.done()


def model_file(folder: Path, graph: ir.Graph, name: str = "tiny") -> Path:
    """`graph` as a .tflite file."""
    path = folder / f"{name}.tflite"
    path.write_bytes(write_tflite(graph))
    return path


def monitor_elf(folder: Path, graph: ir.Graph, name: str, task: str | None = None, toolchain: str | None = None) -> Path:
    """The monitor image of `graph`."""
    engine = build_engine(graph, "tiny")
    sources = firmware_sources(engine, random_samples(graph, 1), task)
    return build_firmware(sources, board(name), folder, kind="monitor", optimize="-Os", toolchain=toolchain).elf


@functools.cache
def _image(path: Path) -> Image:
    return Image.load(path)


@contextmanager
def device_of(elf: Path, name: str) -> Iterator[Device]:
    """The image on the emulated board in this process, without a port: as quick as it gets."""
    device = Device(BoardStream(EmulatedBoard(board(name), _image(elf))), timeout=20)
    device.wait_ready()
    yield device
