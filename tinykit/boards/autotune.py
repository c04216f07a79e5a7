"""Counts, on the emulated board, what every variant of every kernel executes, so that the engine is made of those that are quickest.

One image a rank: in the n-th, each layer runs the n-th of its variants. What a layer executes hardly depends on the kernels beside it, so a
handful of images measures them all. Counts are kept in the cache of tinykit, by everything that decides them: the generated text, the
compiler, its level, the board.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tinykit import atomic
from tinykit.boards.cache import cache_folder
from tinykit.boards.once import run_once
from tinykit.boards.profiling import StackOverflow
from tinykit.boards.table import Board
from tinykit.boards.toolchain import Toolchain
from tinykit.engine.call import Variant
from tinykit.engine.generate import Engine, c_identifier, generate
from tinykit.engine.lower import variants_by_rank
from tinykit.engine.select import step_needs, with_accesses
from tinykit.errors import BudgetError
from tinykit.graph import ir
from tinykit.graph.plan.planner import make_plan
from tinykit.graph.plan.problem import Problem

_LARGEST_ENTRY = 1 << 20  # bytes of a file in the cache
Counts = dict[str, int]  # op -> instructions of its call


@dataclass(frozen=True)
class Tuner:
    """Builds and runs images.

    Attributes:
        sources: engine -> files that the firmware's build needs.
        level: the compiler's.
        log: takes a line of progress.
    """

    board: Board
    tools: Toolchain
    level: str
    sources: Callable[[Engine], Mapping[str, str]]
    log: Callable[[str], None]

    def measure(self, graph: ir.Graph, room: int | None) -> dict[str, tuple[float, ...]]:
        """What `select.Preference.measured` wants: instructions of each variant, NaN where one needs more memory than there is.

        Args:
            room: bytes that the arena may take; None: any number.
        """
        graph, problem, offers = variants_by_rank(graph)
        ranks = max(map(len, offers.values()), default=0)
        found = {name: [math.nan] * len(variants) for name, variants in offers.items()}
        for rank in range(ranks):
            tried = {name: variants[rank] for name, variants in offers.items() if rank < len(variants)}
            if room is not None:
                needs = step_needs(with_accesses(problem, tried))
                tried = {name: variant for name, variant in tried.items() if needs[name] <= room}
            every = {name: variants[-1] for name, variants in offers.items()} | tried
            for name, count in self._count(graph, problem, every, f"autotune: image {rank + 1} of {ranks}").items():
                if name in tried:
                    found[name][rank] = count
        return {name: tuple(counts) for name, counts in found.items()}

    def _count(self, graph: ir.Graph, problem: Problem, variants: Mapping[str, Variant], title: str) -> Counts:
        """Instructions of each layer's call; empty where the image does not fit the board."""
        problem = with_accesses(problem, variants)
        engine = generate(graph, problem, make_plan(problem), c_identifier(graph.name), variants)
        sources = self.sources(engine)
        entry = cache_folder() / "counts" / f"{self._key(sources)}.json"
        known = _read(entry, engine)
        if known is not None:
            self.log(f"{title}: counted before")
            return known
        try:
            _, run, counts = run_once(engine, sources, self.board, self.tools, self.level)
        except (BudgetError, StackOverflow) as problem_found:
            self.log(f"{title}: left out, {problem_found}")
            return {}
        self.log(f"{title}: {run.instructions:,} instructions, emulated({self.board.name})")
        entry.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(entry, counts)
        return counts

    def _key(self, sources: Mapping[str, str]) -> str:
        """Of everything that decides the counts."""
        parts = [self.board.name, self.board.core, self.tools.version, self.level, *self.tools.compile_flags(self.board.core)]
        text = json.dumps([parts, sorted(sources.items())])
        return hashlib.sha256(text.encode()).hexdigest()


def _read(entry: Path, engine: Engine) -> Counts | None:
    """An entry of the cache, None where there is none or where it is not what was written."""
    try:
        if entry.stat().st_size > _LARGEST_ENTRY:
            return None
        counts = json.loads(entry.read_bytes())
    except (OSError, ValueError):
        return None
    names = {call.op for call in engine.calls}
    whole = isinstance(counts, dict) and set(counts) == names and all(type(n) is int and n >= 0 for n in counts.values())
    return counts if whole else None
