"""The board table: figures that are known by heart, reserves, sources."""

import pytest

from tinykit.boards.table import board, board_names
from tinykit.errors import ConfigError

KIB = 1024


@pytest.mark.parametrize(
    ("name", "core", "mhz", "flash", "ram"),
    [
        ("nano33ble", "cortex-m4f", 64, 1024, 256),
        ("disco_f746ng", "cortex-m7f", 216, 1024, 320),
        ("nucleo_f446re", "cortex-m4f", 180, 512, 128),
        ("nucleo_f401re", "cortex-m4f", 84, 512, 96),
        ("disco_l475_iot1", "cortex-m4f", 80, 1024, 96),
        ("nucleo_l4r5zi", "cortex-m4f", 120, 2048, 640),
        ("nucleo_h743zi", "cortex-m7f", 400, 2048, 512),
    ],
)
def test_figures(name, core, mhz, flash, ram):
    entry = board(name)
    assert (entry.core, entry.clock_hz) == (core, mhz * 10**6)
    assert (entry.flash_bytes, entry.ram_bytes) == (flash * KIB, ram * KIB)


def test_the_arduino_bootloader_is_reserved():
    budget = board("nano33ble").budget()
    assert budget.flash == 0x100000 - 0x10000
    assert budget.ram == 256 * KIB
    assert budget.notes == ("nano33ble: what the arduino target takes of RAM is not known and not subtracted",)
    assert board("nano33ble").budget("bare").flash == 1024 * KIB


def test_the_host_has_no_limit():
    assert (board("host").budget().flash, board("host").budget().ram) == (None, None)


def test_unknown_names():
    with pytest.raises(ConfigError, match="unknown board 'nano33'; did you mean 'nano33ble'"):
        board("nano33")
    with pytest.raises(ConfigError, match="unknown target 'ardiuno'; did you mean 'arduino'"):
        board("nano33ble").budget("ardiuno")


@pytest.mark.parametrize("name", board_names())
def test_every_entry_is_whole(name):
    entry = board(name)
    assert entry.title
    assert set(entry.sources) == {"clock_hz", "memory"}
    assert all(entry.sources.values())
    assert entry.reserves
    assert all(reserve.source for reserve in entry.reserves.values())
    spans = sorted((region.base, region.base + region.size) for region in entry.memory)
    assert all(first[1] <= second[0] for first, second in zip(spans, spans[1:]))
    assert all(region.kind in ("rx", "rw") for region in entry.memory)
