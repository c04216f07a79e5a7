"""Says, without training, which bit widths a network needs to fit: by the memory-driven rule, and by the engine as it is really built.

Examples:
  python -m tinykit.bits --config cifar10 --flash 60kB --ram 40kB
  python -m tinykit.bits --model my_model.h5 --board nucleo_f401re --json bits.json
  python -m tinykit.bits --model mobilenet_v1 --set model.alpha=0.75 --set model.input=224x224x3 --set model.classes=1000 \\
    --flash 2048000 --ram 512000 --granularity per_channel

--model is a file (.keras, .h5, a SavedModel) or a family, for which model.input and model.classes are needed and other
model.NAME=VALUE are its options. The rule is Rusci et al., MLSys 2020: it counts packed tensors and constants. The engine's figures
come from its planner and a linked image. Exit codes: 0 done, 2 bad input, 3 no allocation fits.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from tinykit import atomic
from tinykit.boards.table import DEFAULT_BOARD, firmware_board, firmware_boards
from tinykit.cli import expect_flags, run_program
from tinykit.config.sizes import format_size, parse_size
from tinykit.errors import BudgetError, ConfigError, collected

if TYPE_CHECKING:
    from tinykit.fit.search import Fitted
    from tinykit.quant.allocation.accounting import Granularity
    from tinykit.quant.allocation.network import Bits, Network
    from tinykit.quant.allocation.rule import Outcome

FLAGS = flags.FLAGS


@dataclass(frozen=True)
class Limits:
    """What the network may take, in bytes; None: no limit. `board`: what the engine is linked for."""

    board: str
    flash: int | None
    ram: int | None


def limits_of(board: str | None, flash: str | None, ram: str | None) -> Limits:
    """Limits from flags: sizes as people write them; what is not given is the board's budget.

    Raises:
        ConfigError: wrong sizes or board, every problem at once.
    """
    problems, sizes = [], {}
    for name, text in (("flash", flash), ("ram", ram)):
        try:
            sizes[name] = None if text is None else parse_size(text)
        except ValueError as error:
            problems.append(f"--{name}: {error}")
    name = board or _smallest_board(sizes.get("flash"), sizes.get("ram"))
    budget = None
    with collected(ConfigError, problems, "--board: "):
        budget = firmware_board(name).budget()
    if problems or budget is None:
        raise ConfigError(problems)
    given = flash is not None or ram is not None
    whole = board is not None or not given  # a limit alone means that limit alone
    return Limits(
        name,
        sizes["flash"] if sizes["flash"] is not None or not whole else budget.flash,
        sizes["ram"] if sizes["ram"] is not None or not whole else budget.ram,
    )


def _smallest_board(flash: int | None, ram: int | None) -> str:
    """The default board where the limits are within it, else the first that has as much, else the one with the most flash."""
    names = [DEFAULT_BOARD, *(name for name in firmware_boards() if name != DEFAULT_BOARD)]
    for name in names:
        found = firmware_board(name)
        if (flash or 0) <= (found.flash_bytes or 0) and (ram or 0) <= (found.ram_bytes or 0):
            return name
    return max(names, key=lambda name: firmware_board(name).flash_bytes or 0)


def family_model(name: str, overrides: Sequence[str]) -> Any:
    """An untrained model of a family, from `model.input=HxWxC`, `model.classes=N` and the family's options.

    Raises:
        ConfigError: unknown family, missing or wrong values.
    """
    from tinykit.config.document import Document, apply_override
    from tinykit.models.registry import build_model

    document = Document({})
    for text in overrides:
        apply_override(document, text)
    extra = [key for key in document.data if key != "model"]
    if extra:
        raise ConfigError([f"--set {key}: with --model only model.input, model.classes and model.<option> can be set" for key in extra])
    given = document.data.get("model", {})
    if not isinstance(given, dict):
        raise ConfigError(f"--set model: expected model.input, model.classes or model.<option>, received {given!r}")
    options = dict(given)
    problems = []
    shape: tuple[int, ...] = ()
    try:
        shape = _shape(options.pop("input", None))
    except ValueError as error:
        problems.append(f"--set model.input: {error}")
    classes = options.pop("classes", None)
    if not isinstance(classes, int) or isinstance(classes, bool) or not 1 <= classes <= 100_000:
        problems.append(f"--set model.classes: expected a number from 1 to 100000, received {classes!r}")
    if problems:
        raise ConfigError(problems)
    return build_model(name, shape, classes, options)


def _shape(text: Any) -> tuple[int, ...]:
    """(224, 224, 3) of '224x224x3'. Raises ValueError."""
    parts = str(text).lower().split("x") if text is not None else []
    if not 1 <= len(parts) <= 3 or not all(p.isdigit() and 1 <= int(p) <= 4096 for p in parts):
        raise ValueError(f"expected a shape such as 224x224x3, received {text!r}")
    return tuple(int(p) for p in parts)


def config_model(name: str, overrides: Sequence[str]) -> tuple[Any, Any]:
    """(model, budget section) of a configuration; only the shape of its data matters, so that no data are needed."""
    from tinykit.config.loading import load_config
    from tinykit.data.preprocess import Chain
    from tinykit.data.registry import load_dataset
    from tinykit.models.load import load_model
    from tinykit.models.registry import build_model

    config = load_config(name, overrides).config
    if config.model.path is not None:
        return load_model(config.model.path), config.budget
    dataset = load_dataset(config.data.name, config.data.options, seed=config.seed, quicktest=True)
    shape = Chain.parse(config.data.preprocess).output_shape(dataset.train.x.shape[1:])
    return build_model(config.model.name or "", shape, len(dataset.class_names), config.model.options), config.budget


def report(
    network: "Network", limits: Limits, granularity: "Granularity", rule: "Outcome", fitted: "Fitted", board_source: str
) -> dict[str, Any]:
    """The content of --json.

    `activation_bits`, `weight_bits`, `flash_bytes`, `ram_bytes`, `feasible`: by the published rule and its accounting; entry i of the
    first is the output of layer i, the last layer's, which stays at 8 bits, left out. `engine_...`: of the allocation that the engine
    needs.
    """
    from tinykit.quant.allocation.accounting import flash_bytes, peak_bytes

    engine = fitted.outcome
    return {
        "model": network.name,
        "limits": {"flash": limits.flash, "ram": limits.ram, "board": limits.board},
        "granularity": str(granularity),
        "layers": [layer.name for layer in network.layers],
        "activation_bits": rule.bits.activations(network),
        "weight_bits": list(rule.bits.weights),
        "flash_bytes": flash_bytes(network, rule.bits, granularity),
        "ram_bytes": peak_bytes(network, rule.bits),
        "feasible": rule.feasible,
        "reasons": list(rule.reasons),
        "engine_activation_bits": engine.bits.activations(network),
        "engine_weight_bits": list(engine.bits.weights),
        "engine_flash_bytes": fitted.linked.flash,
        "engine_ram_bytes": fitted.planned.ram,
        "engine_feasible": engine.feasible,
        "engine_reasons": list(engine.reasons),
        "sources": {"engine_flash_bytes": f"{fitted.linked.source}, {board_source}", "engine_ram_bytes": "arena planned, stack estimated"},
    }


def show(network: "Network", found: Mapping[str, Any], rule: "Bits", engine: "Bits") -> None:
    """Prints both allocations, layer by layer."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table()
    for heading in ("layer", "weights", "output", "rule: weights", "output bits", "engine: weights", "output bits"):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    at = {layer.name: i for i, layer in enumerate(network.layers)}
    for step in network.steps:
        i = at.get(step.name)
        weights = ["", ""] if i is None else [str(rule.weights[i]), str(engine.weights[i])]
        outputs = [str(bits.of(step.result)) for bits in (rule, engine)]
        row = [escape(step.name), f"{step.weights:,}" if step.weights else "", f"{step.result.elements:,}"]
        table.add_row(*row, weights[0], outputs[0], weights[1], outputs[1])
    console.print(table)
    limits = found["limits"]
    console.print(f"limits: flash {format_size(limits['flash'])}, RAM {format_size(limits['ram'])}", highlight=False)
    for name, prefix in (("rule", ""), ("engine", "engine_")):
        word = "fits" if found[f"{prefix}feasible"] else "does NOT fit"
        sizes = f"flash {found[f'{prefix}flash_bytes']:,} B, RAM {found[f'{prefix}ram_bytes']:,} B"
        how = "packed tensors and constants, no code" if name == "rule" else "; ".join(dict.fromkeys(found["sources"].values()))
        console.print(f"{name}: {word}: {sizes} ({how})", highlight=False, markup=False)


