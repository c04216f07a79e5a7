"""The step `distill`, and teachers of other steps: the loss by hand, who may teach, resume, what is refused before any training."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pydantic
import pytest
import tensorflow as tf
from taught_runs import L, context, network, same, weights

from tinykit.config.loading import StepSpec
from tinykit.errors import ModelError, Terminated
from tinykit.recipe.step import CHECKPOINT
from tinykit.shrink.answers import Answers
from tinykit.shrink.distilled import Distilled, Lesson, Teacher, stage_ends
from tinykit.steps import teaching
from tinykit.steps.distill import Distill, DistillOptions
from tinykit.steps.prune import Prune, PruneOptions
from tinykit.steps.quantize import Quantize, QuantizeOptions
from tinykit.steps.sparsify import Sparsify, SparsifyOptions
from tinykit.steps.teaching import fit_taught


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def options(**values):
    return DistillOptions(**{"epochs": 1, "learning_rate": 0.01, "teacher": ["teacher.keras"], **values})


def placed(made, *steps):
    """The context within a recipe; the last step is the one that runs."""
    specs = tuple(StepSpec(name.split("_")[0], name, {}) for name in steps)
    return dataclasses.replace(made, config=dataclasses.replace(made.config, steps=specs), label=steps[-1])


def distilled(folder, seed=9, **values):
    network(24, 16, seed=1).save("teacher.keras")
    keras.utils.set_random_seed(seed)
    made, lines = context(folder)
    return Distill().run(network(8, 8, seed=2), options(**values), placed(made, "distill")), lines


def linear(values, probabilities=False):
    """A network of two inputs whose outputs are x times a kernel."""
    inputs = L.Input((2,))
    x = L.Dense(len(values[0]), use_bias=False, activation="softmax" if probabilities else None)(inputs)
    model = keras.Model(inputs, x)
    model.set_weights([np.array(values, np.float32)])
    return model


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("student_softmax", [True, False])
@pytest.mark.parametrize("teacher_softmax", [True, False])
def test_the_loss_by_hand(student_softmax, teacher_softmax):
    own, first, second = [[1.0, 0, -1], [0, 2, 1]], [[0.5, 1, 0], [2, 0, 0]], [[0.0, 1, 1], [1, 1, 3]]
    student = linear(own, student_softmax)
    teacher = Teacher([(linear(k, teacher_softmax), teacher_softmax) for k in (first, second)])
    trained = Distilled(student, student_softmax, teacher, Lesson(0.7, 2.0))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not student_softmax)
    trained.compile("sgd", loss, jit_compile=False)
    x, y = np.array([[1.0, 0.5], [-1, 2]], np.float32), np.array([0, 2])
    logits = x @ np.array(own)
    guides = [np.log(softmax(x @ np.array(k))) for k in (first, second)]
    wanted, given = softmax(np.mean(guides, axis=0) / 2), softmax(logits / 2)
    soft = 4 * (wanted * (np.log(wanted) - np.log(given))).sum(-1).mean()
    hard = -np.log(softmax(logits)[np.arange(2), y]).mean()
    found = trained.compute_loss(x=x, y=y, y_pred=trained(x, training=True))
    assert float(found) == pytest.approx(0.3 * hard + 0.7 * soft, rel=1e-5)
    judged = trained.compute_loss(x=x, y=y, y_pred=trained(x), training=False)
    assert float(judged) == pytest.approx(hard, rel=1e-5)


def test_mixed_samples_by_hand():
    own, first = [[1.0, 0, -1], [0, 2, 1]], [[0.5, 1, 0], [2, 0, 0]]
    trained = Distilled(linear(own, True), True, Teacher([(linear(first, True), True)]), Lesson(0.7, 2.0, mix=0.5))
    trained.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(), jit_compile=False, run_eagerly=True)
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(64, 2)).astype(np.float32), rng.integers(0, 3, 64)
    mixing = trained._mixing
    mixed, others, shares = (np.asarray(part) for part in mixing(x))
    assert sorted(others) == list(range(64)) and (others != np.arange(64)).mean() > 0.9
    assert 0 <= shares.min() < 0.05 and 0.45 < shares.max() <= 0.5
    np.testing.assert_allclose(mixed, (1 - shares[:, None]) * x + shares[:, None] * x[others], rtol=1e-5)
    mixing.seed_generator.state.assign([0, 0])
    reported = trained.train_on_batch(x, y)
    mixing.seed_generator.state.assign([0, 0])
    mixed, others, shares = (np.asarray(part) for part in mixing(x))
    given = np.log(softmax(mixed @ np.array(own)))
    hard = -((1 - shares) * given[np.arange(64), y] + shares * given[np.arange(64), y[others]]).mean()
    wanted, soft = softmax(mixed @ np.array(first) / 2), softmax(mixed @ np.array(own) / 2)
    soft = 4 * (wanted * (np.log(wanted) - np.log(soft))).sum(-1).mean()
    assert float(reported[0] if isinstance(reported, list) else reported) == pytest.approx(0.3 * hard + 0.7 * soft, rel=1e-4)
    judged = trained.compute_loss(x=x, y=y, y_pred=trained(x), training=False)
    assert float(judged) == pytest.approx(-np.log(softmax(x @ np.array(own)))[np.arange(64), y].mean(), rel=1e-5), "val is not mixed"


def test_attention_and_hints_by_hand():
    teacher, student = network(6, 5, seed=1), network(4, 3, seed=2)
    own, theirs = stage_ends(student), stage_ends(teacher)
    assert list(own) == list(theirs) == [(7, 5), (5, 3)]
    pairs = [(own[k], int(theirs[k].shape[-1])) for k in own]
    x = np.random.default_rng(0).uniform(0, 1, (4, 7, 5, 1)).astype(np.float32)
    y = np.array([0, 1, 2, 0])
    inner = [np.asarray(keras.Model(m.inputs[0], [e[k] for k in own])(x)[0]) for m, e in ((student, own), (teacher, theirs))]

    def loss(transfer, weight):
        trained = Distilled(student, True, Teacher([(teacher, True)], list(theirs.values())), Lesson(0.0, 1.0, transfer, weight), pairs)
        trained.compile("sgd", keras.losses.SparseCategoricalCrossentropy(), jit_compile=False)
        return float(trained.compute_loss(x=x, y=y, y_pred=trained(x, training=False))), trained

    def energy(values):
        flat = (values**2).sum(-1).reshape(len(values), -1)
        return flat / np.linalg.norm(flat, axis=-1, keepdims=True)

    plain = loss("attention", 0.0)[0]
    both = []
    for k in own:
        a, b = (np.asarray(keras.Model(m.inputs[0], e[k])(x)) for m, e in ((student, own), (teacher, theirs)))
        both.append(((energy(a) - energy(b)) ** 2).sum(-1).mean())
    assert loss("attention", 2.0)[0] - plain == pytest.approx(2 * np.mean(both), rel=1e-3)
    value, trained = loss("hint", 1.0)
    assert [layer.kernel.shape for layer in trained.hints] == [(4, 6), (3, 5)]
    assert value - plain == pytest.approx(1.0, rel=1e-3), "projections begin at 0"
    trained.hints[0].kernel.assign(np.full((4, 6), 0.1))
    first = ((inner[0] @ np.full((4, 6), 0.1) - inner[1]) ** 2).mean() / (inner[1] ** 2).mean()
    again = float(trained.compute_loss(x=x, y=y, y_pred=trained(x, training=False)))
    assert again - plain == pytest.approx((first + 1) / 2, rel=1e-3)
    assert len(trained.trainable_variables) == len(student.trainable_variables) + 2
    assert not any(v is w for v in trained.variables for w in teacher.variables)


@pytest.mark.parametrize("transfer", [None, "attention", "hint"])
def test_learns_and_leaves_the_teacher_alone(transfer):
    result, lines = distilled("s", epochs=8, transfer=transfer)
    assert result.report["last_epoch"]["accuracy"] > 0.5
    assert not result.model.compiled and len(result.model.weights) == len(network().weights)
    before = network(24, 16, seed=1).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(before, keras.saving.load_model("teacher.keras").get_weights()))


def test_an_interrupted_training_goes_on_to_the_same_weights_with_a_teacher_of_its_own():
    first = {"name": "cnn", "epochs": 2, "options": {"filters": [4, 6]}}
    chosen = {"epochs": 3, "transfer": "hint", "mix": 0.5, "teacher": [first, "teacher.keras"]}
    whole = weights(distilled("whole", **chosen)[0])
    for place in ("teacher_1/checkpoint/state.json", "state.json"):
        made, _ = context("part")
        state = Path("part", CHECKPOINT, place)
        made.show_progress = lambda done, total, state=state, made=made, **values: made.stop.ask() if state.exists() else None
        keras.utils.set_random_seed(9)
        with pytest.raises(Terminated):
            Distill().run(network(8, 8, seed=2), options(**chosen), placed(made, "distill"))
    keras.utils.set_random_seed(9)
    made, lines = context("part")
    again = Distill().run(network(8, 8, seed=2), options(**chosen), placed(made, "distill"))
    assert [line for line in lines if line.startswith("goes on")] == ["goes on after epoch 2/2", "goes on after epoch 1/3"]
    assert same(whole, weights(again))


class Counting(keras.layers.Layer):
    """Counts the batches that it looks at."""

    def __init__(self):
        super().__init__()
        self.batches = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False)

    def call(self, x):
        self.batches.assign_add(1)
        return x


def counting_teacher():
    counter = Counting()
    inputs = L.Input((7, 5, 1))
    return keras.Model(inputs, network(24, 16, seed=1)(counter(inputs))), counter


def taught(folder, teacher, student_seed=2, stop_at=None, **chosen):
    """(weights, lines) of a training; `stop_at`: the epoch after which it is interrupted."""
    made, lines = context(folder, "data.augment=[flip_lr]")
    state = Path(folder, CHECKPOINT, "state.json")

    def stops(done, total, **values):
        if stop_at is not None and state.exists() and json.loads(state.read_text())["epoch"] >= stop_at:
            made.stop.ask()

    made.show_progress = stops
    student = network(8, 8, seed=student_seed)
    keras.utils.set_random_seed(9)
    fit_taught(student, options(learning_rate=0.01, **chosen), placed(made, "distill"), [(teacher, True)])
    return student.get_weights(), lines


def test_known_answers_are_not_asked_for_again(monkeypatch):
    teacher, counter = counting_teacher()
    chosen = {"epochs": 5, "mix": 0.5, "keep": "last", "batch_size": 10}  # 5 batches an epoch, the last of 4 samples
    remembering, _ = taught("remembering", teacher, repeat_after=2, **chosen)
    asked = int(counter.batches)
    assert asked == 2 * 5
    with monkeypatch.context() as patched:
        patched.setattr(teaching, "_answers", lambda *arguments: None)
        asking, _ = taught("asking", teacher, repeat_after=2, **chosen)
    assert int(counter.batches) - asked == 5 * 5
    assert all(np.array_equal(a, b) for a, b in zip(remembering, asking)), "the same samples and answers"
    fresh, _ = taught("fresh", teacher, **chosen)
    assert not all(np.array_equal(a, b) for a, b in zip(remembering, fresh)), "without it every epoch is new"


def test_an_interrupted_training_asks_again_and_goes_on_to_the_same_weights():
    teacher, counter = counting_teacher()
    chosen = {"epochs": 5, "mix": 0.5, "keep": "last", "batch_size": 10, "repeat_after": 2}
    whole, _ = taught("whole", teacher, **chosen)
    with pytest.raises(Terminated):
        taught("part", teacher, stop_at=3, **chosen)
    before = int(counter.batches)
    part, lines = taught("part", teacher, student_seed=6, **chosen)
    assert "goes on after epoch 3/5" in lines
    assert int(counter.batches) - before == 2 * 5
    assert all(np.array_equal(a, b) for a, b in zip(whole, part))


def test_answers_by_number_of_the_batch():
    answers, asked = Answers(3, 4, (2,)), []

    @tf.function
    def look(number, x):
        return answers(number, x, lambda x: tf.py_function(lambda v: (asked.append(len(v)), v[:, :2] * 2)[1], [x], tf.float32))

    sizes = (4, 4, 3)
    made = [np.random.default_rng(i).normal(size=(size, 5)).astype(np.float32) for i, size in enumerate(sizes)]
    for number in range(9):
        found = look(tf.constant(number), made[number % 3])
        np.testing.assert_array_equal(found, made[number % 3][:, :2] * 2)
    assert asked == list(sizes)


def test_answers_that_do_not_fit_are_refused(monkeypatch):
    network().save("teacher.keras")
    Distill().check_task(network(), options(epochs=20, repeat_after=10), placed(context("s")[0], "distill"))
    for most, told in (
        (2 * 4 * 11 * 3 * 4, "lower repeat_after to 2, or leave repeat_after out"),
        (100, "the most: leave repeat_after out"),
    ):
        monkeypatch.setattr("tinykit.shrink.answers.MOST_BYTES", most)
        assert told in refused(epochs=20, repeat_after=10)
        assert told in refused(Prune, steps=("train", "prune"), chosen=PruneOptions(macs=0.5, epochs=20, repeat_after=10))
        Distill().check_task(network(), options(epochs=10, repeat_after=10), placed(context("s")[0], "distill"))
        between = PruneOptions(macs=0.5, epochs=1, rounds=2, round_epochs=20, repeat_after=10)
        assert told in refused(Prune, steps=("train", "prune"), chosen=between), "trainings between cuts are the longest"
        Prune().check_task(network(), between.model_copy(update={"rounds": 1}), placed(context("s")[0], "train", "prune"))
        rising = SparsifyOptions(epochs=1, rise_epochs=20, repeat_after=10)
        assert told in refused(Sparsify, steps=("train", "sparsify"), chosen=rising), "the rise is the longest"


def refused(step=Distill, model=None, steps=("distill",), chosen=None, **values):
    made, _ = context("s")
    with pytest.raises(ModelError) as caught:
        step().check_task(model or network(), chosen or options(**values), placed(made, *steps))
    return str(caught.value)


def test_who_cannot_teach_is_told_before_any_training():
    made, _ = context("s")
    network().save("teacher.keras")
    Distill().check_task(network(8, 8), options(), placed(made, "distill"))
    network(classes=5).save("five.keras")
    text = refused(teacher=["teacher.keras", "five.keras", "none.keras"])
    assert "teacher 2: five.keras gives an output of shape [5], the model one of [3]: both must score the same classes" in text
    assert "none.keras does not exist" in text
    other = L.Input((9, 9, 1))
    keras.Model(other, L.Dense(3)(L.Flatten()(other))).save("other.keras")
    assert "takes samples of shape [9, 9, 1]" in refused(teacher=["other.keras"])
    assert "unknown model 'resnet9'" in refused(teacher=[{"name": "resnet9"}])
    flat = L.Input((7, 5, 1))
    keras.Model(flat, L.Dense(3)(L.Flatten()(flat))).save("flat.keras")
    assert "no tensor of the model has a resolution that one of the teacher's has" in refused(teacher=["flat.keras"], transfer="attention")
    assert "nothing is taught; use `train`" in refused(distill=0.0)
    assert "the teacher would be the model itself" in refused(teacher=[], steps=("train", "distill"))
    Distill().check_task(network(), options(teacher=[]), placed(made, "train", "prune", "distill"))


def test_other_steps_refuse_such_teachers_too():
    network(classes=5).save("five.keras")
    for step, chosen in ((Prune, PruneOptions(macs=0.5, teacher=["five.keras"])), (Quantize, QuantizeOptions(teacher=["five.keras"]))):
        assert "both must score the same classes" in refused(step, steps=("train", step.name), chosen=chosen)


def test_integer_networks_do_not_teach():
    from tinykit.quant.convert import InputRange, build_quantized

    build_quantized(network(), InputRange(1 / 255, -128)).save("integers.keras")
    assert "integers.keras: as a teacher: model" in refused(teacher=["integers.keras"])


def run_folder(preprocess):
    folder = Path("runs/large")
    for number, (step, model) in enumerate((("train", network()), ("prune", network(8, 8)), ("quantize", None)), 1):
        place = folder / "steps" / f"{number:02d}_{step}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "report.json").write_text(json.dumps({"step": step}))
        if model is not None:
            model.save(place / "model.keras")
    (folder / "config.resolved.yaml").write_text(f"data: {{preprocess: {preprocess}}}")


def test_a_run_teaches_with_its_last_float_model():
    from tinykit.steps.teaching import teacher_models

    run_folder("[{divide: {by: 255}}]")
    made, _ = context("s")
    (model, probabilities), *others = teacher_models(options(teacher=["runs/large"]), made, network())
    assert model.get_layer("first").filters == 8 and probabilities and not others
    run_folder("[]")
    assert "the teacher was trained with another data.preprocess" in refused(teacher=["runs/large"])


def test_quantize_follows_another_teacher():
    network(24, 16, seed=1).save("teacher.keras")
    results = []
    for teacher in ([], ["teacher.keras"]):
        made, _ = context(f"q{len(teacher)}")
        keras.utils.set_random_seed(4)
        chosen = QuantizeOptions(epochs=1, teacher=teacher, distill=0.9, calibration_samples=32)
        results.append(weights(Quantize().run(network(), chosen, placed(made, "quantize"))))
    assert not same(*results)


def test_options_that_are_refused():
    for values in (
        {"teacher": [{"name": "cnn", "epochs": 0}]},
        {"teacher": [{"nam": "cnn"}]},
        {"teacher": [3]},
        {"temperature": 0.0},
        {"repeat_after": 0},
    ):
        with pytest.raises(pydantic.ValidationError):
            options(**values)
    with pytest.raises(pydantic.ValidationError, match="leave out transfer or repeat_after"):
        options(transfer="hint", repeat_after=2)
