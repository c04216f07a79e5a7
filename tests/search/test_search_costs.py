"""Costs: exact for every architecture, by an independent count, and of the built, fused network as the integer graph counts."""

import itertools

import numpy as np
import pytest
from search_spaces import SPACES, recount

from tinykit.search.costs import CostModel
from tinykit.search.space import from_options


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("name", sorted(SPACES))
def test_costs_of_every_architecture_are_exact(name, bits):
    space = SPACES[name]()
    costs = CostModel(space, bits)
    names = [d.name for d in space.decisions]
    every = itertools.product(*(range(len(d.values)) for d in space.decisions))
    step = max(1, space.size // 1500)
    seen = 0
    for choice in itertools.islice(every, 0, None, step):
        indices = dict(zip(names, choice, strict=True))
        assert costs(space.one_hot(indices)).as_dict() == recount(space, space.architecture(indices), bits)
        seen += 1
    assert seen >= min(space.size, 1500) // 2


@pytest.mark.parametrize("name", sorted(SPACES))
def test_the_built_network_costs_what_was_counted(name):
    from tinykit.graph import costs as graph_costs
    from tinykit.models.registry import build_model
    from tinykit.search.predict import twin

    space = SPACES[name]()
    rng = np.random.default_rng(0)
    least = {d.name: 0 for d in space.decisions}
    most = {d.name: len(d.values) - 1 for d in space.decisions}
    for number, indices in enumerate([least, most, space.drawn(rng)]):
        bits = (8, 8, 4)[number]
        architecture = space.architecture(indices)
        graph = twin(build_model("staged", space.input_shape, space.classes, architecture.options()), bits)
        rows = [row for row in graph_costs.layer_rows(graph) if row.weight_bits]
        flash = sum(row.weight_bytes + row.bias_bytes + row.quant_bytes for row in rows)
        counted = CostModel(space, bits)(space.one_hot(indices)).as_dict()
        assert counted == {"macs": graph_costs.total_macs(graph), "flash": flash, "ram": graph_costs.peak(graph).total}
        named = {node.name for node in CostModel(space).nodes if node.kind in ("conv", "depthwise", "dense")}
        assert {op.name for op in graph.ops if graph_costs.op_macs(graph, op)} <= named


def test_architectures_survive_json_and_have_one_key_each():
    space = SPACES["image"]()
    rng = np.random.default_rng(1)
    keys = {}
    for _ in range(300):
        indices = space.drawn(rng)
        architecture = space.architecture(indices)
        assert from_options(architecture.options()) == architecture
        assert space.architecture(space.indices(architecture)) == architecture
        assert keys.setdefault(architecture.key, architecture) == architecture
    assert len(keys) > 100
