"""The ledger of trials, the front, and candidates that are made to fit. No TensorFlow."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
from search_spaces import image_space

from tinykit.errors import ConfigError
from tinykit.report.trials import pareto_csv, pareto_page
from tinykit.search.candidates import draws, grown, narrowest, over, shrunk
from tinykit.search.costs import CostModel
from tinykit.search.trials import Trial, Trials, pareto


def trial(key, accuracy=0.9, flash=100, ram=10, cycles=1000, **more):
    status = "trained" if accuracy is not None else "infeasible"
    predicted = {"flash": flash, "ram": ram, "instructions": 1, "cycles": cycles}
    return Trial(
        key, "dnas", {"stages": []}, status, () if accuracy else ("flash",), {"macs": 1, "flash": 60, "ram": 4}, predicted, accuracy
    )


def test_no_finished_trial_is_lost_and_a_torn_line_is_dropped(tmp_path):
    file = tmp_path / "search" / "trials.jsonl"
    trials = Trials(file)
    trials.add(trial("a"))
    trials.add(trial("b", None))
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:37])
    again = Trials(file)
    assert again.rows == trials.rows and file.read_bytes() == whole
    assert again.find("b").violations == ("flash",) and again.find("c") is None
    with pytest.raises(ConfigError, match="there already"):
        again.add(trial("a"))
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()] == ["a", "b"]
    assert again.find("a").gap == {"flash": 40, "ram": 6}
    planned = dataclasses.replace(trial("d"), predicted={"flash": 100, "ram": 10, "arena": 3})
    assert planned.gap == {"flash": 40, "ram": 6, "arena": -1}


@pytest.mark.parametrize("line", [b"{}", b"[1]", b"nonsense", b'{"key": "a", "violations": 3}'])
def test_a_damaged_line_is_named(tmp_path, line):
    file = tmp_path / "trials.jsonl"
    Trials(file).add(trial("a"))
    file.write_bytes(file.read_bytes() + line + b"\n")
    with pytest.raises(ConfigError, match=r"trials.jsonl:2: no trial"):
        Trials(file)


def test_the_front_holds_what_nothing_beats(tmp_path):
    rows = [
        trial("good", 0.95, 200, 20, 3000),
        trial("beaten", 0.90, 150, 15, 3000),
        trial("small", 0.90, 100, 15, 2000),
        trial("equal", 0.90, 100, 15, 2000),
        trial("quick", 0.80, 160, 12, 500),
        trial("none", None),
    ]
    assert {row.key for row in pareto(rows)} == {"good", "small", "equal", "quick"}
    trials = Trials(tmp_path / "t.jsonl")
    for row in rows:
        trials.add(row)
    assert [row.key for row in trials.trained()][:2] == ["good", "equal"]


def table(rows):
    front = {row.key for row in pareto(rows)}
    plain = {"searcher": "dnas", "counted_macs": 1}
    return [
        {
            **plain,
            **{key: getattr(row, key) for key in ("key", "status", "accuracy")},
            **{key: row.predicted[key] for key in ("flash", "ram", "cycles")},
            "trial": number,
            "pareto": row.key in front,
            "winner": number == 1,
            "violations": "; ".join(row.violations),
        }
        for number, row in enumerate(rows, 1)
    ]


def test_csv_and_page_show_every_trial():
    rows = table([trial("beaten", 0.8, 300, 30, 9000), trial("good", 0.95, 200, 20, 3000), trial("<b>", None, 400)])
    lines = list(csv.DictReader(io.StringIO(pareto_csv(rows))))
    assert [line["key"] for line in lines] == ["good", "beaten", "<b>"] and lines[2]["accuracy"] == ""
    page = pareto_page(rows, {"flash": 350, "ram": None}, "digits", "nano33ble", True)
    assert page.count("<circle") == 6 and "QUICKTEST" in page and "<b>" not in page and "&lt;b&gt;" in page and 'class="limit"' in page
    assert "SYNTHETIC" not in page
    assert "SYNTHETIC DATA: SCORES MEAN NOTHING" in pareto_page(rows, {"flash": 350, "ram": None}, "vww", "nano33ble", True, True)
    assert "<svg" not in pareto_page([], {"flash": None, "ram": None}, "none", "nano33ble", False)


def test_choices_are_made_smaller_until_they_fit_and_the_likely_ones_stay():
    space = image_space()
    costs = CostModel(space)
    rng = np.random.default_rng(0)
    likely = {d.name: rng.dirichlet(np.ones(len(d.values))) for d in space.decisions}
    most = {d.name: len(d.values) - 1 for d in space.decisions}
    counted = costs(space.one_hot(most)).as_dict()
    limits = {"macs": 0.5 * counted["macs"], "flash": 0.6 * counted["flash"], "ram": 0.8 * counted["ram"]}
    found = shrunk(most, likely, costs, limits)
    assert found is not None and not over(costs(space.one_hot(found)).as_dict(), limits)
    assert all(found[name] <= most[name] for name in most) and found != most
    assert shrunk(found, likely, costs, limits) == found
    assert shrunk(most, likely, costs, {**limits, "flash": 10.0}) is None
    assert over(counted, {"macs": None, "flash": counted["flash"], "ram": counted["ram"] / 2}) == {"ram": 1.0}


def test_choices_are_made_larger_as_long_as_they_fit_and_the_likely_moves_come_first():
    space = image_space()
    costs = CostModel(space)
    rng = np.random.default_rng(0)
    likely = {d.name: rng.dirichlet(np.ones(len(d.values))) for d in space.decisions}
    least = narrowest(costs, "macs")
    none = {"macs": None, "flash": None, "ram": None}
    counted = costs(space.one_hot(grown(least, likely, costs, none))).as_dict()
    limits = {"macs": 0.4 * counted["macs"], "flash": 0.6 * counted["flash"], "ram": 0.8 * counted["ram"]}
    found = grown(least, likely, costs, limits)
    assert not over(costs(space.one_hot(found)).as_dict(), limits) and grown(found, likely, costs, limits) == found
    sizes = {d.name: d.values for d in space.decisions if not d.name.endswith(".block")}
    assert all(values[found[name]] >= values[least[name]] for name, values in sizes.items()) and found != least
    for name, values in sizes.items():  # nothing that is left to raise fits
        beyond = [(value, i) for i, value in enumerate(values) if value > values[found[name]]]
        assert not beyond or over(costs(space.one_hot({**found, name: min(beyond)[1]})).as_dict(), limits), name
    first = next(name for name, values in sizes.items() if len(values) > 1)
    rising = {name: np.linspace(0.1, 1.0, len(p)) for name, p in likely.items()}
    falling = {name: p[::-1] for name, p in rising.items()}
    tight = {**none, "macs": 0.5 * counted["macs"]}
    eager, late = (grown(least, {**a, first: b[first]}, costs, tight)[first] for a, b in ((falling, rising), (rising, falling)))
    assert sizes[first][eager] > sizes[first][late]


def test_the_first_draw_is_the_likeliest_and_draws_follow_the_seed():
    space = image_space()
    sure = {d.name: np.eye(len(d.values))[len(d.values) - 1] for d in space.decisions}
    first, second = (next_ for next_, _ in zip(draws(space, sure, 0), range(2)))
    assert first == second == {d.name: len(d.values) - 1 for d in space.decisions}
    even = {d.name: np.full(len(d.values), 1 / len(d.values)) for d in space.decisions}
    one, two, other = ([x for x, _ in zip(draws(space, even, seed), range(5))] for seed in (1, 1, 2))
    assert one == two and one[1:] != other[1:]


def test_nothing_of_the_space_costs_less_than_the_narrowest():
    space = image_space()
    costs, rng = CostModel(space), np.random.default_rng(2)
    drawn = [costs(space.one_hot(space.drawn(rng))).as_dict() for _ in range(200)]
    for kind in ("macs", "flash", "ram"):
        least = costs(space.one_hot(narrowest(costs, kind))).as_dict()[kind]
        assert least <= min(each[kind] for each in drawn)
