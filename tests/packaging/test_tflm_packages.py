"""Packages that run the `.tflite` in TensorFlow Lite Micro.

TFLM itself is not here. A stand-in with its interface, which computes with tinykit's engine, shows that what we wrote around it is right:
it compiles without a warning, links, and the golden vectors pass. With --tflm_root=DIR the same programs are built with the real one.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import arduino_builds as arduino
import framework_builds
import pytest

from tinykit.deploy import deploy
from tinykit.errors import ConfigError, ModelError
from tinykit.graph import ir
from tinykit.graph.writer import write
from tinykit.packaging.network import network_of_model, network_of_run
from tinykit.packaging.tflm import ARDUINO_LIBRARY, ArduinoLibrary, check_on_host, tflm_model

sys.path.insert(0, str(Path(__file__).parents[1] / "verify"))

import nets  # noqa: E402


def quiet(line: str) -> None:
    """Drops a line of progress."""


@pytest.fixture(scope="module")
def standin(workdir, tmp_path_factory) -> Path:
    """A tree like that of TFLM's sources."""
    root = tmp_path_factory.mktemp("tflm") / "root"
    shutil.copytree(framework_builds.STUBS / "tflm", root)
    for name, text in network_of_run(workdir, "standin").files.items():
        (root / "tensorflow/lite/micro" / name).write_text(text)
    source = root / "tensorflow/lite/micro/standin.c"
    source.rename(source.with_suffix(".inc"))
    wrapper = root / "tensorflow/lite/micro/standin_network.c"
    wrapper.write_text('#include "standin.inc"\n')
    return root


def as_library(standin: Path, folder: Path) -> Path:
    """The stand-in as an Arduino library of the real one's name."""
    library = folder / ARDUINO_LIBRARY.name
    shutil.copytree(standin, library / "src")
    for path in list((library / "src").rglob("*.cc")):
        path.rename(path.with_suffix(".cpp"))
    (library / "src" / ARDUINO_LIBRARY.header).write_text("")
    keys = "author maintainer sentence paragraph url".split()
    values = [f"name={ARDUINO_LIBRARY.name}", f"version={ARDUINO_LIBRARY.version}", *(f"{key}=x" for key in keys), "architectures=*"]
    (library / "library.properties").write_text("\n".join(values))
    return folder


@pytest.mark.parametrize("name", arduino.BOARDS)
def test_the_arduino_sketches_run_over_the_stand_in(name, workdir, standin, tmp_path, tally):
    arduino.need_tools()
    libraries = as_library(standin, tmp_path / "libraries")
    package = deploy("arduino", name, workdir=workdir, engine="tflm", out=tmp_path / "package", log=quiet)
    shutil.copytree(package / "SmallNet", libraries / "SmallNet")
    hardware = arduino.make_hardware(tmp_path / "hardware")
    examples = libraries / "SmallNet/examples"
    lines = arduino.Running(name, arduino.build_sketch(examples / "SelfTest", libraries, name, hardware, tmp_path / "1")).lines()
    assert lines[-1] == "self-test passed: 6 of 6" and ", in use " not in lines[0] and " bytes, in use " in lines[-2]
    running = arduino.Running(name, arduino.build_sketch(examples / "SerialInfer", libraries, name, hardware, tmp_path / "2"))
    running.lines()
    network = network_of_run(workdir)
    wrong = 0
    for given, expected in network.vectors:
        best = max(range(4), key=lambda i: (expected[i] ^ 128, -i))
        wrong += running.ask(given.hex())[1] != f"largest {best} {network.labels[best]}"
    tally("largest score of the TFLM sketch (stand-in) vs reference", wrong, len(network.vectors))
    assert wrong == 0


