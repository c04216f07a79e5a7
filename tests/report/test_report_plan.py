"""The engine in report.html: the map of its arena, its instructions, and labels that say what was never on a board."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
import report_samples
from test_report import Outline

from tinykit.report.arena_map import HEIGHT, arena_map
from tinykit.report.data import ReportData
from tinykit.report.report import render_report
from tinykit.report.verdict import judge

SVG = re.compile(r'<svg class="arena-map".*?\n</svg>', re.DOTALL)


def drawn(data: ReportData) -> ElementTree.Element:
    """The map as it is drawn; well-formed XML."""
    return ElementTree.fromstring(SVG.search(render_report(data))[0].replace("&#34;", "&quot;"))


def bounds(element: ElementTree.Element, span: int, steps: int) -> tuple[float, float, float, float]:
    """(first layer, layers, first byte, bytes) of what is drawn in percent."""
    x, y, width, height = (float(element.get(key).rstrip("%")) / 100 for key in ("x", "y", "width", "height"))
    return round(x * steps, 3), round(width * steps, 3), round(span * (1 - y - height), 1), round(span * height, 1)


def test_blocks_are_the_lives_and_offsets_of_the_plan():
    drawing = arena_map(report_samples.planned().plan)
    found = [(b.name, b.offset, b.size, b.first, b.last, bool(b.colour)) for b in drawing.blocks]
    assert found == [
        ("in", 0, 64, 0, 0, True),
        ("a", 32, 1024, 0, 1, True),
        ("b", 0, 512, 1, 2, True),
        ("second", 1056, 128, 1, 1, False),
        ("out", 1190, 10, 2, 2, True),
    ]
    assert (drawing.span, drawing.bound, drawing.peak) == (1200, 1056, 1)
    assert len({block.colour for block in drawing.blocks}) == 5


def test_rectangles_are_drawn_at_their_offsets():
    data = report_samples.planned()
    svg = drawn(data)
    found = {bounds(element, 1200, 3) for element in svg.findall("svg")}
    assert found == {(b.first, b.last - b.first + 1, b.offset, b.size) for b in arena_map(data.plan).blocks}
    assert bounds(svg.find("rect[@class='shared']"), 1200, 3) == (0, 1, 32, 32)
    bound = float(svg.find("line[@class='bound']").get("y1").rstrip("%"))
    assert bound == pytest.approx(100 * (1200 - 1056) / 1200, abs=1e-3)
    titles = [title.text for title in svg.iter("title")]
    assert "a: 1,024 B at 32 to 1,055, layers 1 (first) to 2 (second)" in titles
    assert "scratch of second: 128 B at 1,056 to 1,183, layer 2 (second)" in titles
    assert "layer 2, second: 480 B used twice, by a and b" in titles


def test_a_tensor_that_comes_back_is_two_blocks():
    steps = [{"layer": f"l{i}", "bytes": 64, "least": 64, "tensors": {"t": [0, 64]} if i != 1 else {}} for i in range(4)]
    blocks = arena_map({"bytes": 64, "layers": steps}).blocks
    assert [(block.first, block.last) for block in blocks] == [(0, 0), (2, 3)]
    assert len({block.colour for block in blocks}) == 1


@pytest.mark.parametrize("count", [1, 6, 60, 250])
def test_any_number_of_layers_can_be_drawn(count):
    steps = [
        {"layer": f"l{i}", "bytes": 96, "least": 96, "tensors": {f"t{i}": [i % 2 * 32, 64], f"t{i + 1}": [(i + 1) % 2 * 32, 64]}}
        for i in range(count)
    ]
    data = ReportData("x", plan={"bytes": 96, "lower_bound": 96, "layers": steps, "hints": []})
    assert len(drawn(data).findall("svg")) == count + 1
    drawing = arena_map(data.plan)
    assert 1 <= sum(drawing.numbered(column) for column in range(count)) <= 24
    assert all(0 <= label.first <= label.last < count and label.top <= 96 for label in drawing.labels)


def test_labels_never_cover_another_tensor():
    drawing = arena_map(report_samples.planned().plan)
    assert {label.text for label in drawing.labels} == {"a", "b"}  # 'in' is too low for a line of text
    for label in drawing.labels:
        low = label.top - (15 * label.lines + 3) * 1200 / HEIGHT
        touched = [b for b in drawing.blocks if b.meets(low, label.top) and b.first <= label.last and label.first <= b.last]
        assert [block.name for block in touched] == [label.text]


def test_plan_is_told_in_words_and_tables():
    page = Outline(render_report(report_samples.planned()))
    for words in (
        "The engine needs an arena of 1.2 kB planned; input and output included ; TFLM about 14.8 kB (estimated)",
        "Peak layer 2 second needs 1,056 B wherever its tensors lie",
        "Lower bound 1,056 B gap 144 B, 12.0 % of the arena",
        "Order of layers heuristic the best that was found, not proved",
        "Step second needs the most memory.",
        "scratch of second 128 1,056 1,183 layer 2 (second)",
        "last to first",
        "planned as tinykit laid it out",
    ):
        assert words in page.text, words
    assert "RAM timeline" not in page.text
    assert len(page.ids) == len(set(page.ids))


@pytest.mark.parametrize("plan", [{}, {"bytes": 0, "layers": []}])
def test_without_a_plan_the_old_view_stays(plan):
    data = report_samples.planned()
    data.plan = plan
    page = Outline(render_report(data))
    assert "RAM timeline" in page.text
    assert "TFLM's arena" in page.text
    assert "arena-map" not in {value for _, key, value in page.attributes if key == "class"}


def test_hostile_names_are_escaped_in_the_map():
    evil = "<script>\"'&x</script>"
    data = report_samples.planned()
    for step in data.plan["layers"]:
        step["layer"] = evil
        step["tensors"] = {evil + name: place for name, place in step["tensors"].items()}
    data.plan |= {"hints": [evil], "source": evil, "order": evil}
    for layer in data.layers:
        layer["kernel"] = evil
    text = render_report(data)
    assert "<script" not in text
    assert any(title.text.startswith(f"{evil}a: 1,024 B") for title in drawn(data).iter("title"))
    assert Outline(text).text.count(evil) >= 20


def test_names_that_converters_joined_are_cut_in_hints():
    name = "model/activation_2/Relu;model/batch_normalization_2/FusedBatchNormV3"
    data = report_samples.planned()
    data.plan |= {"tensors": {name: 0}, "hints": [f"{name} takes most."]}
    assert "model/activation_2/Relu takes most." in Outline(render_report(data)).text


def test_tiles_and_figures_of_the_engine_are_labelled():
    text = Outline(render_report(report_samples.planned())).text
    estimated = "estimated(cycle model, instructions emulated(nano33ble))"
    for words in (
        "Instructions 3.06 M 4.00 per multiply-accumulate emulated(nano33ble)",
        f"Cycles 4.40 M one inference {estimated}",
        f"Cycles of one inference 4,402,945 {estimated}",
        "weights 14.3 kB, code 5.4 kB",
        "arena 1.2 kB, static 2 B, stack 380 B",
        "Arena of the engine 1.2 kB TFLM about 14.8 kB (estimated)",
        "Flash 19,654 B measured(host): linked program",
        "bit-exact 1,217,830 elements in 3 comparisons measured(host), emulated(nano33ble)",
        "every tensor, emulated nano33ble identical 9,000 16 emulated(nano33ble)",
        "No physical board was used: the program linked for nano33ble ran in an emulator.",
    ):
        assert words in text, words


def test_a_label_of_a_real_board_takes_the_note_away():
    data = report_samples.planned()
    data.sources["instructions"] = "measured(nano33ble, /dev/ttyACM0)"
    assert "No physical board" not in Outline(render_report(data)).text
    assert "No physical board was used, and no program" in Outline(render_report(report_samples.full())).text


def test_instructions_come_largest_first_and_unknown_ones_not_as_0():
    data = report_samples.planned()
    text = render_report(data)
    bars = text[text.index('class="bars effort"') :]
    bars = bars[: bars.index("</table>")]
    names = re.findall(r'class="wrap" title="(\w+)"', bars)
    assert names[:2] == ["softmax", "dense"]
    assert "flatten" not in names
    assert not re.search(r">0 <", bars)
    table = text[text.index("ops in execution order") :]
    row = next(line for line in table.splitlines() if ">flatten<" in line)
    assert row.endswith('<td class="num">–</td><td class="num">–</td><td class="num">–</td><td><code>–</code></td></tr>')


def test_nothing_about_instructions_where_none_are_known():
    data = report_samples.planned()
    data.metrics |= {"instructions": None, "cycles": None}
    for layer in data.layers:
        layer |= {"kernel": None, "instructions": None, "instructions_per_mac": None, "cycles": None}
    page = Outline(render_report(data))
    assert "effort" not in page.ids
    assert "Instructions" not in page.text
    assert "Cycles" not in page.text


def test_cycles_that_are_not_known_are_left_out():
    data = report_samples.planned()
    data.metrics["cycles"] = None
    for layer in data.layers:
        layer.pop("cycles", None)
    page = Outline(render_report(data))
    assert "effort" in page.ids
    assert "Cycles" not in page.text


def test_parts_of_memory_that_are_not_known_are_left_out():
    data = report_samples.planned()
    data.metrics["ram"] = {"total": 1_582, "arena": 1_200, "static": None, "stack": None}
    data.metrics["flash"] = {"total": 19_654, "weights": None, "code": None}
    page = Outline(render_report(data))
    assert "static" not in page.text.split("What flash and RAM are made of")[1].split("RAM: where")[0]
    assert "Flash 19,654 B" not in page.text


def test_an_engine_that_could_not_be_linked_does_not_fit():
    data = report_samples.full()
    data.plan = report_samples.planned().plan
    data.metrics["budget_met"] = False
    verdict = judge(data)
    assert verdict.fits is False
    assert "No program could be linked" in verdict.sentence
    assert "No physical board was used, and no program" in Outline(render_report(data)).text
