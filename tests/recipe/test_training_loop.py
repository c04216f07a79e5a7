"""Several training steps at once: the same as Keras's own, one by one, with any number of batches."""

import math

import numpy as np
import pytest

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from tinykit.steps import loop as module  # noqa: E402
from tinykit.steps.loop import MOST, Loop  # noqa: E402

EPOCHS = 2


def compiled():
    keras.utils.set_random_seed(4)
    inputs = keras.Input((6,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(5)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.ReLU()(x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.1), loss, metrics=["accuracy"], jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def samples(steps):
    rng = np.random.default_rng(steps)
    x, y = rng.normal(0, 1, (3 * steps - 1, 6)).astype(np.float32), rng.integers(0, 3, 3 * steps - 1)
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(3)


def rate(number):
    return 0.03 / (1 + number % 5)


class Seen(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.loop.begin(epoch)

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(logs)


class EachBatch(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.batches = []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(batch)


class Rates(keras.callbacks.Callback):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate.assign(rate(self.epoch * self.steps + batch))


def trained(model, steps, *callbacks):
    return model.fit(
        samples(steps).repeat(), validation_data=samples(7), steps_per_epoch=steps, epochs=EPOCHS, verbose=0, shuffle=False,
        callbacks=list(callbacks),
    )  # fmt: skip


def fitted(steps, *more, progress=lambda done, total: None):
    model, seen = compiled(), Seen()
    with Loop(model, rate, steps, progress, more) as seen.loop:
        trained(model, steps, seen, *more)
    return model, seen.epochs


def by_keras(steps):
    """Keras's own loop, step by step."""
    model = compiled()
    history = trained(model, steps, Rates(steps)).history
    return model, [{key: values[epoch] for key, values in history.items()} for epoch in range(EPOCHS)]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


@pytest.fixture(params=[1, 3, 100])
def at_once(request, monkeypatch):
    """As many steps at once as time would allow."""
    monkeypatch.setattr(module, "_UNTIMED", 0)
    monkeypatch.setattr(module, "_SECONDS", math.inf if request.param == 100 else 0)
    if request.param == 3:
        monkeypatch.setattr(Loop, "_limited", lambda self, seconds, count: 3)


@pytest.mark.parametrize("steps", [1, 5, MOST, MOST + 1, 2 * MOST + 5])
def test_the_same_weights_and_metrics_as_step_by_step(at_once, steps):
    model, epochs = fitted(steps)
    wanted, reported = by_keras(steps)
    assert same(model, wanted)
    assert epochs == reported
    assert int(model.optimizer.iterations) == EPOCHS * steps


def test_a_callback_of_single_batches_gets_each(at_once):
    each = EachBatch()
    model, _ = fitted(MOST + 3, each)
    assert each.batches == list(range(MOST + 3)) * EPOCHS
    assert same(model, by_keras(MOST + 3)[0])


def test_progress_is_told_between_slow_steps(monkeypatch):
    told = []
    monkeypatch.setattr(module, "_SECONDS", 0)
    fitted(MOST + 3, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, MOST + 3) for done in range(1, MOST + 4)] * EPOCHS


def test_it_is_asked_whether_to_stop_and_the_model_is_as_it_was():
    asked = []

    def progress(done, total):
        asked.append(done)
        if len(asked) == 4:
            raise InterruptedError

    model = compiled()
    with pytest.raises(InterruptedError), Loop(model, rate, 40, progress, ()) as loop:
        loop.begin(0)
        batches = iter(samples(40).repeat())
        while True:
            loop(batches)
    assert 3 <= int(model.optimizer.iterations) < 40
    assert model.steps_per_execution == 1 and model.train_function is None and model.test_function is None
    model.fit(samples(3), verbose=0)


def test_small_steps_are_taken_together_and_slow_ones_alone():
    loop = Loop(compiled(), rate, 100, lambda done, total: None, ())
    assert loop._limited(0.05, 1) == 2
    assert loop._limited(0.05, 4) == 8
    assert loop._limited(7.0, 1) == 1
    assert loop._limited(0.0, 1) == MOST
