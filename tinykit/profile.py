"""Says what is in a .tflite without compiling it: ops, multiply-accumulates, dead channels, sizes, and which boards it fits.

Examples:
  python -m tinykit.profile --model model.tflite
  python -m tinykit.profile --model model.tflite --json profile.json

The arena is planned, so it is exact; flash adds an estimate of the code to the exact bytes of weights and tables.
Exit codes: 0 done, 2 bad input.
"""

import dataclasses
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from tinykit import atomic
from tinykit.boards.table import board, firmware_boards
from tinykit.cli import expect_flags, run_program
from tinykit.compile import Model, read_model
from tinykit.config.sizes import format_size
from tinykit.engine.estimate import STACK_BYTES, code_estimate, ram_bytes
from tinykit.engine.generate import Engine, build_engine
from tinykit.errors import ConfigError
from tinykit.export.tables import shape_text
from tinykit.graph import costs

FLAGS = flags.FLAGS


def profile(model: Model) -> dict[str, Any]:
    """What is in a model, as plain values.

    Returns:
        ops (kind -> count), layers, macs, weight_bytes and channels before and after the simplifier, arena (bytes, lower bound), flash
        and ram (estimates with their parts), boards (name -> fits, with the budget).
    """
    before, after = model.graph, model.deployed
    engine = build_engine(after)
    flash, ram = _flash(engine), _ram(engine)
    return {
        "model": model.path.name,
        "ops": dict(Counter(op.kind for op in before.ops)),
        "inputs": {t: shape_text(before.tensors[t].shape) for t in before.inputs},
        "outputs": {t: shape_text(before.tensors[t].shape) for t in before.outputs},
        "macs": {"file": costs.total_macs(before), "executed": costs.total_macs(after)},
        "weight_bytes": {"file": _weights(before), "executed": _weights(after)},
        "channels": {"file": _channels(before), "executed": _channels(after)},
        "arena": {"bytes": engine.plan.arena_bytes, "lower_bound": engine.plan.lower_bound, "source": "planned"},
        "flash": flash,
        "ram": ram,
        "boards": {name: _fit(name, flash["total"], ram["total"]) for name in firmware_boards()},
        "layers": [dataclasses.asdict(row) for row in costs.layer_rows(after)],
    }


def _weights(graph: Any) -> int:
    return sum(costs.op_weight_bytes(op).weights for op in graph.ops)


def _channels(graph: Any) -> int:
    return sum(t.channels for t in graph.activations())


def _flash(engine: Engine) -> dict[str, Any]:
    code = code_estimate(engine)
    total = engine.weight_bytes + engine.table_bytes + code
    return {"total": total, "weights": engine.weight_bytes, "tables": engine.table_bytes, "code": code,
            "source": "weights and tables counted, code estimated"}  # fmt: skip


def _ram(engine: Engine) -> dict[str, Any]:
    return {"total": ram_bytes(engine.plan), "arena": engine.plan.arena_bytes, "stack": STACK_BYTES,
            "source": "arena planned, stack estimated"}  # fmt: skip


def _fit(name: str, flash: int, ram: int) -> dict[str, Any]:
    budget = board(name).budget()
    fits = (budget.flash is None or flash <= budget.flash) and (budget.ram is None or ram <= budget.ram)
    return {"fits": fits, "flash": budget.flash, "ram": budget.ram}


def show(found: Mapping[str, Any]) -> None:
    """Prints a profile."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 150)

    def line(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    macs, weights, channels = found["macs"], found["weight_bytes"], found["channels"]
    line(f"{found['model']}: " + ", ".join(f"{count} {kind}" for kind, count in sorted(found["ops"].items())))
    line(f"inputs {found['inputs']}, outputs {found['outputs']}")
    line(f"multiply-accumulates {macs['file']:,}; without dead channels {macs['executed']:,}")
    line(f"weights {weights['file']:,} B; without dead channels {weights['executed']:,} B")
    line(f"channels {channels['file']:,}, of them dead or constant {channels['file'] - channels['executed']:,}")
    table = Table()
    for heading in ("layer", "kind", "input", "output", "MACs", "weights B", "live B"):
        table.add_column(heading, justify="left" if heading in ("layer", "kind") else "right")
    for row in found["layers"]:
        table.add_row(escape(row["name"]), row["kind"], shape_text(row["input_shape"]), shape_text(row["output_shape"]), f"{row['macs']:,}",
                      f"{row['weight_bytes']:,}", f"{row['live_bytes']:,}")  # fmt: skip
    console.print(table)
    flash, ram, arena = found["flash"], found["ram"], found["arena"]
    line(f"flash about {format_size(flash['total'])} (weights {flash['weights']:,}, tables {flash['tables']:,}, code {flash['code']:,} "
         f"B; {flash['source']})")  # fmt: skip
    line(f"RAM about {format_size(ram['total'])} (arena {arena['bytes']:,}, lower bound {arena['lower_bound']:,} B; {ram['source']})")
    fits = [name for name, fit in found["boards"].items() if fit["fits"]]
    misses = [name for name, fit in found["boards"].items() if not fit["fits"]]
    line(f"fits: {', '.join(fits) or 'no board of the table'}" + (f"; does not fit: {', '.join(misses)}" if misses else ""))


def define_flags() -> None:
    """Declares this program's flags."""
    flags.DEFINE_string("model", None, "The .tflite file.")
    flags.DEFINE_string("json", None, "Also writes the profile to this file.")
    flags.DEFINE_bool("simplify", True, "Removes, exactly, what cannot influence a result; --no-simplify keeps it.")


def _expect_file(path: Path) -> None:
    """Raises ConfigError where no file can be written, before the work."""
    if path.is_dir():
        raise ConfigError(f"--json {path}: a folder; expected the name of a file")
    if not path.parent.is_dir():
        raise ConfigError(f"--json {path}: there is no folder {path.parent}; make it first")


def _work(argv: Sequence[str]) -> None:
    expect_flags(argv, ("model",))
    if FLAGS.json:
        _expect_file(Path(FLAGS.json))
    found = profile(read_model(Path(FLAGS.model), FLAGS.simplify))
    show(found)
    if FLAGS.json:
        atomic.write_json(Path(FLAGS.json), found)


if __name__ == "__main__":
    run_program(define_flags, _work)
