"""Loading of configurations: every message with its file, line and nearest match; overrides; lookup; the resolved file."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from tinykit.config.catalogue import Catalogue, Family
from tinykit.config.loading import find_file, load_config
from tinykit.config.schema import json_schema
from tinykit.errors import ConfigError


class DigitsOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    folds: int = Field(default=4, ge=1, le=10)


class TrainOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    epochs: int = Field(default=20, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    distill: dict[str, float] = Field(default_factory=dict)


class QuantizeOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    epochs: int = 2


def check_operations(where):
    def check(operations):
        return [(i, f"{where}[{i}]: unknown op") for i, op in enumerate(operations) if op not in ("flip", {"scale": {"by": 2}})]

    return check


STEPS = {"train": TrainOptions, "quantize": QuantizeOptions}
CATALOGUE = Catalogue(
    datasets=Family("dataset", lambda: ["digits", "cifar10"], lambda name: DigitsOptions if name == "digits" else None),
    models=Family("model", lambda: ["cnn", "resnet8"], lambda name: None),
    steps=Family("step", lambda: list(STEPS), STEPS.__getitem__),
    boards=lambda: ["nano33ble", "host"],
    chain=check_operations("data.preprocess"),
    augment=check_operations("data.augment"),
)

GOOD = """\
data:
  name: digits
  preprocess:
    - scale: {by: 2}
model:
  name: cnn
recipe:
  - train: {epochs: 3}
  - quantize
budget:
  board: nano33ble
  flash: 256kB
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def load(text, *overrides, **options):
    Path("c.yaml").write_text(text)
    return load_config("c.yaml", overrides, catalogue=CATALOGUE, **options)


def problems(text, *overrides):
    with pytest.raises(ConfigError) as caught:
        load(text, *overrides)
    return caught.value.problems


def test_defaults_are_filled_in():
    config = load(GOOD)
    assert [(s.name, s.label) for s in config.steps] == [("train", "train"), ("quantize", "quantize")]
    assert config.steps[0].options == {"epochs": 3, "learning_rate": 0.001, "distill": {}}
    assert config.config.data.options == {"folds": 4}
    assert config.config.budget.flash == 256_000
    assert config.config.task == config.name == "c"
    assert config.notes == ()


def test_all_problems_at_once_with_file_line_and_nearest_match():
    text = """\
sed: 3
data:
  name: digts
  options: {flods: 3}
  batch_size: 0
  preprocess:
    - scale: {by: 2}
    - scael: {by: 2}
  augment: [flip, flop]
model:
  nam: cnn
budget:
  board: nano33bel
  flash: 12 parsecs
recipe:
  - trian
  - train: {epoch: 3, learning_rate: -1}
steps:
  quantise: {epochs: 1}
simplify: sometimes
"""
    found = problems(text)
    expected = [
        "c.yaml:1: unknown key 'sed'; did you mean 'seed'?",
        "c.yaml:5: data.batch_size: should be greater than or equal to 1, got 0",
        "c.yaml:11: unknown key 'nam' in model; did you mean 'name'?",
        "c.yaml:10: model: give exactly one of name and path, got neither",
        "c.yaml:14: budget.flash: expected a size in bytes such as 262144, 256kB, 1MB or 64KiB, got '12 parsecs'",
        "c.yaml:20: simplify: should be a valid boolean, got 'sometimes'",
        "c.yaml:3: unknown dataset 'digts'; did you mean 'digits'?",
        "c.yaml:8: data.preprocess[1]: unknown op",
        "c.yaml:9: data.augment[1]: unknown op",
        "c.yaml:13: unknown board 'nano33bel'; did you mean 'nano33ble'?",
        "c.yaml:16: unknown step 'trian'; did you mean 'train'?",
        "c.yaml:17: unknown key 'epoch' in train; did you mean 'epochs'?",
        "c.yaml:17: train.learning_rate: should be greater than 0, got -1",
    ]
    assert sorted(found) == sorted(expected)


def test_step_options_of_the_configuration_replace_the_recipes():
    config = load(GOOD + "steps:\n  train: {epochs: 9, distill: {weight: 0.5}}\n", "steps.train.distill.heat=4.0")
    assert config.steps[0].options == {"epochs": 9, "learning_rate": 0.001, "distill": {"weight": 0.5, "heat": 4.0}}


def test_options_of_a_step_that_the_recipe_has_not():
    assert problems(GOOD + "steps:\n  tran: {epochs: 9}\n") == ["c.yaml:14: steps: the recipe has no step 'tran'; did you mean 'train'?"]


