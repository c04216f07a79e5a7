"""Zeros and shared values with `if_smaller`: only where the linked image becomes smaller; else the step is skipped and says so."""

import keras
import numpy as np
from taught_runs import L, context, network, same, weights

from tinykit.fit.meter import EngineMeter
from tinykit.fit.preview import preview
from tinykit.quant.allocation.network import eight_bits
from tinykit.quant.fuse import fuse
from tinykit.quant.kept import Kept
from tinykit.steps.cluster import Cluster, ClusterOptions
from tinykit.steps.sparsify import Sparsify, SparsifyOptions

LIMIT = "engine.storage_limit=1"
"""Decoding may take as long as the layers, which is not what is tested here."""


def wide():
    """An inner layer of 9,216 weights, for which there is room to be decoded, and one of 64 that no coding pays for."""
    keras.utils.set_random_seed(5)
    inputs = L.Input((24, 24, 1))
    x = L.Conv2D(32, 3, padding="same", activation="relu", name="first")(inputs)
    x = L.Conv2D(32, 3, padding="same", activation="relu", name="large")(L.MaxPooling2D(2)(x))
    x = L.Conv2D(2, 1, activation="relu", name="small")(x)
    return keras.Model(inputs, L.Dense(3, activation="softmax", name="scores")(L.GlobalAveragePooling2D()(x)))


def sparsified(folder, model):
    made, lines = context(folder, LIMIT)
    keras.utils.set_random_seed(1)
    options = SparsifyOptions(sparsity=0.7, rise_epochs=0, epochs=0, if_smaller=True)
    return Sparsify().run(model, options, made), lines


def linked(model, kept):
    found = preview(fuse(model), kept=kept)
    return EngineMeter(found, None).linked(eight_bits(found.network)).flash


def test_zeros_stay_out_of_layers_that_are_not_coded(tmp_path):
    model = wide()
    result, lines = sparsified(tmp_path, model)
    trial = result.report["trial"]
    assert trial["coded"] == ["large"] and trial["flash_after"] < trial["flash_before"] and not trial["skipped"]
    zeros = {row["layer"]: row["sparsity"] for row in result.report["layers"]}
    assert zeros["large"] > 0.5 and zeros["small"] == 0
    assert "small stays dense: its zeros would save nothing" in lines
    assert linked(result.model, Kept(zeros=True)) < linked(wide(), Kept(zeros=True)) - 2000


def test_a_step_that_does_not_pay_is_skipped_with_its_figures(tmp_path):
    model = network()
    before = [np.asarray(w) for w in model.get_weights()]
    result, lines = sparsified(tmp_path, model)
    assert result.model is None and result.report["trial"]["skipped"] and same(before, [np.asarray(w) for w in model.get_weights()])
    assert lines[-1].startswith("skipped: it does not pay: ") and "bytes of flash without it" in lines[-1]


def test_shared_values_pay_by_what_zeros_have_left(tmp_path):
    made, _ = context(tmp_path, LIMIT)
    options = ClusterOptions(clusters=4, epochs=0, if_smaller=True)
    result = Cluster().run(wide(), options, made)
    tables = {row["layer"]: row["table"] for row in result.report["layers"]}
    assert tables["large"] == "tensor" and tables["small"] is None
    assert result.report["trial"]["coded"] == ["large"]
    assert len(np.unique(weights(result)[2])) == 4
    skipped = Cluster().run(network(), options, made)
    assert skipped.model is None and skipped.report["trial"]["skipped"]
