"""The first stage: spaces of a configuration, their ranking, and a choice that a kill neither loses nor repeats. No TensorFlow."""

import json

import numpy as np
import pytest

from tinykit.boards.table import Budget, emulated_board
from tinykit.config.loading import load_config
from tinykit.config.search import StageSpace, Widths
from tinykit.engine.goal import BALANCED
from tinykit.errors import BudgetError, ConfigError, Terminated
from tinykit.report.spaces import spaces_page
from tinykit.search.costs import CostModel
from tinykit.search.gap import Gap
from tinykit.search.predict import Target
from tinykit.search.twostage import choice as module
from tinykit.search.twostage.choice import Choice, Draw, standings, write_spaces
from tinykit.search.twostage.spaces import candidates, scaled

SET = [
    "search.method=two_stage",
    "search.two_stage.widths=[0.5,1,2]",
    "search.two_stage.resolutions=[6,[8,4]]",
    "search.two_stage.draws=20",
]


def spaces(*overrides, shape=(8, 8, 1), name="search_digits"):
    config = load_config(name, [*SET, *overrides])
    return config, candidates(config, config.config.search, shape, 10)


def test_every_resolution_comes_with_every_width():
    config, found = spaces()
    names = ["6x6 w0.5", "8x4 w0.5", "6x6 w1", "8x4 w1", "6x6 w2", "8x4 w2"]
    assert [each.name for each in found] == names and [each.space.input_shape for each in found[:2]] == [(6, 6, 1), (8, 4, 1)]
    own = found[2]
    assert own.options.stages == config.config.search.stages
    assert own.config.config.data.preprocess == [{"resize": {"size": [6, 6]}}, *config.config.data.preprocess]
    assert own.chain.apply(np.zeros((1, 8, 8, 1), np.uint8)).shape == (1, 6, 6, 1)
    assert config.config.data.preprocess[0] != {"resize": {"size": [6, 6]}}
    again = load_config("search_digits", []).to_dict()
    assert {key for key, value in own.config.to_dict().items() if value != again[key]} == {"data", "search"}


def test_a_resize_that_is_there_is_changed_and_others_stay():
    chain = "[{resize: {size: [4, 4], method: nearest}}, {scale: {by: 0.0625}}]"
    _, found = spaces(f"data.preprocess={chain}")
    assert found[0].config.config.data.preprocess[0] == {"resize": {"size": [6, 6], "method": "nearest"}}
    assert len(found[0].config.config.data.preprocess) == 2


def test_without_resolutions_samples_stay_as_they_are():
    _, found = spaces("search.two_stage.resolutions=[]", shape=(128, 9), name="search_har")
    assert [each.name for each in found] == ["w0.5", "w1", "w2"] and found[0].space.series and found[0].resolution is None


@pytest.mark.parametrize(
    ("factor", "least", "most", "step"), [(1, 16, 112, 8), (0.5, 8, 56, 4), (0.25, 4, 28, 4), (0.01, 4, 4, 4), (2, 32, 224, 16)]
)
def test_channels_are_scaled_to_multiples_of_four(factor, least, most, step):
    stage = StageSpace(blocks=["conv"], filters=Widths(least=16, most=112, step=8))
    assert scaled(stage, factor).filters == Widths(least=least, most=most, step=step)
    assert scaled(stage, factor).expanded is None


@pytest.mark.parametrize(
    ("overrides", "shape", "message"),
    [
        (["search.two_stage.resolutions=[8]"], (128, 9), "resolutions: 8x8: preprocess[0] resize: needs images"),
        (
            ["data.preprocess=[{pad_or_crop: {size: [8, 8]}}]"],
            (8, 8, 1),
            "resolutions: 6x6: data.preprocess: gives samples [8, 8, 1] all the same",
        ),
        (
            ["search.two_stage.widths=[16]", "search.stages.0.filters={least: 4, most: 484, step: 8}"],
            (8, 8, 1),
            "search.two_stage.widths: 16:",
        ),
    ],
)
def test_what_is_wrong_with_spaces_is_named(overrides, shape, message):
    with pytest.raises(ConfigError) as error:
        spaces(*overrides, shape=shape)
    assert message in str(error.value)


def test_spaces_rank_by_what_their_networks_that_fit_compute():
    def draws(space, macs, refused=0):
        fit = [Draw(space, i, str(i), m, 1, 1, ()) for i, m in enumerate(macs)]
        return [*fit, *(Draw(space, len(macs) + i, "x", 10**9, None, None, ("too large",)) for i in range(refused))]

    rows = [
        *draws("even", [50, 50, 50, 50, 50]),
        *draws("wide", [1, 1, 1, 99, 100]),
        *draws("rare", [1000], refused=30),
        *draws("none", [], 5),
    ]
    names = ["none", "rare", "wide", "even"]
    by_mean, by_share = (standings(rows, names, rank) for rank in ("mean", "p80"))
    assert [each.space for each in by_mean] == ["even", "wide", "rare", "none"]
    assert [each.space for each in by_share] == ["wide", "even", "rare", "none"]
    assert by_share[0].p80 == 99 and by_mean[1].mean == pytest.approx(40.4)
    assert [each.chosen for each in by_mean] == [True, False, False, False]
    assert not standings(draws("none", [], 3), ["none"], "mean")[0].chosen


