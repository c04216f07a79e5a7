"""A CMake project: the network as a library target, and programs for this computer and for the bare board."""

from tinykit.boards.firmware import board_header
from tinykit.boards.linker import STACK_BYTES, layout, linker_script
from tinykit.boards.toolchain import Toolchain
from tinykit.packaging.package import Package


def files(package: Package) -> dict[str, str | bytes]:
    """A CMake project, which is also a Zephyr module: `add_subdirectory` gives the target `<name>`; on its own it builds a self-test and a
    serial program for this computer and, with its toolchain file, for the bare board.

    Example: python -m tinykit.deploy --model kws.tflite --target cmake --board disco_f746ng
    """
    found: dict[str, str | bytes] = {
        "CMakeLists.txt": package.render("cmake/CMakeLists.txt.jinja", sources=package.sources),
        "README.md": package.render("cmake/README.md.jinja", tflm_root="" if package.tflm is None else " -DTFLM_ROOT=FOLDER"),
    }
    found |= {f"src/{path}": text for path, text in package.library_files().items()}
    found |= {f"apps/{path}": text for path, text in package.app_files(".c").items()}
    found |= {f"host/{name}": package.plain(f"host/{name}") for name in ("main.c", "tk_port.h")}
    if package.tflm is None:
        found |= {f"zephyr/{path}": text for path, text in _zephyr_files(package).items()}
    else:
        found["cmake/tflm.cmake"] = package.plain("cmake/tflm.cmake")
    return found | {f"board/{path}": text for path, text in _board_files(package).items()}


def _board_files(package: Package) -> dict[str, str]:
    """What brings up the bare board: the same sources as those of `tinykit.compile`'s images."""
    board = package.board
    stack = max(STACK_BYTES, -(-(package.measured.stack + 1024) // 8) * 8) if package.tflm is None else 2 * STACK_BYTES
    driver = board.uart.driver if board.uart is not None else ""
    common = ("startup.c", "runtime.c", "runtime/string.h", "tk_port.h", "port.c", f"port_{driver}.c")
    return {
        **{name: package.plain(f"common/{name}") for name in common},
        "board_main.c": package.plain("cmake/board_main.c"),
        "tk_board.h": board_header(board),
        "linker.ld": linker_script(layout(board, "bare", stack), exact=True, constructors=package.tflm is not None),
        "toolchain.cmake": package.render(
            "cmake/toolchain.cmake.jinja", core_flags=" ".join(Toolchain("gcc", "", ()).core_flags(board.core))
        ),
    }


def _zephyr_files(package: Package) -> dict[str, str]:
    """What makes the folder a Zephyr module, and a sample that uses it."""
    return {
        **{name: package.render(f"zephyr/{name}.jinja") for name in ("module.yml", "Kconfig", "CMakeLists.txt")},
        "sample/CMakeLists.txt": package.render("zephyr/sample_CMakeLists.txt.jinja"),
        **{f"sample/{name}": package.plain(f"zephyr/{name}") for name in ("prj.conf", "main.c", "tk_port.h")},
    }
