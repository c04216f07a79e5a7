"""report.html: complete, escaped, self-contained, honest about what is missing."""

import html.parser
import re

import numpy as np
import pytest
import report_samples

from tinykit.errors import ModelError
from tinykit.report import curves
from tinykit.report.data import ReportData, read_curves
from tinykit.report.images import data_url
from tinykit.report.report import render_report, write_report
from tinykit.report.verdict import judge, wilson

VOID = {"meta", "br", "img"}


class Outline(html.parser.HTMLParser):
    """Checks that elements nest, and collects ids, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, key, value) for key, value in attrs]
        self.ids += [value for key, value in attrs if key == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, key, value) for key, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_full_report_has_every_section():
    page = Outline(render_report(report_samples.full()))
    wanted = {"verdict", "notes", "ledger", "accuracy", "confusion", "curves", "ram", "arena", "layers", "simplifier", "parity", "ops",
              "figures", "data", "reproduce"}  # fmt: skip
    assert wanted <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    for words in (
        "The model fits the budget of nano33ble; no program is linked yet",
        "98.00 %",
        "96.24 to 98.94 %",
        "different classes for 3 of 450 samples",
        "MicroMutableOpResolver<6> resolver;",
        "The peak is at dw_1",
        "1,204,330",
        "801,200 → 764,400",
        "not known and not subtracted",
        "--config digits",
        "tflite-micro",
    ):
        assert words in page.text, words


def test_every_source_label_is_explained():
    text = Outline(render_report(report_samples.full())).text
    for label in ("measured(host)", "emulated(board)", "counted(graph)", "estimated(model, error)", "measured(board, port)"):
        assert label in text


def test_empty_report_says_not_measured_and_never_zero():
    page = Outline(render_report(ReportData("nothing yet")))
    assert {"confusion", "curves", "ram", "arena", "layers", "ops", "simplifier", "ledger", "figures", "data"}.isdisjoint(page.ids)
    assert "No budget given" in page.text
    assert "Not measured." in page.text
    assert not re.search(r"(?<![\d.])0 (B|%|kB)", page.text)


@pytest.mark.parametrize(("flag", "words"), [("quicktest", "QUICKTEST"), ("synthetic", "SYNTHETIC DATA")])
def test_banner_on_top_and_in_the_title(flag, words):
    data = report_samples.full()
    assert words not in render_report(data)
    data.quicktest = flag == "quicktest"
    data.data["synthetic"] = flag == "synthetic"
    text = render_report(data)
    assert words in re.search("<title>(.*)</title>", text)[1]
    assert text.index(f">{words}") < text.index("<h1>")


def test_nothing_is_fetched_and_nothing_runs():
    page = Outline(render_report(report_samples.full()))
    tags = {tag for tag, _, _ in page.attributes}
    assert tags.isdisjoint({"script", "link", "iframe", "object", "form"})
    for _, key, value in page.attributes:
        assert key not in {"href", "onclick", "onload"}
        assert key != "src" or value.startswith("data:image/png;base64,")
    assert ("img", "alt", "test sample 17: a 7 that the integer model takes for 1") in page.attributes


def test_values_are_escaped_wherever_they_appear():
    evil = "<script>\"'&x</script>"
    data = report_samples.full()
    data.title = data.command = data.config_yaml = evil
    data.notes, data.skipped = [evil], [evil]
    data.data |= {"name": evil, "source": evil, "class_names": [evil] * 10}
    data.layers[0]["name"] = data.memory[1]["op"] = evil
    data.memory[1]["tensors"] = {evil: 10}
    data.curves = {evil: [{"epoch": 1, f"{evil}_loss": 1.0}]}
    data.parity[0] |= {"a": evil, "scope": evil}
    data.ledger[0] |= {"step": evil, "verdict": evil}
    data.env = {evil: evil}
    data.budget["board"] = evil
    data.arena["note"] = evil
    data.examples[0] |= {"true": evil, "predicted": evil}
    text = render_report(data)
    assert "<script" not in text
    assert Outline(text).text.count(evil) >= 20


def test_equal_data_gives_equal_pages():
    assert render_report(report_samples.full()) == render_report(report_samples.full())


def test_write_report_replaces_the_file(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, report_samples.full())
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_unknown_resolver_method_is_refused(tmp_path):
    with pytest.raises(ModelError, match="'CONV_2D': expected a method"):
        write_report(tmp_path / "report.html", ReportData("x", ops=["CONV_2D"]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flash", "ram", "fits"),
    [(12_345, 12_544, True), (12_344, 12_544, False), (12_345, 12_543, False), (None, 12_544, True), (None, None, None)],
)
def test_verdict_at_the_limit(flash, ram, fits):
    data = report_samples.full()
    data.budget = {"board": None, "flash": flash, "ram": ram}
    assert judge(data).fits is fits


def test_verdict_does_not_round_a_miss_away():
    data = report_samples.full()
    data.budget["flash"] = 12_344
    verdict = judge(data)
    assert "12,345 B of 12,344 B" in verdict.sentence
    assert "1 B over" in verdict.sentence


def test_verdict_prefers_what_was_linked_and_run():
    data = report_samples.full()
    data.metrics |= {"flash": {"total": 50_000}, "ram": {"total": 20_000}}
    flash, ram = judge(data).usages
    assert (flash.used, flash.source) == (50_000, "measured(host): linked program")
    assert (ram.used, ram.source) == (20_000, "emulated(nano33ble)")
    data.sources["ram.total"] = "measured(nano33ble, /dev/ttyACM0)"
    assert judge(data).usages[1].source == "measured(nano33ble, /dev/ttyACM0)"


def test_verdict_is_unknown_where_a_limited_size_is():
    data = ReportData("x", budget={"board": "b", "flash": 1000, "ram": 1000}, metrics={"tflite_bytes": 10})
    assert judge(data).fits is None
    data.metrics["tflite_bytes"] = 1001
    assert judge(data).fits is False


def test_mismatches_make_the_verdict_bad():
    data = report_samples.full()
    data.parity[1]["mismatches"] = 12
    page = Outline(render_report(data))
    assert judge(data).fits is False
    assert "Parity failed: do not deploy" in page.text
    assert "12 differ" in page.text
    assert "bit-exact" not in page.text


def test_accuracy_on_a_part_of_the_test_split_says_so():
    data = report_samples.full()
    data.metrics["data"]["test_samples"] = 9000
    text = Outline(render_report(data)).text
    assert "taken on 450 samples" in text
    assert "taken on" not in Outline(render_report(report_samples.full())).text


def test_auc_is_no_percentage():
    data = report_samples.full()
    data.metrics["accuracy"] = {"float": 0.91, "integer": 0.905, "metric": "auc"}
    text = Outline(render_report(data)).text
    assert "0.9050" in text
    assert "−0.0050 against float" in text
    assert "interval" not in text


def test_wilson_interval_is_the_published_one():
    low, high = wilson(81, 263)  # Newcombe, Statistics in Medicine 17, 1998, table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 20)[0] == 0.0
    assert round(wilson(0, 20)[1], 4) == 0.1611
    assert wilson(29, 29)[1] == pytest.approx(1.0)


def test_confusion_names_the_worst_pairs_and_empty_classes():
    data = ReportData("x", confusion=[[5, 3, 0], [1, 0, 0], [0, 0, 0]], data={"class_names": ["cat", "dog"]})
    text = Outline(render_report(data)).text
    assert "wrong on 4 of 9 test samples" in text
    assert "cat taken for dog (3×), dog taken for cat (1×)." in text
    assert "no samples" in text


def test_large_confusion_is_not_drawn():
    matrix = np.eye(100, dtype=int).tolist()
    assert 'class="matrix"' not in render_report(ReportData("x", confusion=matrix))


def test_peak_that_two_ops_share():
    steps = [{"op": name, "total": 64, "tensors": {"t": 64}} for name in ("first", "second")]
    text = Outline(render_report(ReportData("x", memory=steps))).text
    assert "The peak is at first" in text
    assert "second needs just as much" in text


def test_long_names_of_converters_are_cut_in_the_middle():
    name = "model/activation_2/Relu;model/batch_normalization_2/FusedBatchNormV3;model/conv2d_1/BiasAdd"
    text = render_report(ReportData("x", memory=[{"op": "a" * 99, "total": 64, "tensors": {name: 64}}]))
    visible = Outline(text).text
    assert "model/activation_2/Relu 64 B" in visible
    assert "FusedBatchNorm" not in visible
    assert "a" * 99 not in visible
    assert f'title="{name}"' in text


def test_layers_come_largest_first():
    text = render_report(report_samples.full())
    bars = text[text.index('class="bars"') : text.index("<details>")]
    names = re.findall(r'class="wrap">(\w+)<', bars)
    assert names[:4] == ["pw_3", "dense", "pw_2", "dw_3"]
    assert "softmax" not in names


def test_read_curves_takes_the_last_record_of_an_epoch_and_skips_what_a_kill_cut_off():
    text = '{"time": 1, "step": "train", "epoch": 2, "loss": 9}\n{"time": 2, "step": "train", "epoch": 1, "loss": 3}\n'
    text += '{"time": 3, "step": "train", "epoch": 2, "loss": 2}\n{"step": "train", "accuracy": 0.9}\n{"time": 4, "st'
    assert read_curves(text) == {"train": [{"epoch": 1, "loss": 3}, {"epoch": 2, "loss": 2}]}


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.97, 1e-7, 250.0])
@pytest.mark.parametrize("span", [1e-6, 0.03, 1.0, 7.3, 4e5])
def test_ticks_are_few_and_inside(low, span):
    found = curves.ticks(low, low + span)
    assert 2 <= len(found) <= 7
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in found)
    assert found == sorted(set(found))


def test_curves_of_one_epoch_of_constants_and_of_gaps():
    (panel,) = curves.panels([{"epoch": 1, "loss": 0.0}])
    assert len(panel.lines[0].points[0]) == 1
    (panel,) = curves.panels([{"epoch": e, "loss": None if e == 2 else float(e)} for e in (1, 2, 3, 4)])
    assert [len(piece) for piece in panel.lines[0].points] == [1, 2]
    for piece in panel.lines[0].points:
        assert all(curves.LEFT <= x <= curves.RIGHT and curves.TOP <= y <= curves.BOTTOM for x, y in piece)
    assert curves.panels([{"epoch": 1, "loss": float("nan")}]) == []


def test_images_of_other_kinds_are_passed_over():
    assert data_url(np.zeros((4, 4), np.float32)) is None
    assert data_url(np.zeros((4, 4, 2), np.uint8)) is None
    assert data_url(np.zeros((0, 4), np.uint8)) is None
    assert data_url(np.zeros((300, 200, 3), np.uint8)).startswith("data:image/png;base64,")


def test_a_linked_and_run_program_fits_without_reserve():
    data = report_samples.full()
    data.metrics |= {"flash": {"total": 40_000}, "ram": {"total": 9_000}}
    assert "Fits the budget of nano33ble" in Outline(render_report(data)).text
