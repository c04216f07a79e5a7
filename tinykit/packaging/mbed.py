"""A project for Mbed, of the community edition's layout and that of Mbed OS 6."""

from tinykit.packaging.package import Package


def files(package: Package) -> dict[str, str | bytes]:
    """A CMake project for Mbed CE and Mbed OS 6: put `mbed-os` into it, then build the programs serial_infer and self_test.

    Example: python -m tinykit.deploy --workdir runs/digits --target mbed --board disco_f746ng
    """
    settings = package.plain("mbed/mbed_app.json")
    found: dict[str, str | bytes] = {
        "CMakeLists.txt": package.render("mbed/CMakeLists.txt.jinja"),
        "README.md": package.render("mbed/README.md.jinja"),
        "mbed_app.json": settings,
        "mbed_app.json5": settings,
        "apps/main.cpp": package.plain("mbed/main.cpp"),
        "apps/tk_port.h": package.plain("mbed/tk_port.h"),
    }
    found |= {f"src/{path}": text for path, text in package.library_files().items()}
    return found | {f"apps/{path}": text for path, text in package.app_files(".cpp").items()}
