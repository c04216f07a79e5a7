"""From generated C to firmware.elf (one inference after reset) or monitor.elf (talks over the UART)."""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

import tinykit
from tinykit.boards.checks import check_fits, check_instructions, check_placement
from tinykit.boards.image import Image
from tinykit.boards.linker import STACK_BYTES, Layout, layout, linker_script
from tinykit.boards.sizes import Sizes, measure
from tinykit.boards.table import Board
from tinykit.boards.toolchain import Toolchain, check_optimize, choose
from tinykit.config.catalogue import check_name
from tinykit.errors import ConfigError

KINDS = {"bench": "firmware", "monitor": "monitor"}
"""Name of each kind's program, without .elf."""

MONITOR_HEADERS = ("monitor.h", "monitor_data.h", "monitor_text.h", "tk_text.h")
"""Of firmware_template/common: the serial monitor, but for what differs from board to board."""

BAUD = 115200
STACK_PAINT = 0xA5C35A3C

_TEMPLATE_OPTIMIZE = "-Os"
"""Start-up and monitor are not what is measured: small."""


@dataclass(frozen=True)
class Build:
    """A program for a board.

    Attributes:
        elf: the linked program.
        board, target: what it was linked for.
        kind: 'bench' or 'monitor'.
        toolchain: 'gcc' or 'zig'.
        compiler: the compiler's version line.
        flags: flags of the generated sources, core and optimisation included.
        sizes: what it takes.
        stack_bytes: RAM that is reserved for the stack.
    """

    elf: Path
    board: str
    target: str
    kind: str
    toolchain: str
    compiler: str
    flags: tuple[str, ...]
    sizes: Sizes
    stack_bytes: int


def build_firmware(
    sources: Mapping[str, str], board: Board, out: Path, *, kind: str = "bench", toolchain: Toolchain | str | None = None,
    target: str | None = None, optimize: str = "-O3", defines: Sequence[str] = (), test_hooks: bool = False, stack_bytes: int = STACK_BYTES,
) -> Build:  # fmt: skip
    """Builds `out`/firmware.elf or `out`/monitor.elf; what it was made from is left in `out`/firmware or `out`/monitor.

    Args:
        sources: the generated files, path -> text: tk_model.h, and C files with the model and its self-test vectors.
        kind: 'bench' or 'monitor'.
        toolchain: a toolchain or its name; None: GCC if it is installed, else zig.
        target: a key of the board's reserves; None: the first.
        optimize: level for the generated sources, one of toolchain.OPTIMIZE_LEVELS.
        defines: macros for all sources, 'NAME' or 'NAME=VALUE'.
        test_hooks: the monitor has commands that write and read any address, for tests.
        stack_bytes: RAM kept for the stack.

    Raises:
        BudgetError: the program does not fit the board; says what is missing, in bytes.
        BuildError: the compiler refuses the sources.
        CheckError: the program has instructions that the board's core has not.
        ConfigError: wrong arguments, or no toolchain.
    """
    check_name("kind of firmware", kind, list(KINDS))
    check_optimize(optimize)
    place = layout(board, target, stack_bytes)
    tools = toolchain if isinstance(toolchain, Toolchain) else choose(toolchain)
    _check_sources(sources)
    name = KINDS[kind]
    macros = [*defines, *([f"TK_STACK_PAINT=0x{STACK_PAINT:x}u"] if kind == "monitor" else []), *(["TK_TEST_HOOKS"] if test_hooks else [])]
    flags = (*tools.compile_flags(board.core), *(f"-D{macro}" for macro in macros))
    with _staging(out, name) as folder:
        template = _write(folder, sources, board, place, kind)
        model = sorted(path for path in sources if path.endswith(".c"))
        levels = {f"common/{path}": _TEMPLATE_OPTIMIZE for path in template} | {f"model/{path}": optimize for path in model}
        objects = _compile(folder, tools, flags, board, levels)
        elf = folder / f"{name}.elf"
        script = ["-T", "linker.ld", *(str(path.relative_to(folder)) for path in objects.values())]
        tools.run([*script, *tools.link_flags(board.core), "-o", elf.name], folder, f"{name}.elf for {board.name}")
        image = replace(Image.load(elf), path=out / elf.name)  # for messages: where it will be
        check_fits(image, place)
        check_placement(image, board)
        check_instructions(image)
        sizes = measure(image, _functions(objects[f"model/{path}"] for path in model))
    return Build(out / f"{name}.elf", board.name, place.target, kind, tools.name, tools.version, (*flags, optimize), sizes, stack_bytes)


def template_folder() -> Path:
    """The C sources that every firmware has: of an installed package, or of a source tree."""
    try:
        spec = importlib.util.find_spec("tinykit._data.firmware_template")
    except ModuleNotFoundError:
        spec = None
    shipped = list(spec.submodule_search_locations or ()) if spec is not None else []
    for folder in (*map(Path, shipped), Path(tinykit.__file__).resolve().parent.parent / "firmware_template"):
        if (folder / "common" / "startup.c").is_file():
            return folder / "common"
    raise ConfigError("the firmware's C sources (firmware_template/common) are not where tinykit was installed; install it again")


