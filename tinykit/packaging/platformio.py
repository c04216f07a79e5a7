"""A PlatformIO project with the network as a library of its own."""

import tinykit
from tinykit.boards.table import board, firmware_boards
from tinykit.packaging.package import Package, as_json
from tinykit.packaging.tflm import ARDUINO_LIBRARY


def files(package: Package) -> dict[str, str | bytes]:
    """A PlatformIO project for the Arduino framework: an environment a board, the network in `lib/`, SerialInfer and SelfTest.

    Example: python -m tinykit.deploy --workdir runs/digits --target platformio --board nano33ble
    """
    library = f"lib/{package.library}"
    found: dict[str, str | bytes] = {
        "platformio.ini": package.render(
            "platformio/platformio.ini.jinja", boards=[board(name) for name in firmware_boards()], library_needed=_needed(package)
        ),
        "README.md": package.render("platformio/README.md.jinja"),
        "src/tk_port.h": package.plain("arduino/tk_port.h"),
        f"{library}/library.json": as_json(library_json(package)),
    }
    found |= {f"{library}/src/{path}": text for path, text in package.library_files().items()}
    return found | {f"src/{path}": text for path, text in package.app_files(".cpp").items()}


def _needed(package: Package) -> str | None:
    """The library that the engine needs, as PlatformIO's registry calls it."""
    return f"spaziochirale/{ARDUINO_LIBRARY.name}@{ARDUINO_LIBRARY.version}" if package.tflm is not None else None


def library_json(package: Package) -> dict[str, object]:
    """The manifest by which PlatformIO knows the library."""
    return {
        "name": package.library,
        "version": tinykit.__version__,
        "description": f"The neural network '{package.values()['title']}' for microcontrollers, made by tinykit",
        "keywords": "neural network, tinyml",
        "frameworks": "*",
        "platforms": "*",
        "headers": f"{package.library}.h",
        "build": {"srcDir": "src", "includeDir": "src", "flags": ["-ffp-contract=off"]},
    }
