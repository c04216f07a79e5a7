"""Every kind of bad input that the tests try. `python tests/badinput/badinput_catalogue.py` writes the list into docs/errors.md."""

import importlib
import sys
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from badinput_kind import ALL, Kind  # noqa: E402

for _module in ("badinput_config", "badinput_data", "badinput_models", "badinput_shrink", "badinput_tflite", "badinput_places"):
    if (Path(__file__).resolve().parent / f"{_module}.py").exists():
        importlib.import_module(_module)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
BEGIN, END = "<!-- kinds -->", "<!-- end of kinds -->"


def kinds() -> list[Kind]:
    """All of them, in order."""
    return list(ALL)


def table() -> str:
    """The list for docs/errors.md."""
    lines = ["| input | kind | program | exit code |", "|---|---|---|---|"]
    for group, members in groupby(kinds(), key=lambda kind: kind.group):
        for member in members:
            why = f": {member.why}" if member.why else ""
            lines.append(f"| {group} | {member.name} | {member.program} | {member.expected.code}{why} |".replace("<", "&lt;"))
    return "\n".join(lines)


def page_with(text: str) -> str:
    """A page whose part between BEGIN and END is the list of today."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{len(kinds())} kinds:\n\n{table()}\n{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
