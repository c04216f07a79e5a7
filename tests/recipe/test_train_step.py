"""Float training with Keras: the schedule by hand, resume to the last bit, what is kept, and what is refused."""

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tinykit.config.loading import load_config
from tinykit.data.dataset import Dataset, Split
from tinykit.data.preprocess import Chain
from tinykit.errors import ModelError, Terminated
from tinykit.recipe.score import score, top1
from tinykit.recipe.step import MetricsLog, StepContext
from tinykit.steps.fitting import Checkpoint, learning_rate_at
from tinykit.steps.floats import compile_float, ends_in_softmax
from tinykit.steps.integers import input_range
from tinykit.steps.train import Train, TrainOptions

keras = pytest.importorskip("keras")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def data(count=44, classes=3):
    """Three bright bars at different places; small odd sizes."""
    random = np.random.default_rng(1)

    def split(n):
        y = np.arange(n) % classes
        x = random.integers(0, 60, (n, 7, 5, 1))
        x[np.arange(n), 2 * y] += 130
        return Split(x.astype(np.uint8), y.astype(np.int64))

    return Dataset("bars", "made", True, ("a", "b", "c"), split(count), split(9), split(12), "0" * 64)


def build(softmax=True, seed=5):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((7, 5, 1))
    x = keras.layers.Conv2D(3, 3, use_bias=False)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Dropout(0.2)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax" if softmax else None)(x))


def context(folder, *overrides, dataset=None, **options):
    Path(folder).mkdir(exist_ok=True)
    config = load_config("digits", ["recipe=float", "data.batch_size=11", "data.preprocess=[{divide: {by: 255}}]", *overrides])
    dataset = dataset or data()
    lines = []
    made = StepContext(dataset, Chain.parse(config.config.data.preprocess), config, 3, Path(folder), log=lines.append, **options)
    return made, lines


def options(**values):
    return TrainOptions(**{"epochs": 3, "learning_rate": 0.02, **values})


def weights(result):
    return [np.asarray(w) for w in result.model.get_weights()]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second))


def train(folder, seed=5, **values):
    keras.utils.set_random_seed(9)
    made, lines = context(folder)
    return Train().run(build(seed=seed), options(**values), made), lines


def test_learning_rate_by_hand():
    cosine = options(epochs=4, learning_rate=0.8, warmup_epochs=1)
    rates = [learning_rate_at(step, 8, cosine) for step in range(8)]
    expected = [0.4, 0.8] + [0.4 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]
    assert rates == pytest.approx(expected)
    stepped = options(epochs=1, learning_rate=1.0, schedule="step")
    assert [learning_rate_at(step, 8, stepped) for step in range(8)] == [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]
    assert learning_rate_at(7, 8, options(schedule="constant")) == 0.02
    assert learning_rate_at(0, 1, options(epochs=1, warmup_epochs=5)) == 0.02


def test_learns_and_hands_back_a_model_without_optimizer():
    result, lines = train("s", epochs=12)
    assert score(result.model, data(), Chain.parse([{"divide": {"by": 255}}])) > 0.8
    assert not result.model.compiled
    assert result.report["epochs"] == 12
    assert [line for line in lines if line.startswith("epoch 12/12  accuracy ")]
    assert [p.name for p in Path("s").iterdir()] == ["checkpoint"], "the runner removes it when the step is done"


def test_two_runs_with_one_seed_are_the_same_to_the_last_bit():
    first = weights(train("a", epochs=2)[0])
    assert same(first, weights(train("b", epochs=2)[0]))
    assert not same(first, weights(train("c", epochs=2, seed=6)[0]))


def test_an_interrupted_training_goes_on_to_the_same_weights():
    whole = weights(train("whole", epochs=3)[0])
    made, _ = context("part")
    made.show_progress = lambda done, total, **values: made.stop.ask() if Path("part/checkpoint/state.json").exists() else None
    keras.utils.set_random_seed(9)
    with pytest.raises(Terminated):
        Train().run(build(), options(epochs=3), made)
    assert Path("part/checkpoint/state.json").exists()
    keras.utils.set_random_seed(9)
    made, lines = context("part")
    again = Train().run(build(), options(epochs=3), made)
    assert lines[0] == "goes on after epoch 1/3"
    assert same(whole, weights(again))


