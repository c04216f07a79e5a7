"""What storing weights coded costs and saves, measured: the same network is linked and run once more with all weights dense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tinykit.boards.once import run_once
from tinykit.boards.profiling import CallProfile, StackOverflow
from tinykit.boards.table import Board
from tinykit.boards.toolchain import Toolchain
from tinykit.engine.call import Storage
from tinykit.engine.decoders import NAMES
from tinykit.engine.generate import Engine, LayerCall
from tinykit.errors import BudgetError

if TYPE_CHECKING:
    from tinykit.boards.pipeline import Compiled

STORAGE_COLUMNS = ("storage", "weights_dense", "weights_stored", "slices", "instructions_dense", "decode_instructions", "storage_reason")
"""Columns of layers.csv: coding, bytes of weights before and after, slices, instructions of the dense twin, those of decoders, why."""


@dataclass(frozen=True)
class Twin:
    """The network with all weights as kernels read them.

    Attributes:
        flash: bytes of the linked image without its self-test vector.
        arena: bytes.
        instructions: of one inference.
        layers: instructions of each layer's call, by op.
    """

    flash: int
    arena: int
    instructions: int
    layers: Mapping[str, int]


def coded_layers(engine: Engine) -> list[LayerCall]:
    """The layers whose weights are decoded."""
    return [call for call in engine.calls if call.storage is not None and call.storage.scheme is not None]


def build_twin(engine: Engine, sources: Mapping[str, str], board: Board, tools: Toolchain, level: str) -> Twin | None:
    """Links and runs a network whose weights are dense; None where it does not fit the board."""
    try:
        build, run, layers = run_once(engine, sources, board, tools, level)
    except (BudgetError, StackOverflow):
        return None
    return Twin(build.sizes.total, engine.plan.arena_bytes, run.instructions, layers)


def stays_dense(plain: Engine, coded: Engine, larger: int) -> Engine:
    """The engine with dense weights, whose layers say why they are not coded: linked, the whole image would be so many bytes larger."""
    why = f"linked, the image would be {larger:,} bytes larger with coded weights"
    before = {call.op: call.storage for call in coded.calls}

    def told(call: LayerCall) -> LayerCall:
        own = before[call.op]
        if own is None or own.scheme is None:
            return replace(call, storage=own)
        return replace(call, storage=Storage(None, own.dense_bytes, own.dense_bytes, 0, why))

    return replace(plain, calls=tuple(told(call) for call in plain.calls))


def storage_row(call: LayerCall, profile: CallProfile | None, dense: Twin | None) -> dict[str, Any]:
    """The columns of STORAGE_COLUMNS for a layer; empty for one without weights, or where nobody wished anything."""
    own = call.storage
    if own is None:
        return dict.fromkeys(STORAGE_COLUMNS)
    decoding = None if profile is None else sum(profile.functions.get(name, 0) for name in NAMES)
    before = None if dense is None else dense.layers.get(call.op)
    cells = (own.scheme or "dense", own.dense_bytes, own.bytes, own.slices, before, decoding, own.reason)
    return dict(zip(STORAGE_COLUMNS, cells, strict=True))


def storage_json(compiled: Compiled) -> dict[str, Any] | None:
    """What report.json and metrics.json say; None where no layer is coded. `dense`: linked and emulated without any coding."""
    coded = coded_layers(compiled.engine)
    if not coded:
        return None
    known = [call.storage for call in compiled.engine.calls if call.storage is not None]
    run, dense = compiled.verification.run, compiled.dense
    return {
        "layers_coded": len(coded),
        "layers_dense": len(known) - len(coded),
        "weights_dense": sum(own.dense_bytes for own in known),
        "weights_stored": sum(own.bytes for own in known),
        "decode_instructions": None if run is None else sum(run.functions.get(name, (0, 0))[0] for name in NAMES),
        "dense": None if dense is None else {"flash": dense.flash, "arena": dense.arena, "instructions": dense.instructions},
    }


def storage_lines(compiled: Compiled) -> list[str]:
    """What `compile` prints: totals, then each layer with weights; nothing where no layer is coded."""
    from tinykit.boards.pipeline import layer_table

    totals = storage_json(compiled)
    if totals is None:
        return []
    share = totals["weights_stored"] / totals["weights_dense"]
    lines = [
        f"storage: {totals['layers_coded']} of {totals['layers_coded'] + totals['layers_dense']} layers coded; weights "
        f"{totals['weights_dense']:,} -> {totals['weights_stored']:,} bytes ({share:.2f})" + _against(compiled)
    ]
    for row in layer_table(compiled):
        if row["storage"] is None:
            continue
        sizes = f"{row['weights_dense']:,} bytes"
        if row["storage"] != "dense":
            sizes = f"{row['weights_dense']:,} -> {row['weights_stored']:,} bytes in {row['slices']} slice{'s' * (row['slices'] > 1)}"
            if row["instructions"] is not None and row["instructions_dense"] is not None:
                sizes += f", {row['instructions_dense']:,} -> {row['instructions']:,} instructions"
        lines.append(f"  {row['name']}: {row['storage']}, {sizes}; {row['storage_reason']}")
    return lines


def _against(compiled: Compiled) -> str:
    run, dense = compiled.verification.run, compiled.dense
    if run is None or dense is None:
        return ""
    return (
        f"; against dense: flash {dense.flash:,} -> {compiled.build.sizes.total:,}, arena {dense.arena:,} -> "
        f"{compiled.engine.plan.arena_bytes:,}, instructions {dense.instructions:,} -> {run.instructions:,}, "
        f"emulated({compiled.board.name})"
    )
