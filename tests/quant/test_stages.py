"""Lowering bits by degrees: what the wider network has learned goes over, and only what must be set anew is."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from networks import mismatches, samples, shake

from tinykit.quant.allocation.network import Bits
from tinykit.quant.allocation.program import network_of
from tinykit.quant.convert import InputRange
from tinykit.quant.fuse import fuse
from tinykit.steps.integers import CalibrationOptions, Prepared
from tinykit.steps.stages import at_least, lowered

L = keras.layers


def prepared(batch_norm: str) -> tuple[Prepared, np.ndarray]:
    keras.utils.set_random_seed(3)
    inputs = L.Input((7, 5, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(5, 3, padding="same")(inputs)))
    x = L.Conv2D(6, 1, activation="relu")(x)
    model = keras.Model(inputs, L.Dense(4)(L.GlobalAveragePooling2D()(x)))
    shake(model, np.random.default_rng(1))
    x = samples(model, 2)
    context = SimpleNamespace(seed=0, log=lambda line: None)
    program = fuse(model, batch_norm)
    return Prepared(program, InputRange.from_affine(1 / 255, 0.0), None, [x], CalibrationOptions(), context), x


def trained(start: Prepared, bits: Bits):
    """A network that has moved away from where it began."""
    q, rng = start.build(bits), np.random.default_rng(5)
    for v in q.trainable_variables:
        v.assign(np.asarray(v) + rng.normal(0, 0.05, v.shape))
    q.keep_representable()
    return q


def test_at_least() -> None:
    assert at_least(Bits((8, 4, 2), (2, 8, 4)), 4) == Bits((8, 4, 4), (4, 8, 4))


@pytest.mark.parametrize("batch_norm", ["frozen", "update"])
def test_what_was_learned_goes_over(batch_norm, tally) -> None:
    start, x = prepared(batch_norm)
    network = network_of(start.program)
    groups = tuple(4 if g == 1 else 8 for g in range(network.groups))
    final = Bits(groups, (2, 8, 4))
    before = trained(start, at_least(final, 8))
    after = lowered(start, before, final)
    for old, new in zip(before.weighted_layers(), after.weighted_layers(), strict=True):
        np.testing.assert_array_equal(np.asarray(new.kernel()), np.asarray(old.kernel()))
        np.testing.assert_array_equal(np.asarray(new.bias()), np.asarray(old.bias()))
        same = np.asarray(new.log_step) == np.asarray(old.log_step)
        assert same.all() if new.weight_bits == old.weight_bits else not same.any()
    assert [n.weight_bits for n in after.weighted_layers()] == [2, 8, 4]
    for old_q, new_q in zip(before.quantizers, after.quantizers, strict=True):
        if old_q.fixed is None:
            assert (float(old_q.log_step) == float(new_q.log_step)) == (old_q.bits == new_q.bits)
    wrong, elements, _ = mismatches(after, x, eager=True)
    tally("Keras vs reference, after a stage", sum(wrong.values()), elements)
    assert not any(wrong.values())


def test_statistics_stop_when_they_are_told_to(tally) -> None:
    start, x = prepared("update")
    q = start.build(None)
    layer = q.weighted_layers()[0]
    kept = np.asarray(layer.moving_mean)
    q.learn_statistics(False)
    q(x, training=True)
    np.testing.assert_array_equal(np.asarray(layer.moving_mean), kept)
    q.learn_statistics(True)
    q(x, training=True)
    assert (np.asarray(layer.moving_mean) != kept).any()
