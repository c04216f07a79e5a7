"""Compilers: for the boards (GCC for Arm, or clang as Zig ships it) and for this computer."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

from tinykit.boards.cache import cache_folder
from tinykit.config.catalogue import check_name
from tinykit.errors import ConfigError, TinykitError

CROSS = ("gcc", "zig")
"""Toolchains for boards, the preferred one first."""

INSTALL = {
    "gcc": "sudo apt-get install gcc-arm-none-eabi",
    "zig": "pip install ziglang",
    "host": "pip install ziglang",
}
"""The command that installs each toolchain."""

OPTIMIZE_LEVELS = ("-O0", "-O1", "-O2", "-O3", "-Os", "-Oz", "-Og")
"""What may be asked of a compiler; -Ofast and whatever else it takes could change results."""

_COMPILER_SECONDS = 300
_ERROR_LINES = 6
_FIRST_ERROR = re.compile(r"error:|undefined (reference|symbol)|final link failed:")
_LINKER = re.compile(r"^\S*/\S*ld: ")
"""A linker begins its lines with where it is installed."""

_LANGUAGE = ("-std=c99", "-Wall", "-Wextra", "-Werror")
_EXACT = ("-ffp-contract=off", "-fno-math-errno")
"""The same results on every core: no fused multiply-add unless the source says so."""
_SECTIONS = ("-ffunction-sections", "-fdata-sections", "-fno-common")
_PLAIN = ("-g0", "-fomit-frame-pointer", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-fno-stack-protector")

_CORES = {
    ("gcc", "cortex-m4f"): ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16"),
    ("gcc", "cortex-m7f"): ("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16"),
    # zig's models of the two cores have no FPU unless it is named
    ("zig", "cortex-m4f"): ("-mcpu=cortex_m4+vfp4d16sp",),
    ("zig", "cortex-m7f"): ("-mcpu=cortex_m7+fp_armv8d16sp",),
}
"""Single precision on the Cortex-M7 too: the STM32F746 has no other, and the engine needs none."""


class BuildError(TinykitError):
    """A compiler refused, or ended in a way that it should not."""


def check_optimize(level: str) -> str:
    """Returns `level`. Raises ConfigError if it is none of OPTIMIZE_LEVELS: it is no way to hand a compiler other flags."""
    if level not in OPTIMIZE_LEVELS:
        raise ConfigError(f"compiler level: expected one of {', '.join(OPTIMIZE_LEVELS)}, got {level!r}")
    return level


@dataclass(frozen=True)
class Toolchain:
    """A compiler that makes programs for boards.

    Attributes:
        name: 'gcc' or 'zig'.
        version: the compiler's own first line, for reports.
        command: how it is started.
        environment: variables that it needs beside those of this process.
    """

    name: str
    version: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def core_flags(self, core: str) -> tuple[str, ...]:
        """What selects `core` ('cortex-m4f', 'cortex-m7f'), its FPU and its calling convention."""
        flags = _CORES.get((self.name, core))
        if flags is None:
            known = ", ".join(sorted(core for name, core in _CORES if name == self.name))
            raise ConfigError(f"core {core!r}: {self.name} has no flags for it here; known: {known}")
        target = ("-mthumb", "-mfloat-abi=hard") if self.name == "gcc" else ("-target", "thumb-freestanding-eabihf")
        return (*target, *flags)

    def compile_flags(self, core: str) -> tuple[str, ...]:
        """All flags of a compilation but the optimisation level and the program's own macros."""
        # Freestanding, because nobody promises a C library's headers; but memcpy of four bytes must stay one load. GCC takes -fbuiltin
        # for that, clang -fhosted, against the -ffreestanding that zig adds.
        own = ("-ffreestanding", "-fbuiltin") if self.name == "gcc" else ("-fhosted", "-fno-sanitize=all")
        return (*self.core_flags(core), *_LANGUAGE, *_EXACT, *_SECTIONS, *_PLAIN, *own)

    @property
    def runtime_flags(self) -> tuple[str, ...]:
        """What keeps the bodies of memcpy and friends from becoming calls of themselves."""
        return ("-fno-builtin", "-fno-tree-loop-distribute-patterns") if self.name == "gcc" else ("-fno-builtin",)

    def link_flags(self, core: str) -> tuple[str, ...]:
        """Flags of the link: no C library, no start files; the compiler's own arithmetic (64-bit division) only."""
        library = "-lgcc" if self.name == "gcc" else "-lcompiler_rt"
        return (*self.core_flags(core), "-nostdlib", "-Wl,--gc-sections", library)

    def run(self, arguments: Sequence[str], folder: Path, what: str) -> None:
        """Runs the compiler in `folder`.

        Args:
            what: what is being made, for messages: 'model.c for nano33ble'.

        Raises:
            BuildError: it failed or warned; with its first lines.
        """
        execute((*self.command, *arguments), folder, what, self.name, self.environment)


