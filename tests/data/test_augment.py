"""Image augmentation: each op against the same thing computed another way; seeds; training batches only."""

import hashlib

import numpy as np
import pytest
from scipy import ndimage

from tinykit.config.loading import load_config
from tinykit.data import Chain, Split, batches
from tinykit.data.augment import AUGMENTATIONS, _turned, parse_augmentations
from tinykit.data.dataset import Dataset
from tinykit.errors import ConfigError, DataError
from tinykit.recipe.step import StepContext

DTYPES = ("uint8", "int8", "int16", "float32")
DECLARED = {
    "brightness": {"by": 25},
    "contrast": {"by": 0.3},
    "cutout": {"size": 3, "value": 7},
    "flip_lr": {},
    "rotate": {"degrees": 10},
    "shift": {"pixels": 2, "mode": "constant", "value": 9},
    "time_shift": {"steps": 1},
    "zoom": {"by": 0.2},
}
# Of the batches below with flip_lr, shift and time_shift, before the other ops existed.
GOLDEN_SHA256 = "b5caa8766b9484520e3df175f9cd05f4df2ab3743f6c35a447a488e32975e656"


def images(count=200, shape=(7, 11, 3), dtype="uint8", seed=0):
    random = np.random.RandomState(seed)
    if dtype == "float32":
        return random.uniform(-2, 2, (count, *shape)).astype(np.float32)
    info = np.iinfo(dtype)
    return random.randint(info.min, info.max + 1, (count, *shape)).astype(dtype)


def change(name, x, seed=(3, 4), **options):
    """The op alone on a batch, in its raw dtype."""
    (op,) = parse_augmentations([{name: options}])
    op.check(x.shape[1:], x.dtype.name)
    import tensorflow as tf

    return op.tf(tf.constant(x), tf.constant(seed, tf.int32)).numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_every_op_keeps_shape_and_dtype_and_follows_its_seed(name, dtype):
    x = images(dtype=dtype)
    first, again, other = (change(name, x, seed, **DECLARED[name]) for seed in ((3, 4), (3, 4), (3, 5)))
    assert first.dtype == x.dtype and first.shape == x.shape
    assert np.array_equal(first, again) and not np.array_equal(first, other) and not np.array_equal(first, x)


def test_old_sequences_stay_as_they_were():
    split = Split(images(23, (5, 7, 3)), np.arange(23, dtype=np.int64))
    augment = [{"flip_lr": {}}, {"shift": {"pixels": 2}}, {"time_shift": {"steps": 1}}]
    data = batches(split, Chain.parse([{"divide": {"by": 16}}]), batch_size=4, shuffle_seed=7, augment=augment)
    digest = hashlib.sha256()
    for _ in range(3):
        for x, y in data.as_numpy_iterator():
            digest.update(x.tobytes() + y.tobytes())
    assert digest.hexdigest() == GOLDEN_SHA256


def test_brightness_adds_one_number_to_each_image():
    x = images() // 2 + 60  # 60 to 187: nothing is clipped
    added = change("brightness", x, by=25).astype(int) - x
    assert (added == added[:, :1, :1, :1]).all()
    numbers = added[:, 0, 0, 0]
    assert numbers.min() >= -25 and numbers.max() <= 25 and numbers.min() < -18 and numbers.max() > 18 and abs(numbers.mean()) < 5


@pytest.mark.parametrize("dtype", DTYPES)
def test_limits_and_the_range_of_the_dtype(dtype):
    x = images(dtype=dtype)
    free = change("brightness", x, by=1e9)
    if dtype != "float32":
        assert set(np.unique(free)) <= {np.iinfo(dtype).min, np.iinfo(dtype).max}
    inside = change("brightness", x, by=1e9, limits=(1, 16))
    assert set(np.unique(inside)) == {1, 16}
    assert change("contrast", x, by=1, limits=(0, 10)).max() <= 10


