"""The winner's configuration: an ordinary one, with the architecture in the place of the model."""

import pytest
import yaml

from tinykit.config.loading import load_config
from tinykit.errors import ConfigError
from tinykit.search.predict import Target
from tinykit.search.run import search, winner_config
from tinykit.search.space import Space
from tinykit.search.trials import Trial

STAGES = [{"block": "conv", "filters": 8, "kernel": 3, "stride": 1, "repeats": 1}]
WINNER = Trial("abc", "dnas", {"stages": STAGES}, "trained", (), {"macs": 1, "flash": 1, "ram": 1})


def resolved(tmp_path, *overrides, start=None):
    file = tmp_path / "winner.yaml"
    file.write_text(yaml.safe_dump(winner_config(load_config("search_digits", overrides), WINNER, start)))
    return load_config(str(file))


def test_it_loads_and_differs_from_the_search_in_the_model_alone(tmp_path):
    found, before = resolved(tmp_path), load_config("search_digits").to_dict()
    assert found.config.model.name == "staged" and found.config.search is None
    assert found.config.model.options["stages"][0]["filters"] == 8 and found.config.model.options["dropout"] == 0
    after = found.to_dict()
    assert {key for key in before if before[key] != after.get(key)} == {"model", "search"}


def test_bits_dropout_and_inherited_weights_reach_the_recipe(tmp_path):
    found = resolved(tmp_path, "search.weight_bits=4", "search.dropout=0.25")
    assert found.config.model.options["dropout"] == 0.25
    assert {step.name: step.options.get("bits") for step in found.steps} == {"train": None, "quantize": {"*": 4}}
    model = tmp_path / "abc.keras"
    model.write_bytes(b"")
    found = resolved(tmp_path, start=model)
    assert found.config.model.path == str(model) and found.config.model.name is None
    assert found.steps[0].options["when"] == "always" and found.steps[1].options["bits"] == "optimum"


def test_a_configuration_without_a_search_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ConfigError, match="has no section `search`"):
        search(load_config("digits"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_limits_are_the_budget_less_the_gap():
    from tinykit.boards.table import Budget, emulated_board
    from tinykit.engine.goal import BALANCED
    from tinykit.search.winner import count_limits

    options = load_config("search_digits").config.search
    target = Target(emulated_board(None), Budget(10_000, None), BALANCED)
    assert count_limits(options, target, {"flash": 4_000, "ram": -50}) == {"macs": 60_000, "flash": 6_000, "ram": None}
    assert Space(options.stages, (8, 8, 1), 10).size > 1000


def test_candidates_are_trained_like_the_winner_only_shorter():
    from tinykit.search.winner import trial_options

    own = ["steps.train.learning_rate=0.02", "steps.train.optimizer=sgd", "steps.train.weight_decay=0.01", "steps.train.patience=3"]
    config = load_config("search_digits", [*own, "search.trial_epochs=4", "steps.train.epochs=70", "steps.train.keep=best"])
    found = trial_options(config, config.config.search)
    assert (found.learning_rate, found.optimizer, found.weight_decay) == (0.02, "sgd", 0.01)
    assert (found.epochs, found.keep, found.patience) == (4, "last", None)
    without = load_config("search_digits", ["recipe=[quantize]", "steps={}", "search.learning_rate=0.5"])
    assert trial_options(without, without.config.search).learning_rate == 0.5