def test_an_arena_that_is_too_small_is_told(workdir, standin, tmp_path):
    arduino.need_tools()
    libraries = as_library(standin, tmp_path / "libraries")
    package = deploy("arduino", "nano33ble", workdir=workdir, engine="tflm", out=tmp_path / "package", log=quiet)
    shutil.copytree(package / "SmallNet", libraries / "SmallNet")
    header = libraries / "SmallNet/src/small.h"
    size = next(line for line in header.read_text().splitlines() if "SMALL_ARENA_SIZE" in line)
    header.write_text(header.read_text().replace(size, "#define SMALL_ARENA_SIZE 16"))
    hardware = arduino.make_hardware(tmp_path / "hardware")
    elf = arduino.build_sketch(libraries / "SmallNet/examples/SelfTest", libraries, "nano33ble", hardware, tmp_path / "build")
    assert arduino.Running("nano33ble", elf).lines() == ["error TFLM does not take the model: is the arena too small? any byte tries again"]


def build_with_cmake(package: Path, root: Path, build: Path, *more: str) -> None:
    """Builds the CMake package with TFLM's sources (or those of the stand-in) in `root`."""
    for command in (["cmake", "-S", package, "-B", build, f"-DTFLM_ROOT={root}", *more], ["cmake", "--build", build, "-j", "2"]):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=3000, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def need_cmake_for_boards() -> None:
    if shutil.which("cmake") is None or shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("cmake or arm-none-eabi-g++ is not installed")
    for part in ("nano.specs", "libstdc++.a"):
        shown = subprocess.run(["arm-none-eabi-g++", f"-print-file-name={part}"], capture_output=True, text=True, check=True).stdout.strip()
        if not Path(shown).is_absolute():
            pytest.skip(
                f"the compiler for boards has no {part} (Debian: apt-get install libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib)"
            )


SOURCE_FOLDERS = (
    "kernels/internal kernels/internal/reference core/api core/c schema ../compiler/mlir/lite/core/api ../compiler/mlir/lite/schema "
    "micro/c micro/schema micro/kernels micro/kernels/internal micro/kernels/internal/reference micro/arena_allocator micro/memory_planner"
).split()
"""Below tensorflow/lite: where one version of TFLM or another has sources that a network needs."""


def spread_out(root: Path) -> None:
    """The stand-in's interpreter needs a file in each of the folders where TFLM has some, as TFLM's does."""
    names = [f"part_{i}" for i in range(len(SOURCE_FOLDERS))]
    for name, folder in zip(names, SOURCE_FOLDERS, strict=True):
        (root / "tensorflow/lite" / folder).mkdir(parents=True, exist_ok=True)
        (root / "tensorflow/lite" / folder / f"{name}.cc").write_text(f"bool {name}() {{ return true; }}\n")
    interpreter = root / "tensorflow/lite/micro/micro_interpreter.cc"
    text = interpreter.read_text()
    assert text.count("if (size_ <") == 1
    declared = "".join(f"bool {name}();\n" for name in names)
    interpreter.write_text(declared + text.replace("if (size_ <", f"if (!({' && '.join(f'::{name}()' for name in names)}) || size_ <"))


def test_the_cmake_programs_run_over_the_stand_in(workdir, standin, tmp_path):
    """TFLM's sources are C++; the stand-in's C is compiled as a part of them."""
    need_cmake_for_boards()
    package = deploy("cmake", "nano33ble", workdir=workdir, engine="tflm", out=tmp_path / "package", log=quiet)
    root = tmp_path / "root"
    shutil.copytree(standin, root)
    spread_out(root)
    micro = root / "tensorflow/lite/micro"
    (micro / "standin_network.c").unlink()
    listing = package / "CMakeLists.txt"
    listing.write_text(listing.read_text() + f'\ntarget_sources(tflm PRIVATE "{micro}/standin.c")\n')
    (micro / "standin.inc").rename(micro / "standin.c")
    build_with_cmake(package, root, tmp_path / "build", f"-DCMAKE_TOOLCHAIN_FILE={package}/board/toolchain.cmake")
    assert arduino.Running("nano33ble", tmp_path / "build/self_test.elf").lines()[-1] == "self-test passed: 6 of 6"