def execute(command: Sequence[str], folder: Path, what: str, name: str, environment: Mapping[str, str] | None = None) -> None:
    """Runs a compiler `command` in `folder`; see Toolchain.run."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=_COMPILER_SECONDS, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, **(environment or {})},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BuildError(f"{what}: {name} was stopped after {_COMPILER_SECONDS} s; is the computer overloaded?") from None
    except OSError as problem:
        raise BuildError(f"{what}: {name} cannot be started: {problem.strerror or problem}") from None
    if done.returncode == 0:
        return
    lines = [_LINKER.sub("ld: ", line) for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    first = next((index for index, line in enumerate(lines) if _FIRST_ERROR.search(line)), 0)
    shown = "\n".join(f"  {line}" for line in lines[first : first + _ERROR_LINES]) or "  (the compiler said nothing)"
    raise BuildError(f"{what}: {name} failed with exit code {done.returncode}:\n{shown}\ncommand: {_essence(command, name)}")


def _essence(command: Sequence[str], name: str) -> str:
    """`command` without what does not help to repeat it: the path of the compiler, warnings."""
    start = next((index for index, part in enumerate(command) if part.startswith("-") and part != "-m"), len(command))
    words = [part for part in command[start:] if not part.startswith("-W") or part.startswith("-Wl")]
    return " ".join([{"gcc": "arm-none-eabi-gcc", "zig": "python -m ziglang cc"}.get(name, name), *words])


def zig_command() -> tuple[str, ...] | None:
    """How to start zig's C compiler, None if ziglang is not installed."""
    if importlib.util.find_spec("ziglang") is None:
        return None
    return (sys.executable, "-m", "ziglang", "cc")


def zig_environment() -> dict[str, str]:
    """Both of zig's caches in one place, never in the current folder."""
    folder = str(cache_folder() / "zig")
    return {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}


@cache
def _version(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(
            (*command, "--version"), capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **zig_environment()}
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown version"
    return (done.stdout.splitlines() or ["unknown version"])[0].strip()


def _zig_version(command: tuple[str, ...]) -> str:
    """'zig 0.17.1, clang version 22.1.8': both decide what comes out."""
    return f"zig {metadata.version('ziglang')}, {_version(command)}"


def find(name: str) -> Toolchain | None:
    """The toolchain called 'gcc' or 'zig', None if it is not installed."""
    if name == "gcc":
        path = shutil.which("arm-none-eabi-gcc")
        return None if path is None else Toolchain("gcc", _version((path,)), (path,))
    command = zig_command()
    return None if command is None else Toolchain("zig", _zig_version(command), command, zig_environment())


def choose(name: str | None = None) -> Toolchain:
    """The toolchain called `name`; without a name GCC if it is there, else zig.

    Raises:
        ConfigError: there is no such toolchain, or it is not installed; says which command installs it.
    """
    if name is not None:
        check_name("toolchain", name, list(CROSS))
    for candidate in CROSS if name is None else (name,):
        found = find(candidate)
        if found is not None:
            return found
    if name is None:
        raise ConfigError(
            "toolchain: no compiler for Arm microcontrollers found (looked for arm-none-eabi-gcc on the PATH and for the Python package "
            f"ziglang); install one: `{INSTALL['zig']}` or `{INSTALL['gcc']}`"
        )
    place = "arm-none-eabi-gcc is not on the PATH" if name == "gcc" else "the Python package ziglang is not installed"
    raise ConfigError(f"toolchain {name!r}: {place}; install it: `{INSTALL[name]}`")


@dataclass(frozen=True)
class HostCompiler:
    """A C compiler for this computer."""

    name: str
    version: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def choose_host(name: str | None = None) -> HostCompiler:
    """The C compiler called `name` ('cc', 'gcc', 'clang', 'zig'); without a name the first of them that is there.

    Raises:
        ConfigError: there is none; says which command installs one.
    """
    for candidate in ("cc", "gcc", "clang", "zig") if name is None else (name,):
        if candidate == "zig":
            command = zig_command()
            if command is not None:
                return HostCompiler("zig", _zig_version(command), command, zig_environment())
        elif path := shutil.which(candidate):
            return HostCompiler(candidate, _version((path,)), (path,))
    wanted = "cc, gcc and clang on the PATH, and the Python package ziglang" if name is None else repr(name)
    raise ConfigError(f"no C compiler for this computer found (looked for {wanted}); install one: `{INSTALL['host']}`")


_SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g")


def build_host_library(
    sources: Iterable[Path], out: Path, *, sanitize: bool = False, include: Iterable[Path] = (), defines: Iterable[str] = (),
    optimize: str = "-O2", compiler: HostCompiler | None = None,
) -> Path:  # fmt: skip
    """Compiles C files to a shared library for ctypes. Returns `out`, which appears complete or not at all.

    Raises:
        BuildError: the compiler refuses the sources.
        ConfigError: there is no compiler.
    """
    return _build_host(sources, out, ("-shared", "-fPIC"), sanitize, include, defines, optimize, compiler)


def build_host_program(
    sources: Iterable[Path], out: Path, *, sanitize: bool = True, include: Iterable[Path] = (), defines: Iterable[str] = (),
    optimize: str = "-O1", compiler: HostCompiler | None = None,
) -> Path:  # fmt: skip
    """Compiles C files to a program for this computer, by default one that ends at the first undefined operation or stray access.

    Raises:
        BuildError: the compiler refuses the sources.
        ConfigError: there is no compiler.
    """
    return _build_host(sources, out, (), sanitize, include, defines, optimize, compiler)


def _build_host(
    sources: Iterable[Path], out: Path, kind: tuple[str, ...], sanitize: bool, include: Iterable[Path], defines: Iterable[str],
    optimize: str, compiler: HostCompiler | None,
) -> Path:  # fmt: skip
    compiler = compiler or choose_host()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.parent / f".tmp-{os.getpid()}-{out.name}"
    flags = [*_LANGUAGE, *_EXACT, optimize, *kind, *(_SANITIZE if sanitize else ())]
    flags += [f"-I{Path(folder).absolute()}" for folder in include] + [f"-D{define}" for define in defines]
    files = [str(Path(source).absolute()) for source in sources]
    try:
        command = (*compiler.command, *flags, *files, "-o", str(temporary.absolute()), "-lm")
        execute(command, out.parent, out.name, compiler.name, compiler.environment)
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return out