def test_a_step_used_twice_gets_labels():
    config = load(GOOD.replace("  - quantize", "  - quantize\n  - train"), "steps.train_2.epochs=7")
    assert [s.label for s in config.steps] == ["train", "quantize", "train_2"]
    assert [s.options["epochs"] for s in config.steps] == [3, 2, 7]


def test_misplaced_key_is_told_its_place():
    assert problems(GOOD + "batch_size: 3\n") == ["c.yaml:13: unknown key 'batch_size'; did you mean 'data.batch_size'?"]


def test_wrong_option_of_a_dataset_has_its_line():
    text = GOOD.replace("  name: digits\n", "  name: digits\n  options:\n    folds: 40\n")
    assert problems(text) == ["c.yaml:4: data.options.folds: should be less than or equal to 10, got 40"]


def test_missing_section():
    assert problems("model: {name: cnn}\nrecipe: [train]\n") == ["c.yaml: data is missing"]


@pytest.mark.parametrize("text", ["", "- 1\n", "digits\n"])
def test_a_file_without_keys(text):
    assert any("c.yaml" in problem for problem in problems(text))


def test_override_sets_values_lists_and_sections():
    config = load(GOOD, "seed=7", "data.batch_size=16", "recipe.0.train.epochs=11", "data.preprocess=[]", "budget.ram=64KiB")
    assert (config.config.seed, config.config.data.batch_size) == (7, 16)
    assert config.steps[0].options["epochs"] == 11
    assert config.config.data.preprocess == []
    assert config.config.budget.ram == 65536


def test_the_last_override_wins_and_seed_flag_is_last():
    assert load(GOOD, "seed=1", "seed=2").config.seed == 2
    assert load(GOOD, "seed=1", seed=5).config.seed == 5


def test_problems_of_overrides_name_the_flag():
    found = problems(GOOD, "data.nmae=3", "recipe.7.train=1", "seed", "model.name.x=1", "data.batch_size=[1", "seed=-1", ".a=1")
    assert "--set data.nmae: unknown key 'nmae' in data; did you mean 'name'?" in found
    assert "--set recipe.7.train: recipe is a list; expected an index from 0 to 1, got '7'" in found
    assert "--set seed: expected KEY=VALUE, for example --set steps.train.epochs=5" in found
    assert "--set model.name.x: model.name is 'cnn', which has no part 'x'" in found
    assert any(problem.startswith("--set data.batch_size: not valid YAML") for problem in found)
    assert "--set seed: seed: should be greater than or equal to 0, got -1" in found
    assert any(problem.startswith("--set .a=1: expected KEY=VALUE") for problem in found)


def test_a_model_file_from_the_command_line_replaces_the_name():
    Path("m.keras").write_text("")
    config = load(GOOD.replace("name: cnn", "name: cnn\n  options: {a: 1}"), "model.path=m.keras")
    assert config.config.model.name is None
    assert config.config.model.options == {}
    assert config.config.model.path == str(Path("m.keras").absolute())
    assert config.notes == ("model.path=m.keras from the command line replaces the configuration's model.name=cnn and its options",)


def test_a_model_file_is_found_beside_the_configuration():
    Path("sub").mkdir()
    Path("sub/m.keras").write_text("")
    Path("sub/c.yaml").write_text(GOOD.replace("name: cnn", "path: m.keras"))
    assert load_config("sub/c", catalogue=CATALOGUE).config.model.path == str(Path("sub/m.keras").absolute())


def test_both_name_and_path_in_the_file():
    Path("m.keras").write_text("")
    assert problems(GOOD.replace("name: cnn", "name: cnn\n  path: m.keras")) == [
        "c.yaml:7: model: give exactly one of name and path, got both"
    ]


def test_a_model_file_that_is_not_there():
    assert problems(GOOD, "model.path=none.keras") == ["--set model.path: model.path: no such file 'none.keras'"]


@pytest.mark.parametrize("path", ["a" * 5000, "~nobody-of-this-name/m.h5", '"\\0"'])
def test_names_that_no_file_can_have(path):
    assert "no such file" in problems(GOOD, f"model.path={path}")[0]
    with pytest.raises(ConfigError, match="no config"):
        load_config(path.strip('"'), catalogue=CATALOGUE)


def test_a_model_file_that_would_never_end():
    assert problems(GOOD, "model.path=/dev/zero") == ["--set model.path: model.path: '/dev/zero' is neither a file nor a folder"]


