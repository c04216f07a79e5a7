"""What every package is made of: the network's files for a library, text from templates, the same words everywhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2
import numpy as np

import tinykit
from tinykit.boards.firmware import MONITOR_HEADERS, template_folder
from tinykit.boards.table import Board
from tinykit.engine.ctext import array, comment
from tinykit.engine.memory import inputs_of, outputs_of
from tinykit.engine.selftest import firmware_header
from tinykit.packaging.measure import Measured
from tinykit.packaging.names import library_name
from tinykit.packaging.network import Network
from tinykit.packaging.tflm import TflmModel

APPS = {
    "serial_infer": ("common/tk_text.h",),
    "self_test": ("common/tk_text.h", "apps/tk_stack.h"),
    "monitor": (*(f"common/{name}" for name in MONITOR_HEADERS), "apps/tk_cycles.h", "apps/tk_stack.h"),
}
"""Program -> headers that it includes, by their places in firmware_template; its template is apps/<program>.jinja. All is C99 and C++14."""


@dataclass(frozen=True)
class Package:
    """A network on its way to a person.

    Attributes:
        network: what is deployed.
        board: for whom; the default of a project that can be built for several.
        measured: what tinykit's engine takes there, and how much of it was checked.
        tflm: the same network for TFLM, where that is to run it; None: tinykit's own engine does.
        checked: what TFLM answered to the golden vectors, in words.
        task: the MLPerf Tiny task as which the monitor answers, None where it is none.
    """

    network: Network
    board: Board
    measured: Measured
    tflm: TflmModel | None = None
    checked: str = ""
    task: str | None = None

    @property
    def sources(self) -> list[str]:
        """Names of the library's C and C++ files."""
        return sorted(path for path in self.library_files() if path.endswith((".c", ".cpp")))

    @property
    def library(self) -> str:
        """Name of the library, its folder and its one header."""
        return library_name(self.network.name)

    def values(self) -> dict[str, Any]:
        """What templates may use."""
        network = self.network
        interface = network.interface if self.tflm is None else self.tflm.network.interface
        return {
            "engine": "tinykit" if self.tflm is None else "tflm",
            "arena_note": "" if self.tflm is None else self.tflm.arena_note,
            "tflm_notes": () if self.tflm is None else self.tflm.notes,
            "tflm_checked": self.checked,
            "tinykit": tinykit.__version__,
            "name": network.name,
            "NAME": network.name.upper(),
            "title": comment(network.title),
            "library": self.library,
            "origin": comment(network.origin),
            "bench_source": "--workdir THE_RUN" if network.of_run else "--model THE_FILE.tflite",
            "board": self.board,
            "measured": self.measured,
            "interface": interface,
            "one_input": len(interface.inputs) == 1,
            "scores": interface.outputs[0].size,
            "vectors": len(network.vectors),
            "labels": network.labels,
            "last_label": f" {comment(network.labels[-1])}" if network.labels else "",
            "stack_painted": 3072 if self.tflm is not None else -(-(self.measured.stack + 1024) // 256) * 256,
        }

    def render(self, template: str, **more: Any) -> str:
        """A file of firmware_template, filled in. A placeholder that nobody fills is an error, never an empty text."""
        return _environment().get_template(template).render(self.values() | more)

    def plain(self, path: str) -> str:
        """A file of firmware_template as it is."""
        return (template_folder().parent / path).read_text(encoding="utf-8")

    def app_files(self, suffix: str) -> dict[str, str]:
        """The programs beside each other, as projects for more than Arduino keep them, and the headers that they include."""
        found = {f"{app}{suffix}": self.render(f"apps/{app}.jinja") for app in APPS}
        return found | {path: text for app in APPS for path, text in self.app_headers(app).items()}

    def app_headers(self, app: str) -> dict[str, str]:
        """What a program includes beside tk_port.h and the library."""
        found = {path.rpartition("/")[2]: self.plain(path) for path in APPS[app]}
        return found | ({"tk_model.h": self._monitored()} if app == "monitor" else {})

    def _monitored(self) -> str:
        """The network as the monitor knows it; its self-test is the first golden vector."""
        network = self.network
        vector = {"tk_selftest_input": f"{network.name}_golden_input", "tk_selftest_output": f"{network.name}_golden_output"}
        return firmware_header(
            network.name, inputs_of(network.graph)[0], outputs_of(network.graph)[0], self.task, (f"{self.library}.h",), vector
        )

    def library_files(self) -> dict[str, str | bytes]:
        """The sources of the library: the network, its golden vectors, and the header that includes both."""
        network = self.network
        return {
            **(network.files if self.tflm is None else self._tflm_files(self.tflm)),
            f"{self.library}.h": self.render("library/library.h.jinja"),
            f"{network.name}_golden.h": self.render("library/golden.h.jinja"),
            f"{network.name}_golden.c": self._golden_source(),
        }

    def _tflm_files(self, model: TflmModel) -> dict[str, str]:
        name = self.network.name
        return {
            **model.network.files,
            f"{name}.h": self.render("tflm/network.h.jinja"),
            f"{name}.cpp": self.render("tflm/network.cpp.jinja", library_header=model.header),
        }

    def _golden_source(self) -> str:
        name, vectors = self.network.name, self.network.vectors
        parts = [f'/* Made by tinykit. Inputs and the bytes that the network must answer. */\n#include "{name}_golden.h"\n']
        for kind, rows in (("input", [v[0] for v in vectors]), ("output", [v[1] for v in vectors])):
            data = np.frombuffer(b"".join(rows), np.uint8)
            parts.append(array("uint8_t", f"{name}_golden_{kind}", data).removeprefix("static "))
        if self.network.labels:
            names = ",\n    ".join(c_string(label) for label in self.network.labels)
            parts.append(f"const char *const {name}_labels[{len(self.network.labels)}] = {{\n    {names},\n}};\n")
        return "\n".join(parts)


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folder().parent),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def c_string(text: str) -> str:
    """`text` as a C and C++ literal: UTF-8 in octal escapes, no trigraph."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'


def as_json(value: Any) -> str:
    """JSON as people read it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
