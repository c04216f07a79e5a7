"""The area under the ROC curve by ranks, clip scores by loops, and a tiny autoencoder from file to verified engine."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinykit.config.loading import load_config
from tinykit.data import Chain, load_dataset
from tinykit.data.dataset import Clips
from tinykit.errors import ModelError
from tinykit.recipe import ledger
from tinykit.recipe.anomaly import auc, auc_by_machine, clip_scores, dequantized, judge, window_errors
from tinykit.recipe.runner import run
from tinykit.recipe.score import score
from tinykit.report.data import ReportData
from tinykit.report.report import render_report

CHAIN = [{"dequantize": {"scale": 0.25, "zero_point": -3}}]


def auc_by_ranks(scores, labels):
    """Mann and Whitney: U = (sum of the ranks of the anomalous) - n (n + 1) / 2, ties have their middle rank; area = U / (n m)."""
    order = sorted(scores)
    ranks = [(order.index(s) + 1 + len(order) - order[::-1].index(s)) / 2 for s in scores]
    n = sum(labels)
    return (sum(r for r, y in zip(ranks, labels) if y) - n * (n + 1) / 2) / (n * (len(labels) - n))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 1)), min_size=2, max_size=40).filter(lambda p: len({y for _, y in p}) == 2))
def test_auc_is_the_rank_formula(pairs):
    scores, labels = zip(*pairs)
    assert auc(np.array(scores, float), np.array(labels)) == pytest.approx(auc_by_ranks(scores, labels), abs=1e-12)


def test_auc_of_cases_that_one_knows():
    labels = np.array([0, 0, 1, 1])
    assert auc(np.array([1.0, 2, 3, 4]), labels) == 1 and auc(np.array([4.0, 3, 2, 1]), labels) == 0
    assert auc(np.ones(4), labels) == 0.5
    with pytest.raises(ModelError, match="NaN"):
        auc(np.array([1, np.nan, 2, 3]), labels)
    with pytest.raises(ModelError, match="one kind"):
        auc(np.ones(3), np.zeros(3))


def test_clip_scores_by_loops():
    random = np.random.default_rng(3)
    x, y, of = random.normal(size=(50, 4, 3)), random.normal(size=(50, 12)), random.permutation(np.arange(50) % 7)
    clips = Clips(of, np.arange(7) % 2, np.array([5, 5, 5, 6, 6, 6, 8]))
    found = clip_scores(window_errors(x, y), clips)
    for clip in range(7):
        squares = [(x[w].reshape(-1)[i] - y[w, i]) ** 2 for w in range(50) if of[w] == clip for i in range(12)]
        assert found[clip] == pytest.approx(sum(squares) / len(squares), rel=1e-12)
    by_machine = auc_by_machine(found, clips)
    assert set(by_machine) == {5, 6, 8} and by_machine[8] is None
    assert by_machine[5] == pytest.approx(auc_by_ranks(found[:3].tolist(), [0, 1, 0]))


def test_dequantized():
    assert dequantized(np.array([-128, 5, 127], np.int8), 0.5, 5).tolist() == [-66.5, 0, 61]


def clips_file(folder, seed=0):
    """Two machines; normal clips vary along one direction, anomalous ones along another too."""
    random = np.random.default_rng(seed)
    y = np.tile(np.repeat([0, 1], [40, 10]), 2)
    pattern, strange = random.normal(0, 20, (2, 6))
    x = random.normal(0, 1, (100, 12, 1)) * pattern + random.normal(0, 4, (100, 12, 6))
    x += (y * random.uniform(0, 0.7, 100))[:, np.newaxis, np.newaxis] * strange
    x = np.clip(np.round(x), -128, 127).astype(np.int8)
    np.savez(folder / "clips.npz", x=x, y=y, machine=np.repeat([1, 2], 50))


CONFIG = """\
task: tiny
data:
  name: ad
  options: {path: clips.npz, frames: 3}
  preprocess: [{dequantize: {scale: 0.25, zero_point: -3}}]
