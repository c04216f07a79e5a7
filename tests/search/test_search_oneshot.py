"""The second stage: the training of shared weights, and the accuracy of architectures that inherit them."""

import numpy as np
import pytest
from search_spaces import SPACES, context, series_space, stage

tf = pytest.importorskip("tensorflow")

from tinykit.config.search import SearchConfig  # noqa: E402
from tinykit.errors import Terminated  # noqa: E402
from tinykit.search.candidates import narrowest, widest  # noqa: E402
from tinykit.search.costs import CostModel  # noqa: E402
from tinykit.search.space import Space  # noqa: E402
from tinykit.search.supernet import Supernet  # noqa: E402
from tinykit.search.twostage.oneshot import Inherited, OneShot, vectors  # noqa: E402

OPTIONS = {"method": "two_stage", "epochs": 3, "warmup_epochs": 0, "learning_rate": 0.01}
TWO = {"population": 4, "generations": 2, "recalibration": 3}


def search_options(space, **more):
    return SearchConfig.model_validate({**OPTIONS, "stages": [s.model_dump() for s in space.stages], "two_stage": {**TWO, **more}})


def tiny_space():
    return Space([stage(["conv"], 4, 12, kernels=[3, 5], stride=2), stage(["separable"], 4, 8)], (12, 4), 3)


def test_widest_and_narrowest_are_the_ends():
    for make in SPACES.values():
        costs, rng = CostModel(make()), np.random.default_rng(1)
        ends = [costs(costs.space.one_hot(end(costs, "macs"))).as_dict()["macs"] for end in (narrowest, widest)]
        drawn = [costs(costs.space.one_hot(costs.space.drawn(rng))).as_dict()["macs"] for _ in range(100)]
        assert ends[0] <= min(drawn) and ends[1] >= max(drawn)


def test_a_batch_trains_the_largest_on_labels_and_others_on_its_outputs(tmp_path, monkeypatch):
    space = series_space()
    net = Supernet(space, 0)
    training = OneShot(net, search_options(space), context(space, tmp_path))
    rng = np.random.default_rng(0)
    x, y = tf.constant(rng.normal(0, 1, (8, *space.input_shape)), tf.float32), tf.constant(np.arange(8) % 3)
    architectures = [*training._ends, vectors(net, space.drawn(rng)), vectors(net, space.drawn(rng))]
    weights, losses = list(net.weights.values()), []
    with tf.GradientTape() as tape:
        outputs = [net(x, each, training=True) for each in architectures]
        soft = tf.stop_gradient(tf.nn.softmax(outputs[0]))
        for target, scores in zip([tf.one_hot(y, 3), soft, soft, soft], outputs):
            losses.append(tf.reduce_mean(-tf.reduce_sum(target * tf.nn.log_softmax(scores), -1)))
        total = tf.add_n(losses)
    expected = tape.gradient(total, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    applied = []
    monkeypatch.setattr(training.weight_optimizer, "apply", lambda gradients, _: applied.extend(gradients))
    loss, accuracy = training._step(x, y, architectures)
    for found, wanted in zip(applied, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert float(loss) == pytest.approx(float(losses[0]), rel=1e-5)
    assert float(accuracy) == np.mean(np.argmax(outputs[0], -1) == y.numpy())
    largest = {name: int(np.argmax(v)) for name, v in architectures[0].items()}
    assert all(
        space.by_name[name].values[index] == max(space.by_name[name].values) for name, index in largest.items() if "block" not in name
    )


def test_sub_networks_learn_from_shared_weights(tmp_path):
    space = tiny_space()
    net = Supernet(space, 0)
    options = search_options(space).model_copy(update={"epochs": 15})
    own = context(space, tmp_path)
    shared = Inherited(net, options, own)
    rng = np.random.default_rng(2)
    some = [space.architecture(space.drawn(rng)) for _ in range(4)]
    before = np.mean([shared.accuracy(each) for each in some])
    OneShot(net, options, own).run()
    assert np.mean([shared.accuracy(each) for each in some]) > before + 0.2


def test_the_accuracy_is_that_of_the_kept_network(tmp_path):
    """The kept Keras network has the architecture's weights and its own statistics, whatever was judged in between."""
    from tinykit.models import load_model

    space = series_space()
    net, rng = Supernet(space, 0), np.random.default_rng(4)
    for variable in net.weights.values():
        variable.assign_add(rng.normal(0, 0.3, variable.shape))
    own = context(space, tmp_path)
    shared = Inherited(net, search_options(space), own)
    one, other = (space.architecture(space.drawn(rng)) for _ in range(2))
    accuracy = shared.accuracy(one)
    shared.accuracy(other)
    model = load_model(str(shared.keep(one)))
    scores = np.asarray(model(own.dataset.val.x, training=False))
    assert np.mean(np.argmax(scores, -1) == own.dataset.val.y) == pytest.approx(accuracy)
    xs = np.concatenate([x for x, _ in own.batches("train", shuffle=True).take(3)])
    first = next(layer for layer in model.layers if layer.name == "stage1_1_conv_norm")
    convolved = np.asarray(model.get_layer("stage1_1_conv")(xs))
    axes = tuple(range(convolved.ndim - 1))
    np.testing.assert_allclose(first.moving_mean, convolved.mean(axes), atol=1e-3)
    assert shared.accuracy(one) == accuracy


def test_a_training_that_is_killed_goes_on_to_the_same_weights(tmp_path):
    space, states, lines = tiny_space(), [], []

    def killed(line):
        lines.append(line)
        if len(lines) == 2:
            raise Terminated("stopped")

    for folder, log in (("whole", lines.append), ("cut", killed), ("cut", lines.append)):
        lines.clear()
        (tmp_path / folder).mkdir(exist_ok=True)
        training = OneShot(Supernet(space, 0), search_options(space), context(space, tmp_path / folder, log=log))
        try:
            training.run()
        except Terminated:
            assert training.checkpoint.path.exists()
            continue
        states.append([variable.numpy() for variable in training.checkpoint.variables])
    assert "goes on after epoch 1/3" in lines and sum("epoch 1/3  loss" in line for line in lines) == 0
    assert all(np.array_equal(a, b) for a, b in zip(*states, strict=True))


def test_judging_leaves_the_shared_weights_as_they_are(tmp_path):
    space = tiny_space()
    net = Supernet(space, 0)
    before = {name: variable.numpy() for name, variable in net.weights.items()}
    Inherited(net, search_options(space), context(space, tmp_path)).accuracy(space.architecture(space.middle()))
    assert all(np.array_equal(before[name], variable.numpy()) for name, variable in net.weights.items())
