"""tf.data pipelines: order, augmentation and reproducibility."""

import numpy as np
import pytest

from tinykit.data import Chain, Split, batches
from tinykit.data.pipeline import AUGMENTATIONS
from tinykit.errors import ConfigError, DataError

CHAIN = Chain.parse([{"divide": {"by": 16}}])
AUGMENT = [{"flip_lr": {}}, {"shift": {"pixels": 2}}]


def images(count=23, shape=(5, 7, 3)):
    random = np.random.RandomState(0)
    return Split(random.randint(0, 256, (count, *shape)).astype(np.uint8), np.arange(count, dtype=np.int64))


def collect(data):
    pairs = list(data.as_numpy_iterator())
    return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])


def test_plain_order_and_values():
    split = images()
    data = batches(split, CHAIN, batch_size=5)
    assert int(data.cardinality()) == 5
    x, y = collect(data)
    assert x.dtype == np.float32 and y.dtype == np.int64
    np.testing.assert_array_equal(x, CHAIN.apply(split.x))
    np.testing.assert_array_equal(y, split.y)
    assert data.element_spec[0].shape.as_list() == [None, 5, 7, 3]


def test_drop_remainder_and_repeat():
    assert len(collect(batches(images(), CHAIN, batch_size=5, drop_remainder=True))[1]) == 20
    endless = batches(images(), CHAIN, batch_size=23, shuffle_seed=1, repeat=True)
    orders = [tuple(y) for _, y in endless.take(3).as_numpy_iterator()]
    assert len(set(orders)) == 3 and all(sorted(order) == list(range(23)) for order in orders)
    assert int(endless.cardinality()) == -1


def test_one_seed_gives_one_sequence():
    def epochs(seed, count=3, **options):
        data = batches(images(), CHAIN, batch_size=4, shuffle_seed=seed, augment=AUGMENT, **options)
        return [collect(data) for _ in range(count)]

    first, again, other = epochs(7), epochs(7), epochs(2**40 + 7)
    for (x1, y1), (x2, y2) in zip(first, again):
        np.testing.assert_array_equal(x1, x2)
        np.testing.assert_array_equal(y1, y2)
    assert not np.array_equal(first[0][1], first[1][1]) and not np.array_equal(first[0][1], other[0][1])
    for _, y in first:
        assert sorted(y) == list(range(23))
    resumed = epochs(7, 1, first_epoch=2)[0]
    np.testing.assert_array_equal(resumed[0], first[2][0])
    np.testing.assert_array_equal(resumed[1], first[2][1])


def test_batches_come_again_after_a_cycle():
    def epochs(count, **options):
        data = batches(images(), CHAIN, batch_size=4, shuffle_seed=7, augment=AUGMENT, **options)
        return [collect(data) for _ in range(count)]

    plain, cycled = epochs(3), epochs(7, cycle=3)
    for number, (x, y) in enumerate(cycled):
        np.testing.assert_array_equal(x, plain[number % 3][0])
        np.testing.assert_array_equal(y, plain[number % 3][1])
    np.testing.assert_array_equal(epochs(1, cycle=3, first_epoch=5)[0][0], plain[2][0])
    with pytest.raises(ConfigError, match="cycle: expected 1 or more, received 0"):
        epochs(1, cycle=0)


def test_without_a_seed_the_order_stays_but_augmentation_changes():
    data = batches(images(), CHAIN, batch_size=23, augment=AUGMENT)
    (x1, y1), (x2, y2) = collect(data), collect(data)
    assert np.array_equal(y1, y2) and not np.array_equal(x1, x2)


def variants_flip(x):
    return [x, x[:, ::-1]]


def variants_shift(x, reach=2):
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    h, w = x.shape[:2]
    return [padded[i : i + h, j : j + w] for i in range(2 * reach + 1) for j in range(2 * reach + 1)]


def variants_time(x, reach=2):
    padded = np.pad(x, [(reach, reach)] + [(0, 0)] * (x.ndim - 1), mode="edge")
    return [padded[i : i + len(x)] for i in range(2 * reach + 1)]


@pytest.mark.parametrize(
    ("declared", "variants", "shape"),
    [
        ({"flip_lr": {}}, variants_flip, (5, 7, 3)),
        ({"shift": {"pixels": 2}}, variants_shift, (5, 7, 3)),
        ({"time_shift": {"steps": 2}}, variants_time, (11,)),
        ({"time_shift": {"steps": 2}}, variants_time, (11, 2)),
        ({"time_shift": {"steps": 2}}, variants_time, (11, 3, 1)),
    ],
)
def test_each_augmentation_gives_all_its_variants_and_nothing_else(declared, variants, shape):
    split = images(300, shape)
    x, _ = collect(batches(split, Chain(), batch_size=64, augment=[declared]))
    seen = set()
    for original, changed in zip(split.x, x):
        matches = [i for i, v in enumerate(variants(original)) if np.array_equal(v, changed)]
        assert matches
        seen.add(matches[0])
    assert len(seen) == len(variants(split.x[0]))


def test_registry_and_errors():
    assert all("Example:" in cls.__doc__ for cls in AUGMENTATIONS.values())
    with pytest.raises(ConfigError, match="did you mean 'flip_lr'"):
        batches(images(), CHAIN, batch_size=4, augment=[{"flip_rl": {}}])
    with pytest.raises(ConfigError, match="option 'pixels'"):
        batches(images(), CHAIN, batch_size=4, augment=[{"shift": {"pixels": 0}}])
    with pytest.raises(ConfigError, match="batch_size"):
        batches(images(), CHAIN, batch_size=0)
    for name in ("flip_lr", {"shift": {"pixels": 1}}):
        with pytest.raises(DataError, match="needs images"):
            batches(images(9, (5, 7)), CHAIN, batch_size=4, augment=[name])
    with pytest.raises(DataError, match="time_shift"):
        batches(images(9, ()), CHAIN, batch_size=4, augment=[{"time_shift": {"steps": 1}}])
    with pytest.raises(DataError, match="too few"):
        batches(images(3), CHAIN, batch_size=4, drop_remainder=True)
    with pytest.raises(DataError, match="resize"):
        batches(images(9, (5, 7)), Chain.parse([{"resize": {"size": [2, 2]}}]), batch_size=4)


def test_keras_fits_on_it():
    import keras

    inputs = keras.Input((5, 7, 3))
    model = keras.Model(inputs, keras.layers.Dense(23)(keras.layers.Flatten()(inputs)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss=loss, jit_compile=False)
    data = batches(images(), CHAIN, batch_size=5, shuffle_seed=0)
    history = model.fit(data, epochs=2, verbose=0, shuffle=False, validation_data=batches(images(), CHAIN, batch_size=23))
    assert len(history.history["val_loss"]) == 2
