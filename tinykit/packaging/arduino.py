"""An Arduino library with example sketches."""

from tinykit.packaging.live import live_sketches, live_sources
from tinykit.packaging.package import Package
from tinykit.packaging.tflm import ARDUINO_LIBRARY

SKETCHES = {"SerialInfer": "serial_infer", "SelfTest": "self_test", "Monitor": "monitor"}
"""Example -> the program that it is elsewhere."""


def files(package: Package) -> dict[str, str | bytes]:
    """An Arduino library: `<Name>Net/`, and the same as a ZIP for Sketch > Include Library > Add .ZIP Library.

    Example: python -m tinykit.deploy --workdir runs/digits --target arduino --board nano33ble
    """
    live = next((path.partition("/")[0] for path in live_sketches(package)), None)
    found: dict[str, str | bytes] = {
        "library.properties": package.render(
            "arduino/library.properties.jinja", version=_version(), sentence=_sentence(package), tflm_library=ARDUINO_LIBRARY.name
        ),
        "keywords.txt": package.render("arduino/keywords.txt.jinja"),
        "README.md": package.render("arduino/README.md.jinja", live=live),
    }
    found |= {f"src/{path}": text for path, text in (package.library_files() | live_sources(package)).items()}
    found |= {f"examples/{path}": text for path, text in sketches(package).items()}
    return {f"{package.library}/{path}": text for path, text in found.items()}


def sketches(package: Package) -> dict[str, str | bytes]:
    """The example sketches, each a folder that compiles on its own beside the library."""
    found: dict[str, str | bytes] = {}
    for sketch, app in SKETCHES.items():
        found[f"{sketch}/{sketch}.ino"] = package.render(f"apps/{app}.jinja")
        found[f"{sketch}/tk_port.h"] = package.plain("arduino/tk_port.h")
        found |= {f"{sketch}/{header}": text for header, text in package.app_headers(app).items()}
    return found | live_sketches(package)


def _version() -> str:
    import tinykit

    return ".".join(tinykit.__version__.split(".")[:3])


def _sentence(package: Package) -> str:
    return f"The neural network '{package.values()['title']}' for microcontrollers."