@pytest.fixture
def planned(monkeypatch):
    """Architectures that were planned; flash is what is counted and 5000, RAM a third of it."""
    seen = []

    def estimate(options, shape, classes, target):
        seen.append(json.dumps([options, shape]))
        weights = sum(stage["filters"] ** 2 for stage in options["stages"])
        return {"flash": weights + 4000, "ram": 20 * shape[0] * shape[1]}

    monkeypatch.setattr(module, "estimate", estimate)
    monkeypatch.setattr(module, "measured", lambda space, target: seen.append("linked") or Gap({}, {"flash": 1000, "ram": 100}))
    return seen


def choice(folder, *overrides, progress=lambda done, total: None, flash=12_000, ram=2_000, lines=None):
    config, found = spaces(*overrides)
    target = Target(emulated_board(None), Budget(flash, ram), BALANCED)
    return Choice(found, config.config.search, target, folder, 0, progress=progress, log=(lines if lines is not None else []).append)


def test_the_choice_plans_what_may_fit_and_corrects_it_by_one_image_a_space(tmp_path, planned):
    lines = []
    made = choice(tmp_path, lines=lines)
    best, found = made.run()
    assert best.name == found[0].space and len(found) == 6 and sum(row.draws for row in found) == 120
    assert planned.count("linked") == len({draw.space for draw in made.draws.values() if draw.flash is not None})
    for draw in made.draws.values():
        by_count = draw.flash is None
        assert draw.fits == (not by_count and draw.flash <= 12_000 and draw.ram <= 2_000)
        assert by_count <= any("counted" in line for line in draw.violations)
    one = next(draw for draw in made.draws.values() if draw.flash is not None)
    space = next(each.space for each in made.spaces if each.name == one.space)
    rng = np.random.default_rng([0, 2, [each.name for each in made.spaces].index(one.space)])
    drawn = [space.drawn(rng) for _ in range(20)][one.number]
    assert CostModel(space)(space.one_hot(drawn)).as_dict()["macs"] == one.macs and one.ram == 20 * np.prod(space.input_shape[:2]) + 100
    assert any("<- searched" in line for line in lines)


def test_a_choice_that_is_killed_at_any_draw_goes_on_without_loss_or_repetition(tmp_path, planned):
    whole = choice(tmp_path / "whole")
    whole.run()
    work, folder = list(planned), tmp_path / "cut"
    planned.clear()
    for stop in (1, 2, 37, 61, 119):

        def progress(done, total, stop=stop):
            if done == stop:
                raise Terminated("stopped")

        with pytest.raises(Terminated):
            choice(folder, progress=progress).run()
        with (folder / "draws.jsonl").open("ab") as stream:
            stream.write(b'{"space": "6x6')  # cut off by the kill
    made = choice(folder)
    assert made.run()[1] == whole.standings() and made.draws == whole.draws
    assert sorted(planned) == sorted(work)
    assert (folder / "draws.jsonl").read_bytes() == (tmp_path / "whole" / "draws.jsonl").read_bytes()


@pytest.mark.parametrize("line", ["{}", "[1]", "nonsense", '{"space": "a"}', "[" * 100_000])
@pytest.mark.parametrize("name", ["draws", "corrections"])
def test_a_damaged_row_is_named(tmp_path, planned, line, name):
    choice(tmp_path).run()
    file = tmp_path / f"{name}.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], line, ""]))
    with pytest.raises(ConfigError, match=rf"{name}.jsonl:2: no (draw|correction): .*; delete the line"):
        choice(tmp_path)


def test_nothing_that_fits_is_refused_with_each_space(tmp_path, planned):
    with pytest.raises(BudgetError) as error:
        choice(tmp_path, ram=700).run()
    assert "none of the 120 architectures that were drawn from 6 spaces fits" in str(error.value)
    assert len(error.value.problems) == 7 and "6x6 w0.5: the smallest drawn:" in error.value.problems[1]


def test_csv_and_page_show_every_space(tmp_path, planned):
    made = choice(tmp_path)
    made.run()
    write_spaces(made, tmp_path, "digits", True)
    lines = (tmp_path / "spaces.csv").read_text().splitlines()
    assert len(lines) == 7 and lines[0].startswith("space,resolution,width,choices,draws,fit,mean_macs,p80_macs,chosen")
    page = (tmp_path / "spaces.html").read_text()
    shown = sum(each.fit > 0 for each in made.standings())
    assert page.count("<polyline") == shown and page.count('class="l2"') == 1 and "QUICKTEST" in page and page.count("searched</td>") == 1
    assert "<svg" not in spaces_page([], {}, "none", "nano33ble", False)
