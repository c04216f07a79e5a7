"""Looks at this installation: what is there, what is missing, the exact command that mends it.

Examples:
  python -m tinykit.doctor
  python -m tinykit.doctor --json
  python -m tinykit.doctor --quick      (imports nothing: half a second instead of ten)

Exit codes: 0 the main job, `python -m tinykit.train --config digits.yaml`, can run; 2 it cannot, and the lines with '!' say why.
Unlike the other programs it uses no package but Python's own: it must run where the others are missing.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from tinykit.health.check import Check
from tinykit.health.packages import package_checks, python_checks
from tinykit.health.tools import board_checks, compiler_checks, data_checks, emulator_checks

_WIDTH = 30
_SIGNS = {"ok": " ", "info": " ", "missing": "-", "broken": "-"}


def examine(quick: bool = False) -> Iterator[Check]:
    """Every check, one after the other; `quick`: nothing is imported."""
    yield from python_checks()
    yield from package_checks(quick)
    yield from compiler_checks()
    yield from emulator_checks()
    yield from board_checks()
    yield from data_checks()


def show(check: Check) -> list[str]:
    """The lines of one check: '!' what the main job needs, '-' what something else would use."""
    sign = "!" if check.stops else _SIGNS[check.state]
    words = "ok" if check.state == "ok" else check.state if check.state != "info" else ""
    lines = [f"{sign} {check.name:<{_WIDTH}} {words:<8} {check.found}".rstrip()]
    if check.mend is not None:
        lines.append(f"    {check.mend}" + (f"   ({check.why})" if check.why else ""))
    return lines


def verdict(checks: Sequence[Check]) -> str:
    """The last line."""
    stops = list(dict.fromkeys(check.name for check in checks if check.stops))
    if stops:
        packages = sum(check.stops and check.group == "packages" for check in checks)
        at_once = "; `pip install .` in tinykit's sources brings all packages at once" if packages > 1 else ""
        return f"the main job cannot run: {', '.join(stops)}; the commands above mend it{at_once}"
    return "the main job can run: python -m tinykit.train --config digits.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the checks and prints them; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tinykit.doctor", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="prints one JSON object instead of lines")
    parser.add_argument("--quick", action="store_true", help="imports nothing: a package that is there is taken to work")
    options = parser.parse_args(arguments)
    checks = []
    for check in examine(options.quick):
        checks.append(check)
        if not options.json:
            print("\n".join(show(check)), flush=True)
    able = not any(check.stops for check in checks)
    if options.json:
        print(json.dumps({"able": able, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        print(verdict(checks))
    return 0 if able else 2


if __name__ == "__main__":
    sys.exit(main())
