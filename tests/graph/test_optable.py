"""docs/ops.md is generated."""

from pathlib import Path

from tinykit.engine.registry import KERNELS
from tinykit.graph import ir, optable, reference
from tinykit.graph.writeops import WRITERS

PAGE = Path(__file__).parents[2] / "docs" / "ops.md"


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text() == optable.markdown(), "docs/ops.md is stale; run: python -m tinykit.graph.optable > docs/ops.md"


def test_table_names_every_op_once() -> None:
    kinds = [row.kind for row in optable.ROWS]
    assert sorted(kinds) == sorted(ir.OPS)
    assert set(kinds) == set(WRITERS)
    assert {row.kind for row in optable.ROWS if row.reference} == set(reference._EXECUTE)
    assert {row.kind for row in optable.ROWS if row.portable_c} == {*KERNELS, "reshape"}  # a reshape is another name, no code
