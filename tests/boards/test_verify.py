"""The verification of linked images can fail: planted faults in the network's code are each found."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))

import nets  # noqa: E402

from tinykit.boards.emulator import EmulatedBoard  # noqa: E402
from tinykit.boards.firmware import build_firmware  # noqa: E402
from tinykit.boards.image import Image  # noqa: E402
from tinykit.boards.memory import BoardFault  # noqa: E402
from tinykit.boards.pipeline import compile_graph, firmware_sources  # noqa: E402
from tinykit.boards.table import board  # noqa: E402
from tinykit.boards.verify import Verification, verify  # noqa: E402
from tinykit.engine.generate import Engine, build_engine  # noqa: E402
from tinykit.engine.memory import random_samples  # noqa: E402


def network():
    net = nets.Net(5)
    x = net.input((6, 7, 3))
    x = net.conv(x, out=6, act="relu")
    x = net.depthwise(x)
    x = net.conv(x, out=4, kernel=(1, 1))
    net.dense(x, out=5)
    return net.done()


def planted(tmp_path: Path, file: str = "", before: str = "", after: str = "", name: str = "nano33ble") -> tuple[Engine, Verification]:
    """Verifies an image whose generated text was changed."""
    engine = build_engine(network(), "net")
    samples = random_samples(engine.graph, 3)
    sources = firmware_sources(engine, samples)
    if file:
        assert before in sources[file], sources[file]
        sources[file] = sources[file].replace(before, after, 1)
    build = build_firmware(sources, board(name), tmp_path, toolchain="zig", target="bare", optimize="-Os")
    return engine, verify(EmulatedBoard(board(name), Image.load(build.elf)), engine, samples)


def test_an_unchanged_image_passes(tmp_path, tally):
    engine, found = planted(tmp_path)
    tally("emulated board vs reference", found.mismatches, found.elements)
    assert (found.mismatches, found.stray) == (0, None)
    sizes = [t.size for t in engine.graph.activations()][1:]
    assert found.elements == 3 * (sum(sizes) + sizes[-1])  # every tensor, the output twice


def test_a_wrong_bias_is_found(tmp_path):
    engine = build_engine(network(), "net")
    text = engine.files["net.c"]
    line = text[text.index("tk_w_0_pairs[") :].split("\n")[1].strip()  # begins with the bias of channel 0
    first = line.split(",")[0]
    _, found = planted(tmp_path, "net.c", line, line.replace(first, str(int(first) + 9000), 1))
    assert found.mismatches > 0 and found.first is not None and engine.graph.ops[0].output in found.first


def test_an_arena_one_byte_too_small_is_found(tmp_path):
    engine = build_engine(network(), "net")
    ends = max(sum(engine.where(t.name)) for t in engine.graph.activations())
    _, found = planted(tmp_path, "net.h", f"NET_ARENA_SIZE {engine.plan.arena_bytes}", f"NET_ARENA_SIZE {ends - 1}")
    assert found.stray is not None and "behind the end of the arena" in found.stray


def test_a_write_behind_the_arena_is_found(tmp_path):
    """Beyond everything that the program owns, but within the board's RAM, where no bus would complain."""
    _, found = planted(
        tmp_path, "net.c", "    int8_t *const arena = memory;\n", "    int8_t *const arena = memory;\n    arena[30000] = 1;\n"
    )
    assert found.mismatches == 0 and found.stray is not None


def test_a_write_to_flash_faults(tmp_path):
    poke = "    int8_t *const arena = memory;\n    *(volatile int8_t *)&tk_w_0_pairs[0] = 1;\n"
    with pytest.raises(BoardFault, match="read-only|flash"):
        planted(tmp_path, "net.c", "    int8_t *const arena = memory;\n", poke)


def test_a_write_beyond_the_boards_ram_faults(tmp_path):
    poke = "    int8_t *const arena = memory;\n    *(volatile int8_t *)0x20040000 = 1;\n"
    with pytest.raises(BoardFault, match="0x20040000"):
        planted(tmp_path, "net.c", "    int8_t *const arena = memory;\n", poke)


@pytest.mark.parametrize("name", ["nano33ble", "disco_f746ng", "nucleo_f446re", "nucleo_l4r5zi"])
def test_the_same_sources_on_four_boards(tmp_path, name, tally):
    compiled = compile_graph(network(), board(name), tmp_path, toolchain="zig", samples=3)
    tally(f"emulated {name} vs reference", compiled.verification.mismatches, compiled.verification.elements)
    assert compiled.verification.mismatches == 0 and compiled.problems() == []
