"""Every entry of every registry is documented, shows an example, and is tested by name."""

from pathlib import Path

import pytest

from tinykit.boards.table import board, board_names
from tinykit.data.pipeline import AUGMENTATIONS
from tinykit.data.preprocess import OPS as CHAIN_OPS
from tinykit.data.registry import DATASETS
from tinykit.graph.ir import OPS as GRAPH_OPS
from tinykit.models.registry import MODELS
from tinykit.packaging.registry import TARGETS
from tinykit.quant.model import LAYERS
from tinykit.recipe.registry import step_class, step_names

HERE = Path(__file__).parent
TESTS = "\n".join(p.read_text(encoding="utf-8") for p in HERE.rglob("*.py") if p != Path(__file__))

ENTRIES = [
    *(("dataset", name, entry.doc) for name, entry in DATASETS.items()),
    *(("model", name, entry.doc) for name, entry in MODELS.items()),
    *(("step", name, step_class(name).__doc__) for name in step_names()),
    *(("target", name, entry.doc) for name, entry in TARGETS.items()),
    *(("preprocessing", name, op.__doc__) for name, op in CHAIN_OPS.items()),
    *(("augmentation", name, op.__doc__) for name, op in AUGMENTATIONS.items()),
]


@pytest.mark.parametrize("family,name,doc", ENTRIES, ids=[f"{f}-{n}" for f, n, _ in ENTRIES])
def test_entry_has_docstring_example_and_test(family, name, doc):
    assert doc and len(doc.strip()) > 20, f"{family} {name}: write a docstring"
    assert "Example" in doc and name in doc, f"{family} {name}: show an example of its configuration in the docstring"
    assert f'"{name}"' in TESTS or f"'{name}'" in TESTS or f"{name}:" in TESTS, f"{family} {name}: no test names it"


@pytest.mark.parametrize("kind", sorted(GRAPH_OPS))
def test_graph_op_has_docstring_reference_and_test(kind):
    from tinykit.graph.reference import _EXECUTE

    assert GRAPH_OPS[kind].__doc__ and kind in _EXECUTE
    assert f"ir.{GRAPH_OPS[kind].__name__}" in TESTS or f'"{kind}"' in TESTS, f"{kind}: no test names it"


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_integer_layer_matches_a_graph_op(kind):
    assert kind in GRAPH_OPS and LAYERS[kind].__doc__
    assert LAYERS[kind].__name__.startswith("Q")


@pytest.mark.parametrize("name", board_names())
def test_board_names_its_sources(name):
    assert board(name) is not None
    assert f'"{name}"' in TESTS, f"{name}: no test names it"
