"""The section `tune`: what is refused before anything is trained, with file and line; and variants of a configuration."""

import subprocess
import sys
from pathlib import Path

import pytest

from tinykit.config.loading import load_config, with_values
from tinykit.errors import ConfigError
from tinykit.search.tuner.space import TuneSpace, check_parameters, key_of

GOOD = """
data: {name: digits}
model: {name: cnn}
recipe: int8
budget: {board: nano33ble}
tune:
  method: METHOD
  trials: 4
  parameters:
    steps.train.learning_rate: {least: 0.001, most: 0.01, scale: log}
    PARAMETER
"""


def written(tmp_path, parameter="data.batch_size: {values: [16, 32]}", method="random", more=""):
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD.replace("PARAMETER", parameter).replace("METHOD", method) + more)
    return load_config(str(file))


@pytest.mark.parametrize(
    "parameter,message",
    [
        ("foo.bar: {values: [1]}", "mine.yaml:11 (tuned): unknown key 'foo'"),
        (
            "model.options.filterz: {values: [[8, 8]]}",
            "mine.yaml:11 (tuned): unknown key 'filterz' in model.options; did you mean 'filters'?",
        ),
        (
            "steps.quantise.epochs: {values: [1]}",
            "mine.yaml:11 (tuned): steps: the recipe has no step 'quantise'; did you mean 'quantize'?",
        ),
        ("steps.train.optimizer: {values: [adam, adum]}", "train.optimizer: should be 'adam', 'sgd' or 'adamw', got 'adum'"),
        ("data.batch_size: {least: 0, most: 8}", "mine.yaml:11 (tuned): data.batch_size: should be greater than or equal to 1, got 0"),
        ("model.name.x: {values: [1]}", "model.name is 'cnn', which has no part 'x'"),
        ("recipe: {values: [int8, float]}", "recipe: ends with a float network"),
        ("recipe: {values: [int8, nonesuch]}", "no recipe 'nonesuch'"),
        ("data.batch_size: {values: []}", "mine.yaml:11: tune.parameters.data.batch_size.values"),
        ("data.batch_size: {least: 9, most: 9}", "mine.yaml:11: tune.parameters.data.batch_size: an empty range"),
        ("data.batch_size: {least: 9}", "expected `values`, or `least` and `most`"),
        ("data.batch_size: {values: [1], least: 1, most: 3}", "expected no least, most beside them"),
        ("data.batch_size: {values: [8, 8]}", "a value is there twice: 8"),
        ("data.batch_size: {values: [.nan]}", "finite numbers"),
        ("data.batch_size: {least: 0, most: 8, scale: log}", "to be more than 0 with scale: log"),
        ("data.batch_size: {least: 1, most: 8, step: 9}", "expected `step` to be at most 7"),
        ("data.batch_size: {least: 1, most: 8, stepp: 1}", "unknown key 'stepp'"),
        ("seed: {values: [1, 2]}", "'seed': is no parameter"),
        ("budget.flash: {values: [1]}", "'budget.flash': is no parameter"),
        ("data.options.path: {values: [a]}", "is no parameter"),
        ("data..x: {values: [1]}", "expected a key as --set takes it"),
        ("steps.train: {values: [{}]}", "is a part of 'steps.train': give one of them"),
    ],
)
def test_what_no_parameter_is_is_told_with_its_line(tmp_path, parameter, message):
    with pytest.raises(ConfigError) as error:
        check_parameters(written(tmp_path, parameter))
    assert message in str(error.value)
    assert sum(message in problem for problem in error.value.problems) == 1


