"""Whatever a model is called, its package has names that C, C++, Arduino and every file system take, and symbols of its own."""

import shutil
import subprocess

import pytest

from tinykit.boards.table import board
from tinykit.boards.toolchain import choose
from tinykit.deploy import deploy
from tinykit.errors import ModelError
from tinykit.packaging.lint import lint_zip
from tinykit.packaging.names import library_name, network_name
from tinykit.packaging.network import network_of_model, network_of_run


@pytest.mark.parametrize(
    "text,name,library",
    [
        ("kws_ref_model_int8", "kws_ref_model_int8", "KwsRefModelInt8Net"),
        ("my model", "my_model", "MyModelNet"),
        ("3d-net.v2", "net_3d_net_v2", "Net3dNetV2Net"),
        ("Größe 2.1", "grosse_2_1", "Grosse21Net"),
        ("café", "cafe", "CafeNet"),
        ("模型", "net", "NetNet"),
        ("", "net", "NetNet"),
        ("int", "net_int", "NetIntNet"),
        ("class", "net_class", "NetClassNet"),
        ("Arduino", "net_arduino", "NetArduinoNet"),
        ("string", "net_string", "NetStringNet"),
        ("tk_model", "net_tk_model", "NetTkModelNet"),
        ("mbed", "net_mbed", "NetMbedNet"),
    ],
)
def test_names(text, name, library):
    assert network_name(text) == name
    assert library_name(name) == library
    assert library.lower() != name.lower()


def test_long_names_are_cut():
    assert len(network_name("a" * 100)) == 31 and len(network_name("_".join("ab" * 40))) <= 31


@pytest.mark.parametrize("stem", ["my model", "3d-net", "größe", "int", "new"])
def test_a_library_of_any_name_passes_the_linter_and_compiles(stem, model, tmp_path):
    """As C99 and as C++14, with -Wall -Wextra -Werror, the header included from both."""
    path = tmp_path / f"{stem}.tflite"
    shutil.copy(model, path)
    folder = deploy("arduino", "nano33ble", model=path, out=tmp_path / "out", log=lambda line: None)
    (archive,) = folder.glob("*.zip")
    assert lint_zip(archive.read_bytes()) == []
    if shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("arm-none-eabi-g++ is not installed (Debian: apt-get install gcc-arm-none-eabi)")
    source = folder / archive.stem / "src"
    for suffix, command in (("c", ["arm-none-eabi-gcc", "-std=gnu11"]), ("cpp", ["arm-none-eabi-g++", "-std=gnu++14"])):
        use = tmp_path / f"use.{suffix}"
        use.write_text(
            f"#include <{archive.stem}.h>\nfloat first(const void *arena);\n"
            f"float first(const void *arena) {{ return {network_name(stem)}_score(arena, 0); }}\n"
        )
        command += ["-mcpu=cortex-m4", "-mthumb", "-ffreestanding", "-Wall", "-Wextra", "-Werror", f"-I{source}"]
        subprocess.run([*command, "-c", use, "-o", tmp_path / "use.o"], check=True)


def test_every_global_symbol_carries_the_networks_name(workdir, model, tmp_path):
    """Of the objects that a linker sees; so two packages link together, and none disturbs the sketch."""
    tools = choose()
    seen: set[str] = set()
    for given in ({"workdir": workdir}, {"model": model}):
        folder = deploy("arduino", "nano33ble", out=tmp_path / str(len(seen)), log=lambda line: None, **given)
        name = "small" if "workdir" in given else "tiny"
        for source in sorted(folder.glob("*/src/*.c")):
            flags = [*tools.compile_flags(board("nano33ble").core), "-Os", "-I.", f"-I{_runtime()}"]
            tools.run([*flags, "-c", source.name, "-o", source.with_suffix(".o").name], source.parent, source.name)
            symbols = _globals(source.with_suffix(".o"))
            assert symbols and all(symbol.startswith(f"{name}_") for symbol in symbols), symbols
            assert not symbols & seen
            seen |= symbols


def _runtime():
    from tinykit.boards.firmware import template_folder

    return template_folder() / "runtime"


def _globals(path) -> set[str]:
    """Names that the object file defines for others."""
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        return {s.name for s in table.iter_symbols() if s["st_info"]["bind"] != "STB_LOCAL" and s["st_shndx"] != "SHN_UNDEF"}


def test_a_run_under_another_name(workdir):
    network = network_of_run(workdir, "other")
    assert set(network.files) == {"other.h", "other.c"} and network.interface.name == "other"
    assert "small_" not in network.files["other.c"] and "SMALL_" not in network.files["other.h"]
    assert network.files["other.c"].count("other_invoke") == network_of_run(workdir).files["small.c"].count("small_invoke")


@pytest.mark.parametrize("name", ["Other", "3d", "a b", "string", "tk_x", "../x", "x" * 32])
def test_a_name_that_is_no_name_is_refused(name, workdir, model):
    with pytest.raises(ModelError, match="name"):
        network_of_run(workdir, name)
    with pytest.raises(ModelError, match="name"):
        network_of_model(model, name)