def test_a_checkpoint_survives_a_kill_at_any_moment(monkeypatch):
    made, _ = context("s")
    compile_float(model := build(), options(), made, True)
    model.optimizer.build(model.trainable_variables)
    checkpoint = Checkpoint(made.folder)
    checkpoint.save(model, 0, [0.5, -1.0], keep_best=True)
    monkeypatch.setattr("tinykit.atomic.write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(model, 1, [0.6, -1.0], keep_best=True)
    again = Checkpoint(made.folder)
    assert again.resume(model)
    assert (again.epoch, again.best_epoch, again.best, again.waited) == (1, 0, [0.5, -1.0], 0)
    again.load_best(model)


@pytest.mark.parametrize(("name", "content"), [("state.json", "{"), ("state.json", "{}"), ("last-00001.weights.h5", "HDF")])
def test_a_damaged_checkpoint_is_told(name, content):
    made, _ = context("s")
    compile_float(model := build(), options(), made, True)
    Checkpoint(Path("s")).save(model, 0, [0.5], keep_best=False)
    Path("s", name).write_text(content)
    with pytest.raises(ModelError, match="delete s to run the step from its beginning"):
        Checkpoint(Path("s")).resume(model)


def test_ties_are_decided_by_the_loss_and_patience_counts():
    made, _ = context("s")
    compile_float(model := build(), options(), made, True)
    checkpoint = Checkpoint(made.folder)
    for epoch, value in enumerate([[0.5, -1.0], [0.5, -0.9], [0.5, -0.95], [0.4, -0.1]]):
        checkpoint.save(model, epoch, value, keep_best=True)
    assert (checkpoint.best_epoch, checkpoint.waited) == (1, 2)
    assert sorted(p.name for p in Path("s").iterdir()) == [
        "best-00001.weights.h5", "last-00004.weights.h5", "state.json"
    ]  # fmt: skip


def test_stops_early():
    result, lines = train("s", epochs=20, learning_rate=5.0, patience=2, schedule="constant", optimizer="sgd")
    assert result.report["epochs"] < 20
    assert any(line.startswith("stops: no better on val for 2 epochs") for line in lines)


def test_quicktest_is_one_epoch():
    made, lines = context("s", quicktest=True)
    Train().run(build(), options(epochs=30), made)
    assert [line for line in lines if line.startswith("epoch")][0].startswith("epoch 1/1")


def test_a_loaded_model_is_not_trained_unless_asked():
    build().save("m.keras")
    made, lines = context("s", "model.path=m.keras")
    result = Train().run(build(), options(), made)
    assert result.model is None
    assert lines == ["skipped: model.path gives trained weights (train anyway: steps.train.when=always)"]
    assert Train().run(build(), options(epochs=1, when="always"), made).model is not None


def test_diverging_training_says_what_to_do():
    made, _ = context("s")
    model = build()
    broken = [np.full_like(w, np.nan) for w in model.get_weights()]
    model.set_weights(broken)
    with pytest.raises(ModelError, match="lower steps.step.learning_rate .now 0.02"):
        Train().run(model, options(), made)


@pytest.mark.parametrize("softmax", [True, False])
def test_logits_and_probabilities_give_the_same_training(softmax):
    model = build(softmax=softmax)
    assert ends_in_softmax(model) is softmax
    made, _ = context("s")
    compile_float(model, options(), made, softmax)
    assert model.loss.from_logits is not softmax if hasattr(model.loss, "from_logits") else True


def test_softmax_layers_of_every_kind_are_seen():
    inputs = keras.Input((3,))
    for layer in (keras.layers.Softmax(), keras.layers.Activation("softmax"), keras.layers.Dense(2, activation="softmax")):
        assert ends_in_softmax(keras.Model(inputs, layer(inputs)))
    assert not ends_in_softmax(keras.Model(inputs, keras.layers.Activation("relu")(inputs)))


def test_label_smoothing_by_hand():
    made, _ = context("s")
    compile_float(model := build(), options(label_smoothing=0.3), made, True)
    predicted = np.array([[0.7, 0.2, 0.1]], np.float32)
    target = np.array([0.8, 0.1, 0.1])
    expected = -(target * np.log(predicted[0])).sum()
    assert float(model.loss(np.array([0]), predicted)[0]) == pytest.approx(expected, rel=1e-5)


def test_decoupled_weight_decay_leaves_biases_alone():
    result, _ = train("s", epochs=1, optimizer="adamw", weight_decay=0.01)
    assert result.model is not None


def test_an_autoencoder_learns_its_input():
    made, _ = context("s")
    inputs = keras.Input((7, 5, 1))
    x = keras.layers.Dense(35)(keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
    model = keras.Model(inputs, keras.layers.Reshape((7, 5, 1))(x))
    result = Train().run(model, options(loss="mse", epochs=5), made)
    assert set(result.report["last_epoch"]) == {"loss", "val_loss"}
    assert result.report["last_epoch"]["loss"] < 0.2
    assert score(result.model, made.dataset, made.chain) is None


def refused(model, dataset=None, **values):
    made, _ = context("s", dataset=dataset)
    with pytest.raises(ModelError) as caught:
        Train().check_task(model, options(**values), made)
    return str(caught.value)


def test_a_model_that_does_not_suit_the_classes_is_refused_before_training():
    made, _ = context("s")
    Train().check_task(build(), options(), made)
    inputs = keras.Input((7, 5, 1))
    flat = keras.layers.Flatten()(inputs)
    two = refused(keras.Model(inputs, keras.layers.Dense(2)(flat)))
    assert two == "step step: the data have 3 classes: expected a model with an output of shape [3], got [2]"
    same = keras.layers.Reshape((7, 5, 1))(keras.layers.Dense(35)(flat))
    assert "loss=mse" in refused(keras.Model(inputs, same))
    Train().check_task(keras.Model(inputs, same), options(loss="mse"), made)
    assert "expected an output of shape [7, 5, 1], got [3]" in refused(build(), loss="mse")
    one = dataclasses.replace(data(), class_names=("a",))
    assert "one class, 'a': nothing to tell apart" in refused(keras.Model(inputs, keras.layers.Dense(1)(flat)), one)


@pytest.mark.parametrize("by", [0, -1, 1e-42])
def test_input_range_of_degenerate_scales_comes_from_the_samples(by):
    made, _ = context("s", f"data.preprocess=[{{scale: {{by: {by}}}}}]")
    made.chain = Chain.parse([{"scale": {"by": by}}])
    for dtype in (np.uint8, np.int8):
        raw = data()
        part = Split(raw.train.x.astype(dtype), raw.train.y)
        made.dataset = dataclasses.replace(raw, train=part)
        found = input_range(made)
        assert found.scale > 1e-12 and -128 <= found.zero_point <= 127


@pytest.mark.parametrize("by", [1e30, 1e300])
def test_input_range_refuses_vast_samples(by):
    made, _ = context("s")
    made.chain = Chain.parse([{"scale": {"by": by}}])
    with pytest.raises(ModelError, match="scale them"):
        input_range(made)


def test_top1_by_hand():
    outputs = np.array([[0.1, 0.9], [0.5, 0.5], [0.2, 0.1]])
    assert top1(outputs, np.array([1, 1, 0])) == pytest.approx(2 / 3)
    with pytest.raises(ModelError, match="NaN"):
        top1(np.array([[np.nan, 1.0]]), np.array([1]))
    with pytest.raises(ModelError, match="expected outputs"):
        top1(outputs, np.array([], np.int64))


def test_score_of_anything_that_predicts():
    labels = data().test.y
    model = SimpleNamespace(output_shape=(None, 3), predict=lambda x, **_: np.eye(3)[labels])
    assert score(model, data(), Chain.parse([])) == 1.0


def test_tensorboard_gets_scalars():
    log = MetricsLog(Path("m.jsonl"), Path("tb"))
    log.write("train", {"loss": 0.5}, 0)
    log.close()
    assert [p.stat().st_size for p in Path("tb").iterdir()][0] > 0
