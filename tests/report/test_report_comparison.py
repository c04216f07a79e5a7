"""Recipes beside each other: fronts by hand, the table, the CSV, the page and the plots."""

import csv
import io

import pytest
from PIL import Image

from tinykit.report.comparison import COLUMNS, Comparison, csv_text, lines, plots, render
from tinykit.report.pareto import BOTTOM, LEFT, RIGHT, TOP, Point, front, plot


def row(recipe, integer=None, flash=None, instructions=None, **values):
    blank = {"steps": ["train", recipe], "float": 0.9, "metric": "top1", "ram": 2000, "cycles": None, "macs": 1_000_000}
    blank |= {"tflite_bytes": None, "seconds": 12.4, "budget_met": True, "error": None}
    return {"recipe": recipe, "integer": integer, "flash": flash, "instructions": instructions, **blank, **values}


def shown(*rows, **values):
    data = {"test_samples": 500, "synthetic": False}
    return Comparison(
        **{"title": "t", "command": "c", "board": "nano33ble", "seed": 1, "quicktest": False, "data": data, "rows": rows, **values}
    )


THREE = (row("a", 0.9, 50_000, 9_000_000), row("b", 0.8, 20_000, 9_500_000), row("<c>", None, None, None, error="it <broke>"))


@pytest.mark.parametrize(
    ("points", "best"),
    [
        ([("a", 3, 9), ("b", 2, 8), ("c", 2, 7), ("d", 4, 9), ("e", 1, 1)], ["e", "b", "a"]),
        ([("a", 1, 1), ("b", 1, 1), ("c", 1, 0.5)], ["a", "b"]),
        ([("a", 1, 9), ("b", 2, 8)], ["a"]),
        ([], []),
    ],
)
def test_nobody_beats_the_front(points, best):
    assert [point.name for point in front([Point(*p) for p in points])] == best


def test_the_plot_lies_in_its_box_and_equals_share_a_label():
    drawn = plot("t", "kB", "%", [Point("a", 10, 90), Point("b", 20, 95), Point("c", 20, 95), Point("d", 15, 80)])
    assert [(dot.label, dot.best) for dot in drawn.dots] == [("b, c", True), ("a", True), ("d", False)], "from the top"
    assert all(LEFT <= dot.x <= RIGHT and TOP <= dot.y <= BOTTOM for dot in drawn.dots)
    (a, top), (corner, b_top) = drawn.front[0], drawn.front[-1]
    assert len(drawn.front) == 3 and a < corner and top > b_top, "a step: to the right, then up"
    assert "on the front: a, b, c" in drawn.summary
    assert plot("t", "kB", "%", []) is None
    assert plot("t", "kB", "%", [Point("only", 5, 90)]).dots[0].best


def test_costs_of_several_magnitudes_are_shown_by_their_logarithms():
    drawn = plot("t", "kB", "%", [Point("a", 10, 90), Point("b", 100, 91), Point("c", 1000, 92)])
    a, b, c = (dot.x for dot in sorted(drawn.dots, key=lambda dot: dot.x))
    assert b - a == pytest.approx(c - b, abs=0.2) and drawn.x_name == "kB (logarithmic)"
    assert [label for _, label in drawn.x_ticks] == ["10", "20", "50", "100", "200", "500", "1000"]
    assert all(LEFT <= x <= RIGHT for x, _ in drawn.x_ticks) and drawn.x_ticks[0][0] == a
    near = plot("t", "kB", "%", [Point("a", 10, 90), Point("b", 25, 91), Point("c", 40, 92)])
    a, b, c = (dot.x for dot in sorted(near.dots, key=lambda dot: dot.x))
    assert b - a == pytest.approx(c - b, abs=0.2) and near.x_name == "kB"
    assert plot("t", "kB", "%", [Point("a", 0, 90), Point("b", 100, 91)]).x_name == "kB", "zero has no logarithm"


def test_what_misses_its_budget_is_hollow():
    over = shown(row("a", 0.9, 50_000, 9, budget_met=False), row("b", 0.8, 20_000, 9), row("c", 0.7, 30_000, 9, budget_met=None))
    assert [point.fits for point in over.points("flash")] == [False, True, True]
    assert render(over).count('class="dot pick over"') == 2 and 'over"' not in render(shown(*THREE))
    drawn = {name: Image.open(io.BytesIO(image)) for name, image in plots(over).items()}["accuracy_flash.png"]
    place = next(dot for dot in plot("t", "kB", "%", over.points("flash")).dots if dot.label == "a")
    centre, edge = [drawn.getpixel((round((place.x + right) * 3), round((place.y + 56) * 3))) for right in (0, -4)]
    assert centre == (255, 255, 255) and edge != centre