def test_contrast_stretches_about_the_mean():
    x = images(seed=1) // 2 + 60
    distance = (x - x.mean((1, 2, 3), keepdims=True)).reshape(len(x), -1)
    real = change("contrast", x.astype(np.float32), by=0.3)
    factors = ((real - x.mean((1, 2, 3), keepdims=True)).reshape(len(x), -1) * distance).sum(1) / (distance**2).sum(1)
    assert factors.min() >= 0.6999 and factors.max() <= 1.3001 and factors.min() < 0.75 and factors.max() > 1.25
    expected = x.mean((1, 2, 3), keepdims=True) + distance.reshape(x.shape) * factors[:, None, None, None]
    np.testing.assert_allclose(real, expected, atol=1e-3)
    np.testing.assert_allclose(change("contrast", x, by=0.3), expected, atol=0.501)


def test_cutout_covers_one_square():
    x = images(300) // 2  # never 200
    changed = change("cutout", x, size=4, value=200)
    places = set()
    for before, after in zip(x, changed):
        covered = (after == 200).all(-1)
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        expected = np.zeros_like(covered)
        expected[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        assert np.array_equal(covered, expected) and np.array_equal(after[~covered], before[~covered])
        assert (len(rows) == 4 or rows[0] == 0 or rows[-1] == 6) and (len(columns) == 4 or columns[0] == 0 or columns[-1] == 10)
        places.add((rows[0], rows[-1], columns[0], columns[-1]))
    assert 60 < len(places) <= 77, "centres are all over the 7 x 11 pixels"


def test_shift_with_a_constant_is_a_crop_of_the_padded_image():
    x = images(300)
    seen = set()
    for before, after in zip(x, change("shift", x, pixels=2, mode="constant", value=9)):
        padded = np.pad(before, ((2, 2), (2, 2), (0, 0)), constant_values=9)
        found = [(i, j) for i in range(5) for j in range(5) if np.array_equal(padded[i : i + 7, j : j + 11], after)]
        assert found
        seen.add(found[0])
    assert len(seen) == 25


def drawn_again(x, matrix):
    """Bilinear sampling by SciPy: output pixel p comes from centre + matrix (p - centre); the border repeated."""
    centre = (np.array(x.shape[:2]) - 1) / 2
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in x.shape[:2]), indexing="ij"), -1) - centre
    at = np.moveaxis(grid @ np.asarray(matrix, np.float64).T + centre, -1, 0)
    return np.stack([ndimage.map_coordinates(x[..., c].astype(float), at, order=1, mode="nearest") for c in range(x.shape[2])], -1)


def turned(x, cosine, sine):
    import tensorflow as tf

    each = [tf.fill([len(x), 1, 1, 1], tf.constant(value, tf.float32)) for value in (cosine, sine)]
    return _turned(tf.constant(x), *each).numpy()


@pytest.mark.parametrize("shape", [(7, 11, 3), (8, 8, 1), (1, 5, 2)])
@pytest.mark.parametrize(("angle", "scale"), [(0.3, 1), (-1.1, 1), (0, 0.8), (0, 1.25), (0.2, 0.9)])
def test_rotation_and_zoom_against_scipy(shape, angle, scale):
    x = images(5, shape)
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    got = turned(x, cosine, sine)
    for before, after in zip(x, got):
        np.testing.assert_allclose(after, drawn_again(before, [[cosine, -sine], [sine, cosine]]), atol=0.51)
    assert np.array_equal(turned(x, 1, 0), x)


def test_a_quarter_turn_is_exact():
    x = images(4, (9, 9, 3))
    assert np.array_equal(turned(x, 0, 1), np.rot90(x, 1, (1, 2))) or np.array_equal(turned(x, 0, 1), np.rot90(x, -1, (1, 2)))
    assert np.array_equal(turned(x, -1, 0), x[:, ::-1, ::-1])


def test_angles_and_factors_stay_in_their_range():
    ramp = np.tile(np.arange(101, dtype=np.float32)[:, None, None], (400, 1, 101, 1)) - 50
    across = change("rotate", ramp, degrees=10)
    angles = np.degrees(np.arcsin((across[:, 50, 40, 0] - across[:, 50, 60, 0]) / 20))
    assert np.abs(angles).max() <= 10.001 and angles.min() < -9 and angles.max() > 9
    down = change("zoom", ramp, by=0.2)
    factors = 20 / (down[:, 60, 50, 0] - down[:, 40, 50, 0])
    assert factors.min() >= 0.799 and factors.max() <= 1.201 and factors.min() < 0.82 and factors.max() > 1.18