def test_the_programs_run_with_tflm_itself(request, workdir, tmp_path, tally):
    root = request.config.getoption("--tflm_root")
    if root is None:
        pytest.skip("TFLM's sources are not here: pytest --tflm_root=DIR builds and runs the programs with them")
    need_cmake_for_boards()
    for name in arduino.BOARDS:
        package = deploy("cmake", name, workdir=workdir, engine="tflm", out=tmp_path / name, log=quiet)
        build_with_cmake(package, Path(root), tmp_path / f"{name} build", f"-DCMAKE_TOOLCHAIN_FILE={package}/board/toolchain.cmake")
        lines = arduino.Running(name, tmp_path / f"{name} build/self_test.elf").lines()
        tally(f"golden vectors in TFLM on the emulated {name}", sum(" FAIL" in line for line in lines), 6)
        assert lines[-1] == "self-test passed: 6 of 6", lines


def test_without_its_sources_cmake_says_what_to_give(workdir, tmp_path):
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    package = deploy("cmake", "nano33ble", workdir=workdir, engine="tflm", out=tmp_path / "package", log=quiet)
    done = subprocess.run(["cmake", "-S", package, "-B", tmp_path / "build"], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "TFLM_ROOT" in done.stderr


def narrow_graph(bits: int) -> ir.Graph:
    """A network whose weights have fewer bits."""
    net = nets.Net(11)
    x = net.conv(net.input((8, 8, 8)), out=32, bits=bits)
    net.dense(net.pool("average", x), out=3)
    return net.done()


@pytest.mark.parametrize("bits", [2, 4])
def test_weights_of_fewer_bits_ride_in_int8_in_the_arduino_library(bits, tmp_path):
    graph = narrow_graph(bits)
    assert any(e.encoding != "int8" for e in write(graph).encodings)
    (tmp_path / "narrow.tflite").write_bytes(write(graph).tflite)
    network = network_of_model(tmp_path / "narrow.tflite")
    old, today = tflm_model(network, ARDUINO_LIBRARY), tflm_model(network, None)
    assert len(old.tflite) > len(today.tflite)
    (note,) = [note for note in old.notes if "stored as int8" in note]
    assert f"{len(old.tflite):,} bytes for {len(today.tflite):,}" in note
    for model in (old, today):
        assert "right in TFLM" in check_on_host(model) or "not run" in check_on_host(model)
    assert old.network.vectors == today.network.vectors == network.vectors


def test_what_the_library_lacks_is_named(workdir):
    old = ArduinoLibrary("Old_TFLM", "0.1.0", "Old.h", frozenset({"AddConv2D"}), "made up")
    with pytest.raises(ModelError) as caught:
        tflm_model(network_of_run(workdir), old)
    text = str(caught.value)
    assert "Old_TFLM 0.1.0 has no FullyConnected" in text and "has no Conv2D" not in text and "--engine tinykit" in text


def test_the_package_names_library_and_version(workdir, tmp_path):
    said: list[str] = []
    folder = deploy("arduino", "nano33ble", workdir=workdir, engine="tflm", out=tmp_path / "a", log=said.append)
    assert any("install Chirale_TensorFLowLite 2.0.0 with the Library Manager" in line for line in said)
    library = folder / "SmallNet"
    assert "depends=Chirale_TensorFLowLite\n" in (library / "library.properties").read_text()
    assert "Chirale_TensorFLowLite 2.0.0" in (library / "README.md").read_text()
    folder = deploy("platformio", "nano33ble", workdir=workdir, engine="tflm", out=tmp_path / "p", log=quiet)
    assert "lib_deps = spaziochirale/Chirale_TensorFLowLite@2.0.0\n" in (folder / "platformio.ini").read_text()


def test_mbed_has_no_tflm(workdir, tmp_path):
    with pytest.raises(ConfigError, match="not for target 'mbed'"):
        deploy("mbed", "nano33ble", workdir=workdir, engine="tflm", out=tmp_path / "out", log=quiet)
    with pytest.raises(ConfigError, match="tflm"):
        deploy("mbed", "nano33ble", workdir=workdir, engine="tflite", out=tmp_path / "out", log=quiet)
    assert not (tmp_path / "out").exists()