def test_steps_that_cannot_follow_one_another():
    text = "data: {name: digits}\nmodel: {name: cnn}\nrecipe:\n  - train\n  - quantize\n  - ptq\n  - train\n"
    Path("order.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config("order.yaml")
    assert caught.value.problems == [
        "order.yaml:6: recipe: step 'ptq' needs a float model, but 'quantize' before it has made an integer network",
        "order.yaml:7: recipe: step 'train' needs a float model, but 'quantize' before it has made an integer network",
    ]


def test_types_are_named_in_the_words_of_yaml():
    assert problems(GOOD, "budget=3") == ["--set budget: budget: should be a valid mapping, got 3"]


def test_recipe_by_name_with_its_own_lines():
    Path("recipes").mkdir()
    Path("recipes/mine.yaml").write_text("steps:\n  - train: {epochs: 5}\n  - quantize:\n      epoks: 3\n")
    text = GOOD.replace("recipe:\n  - train: {epochs: 3}\n  - quantize\n", "recipe: mine\n")
    assert problems(text) == ["recipes/mine.yaml:4: unknown key 'epoks' in quantize; did you mean 'epochs'?"]
    assert problems(text, "recipe=mien") == [
        f"--set recipe: recipe: no recipe 'mien'; did you mean 'mine'? (looked in {looked_in('recipes')})"
    ]


def looked_in(kind):
    from tinykit.config.loading import shipped_folders

    folders = [Path().resolve(), Path(kind).resolve(), *(folder.resolve() for folder in shipped_folders(kind))]
    return ", ".join(dict.fromkeys(map(str, folders)))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("[]", "c.yaml:7: recipe: expected a recipe's name or a list of 1 to 32 steps, got []"),
        ("[{train: {}, quantize: {}}]", "c.yaml:7: recipe[0]: expected one step"),
        ("[3]", "c.yaml:7: recipe[0]: expected one step"),
        ("[{train: 3}]", "c.yaml:7: recipe[0].train: expected options, got 3"),
    ],
)
def test_malformed_recipes(recipe, message):
    text = GOOD.replace("recipe:\n  - train: {epochs: 3}\n  - quantize\n", f"recipe: {recipe}\n")
    assert [problem for problem in problems(text) if problem.startswith(message)]


def test_lookup_here_then_in_the_package():
    Path("configs").mkdir()
    Path("configs/digits.yaml").write_text(GOOD)
    assert find_file("digits", "configs") == Path("configs/digits.yaml")
    assert find_file("configs/digits.yaml", "configs") == Path("configs/digits.yaml")
    Path("configs/digits.yaml").unlink()
    for name in ("digits", "digits.yaml"):
        assert find_file(name, "configs").is_absolute()
    with pytest.raises(ConfigError, match="no config 'digitz'; did you mean 'digits'"):
        find_file("digitz", "configs")


@pytest.mark.parametrize("name", ["digits", "cifar10", "fashion_mnist"])
def test_shipped_configurations_load_without_tensorflow_from_any_folder(name):
    config = load_config(name, ["recipe=float"])
    assert config.steps[0].name == "train"


def test_resolved_configuration_reloads_to_the_same():
    config = load(GOOD, "task=on", "steps.train.learning_rate=1e-5", "budget.ram=1.5kB")
    Path("again.yaml").write_text(config.to_yaml())
    again = load_config("again.yaml", catalogue=CATALOGUE)
    assert again.to_dict() == config.to_dict()
    assert again.to_yaml() == config.to_yaml()
    assert list(config.to_dict()) == ["task", "seed", "data", "model", "recipe", "steps", "budget", "engine", "check", "tflite", "simplify"]


def test_json_schema_is_json_and_knows_the_steps():
    schema = json.loads(json.dumps(json_schema(STEPS)))
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {*load(GOOD).to_dict(), "search", "tune"}
    assert set(schema["properties"]["steps"]["properties"]["train"]["properties"]) == set(TrainOptions.model_fields)
    assert schema["required"] == ["data"]


def test_the_documented_example_is_a_configuration():
    page = (Path(json_schema.__code__.co_filename).resolve().parents[2] / "docs" / "configuration.md").read_text()
    Path("example.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    config = load_config("example", ["recipe=float"])
    assert (config.config.budget.flash, config.config.budget.ram) == (256_000, 64_000)
    assert config.steps[0].options["epochs"] == 60
