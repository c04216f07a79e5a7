"""Shipped recipes that shrink a network: their order, and that the budget's check of bits waits for the smaller network."""

import pytest
from taught_runs import context, network

from tinykit.config.loading import load_config
from tinykit.errors import BudgetError
from tinykit.steps.allocation import check_bits
from tinykit.steps.quantize import QuantizeOptions

ORDERS = {
    "prune_quantize": ["train", "prune", "quantize"],
    "decompose_quantize": ["train", "decompose", "quantize"],
    "decompose_distill_quantize": ["train", "decompose", "distill", "quantize"],
    "everything": ["train", "prune", "decompose", "sparsify", "cluster", "quantize"],
}


@pytest.mark.parametrize("recipe", sorted(ORDERS))
@pytest.mark.parametrize("name", ["digits", "cifar10", "kws", "ad"])
def test_shipped_recipes_are_in_order_on_every_kind_of_data(recipe, name):
    config = load_config(name, [f"recipe={recipe}"])
    assert [step.name for step in config.steps] == ORDERS[recipe]


def test_a_budget_for_bits_is_not_judged_by_the_network_before_it_shrinks(tmp_path):
    options = QuantizeOptions(bits="optimum")
    for recipe, refused in (("mixed_precision", True), ("everything", False)):
        made, _ = context(tmp_path / recipe, f"recipe={recipe}", "budget.flash=100", label="quantize")
        if refused:
            with pytest.raises(BudgetError, match="of 100"):
                check_bits(network(), options, made)
        else:
            check_bits(network(), options, made)