model: {name: fc_autoencoder, options: {hidden: 12, depth: 1, bottleneck: 3}}
recipe: [{train: {epochs: 12, learning_rate: 0.02}}, {quantize: {epochs: 1}}]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run of a tiny autoencoder: (folder, metrics, lines)."""
    folder = tmp_path_factory.mktemp("tiny")
    clips_file(folder)
    (folder / "tiny.yaml").write_text(CONFIG)
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYKIT_DATA", str(folder))
        metrics = run(load_config(str(folder / "tiny.yaml")), folder / "run", log=lines.append)
    return folder, metrics, lines


def dataset(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYKIT_DATA", str(folder))
        return load_dataset("ad", {"path": "clips.npz", "frames": 3}, seed=0, quicktest=False)


def test_a_tiny_autoencoder_end_to_end(finished, tally):
    folder, metrics, lines = finished
    accuracy = metrics["accuracy"]
    assert accuracy["metric"] == "auc" and accuracy["float"] > 0.7 and abs(accuracy["float"] - accuracy["integer"]) <= 0.02
    parity = metrics["parity"]
    assert parity == {"keras_vs_reference": 0, "tflm_vs_reference": 0, "engine_vs_reference": 0, "samples": 400}
    tally("tiny autoencoder, engine vs reference", parity["engine_vs_reference"], 400 * 18)
    assert "disagreements" not in metrics and metrics["data"]["test_samples"] == 400
    assert any(line.startswith("done 1/2 train: test AUC 0.") for line in lines)
    assert any("test AUC" in line and "int8 .tflite" in line for line in lines)


def test_the_scores_are_those_of_the_tflite_file(finished):
    """Stored outputs of TFLM's interpreter, dequantised and ranked here."""
    from tinykit.verify.tflm import TflmRunner

    folder, metrics, _ = finished
    data = dataset(folder)
    golden = np.load(folder / "run/golden.npz", allow_pickle=False)
    runner = TflmRunner((folder / "run/model.tflite").read_bytes())
    stored = data.test.x
    assert np.array_equal(golden["input"], stored[:16]), "raw int8 is the network's input, unchanged"
    outputs = runner.run(stored)[0]
    scale, zero = golden["output_quantization"]
    errors = [
        np.mean(((x + 3.0) * 0.25 - (y - float(zero)) * float(scale)) ** 2) for x, y in zip(stored.astype(float), outputs.astype(float))
    ]
    scores = [np.mean([e for e, of in zip(errors, data.test.clips.of) if of == clip]) for clip in range(len(data.test.clips))]
    assert metrics["accuracy"]["integer"] == pytest.approx(auc_by_ranks(scores, data.test.clips.y.tolist()), abs=1e-12)
    for row in metrics["auc_by_machine"]:
        mine = data.test.clips.machine == row["machine"]
        expected = auc_by_ranks([s for s, m in zip(scores, mine) if m], data.test.clips.y[mine].tolist())
        assert row["integer"] == pytest.approx(expected, abs=1e-12) and row["normal"] + row["anomalous"] == mine.sum() == 20
    report = json.loads((folder / "run/steps/02_quantize/report.json").read_text())
    assert report["accuracy"] == metrics["accuracy"]["integer"] and report["metric"] == "auc"


def test_the_report_shows_machines_and_no_confusion(finished):
    folder, metrics, _ = finished
    page = (folder / "run/report.html").read_text()
    assert 'id="machines"' in page and 'id="confusion"' not in page and "Test AUC" in page and "Area under curve" in page
    for row in metrics["auc_by_machine"]:
        assert f"{row['integer']:.4f}" in page and f"{row['float']:.4f}" in page
    assert 'id="machines"' not in render_report(ReportData("x"))


def test_the_same_command_again_shows_the_ledger_with_its_metric(finished):
    folder, metrics, _ = finished
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYKIT_DATA", str(folder))
        assert run(load_config(str(folder / "tiny.yaml")), folder / "run", log=lines.append) == metrics
    assert any("test AUC" in line for line in lines) and any(f"{metrics['accuracy']['integer']:.4f}" in line for line in lines)


def test_few_checked_samples_change_no_score(finished):
    folder, metrics, _ = finished
    overrides = [f"model.path={folder / 'run/steps/01_train/model.keras'}", "recipe=ptq", "check.samples=50"]
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYKIT_DATA", str(folder))
        for name, chosen in (("few", overrides), ("all", overrides[:2])):
            results.append(run(load_config(str(folder / "tiny.yaml"), chosen), folder / name, log=lambda line: None))
    few, everything = results
    assert few["parity"]["samples"] == 50 and few["accuracy"] == everything["accuracy"] and everything["accuracy"]["integer"] is not None
    assert few["auc_by_machine"] == everything["auc_by_machine"] and few["accuracy"]["float"] == metrics["accuracy"]["float"]


def test_a_classifier_is_no_autoencoder(finished):
    folder, _, _ = finished
    overrides = ["model.name=cnn", "model.options={}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYKIT_DATA", str(folder))
        for chosen in (overrides, ["model.name=cnn", "model.options={}", "recipe=ptq"]):
            with pytest.raises(ModelError):
                run(load_config(str(folder / "tiny.yaml"), chosen), folder / "refused", log=lambda line: None)


def test_a_model_that_does_not_rebuild_its_input_has_no_score(finished):
    data = dataset(finished[0])
    other = SimpleNamespace(output_shape=(None, 2))
    assert score(other, data, Chain.parse(CHAIN)) is None
    one_kind = dataclasses.replace(data.test, clips=dataclasses.replace(data.test.clips, y=np.zeros_like(data.test.clips.y)))
    same = SimpleNamespace(output_shape=(None, 18), predict=lambda x, **_: x)
    with pytest.raises(ModelError, match="one kind"):
        score(same, dataclasses.replace(data, test=one_kind), Chain.parse(CHAIN))


def test_an_integer_network_that_does_not_rebuild_its_input_says_so(finished):
    graph = SimpleNamespace(inputs=["x"], tensors={"x": SimpleNamespace(shape=(18,))})
    metrics, shown = judge(None, None, graph, np.zeros((400, 2)), dataset(finished[0]), lambda first, last: None)
    assert metrics == {} and "no score for anomalies" in shown["notes"][0]


def test_ledger_rows_of_both_metrics():
    top1 = ledger.Row("train", 0.98765, ledger.Footprint(), 1.0)
    area = dataclasses.replace(top1, metric="auc")
    assert "metric" not in top1.to_dict() and ledger.Row.from_report("train", area.to_dict()).metric == "auc"
    assert ledger.headings([top1]) == ledger.HEADINGS == ledger.headings([]) and ledger.headings([area])[1] == "test AUC"
    assert (ledger.format_accuracy(0.98765), ledger.format_accuracy(0.98765, "auc"), ledger.format_accuracy(None, "auc")) == (
        "98.77 %",
        "0.9877",
        "-",
    )
