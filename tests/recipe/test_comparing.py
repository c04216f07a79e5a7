"""Several recipes in one command, on fakes: shared steps are done once, kills cost nothing, failures are lines, mistakes are told first."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fakes
import pytest

import tinykit
from tinykit.errors import ConfigError, ModelError, Terminated
from tinykit.recipe import comparing
from tinykit.recipe.comparing import compare, conclusion, load_recipes
from tinykit.recipe.interrupt import StopFlag
from tinykit.recipe.rundir import RunDir

HERE = Path(__file__).resolve().parent
ROOT = Path(tinykit.__file__).resolve().parent.parent
RECIPES = {
    "half": "steps: [train: {by: 0.25}, add: {by: 0.5}]",
    "quarter": "steps: [train: {by: 0.25}, add: {by: 0.25}]",
    "other": "steps: [train: {by: 0.125}]",
    "picky": "steps: [train: {by: 0.25}, picky]",
    "fails": "steps: [train: {by: 0.25}, fails]",
    "dies": "steps: [train: {by: 0.25}, dies, add]",
}


class Fails(fakes.Add):
    """Fails when it works, not before."""

    def run(self, model, options, context):
        raise ModelError("the loss is NaN")


class Measured(fakes.FakeServices):
    """Flash and instructions follow the model's value."""

    def finish(self, model, context, rundir, *, rows, budget):
        self.finished = {"flash": {"total": int(1000 * model.value)}, "ram": {"total": 10}, "instructions": int(1e6 * model.value)}
        self.finished["accuracy"] = {"integer": model.value}
        return super().finish(model, context, rundir, rows=rows, budget=budget)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(fakes.STEPS, "fails", Fails)
    Path("recipes").mkdir()
    for name, text in RECIPES.items():
        Path(f"recipes/{name}.yaml").write_text(text + "\n")
    Path("fake.yaml").write_text(fakes.CONFIG)


def loaded(*names, sets=()):
    return load_recipes("fake.yaml", names, sets, catalogue=fakes.CATALOGUE)


def go(*names, sets=(), services=None, **options):
    lines = []
    outcomes = compare(loaded(*names, sets=sets), Path("w"), log=lines.append, services=services or Measured(), **options)
    return outcomes, lines


def problems(*names, sets=()):
    with pytest.raises(ConfigError) as caught:
        loaded(*names, sets=sets)
    return caught.value.problems


def calls():
    return [line.split(" seed")[0] for line in Path("calls.txt").read_text().splitlines()]


def table():
    return {row["recipe"]: row for row in json.loads(Path("w/comparison.json").read_text())["recipes"]}


def test_what_recipes_begin_with_is_done_once_and_is_byte_for_byte_the_same():
    outcomes, lines = go("half", "quarter", "other")
    assert [call.split()[0] for call in calls()] == ["train", "add", "finish", "add", "finish", "train", "finish"]
    for file in ("model.keras", "report.json"):
        assert Path("w/half/steps/01_train", file).read_bytes() == Path("w/quarter/steps/01_train", file).read_bytes()
    assert json.loads(Path("w/other/steps/01_train/model.keras").read_text()) == 0.25, "by: 0.125 is another training"
    assert "train is that of half, which begins alike: not run again" in lines
    curves = [json.loads(line)["step"] for line in Path("w/quarter/metrics.jsonl").read_text().splitlines()]
    assert curves == ["train", "train", "add", "add"], "the report of a recipe shows what it took over"
    assert [outcome.metrics["accuracy"]["integer"] for outcome in outcomes] == [0.875, 0.625, 0.25]


def test_a_recipe_has_the_result_of_a_run_of_its_own():
    from tinykit.recipe.runner import run

    go("half", "quarter")
    Path("calls.txt").unlink()
    alone = run(loaded("quarter")["quarter"], "alone", log=lambda line: None, services=Measured())
    together = json.loads(Path("w/quarter/metrics.json").read_text())
    alone.pop("seconds"), together.pop("seconds")
    assert alone == together
    for name in ("model.keras", "config.resolved.yaml", "inputs.json"):
        assert Path("alone", name).read_bytes() == Path("w/quarter", name).read_bytes()


def test_the_table_and_its_files():
    outcomes, lines = go("half", "quarter", "other")
    assert conclusion(outcomes) is None
    found = table()
    assert [found[name]["flash"] for name in found] == [875, 625, 250]
    assert all(row["fronts"] == ["flash", "instructions"] for row in found.values()), "each is better or cheaper than the others"
    assert [line.split()[0] for line in lines[-5:-2]] == ["half", "quarter", "other"]
    assert {p.name for p in Path("w").iterdir() if p.is_file()} == {
        comparing.LOCK, "comparison.json", "comparison.csv", "comparison.html", "accuracy_flash.png", "accuracy_instructions.png",
    }  # fmt: skip


def test_the_same_command_runs_nothing_again_and_a_longer_list_only_what_is_new():
    go("half", "quarter")
    before = calls()
    outcomes, _ = go("half", "quarter")
    assert calls() == before and [outcome.failed for outcome in outcomes] == [False, False]
    go("half", "quarter", "other")
    assert len(calls()) == len(before) + 2 and list(table()) == ["half", "quarter", "other"]