def bits(
    model: Any, limits: Limits, granularity: "Granularity", log: Any = lambda line: None
) -> tuple["Network", dict[str, Any], "Bits", "Bits"]:
    """Both allocations of a float Keras model: (network, report, the rule's bits, the engine's bits).

    Raises:
        ModelError: a layer has no exact integer counterpart.
    """
    from tinykit.engine.goal import BALANCED
    from tinykit.fit.goals import fit_engine
    from tinykit.fit.preview import preview
    from tinykit.fit.search import fit
    from tinykit.quant.allocation.rule import allocate
    from tinykit.quant.fuse import fuse

    found = preview(fuse(model))
    rule = allocate(found.network, limits.flash, limits.ram, granularity)
    board = firmware_board(limits.board)
    fitted, _ = fit_engine(found, board, BALANCED, lambda meter: fit(found.network, meter, limits.flash, limits.ram, log), log)
    result = report(found.network, limits, granularity, rule, fitted, limits.board)
    return found.network, result, rule.bits, fitted.outcome.bits


def define_flags() -> None:
    """Declares this program's flags."""
    flags.DEFINE_string("model", None, "A model's file (.keras, .h5, SavedModel), or a family such as mobilenet_v1.")
    flags.DEFINE_string("config", None, "A configuration, by name or path, in the place of --model.")
    flags.DEFINE_multi_string("set", [], "Replaces one value, a.b=value. For a family: model.input, model.classes, model.NAME.")
    flags.DEFINE_string("board", None, f"Board to link for; its budget is the default limit: {', '.join(firmware_boards())}.")
    flags.DEFINE_string("flash", None, "Flash limit: bytes, or a size such as 256kB.")
    flags.DEFINE_string("ram", None, "RAM limit: bytes, or a size such as 64kB.")
    flags.DEFINE_enum("granularity", "per_channel", ["per_layer", "per_channel"], "Weight scales in the rule's accounting of constants.")
    flags.DEFINE_string("json", None, "Also writes the result to this file.")