def everything():
    return [{name: options} for name, options in DECLARED.items()]


def context(tmp_path):
    parts = [Split(images(count, (6, 8, 3), seed=count), np.arange(count, dtype=np.int64) % 2) for count in (40, 10, 12)]
    dataset = Dataset("made", "made", True, ("a", "b"), *parts, "0" * 64)
    augment = "[" + ", ".join(f"{{{name}: {options}}}" for name, options in DECLARED.items()) + "]"
    config = load_config("digits", [f"data.augment={augment}", "data.preprocess=[{divide: {by: 255}}]", "data.batch_size=16"])
    assert config.config.data.augment == everything()
    return StepContext(dataset, Chain.parse(config.config.data.preprocess), config, 3, tmp_path)


def test_only_training_batches_are_changed(tmp_path):
    made = context(tmp_path)
    for name in ("train", "val", "test"):
        split = getattr(made.dataset, name)
        plain = np.concatenate([x for x, _ in made.batches(name).as_numpy_iterator()])
        np.testing.assert_array_equal(plain, made.chain.apply(split.x))
    changed = [np.concatenate([x for x, _ in made.batches("train", augment=True).as_numpy_iterator()]) for _ in range(2)]
    assert np.array_equal(*changed) and not np.array_equal(changed[0], made.chain.apply(made.dataset.train.x))


def test_a_resumed_training_sees_the_same_changes(tmp_path):
    made = context(tmp_path)
    whole = made.batches("train", shuffle=True, augment=True)
    epochs = [np.concatenate([x for x, _ in whole.as_numpy_iterator()]) for _ in range(3)]
    resumed = made.batches("train", shuffle=True, augment=True, first_epoch=2)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in resumed.as_numpy_iterator()]), epochs[2])
    assert not np.array_equal(epochs[0], epochs[1])


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("[{brightnes: {by: 3}}]", "unknown op 'brightnes': did you mean 'brightness'"),
        ("[{brightness: {bye: 3}}]", "unknown option 'bye': did you mean 'by'"),
        ("[{brightness: {by: 0}}]", "option 'by'"),
        ("[{brightness: {by: 3, limits: [5, 5]}}]", "low below high"),
        ("[{contrast: {by: 1.5}}]", "option 'by'"),
        ("[{contrast: {}}]", "'by' is required"),
        ("[{rotate: {degrees: 181}}]", "option 'degrees'"),
        ("[{zoom: {by: 1}}]", "option 'by'"),
        ("[{cutout: {size: 0}}]", "option 'size'"),
        ("[{shift: {pixels: 1, mode: edges}}]", "option 'mode'"),
        (f"[{', '.join(['flip_lr'] * 17)}]", "17 ops, expected at most 16"),
        ("[flip_lr, {rotate: {degrees: .nan}}]", "degrees"),
    ],
)
def test_wrong_declarations_are_refused_with_the_configuration(declared, message):
    with pytest.raises(ConfigError, match="data.augment") as caught:
        load_config("digits", [f"data.augment={declared}"])
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["brightness", "contrast", "cutout", "flip_lr", "rotate", "shift", "zoom"])
def test_images_are_needed(name):
    with pytest.raises(DataError, match=f"{name}: needs images"):
        change(name, images(4, (7, 3)), **DECLARED[name])


@pytest.mark.parametrize("declared", [{"cutout": {"size": 2, "value": 300}}, {"shift": {"pixels": 2, "mode": "constant", "value": 0.5}}])
def test_values_that_cannot_be_stored(declared):
    split = Split(images(9), np.zeros(9, np.int64))
    with pytest.raises(DataError, match="cannot be stored as uint8"):
        batches(split, Chain(), batch_size=4, augment=[declared])