@pytest.mark.parametrize(
    "override,message",
    [
        ("tune.method=grid", "tune.method: should be 'random', 'bayesian', 'hyperband' or 'nsga2'"),
        ("tune.trials=null", "`trials` is missing"),
        ("tune.objectives=[accuracy, flash]", "`objectives` belong to method: nsga2"),
        ("tune.limits.cycle=5", "unknown key 'cycle' in tune.limits; did you mean 'cycles'?"),
        ("tune.parameters={}", "tune.parameters"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(tmp_path, override, message):
    written(tmp_path)
    with pytest.raises(ConfigError) as error:
        load_config(str(tmp_path / "mine.yaml"), [override])
    assert message in str(error.value)


def test_hyperband_has_its_own_resource(tmp_path):
    with pytest.raises(ConfigError, match=r"'steps\.train\.epochs': is what hyperband gives"):
        written(tmp_path, "steps.train.epochs: {values: [1, 2]}", method="hyperband")


def test_several_problems_are_told_at_once(tmp_path):
    config = written(tmp_path, "foo: {values: [1]}\n    data.batch_size: {values: [0, 8]}\n    model.options.kernel: {least: 0, most: 3}")
    with pytest.raises(ConfigError) as error:
        check_parameters(config)
    assert len(error.value.problems) == 3


def test_a_variant_is_the_configuration_with_values(tmp_path):
    config = written(tmp_path, "recipe: {values: [int8, prune_quantize]}\n    steps.prune.macs: {values: [0.5, 0.25]}")
    check_parameters(config)  # what int8 has no step for is for the other recipe
    found = with_values(config, {"recipe": "prune_quantize", "steps.prune.macs": 0.25, "model.options.filters": [8, 8]}, without=("tune",))
    assert found.name == "mine" and found.config.task == "mine" and found.config.tune is None
    assert [step.name for step in found.steps] == ["train", "prune", "quantize"] and found.steps[1].options["macs"] == 0.25
    assert found.config.model.options["filters"] == [8, 8]
    assert config.config.recipe[0] == {"train": config.steps[0].options} and config.config.tune is not None  # it stays as it was
    assert "tune" not in found.to_dict() and "tune" in config.to_dict() and "tune" not in load_config("digits").to_dict()


def test_the_command_line_comes_first(tmp_path):
    written(tmp_path)
    config = load_config(str(tmp_path / "mine.yaml"), ["steps.train.epochs=7", "data.batch_size=8"], seed=3)
    found = with_values(config, {"data.batch_size": 16})
    assert (found.steps[0].options["epochs"], found.config.data.batch_size, found.config.seed) == (7, 16, 3)


def test_proposals_and_values_are_each_others_inverse(tmp_path):
    parameters = """model.options.filters: {values: [[8, 8], null, {a: 1}, true, 1]}
    a: {least: 1, most: 9}
    b: {least: 1, most: 9, step: 4}
    c: {least: 0.5, most: 1.0, step: 0.25}
    d: {least: 1, most: 1000, scale: log}"""
    space = TuneSpace(written(tmp_path, parameters).config.tune.parameters)
    hyperparameters = space.hyperparameters().space
    for chance in (0.0, 0.2, 0.45, 0.7, 0.9999):
        values = space.decoded({hp.name: hp.prob_to_value(chance) for hp in hyperparameters})
        assert space.decoded(space.encoded(values)) == values
        assert 0.001 <= values["steps.train.learning_rate"] <= 0.01 and values["b"] in (1, 5, 9) and values["c"] in (0.5, 0.75, 1.0)
        assert isinstance(values["a"], int) and isinstance(values["d"], int)
    assert not space.ordered("model.options.filters") and space.ordered("a")
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 2}, epochs=3)
    with pytest.raises(ConfigError, match="expected values of"):
        space.encoded({"a": 1})


def program(*arguments):
    command = [sys.executable, "-m", "tinykit.search", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)


@pytest.mark.parametrize(
    "arguments,message",
    [
        (("--config=tune_digits", "--worker=one"), "--worker: expected --chief HOST:PORT beside it"),
        (("--config=tune_digits", "--chief=7077", "--worker=chief2"), "--worker 'chief2': expected letters"),
        (("--config=tune_digits", "--chief=host", "--worker=one"), "--chief host: expected HOST:PORT"),
        (("--config=search_digits", "--chief=7077"), "--chief: is for a configuration with a section `tune`"),
        (("--config=tune_digits", "--set=steps.train.optimizer=sdg"), "--set steps.train.optimizer"),
        (("--config=tune_digits", "--lease=0"), "--lease"),
    ],
)
def test_the_program_tells_in_one_line(tmp_path, arguments, message):
    done = program(*arguments, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