def _check_sources(sources: Mapping[str, str]) -> None:
    if "tk_model.h" not in sources:
        raise ConfigError(f"sources of the model: expected a file tk_model.h, got {', '.join(sorted(sources)) or 'none'}")
    for path in sources:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise ConfigError(f"sources of the model: expected paths below one folder, got {path!r}")


@contextmanager
def _staging(out: Path, name: str) -> Iterator[Path]:
    """A folder to build in; if the block succeeds it becomes `out`/`name`, with the program moved out of it to `out`/`name`.elf.

    Raises ConfigError where it cannot be written: a full disk, a folder under the program's name.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".tmp-{os.getpid()}-", dir=out))
    except OSError as problem:
        raise ConfigError(f"{out}: expected a folder that can be written to: {problem.strerror or problem}") from None
    try:
        yield folder
        for unwanted in folder.rglob("*.o"):
            unwanted.unlink()
        folder.chmod(0o755)
        if (out / name).exists():
            os.replace(out / name, folder.with_name(f"{folder.name}-old"))
        os.replace(folder / f"{name}.elf", out / f"{name}.elf")
        os.replace(folder, out / name)
    except OSError as problem:
        raise ConfigError(f"{out}: cannot be written to: {problem.strerror or problem}") from None
    finally:
        for left in (folder, folder.with_name(f"{folder.name}-old")):
            shutil.rmtree(left, ignore_errors=True)


def _write(folder: Path, sources: Mapping[str, str], board: Board, place: Layout, kind: str) -> list[str]:
    """Writes all sources below `folder`: model/, common/, tk_board.h, linker.ld. Returns the C files of common/ that `kind` takes."""
    for path, text in sources.items():
        file = folder / "model" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    names = ["startup.c", "runtime.c", f"{kind}_main.c"]
    headers = ["runtime/string.h"]
    if kind == "monitor" and board.uart is not None:
        names += ["port.c", f"port_{board.uart.driver}.c"]
        headers += [*MONITOR_HEADERS, "tk_port.h"]
    shared = template_folder()
    for name in (*names, *headers):
        file = folder / "common" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared / name, file)
    (folder / "linker.ld").write_text(linker_script(place), encoding="utf-8")
    if kind == "monitor":
        (folder / "common" / "tk_board.h").write_text(board_header(board), encoding="utf-8")
    return names


def board_header(board: Board) -> str:
    """tk_board.h: what the port files need of the board table. Raises ConfigError for a board without a UART (the host)."""
    uart = board.uart
    if uart is None or board.reset_hz is None:
        raise ConfigError(f"board {board.name!r}: expected a board with a UART; there is no monitor for it")
    setup = "".join(f" \\\n    write(0x{address:08x}u, 0x{clear:x}u, 0x{bits:x}u)" for address, clear, bits in uart.setup)
    return f"""/* {board.name}: made by tinykit from its board table. */
#ifndef TK_BOARD_H
#define TK_BOARD_H

#define TK_BOARD_NAME "{board.name}"
#define TK_CPU_HZ {board.reset_hz}u /* after a reset: no PLL is set up */
#define TK_UART_BASE 0x{uart.base:08x}u /* {uart.name} */
#define TK_UART_DIVIDER {uart.divider(BAUD)}u /* {BAUD} baud from {uart.clock_hz} Hz */

/* Writes that connect the UART: (address, bits to clear, bits to set). */
#define TK_UART_SETUP(write){setup}

#endif
"""


def _compile(folder: Path, tools: Toolchain, flags: Sequence[str], board: Board, levels: Mapping[str, str]) -> dict[str, Path]:
    """Compiles each C file of `levels` at its optimisation level; returns its object file by its path below `folder`."""
    include = ["-Imodel", "-Icommon", "-Icommon/runtime"]
    objects = {}
    for path, level in levels.items():
        own = tools.runtime_flags if path == "common/runtime.c" else ()
        objects[path] = folder / Path(path).with_suffix(".o")
        tools.run(
            [*flags, level, *own, *include, "-c", path, "-o", str(objects[path].relative_to(folder))], folder, f"{path} for {board.name}"
        )
    return objects


def _functions(objects: Iterator[Path]) -> set[str]:
    """Names of the functions that object files define."""
    names = set()
    for path in objects:
        with path.open("rb") as stream:
            for section in ELFFile(stream).iter_sections():
                if isinstance(section, SymbolTableSection):
                    names |= {s.name for s in section.iter_symbols() if s["st_info"]["type"] == "STT_FUNC" and s["st_shndx"] != "SHN_UNDEF"}
    return names
