"""The table of targets. A new one costs a file with a function from a package to its files, and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tinykit.packaging import arduino, cmake, mbed, platformio
from tinykit.packaging.package import Package


@dataclass(frozen=True)
class Target:
    """A kind of project.

    Attributes:
        files: content by path for a package; its docstring says what a user does with it, with an example.
        next_step: what to do with the folder, in one line; {library} is the library's name, {out} the folder.
        reserve: whose bootloader and core the board carries, where the board table knows them; else 'bare'.
        tflm: whose TFLM the target takes: 'library' (one that the Library Manager has), 'sources' (a user's checkout), or none.
        archive: a folder of the package that also becomes a ZIP beside it; {library} as above.
    """

    files: Callable[[Package], dict[str, str | bytes]]
    next_step: str
    reserve: str = "bare"
    tflm: str | None = None
    archive: str | None = None

    @property
    def doc(self) -> str:
        """Description with an `Example:`."""
        return self.files.__doc__ or ""


TARGETS: Mapping[str, Target] = {
    "arduino": Target(
        arduino.files,
        "Arduino IDE: Sketch > Include Library > Add .ZIP Library, {out}/{library}.zip; then File > Examples > {library} > SelfTest",
        reserve="arduino",
        tflm="library",
        archive="{library}",
    ),
    "cmake": Target(
        cmake.files,
        "cmake -S {out} -B {out}/build && cmake --build {out}/build && ctest --test-dir {out}/build; {out}/README.md has the board's build",
        tflm="sources",
    ),
    "mbed": Target(
        mbed.files,
        "put mbed-os into {out} (git clone --depth 1 https://github.com/mbed-ce/mbed-os.git); {out}/README.md has the build",
    ),
    "platformio": Target(platformio.files, "pio run -d {out} -t upload -t monitor", reserve="arduino", tflm="library"),
}