def test_a_recipe_that_fails_is_a_line_and_the_others_run():
    outcomes, lines = go("fails", "quarter")
    assert [outcome.failed for outcome in outcomes] == [True, False]
    assert table()["fails"]["error"] == "the loss is NaN" and table()["quarter"]["integer"] == 0.625
    assert [call.split()[0] for call in calls()] == ["train", "add", "finish"], "what the failed one had finished is shared"
    error = conclusion(outcomes)
    assert (error.exit_code, error.problems) == (2, ["recipe fails: the loss is NaN"])
    assert any(line.startswith("fails") and "failed: the loss is NaN" in line for line in lines)


def test_a_parity_failure_ends_with_4():
    outcomes, _ = go("other", services=fakes.FakeServices(parity="3 elements differ"))
    assert conclusion(outcomes).exit_code == 4


def test_3_where_no_recipe_keeps_the_budget():
    outcomes, _ = go("half", "other", sets=["budget.flash=300"])
    assert [outcome.exit_code for outcome in outcomes] == [3, 0] and conclusion(outcomes) is None
    assert table()["half"]["budget_met"] is False
    assert conclusion(outcomes[:1]).exit_code == 3


def test_every_problem_of_every_recipe_is_told_before_anything_is_trained():
    with pytest.raises(ConfigError) as caught:
        go("half", "picky")
    assert caught.value.problems == [
        "recipe picky: layer 'a' has no integer form",
        "recipe picky: layer 'b' has no integer form",
        "nothing was trained; mend that, or leave these recipes out of --compare",
    ]
    assert not Path("calls.txt").exists() and not Path("w/comparison.json").exists()
    go("half")  # the directories that the check has made are no obstacle


def test_mistakes_in_the_list():
    assert problems("hlaf", "half")[0].startswith("--compare: recipe: no recipe 'hlaf'; did you mean 'half'?")
    assert problems("half", "recipes/half.yaml") == ["--compare: 'half' is given twice; each recipe has the folder of its name"]
    assert problems("half", sets=["recipe=other"]) == ["--set recipe: --compare names the recipes; leave one of them out"]
    assert "expected names of recipes" in problems()[0]
    assert "which its folder can have" in problems("a b")[0]


def test_a_recipe_may_be_a_file():
    Path("mine.yaml").write_text(RECIPES["other"])
    assert list(loaded("mine.yaml", "half")) == ["mine", "half"]


def test_options_reach_the_recipes_that_have_the_step():
    found = loaded("half", "other", sets=["steps.add.by=0.125"])
    assert [[step.options["by"] for step in config.steps] for config in found.values()] == [[0.25, 0.125], [0.125]]
    assert problems("half", "other", sets=["steps.slow.by=1"]) == ["--set steps.slow: no recipe of --compare has a step 'slow'"]
    assert "did you mean 'train'?" in problems("half", "other", sets=["steps.trian.by=1"])[0]


def test_options_in_the_file_for_a_step_of_another_recipe_are_noted():
    Path("fake.yaml").write_text(fakes.CONFIG + "steps: {add: {by: 0.5}}\n")
    found = loaded("half", "other")
    assert found["half"].steps[1].options["by"] == 0.5
    assert found["other"].notes == ("fake.yaml:8: options of add are not used: the recipe of this run has no such step",)


def test_another_configuration_in_the_same_directory_is_refused_before_anything_runs():
    go("half")
    before = calls()
    with pytest.raises(ConfigError) as caught:
        go("half", "other", sets=["seed=5"])
    assert caught.value.problems[0].startswith("recipe half: --workdir w/half: was made with another configuration")
    assert calls() == before


def test_other_data_are_another_training():
    go("half")
    go("quarter", services=Measured(sha="cd" * 32))
    assert [call.split()[0] for call in calls()].count("train") == 2


def test_a_directory_in_use_or_of_one_run():
    with comparing._held(Path("w")):
        done = subprocess.run(
            [sys.executable, "-m", "tinykit.train", "--config=digits", "--compare=float", "--workdir=w"],
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "error: --workdir w: in use by another comparison; wait for it, or choose another\n")
    with RunDir(Path("one")) as rundir:
        rundir.begin(loaded("half")["half"], "c", quicktest=False)
    with pytest.raises(ConfigError, match="is the directory of one run"):
        compare(loaded("half"), Path("one"), services=Measured())


def test_sigterm_between_two_recipes_resumes():
    stop = StopFlag()
    lines = []

    def log(line):
        lines.append(line)
        if line.startswith("recipe 2/2"):
            stop.ask()

    with pytest.raises(Terminated):
        compare(loaded("half", "quarter"), Path("w"), log=log, services=Measured(), stop=stop)
    assert not Path("w/comparison.json").exists()
    go("half", "quarter")
    assert [call.split()[0] for call in calls()] == ["train", "add", "finish", "add", "finish"]


def test_killed_in_a_recipe_the_same_command_goes_on():
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import fakes; from pathlib import Path\n"
        "from tinykit.recipe.comparing import compare, load_recipes\n"
        "configs = load_recipes('fake.yaml', ['half', 'dies', 'quarter'], catalogue=fakes.CATALOGUE)\n"
        "compare(configs, Path('w'), services=fakes.FakeServices())\n"
    )
    command = [sys.executable, "-c", program, str(HERE)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert first.returncode == -9, first.stderr
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert [call.split()[0] for call in calls()] == ["train", "add", "finish", "dies", "add", "finish", "add", "finish"]
    assert not list(Path("w").rglob(".tmp-*"))