def _model() -> tuple[Any, Any]:
    """(Keras model, budget section or None) that the flags ask for."""
    from tinykit.models.load import load_model
    from tinykit.models.registry import MODELS

    overrides = FLAGS["set"].value
    if (FLAGS.model is None) == (FLAGS.config is None):
        raise ConfigError("expected --model or --config, one of them")
    if FLAGS.config is not None:
        return config_model(FLAGS.config, overrides)
    is_file = Path(FLAGS.model).suffix in (".keras", ".h5", ".hdf5") or Path(FLAGS.model).exists()
    if is_file and FLAGS.model not in MODELS:
        if overrides:
            raise ConfigError("--set: a model's file has no options")
        return load_model(FLAGS.model), None
    return family_model(FLAGS.model, overrides), None


def _work(argv: Sequence[str]) -> None:
    from tinykit.quant.allocation.accounting import Granularity
    from tinykit.recipe.quiet import import_tensorflow

    expect_flags(argv, ())
    limits_of(FLAGS.board, FLAGS.flash, FLAGS.ram)  # before TensorFlow takes its seconds
    import_tensorflow()
    model, budget = _model()
    flash, ram, board = FLAGS.flash, FLAGS.ram, FLAGS.board
    if budget is not None:
        board = board or budget.board
        flash = flash if flash is not None else budget.flash
        ram = ram if ram is not None else budget.ram
    limits = limits_of(board, flash, ram)
    network, found, rule, engine = bits(model, limits, Granularity(FLAGS.granularity), lambda line: print(line, flush=True))
    show(network, found, rule, engine)
    if FLAGS.json:
        atomic.write_json(Path(FLAGS.json), found)
    if not found["feasible"] and not found["engine_feasible"]:
        raise BudgetError([*found["reasons"], *found["engine_reasons"]])


if __name__ == "__main__":
    run_program(define_flags, _work)
