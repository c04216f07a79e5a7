"""The section `search`: what is refused, with file and line; shipped configurations; other configurations stay as they were."""

import subprocess
import sys
from pathlib import Path

import pytest

from tinykit.config.loading import load_config
from tinykit.config.search import Widths
from tinykit.errors import ConfigError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(path.stem for path in (ROOT / "configs").glob("search_*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations_load_and_have_a_large_space(name):
    from tinykit.search.space import Space

    config = load_config(str(ROOT / "configs" / f"{name}.yaml"))
    shape = {"digits": (8, 8, 1), "har": (128, 9), "cifar10": (32, 32, 3), "vww": (96, 96, 3)}
    space = Space(config.config.search.stages, shape.get(name.removeprefix("search_"), (49, 10, 1)), 10)
    assert space.size > 1000 and config.to_dict()["search"]["stages"]


def test_there_is_one_for_each_task_of_the_documentation():
    names = ["cifar10", "digits", "har", "kws", "vww", "wakewords5", "words3"]
    assert [f"search_{name}" for name in names] == SHIPPED


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.stages.0.filters.least=6", "multiple of 4"),
        ("search.stages.0.filters.most=26", "search.stages[0].filters"),
        ("search.stages.0.blocks=[inverted]", "`expanded` belongs to inverted blocks"),
        ("search.stages.0.blocks=[conv, conv]", "a kind is there twice"),
        ("search.stages.1.kernels=[3, 4]", "all odd or all even"),
        ("search.stages.1.kernels=[1, 3]", "none smaller than the stride"),
        ("search.stages.1.kernels=[[3, 3, 3]]", "or [height, width]"),
        ("search.stages.1.stride=[1, 2]", "one stride for height and width"),
        ("search.stages.0.kernels=[0]", "numbers from 1 to 64"),
        ("search.warmup_epochs=30", "warmup_epochs: expected fewer than the 30 epochs"),
        ("search.stagez=1", "did you mean"),
        ("search.weight_bits=3", "search.weight_bits"),
        ("search.method=three_stage", "search.method"),
        ("search.two_stage.resolutions=[8, 0]", "sides from 1 to 4096, or [height, width], got 0"),
        ("search.two_stage.resolutions=[[8, 8, 8]]", "or [height, width], got [8, 8, 8]"),
        ("search.two_stage.resolutions=[8, [8, 8]]", "a resolution is there twice"),
        ("search.two_stage.widths=[0]", "multipliers above 0, up to 16"),
        ("search.two_stage.widths=[1, 1.0]", "different multipliers"),
        ("search.two_stage.widths=[]", "search.two_stage.widths"),
        ("search.two_stage.population=1", "search.two_stage.population"),
        ("search.two_stage.crossover=1.5", "search.two_stage.crossover"),
        ("search.two_stage.rank=best", "search.two_stage.rank"),
    ],
)
def test_what_is_wrong_is_named(override, message):
    with pytest.raises(ConfigError) as error:
        load_config("search_digits", [override])
    assert message in str(error.value) and ("--set" in str(error.value) or "search_digits.yaml:" in str(error.value))


def test_configurations_without_a_search_are_as_they_were():
    assert "search" not in load_config("digits").to_dict()


def test_widths():
    assert Widths(least=8, most=24, step=8).choices() == (8, 16, 24)
    with pytest.raises(ValueError, match="at most 64"):
        Widths(least=4, most=4096)


def run(*arguments, cwd):
    command = [sys.executable, "-m", "tinykit.search", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config=digits",), "has no section `search`"),
        ((), "shipped configurations for a search: search_cifar10, search_digits"),
        (("--config=search_digitz",), "did you mean 'search_digits'?"),
        (("--config=search_digits", "--set=search.epoks=3"), "unknown key 'epoks' in search; did you mean 'epochs'?"),
    ],
)
def test_the_program_refuses_with_code_2(tmp_path, arguments, message):
    code, error = run(*arguments, cwd=tmp_path)
    assert code == 2 and message in error
    assert not list(tmp_path.iterdir())