def test_labels_of_near_points_do_not_lie_on_each_other():
    drawn = plot("t", "kB", "%", [Point("far", 100, 50), Point("a", 10, 90.0), Point("b", 10.1, 90.01), Point("c", 10.2, 90.02)])
    heights = sorted(dot.label_y for dot in drawn.dots if dot.label != "far")
    assert all(after - before >= 11.9 for before, after in zip(heights, heights[1:]))


def test_long_labels_that_reach_for_each_other_do_not_meet():
    long = "decompose_distill_quantize"
    drawn = plot("t", "kB", "%", [Point("prune_quantize", 12.3, 90), Point(long, 15.8, 90), Point("less", 10, 80), Point("more", 20, 91)])
    heights = {dot.label: (dot.right, dot.label_y) for dot in drawn.dots}
    assert heights["prune_quantize"][0] and not heights[long][0], "towards each other"
    assert abs(heights["prune_quantize"][1] - heights[long][1]) >= 11.9
    drawn = plot("t", "kB", "%", [Point("a", 12.3, 90), Point("b", 15.8, 90), Point("less", 10, 80), Point("more", 20, 91)])
    assert len({dot.label_y for dot in drawn.dots if dot.label in "ab"}) == 1, "short ones have room beside each other"


def test_the_table_says_where_figures_come_from_and_why_a_recipe_failed():
    head, a, b, c, note = lines(shown(*THREE))
    assert head.split() == "recipe float integer flash RAM instructions MACs seconds budget front of".split()
    assert a.split() == "a 90.00 % 90.00 % 50.0 kB 2.0 kB 9.00 M 1.00 M 12 met flash and instructions".split()
    assert b.endswith("met     flash"), "it costs more instructions than a"
    assert c == "<c>     failed: it <broke>"
    assert "emulated(nano33ble)" in note and "no physical board" in note and "500 test samples" in note
    assert "QUICKTEST" in lines(shown(*THREE, quicktest=True))[-1]


def test_csv_and_json_hold_the_same():
    found = list(csv.DictReader(io.StringIO(csv_text(shown(*THREE)))))
    assert tuple(found[0]) == COLUMNS
    assert (found[0]["fronts"], found[0]["steps"], found[0]["cycles"]) == ("flash instructions", "train a", "")
    assert found[2]["error"] == "it <broke>" and found[2]["fronts"] == ""
    content = shown(*THREE).to_dict()
    assert [r["fronts"] for r in content["recipes"]] == [["flash", "instructions"], ["flash"], []]
    assert content["sources"]["instructions"] == "emulated(nano33ble)"


def test_the_page_and_the_plots():
    page = render(shown(*THREE))
    assert "it &lt;broke&gt;" in page and "<broke>" not in page and 'href="a/report.html"' in page
    assert page.count("<svg") == 2 and "emulated(nano33ble)" in page and "QUICKTEST" not in page
    assert "NO NUMBER ON THIS PAGE" in render(shown(*THREE, quicktest=True))
    images = plots(shown(*THREE))
    assert list(images) == ["accuracy_flash.png", "accuracy_instructions.png"]
    picture = Image.open(io.BytesIO(images["accuracy_flash.png"]))
    assert picture.size == (1440, 1068) and len(set(picture.convert("RGB").getdata())) > 5


def test_without_an_integer_network_there_is_a_table_and_no_plot():
    alone = shown(row("float", None, None, None))
    assert plots(alone) == {} and "<svg" not in render(alone)
    assert lines(alone)[1].split() == "float 90.00 % - - 2.0 kB - 1.00 M 12 met -".split()


def test_areas_under_the_curve_are_no_percentages():
    drawn = shown(row("a", 0.87, 1000, 5, metric="auc"), row("b", 0.85, 900, 5, metric="auc"))
    assert [point.score for point in drawn.points("flash")] == [0.87, 0.85]
    assert "integer AUC" in render(drawn)
