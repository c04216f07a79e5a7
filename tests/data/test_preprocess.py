"""The preprocessing chain: NumPy and TensorFlow agree on every bit, results are what is declared, errors name everything."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinykit.data import Chain
from tinykit.data.preprocess import OPS, resize_weights
from tinykit.errors import ConfigError, DataError

RANGES = {"uint8": (0, 255), "int8": (-128, 127), "int16": (-32768, 32767)}


def raw(shape, dtype, seed=0):
    random = np.random.RandomState(seed)
    if dtype == "float32":
        return (random.standard_normal(shape) * 10.0 ** random.randint(-4, 5, shape)).astype(np.float32)
    low, high = RANGES[dtype]
    return random.randint(low, high + 1, shape).astype(dtype)


def tensorflow_result(chain, x):
    """What tf.data computes, with its graph optimiser and an unknown batch size."""
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(x).batch(len(x)).map(chain.tf, num_parallel_calls=2)
    (result,) = list(data.as_numpy_iterator())
    return result


def assert_same_bits(chain, x):
    expected = chain.apply(x)
    assert expected.dtype == np.float32
    assert expected.shape == (len(x), *chain.output_shape(x.shape[1:]))
    np.testing.assert_array_equal(tensorflow_result(chain, x).view(np.uint32), expected.view(np.uint32))
    return expected


CHAINS = [
    ("uint8", (7, 5, 3), []),
    ("int16", (5,), []),
    ("float32", (7, 3), []),
    ("uint8", (7, 5, 3), [{"scale": {"by": 1 / 255}}]),
    ("uint8", (7, 5, 3), [{"scale": {"by": 0.017, "offset": -2.117}}]),
    ("uint8", (7, 5, 3), [{"divide": {"by": 255}}]),
    ("uint8", (7, 5, 3), [{"divide": {"by": 3}}, {"divide": {"by": 7}}, {"scale": {"by": 0.1}}]),
    ("uint8", (7, 5, 3), [{"normalize": {"mean": [125.3, 123.0, 113.9], "std": [63.0, 62.1, 66.7]}}]),
    ("uint8", (7, 5, 3), [{"divide": {"by": 255}}, {"normalize": {"mean": [0.485], "std": [0.229]}}]),
    ("float32", (7, 3), [{"normalize": {"mean": [0.1, -3, 1e-5], "std": [3.0, 0.7, 1e-3]}}]),
    ("float32", (7, 3), [{"scale": {"by": 1e-38}}, {"scale": {"by": 3e-7}}, {"scale": {"by": 1e30}}]),
    ("int8", (49, 10, 1), [{"dequantize": {"scale": 0.5847029089927673, "zero_point": 83}}]),
    ("int16", (31, 9), [{"scale": {"by": 3.1e-5}}]),
    ("uint8", (7, 5, 3), [{"resize": {"size": [13, 11], "method": "nearest"}}]),
    ("uint8", (7, 5, 3), [{"resize": {"size": [13, 11]}}]),
    ("int16", (7, 5, 2), [{"resize": {"size": [3, 17]}}, {"scale": {"by": 0.01}}]),
    ("int8", (7, 5, 1), [{"resize": {"size": [1, 1]}}]),
    ("float32", (7, 5, 3), [{"resize": {"size": [13, 3]}}]),
    ("uint8", (7, 5, 3), [{"divide": {"by": 255}}, {"resize": {"size": [11, 13]}}, {"divide": {"by": 3}}]),
    ("uint8", (7, 5, 3), ["grayscale"]),
    ("uint8", (7, 5, 3), [{"grayscale": {}}, {"divide": {"by": 127.5}}]),
    ("uint8", (7, 5, 3), [{"pad_or_crop": {"size": [12, 3], "value": 128}}]),
    ("int8", (7, 5, 3), [{"pad_or_crop": {"size": [4, 8], "mode": "edge"}}]),
    ("int16", (7, 5), [{"pad_or_crop": {"size": [12], "value": -5}}]),
    ("float32", (7, 5), [{"pad_or_crop": {"size": [12, 2], "value": 0.3}}]),
    ("int8", (5, 4), [{"reshape": {"shape": [2, 10]}}]),
    ("uint8", (64, 32, 3), [{"pad_or_crop": {"size": [96, 96], "mode": "edge"}}, {"divide": {"by": 255}}]),
]


@pytest.mark.parametrize(("dtype", "shape", "declared"), CHAINS, ids=[str(c[2])[:60] or "empty" for c in CHAINS])
def test_numpy_and_tensorflow_agree_bit_for_bit(dtype, shape, declared):
    assert_same_bits(Chain.parse(declared), raw((37, *shape), dtype))


def test_every_op_is_in_the_agreement_test_and_documented():
    used = {op if isinstance(op, str) else next(iter(op)) for _, _, declared in CHAINS for op in declared}
    assert used == set(OPS)
    assert all("Example:" in cls.__doc__ for cls in OPS.values())


finite = st.floats(-1e6, 1e6, allow_nan=False)
nonzero = finite.filter(lambda v: abs(v) > 1e-6)
elementwise = st.one_of(
    st.fixed_dictionaries({"by": finite, "offset": finite}).map(lambda p: {"scale": p}),
    nonzero.map(lambda by: {"divide": {"by": by}}),
    st.tuples(finite, nonzero).map(lambda p: {"normalize": {"mean": [p[0]], "std": [p[1]]}}),
    st.tuples(st.floats(1e-9, 1e3), st.integers(-300, 300)).map(lambda p: {"dequantize": {"scale": p[0], "zero_point": p[1]}}),
)
images = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["nearest", "bilinear"])).map(
        lambda p: {"resize": {"size": [p[0], p[1]], "method": p[2]}}
    ),
    st.tuples(st.integers(1, 9), st.integers(1, 9)).map(lambda p: {"pad_or_crop": {"size": list(p), "mode": "edge"}}),
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(elementwise, images), max_size=4),
    st.sampled_from(["uint8", "int8", "int16", "float32"]),
    st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 3)),
    st.integers(0, 1000),
)
def test_any_chain_agrees_bit_for_bit(declared, dtype, shape, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same_bits(Chain.parse(declared), raw((3, *shape), dtype, seed))


def test_values_below_the_smallest_normal_float_become_zero():
    x = np.array([[1e-40, -1e-40, 1.1754944e-38, 1.0]], np.float32)
    result = assert_same_bits(Chain.parse([{"scale": {"by": 1.0}}]), x)
    assert result.tolist() == [[0.0, 0.0, np.float32(1.1754944e-38), 1.0]]


def test_chunks_give_what_one_piece_gives(monkeypatch):
    x = raw((29, 7, 5, 3), "uint8")
    chain = Chain.parse([{"resize": {"size": [5, 7]}}, {"divide": {"by": 255}}])
    whole = chain.apply(x)
    monkeypatch.setattr("tinykit.data.preprocess.CHUNK_VALUES", 500)
    np.testing.assert_array_equal(chain.apply(x), whole)
    assert chain.apply(x[:0]).shape == (0, 5, 7, 3)


def test_hand_computed_values():
    def one(declared, values, dtype, shape):
        return Chain.parse(declared).apply(np.array(values, dtype).reshape(1, *shape)).ravel().tolist()

    assert one([{"scale": {"by": 0.5, "offset": 1}}], [0, 3], "uint8", (2,)) == [1.0, 2.5]
    assert one([{"divide": {"by": 16}}], [1, 16], "uint8", (2,)) == [0.0625, 1.0]
    assert one([{"normalize": {"mean": [1, 2], "std": [2, 4]}}], [3, 4, 5, 6], "uint8", (2, 2)) == [1.0, 0.5, 2.0, 1.0]
    assert one([{"dequantize": {"scale": 0.25, "zero_point": 83}}], [83, -128, 127], "int8", (3,)) == [0, -52.75, 11]
    assert one(["grayscale"], [255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255], "uint8", (1, 4, 3)) == [255, 76, 149, 28]
    assert one([{"pad_or_crop": {"size": [5], "value": 9}}], [1, 2], "uint8", (2,)) == [9, 1, 2, 9, 9]
    assert one([{"pad_or_crop": {"size": [5], "mode": "edge"}}], [1, 2], "uint8", (2,)) == [1, 1, 2, 2, 2]
    assert one([{"pad_or_crop": {"size": [2]}}], [1, 2, 3, 4, 5], "uint8", (5,)) == [2, 3]
    nearest = [{"resize": {"size": [1, 2], "method": "nearest"}}]
    assert one(nearest, [1, 2, 3, 4], "uint8", (1, 4, 1)) == [2, 4]
    # 2 -> 4 pixels: positions -0.25 (kept at 0), 0.25, 0.75, 1.25 (kept at 1); (0*192 + 100*64) / 256 = 25
    assert one([{"resize": {"size": [1, 4]}}], [0, 100], "uint8", (1, 2, 1)) == [0, 25, 75, 100]
    assert one([{"resize": {"size": [1, 4]}}], [0, -101], "int8", (1, 2, 1)) == [0, -25, -76, -101]
    assert one([{"resize": {"size": [1, 4]}}], [0.0, 1.0], "float32", (1, 2, 1)) == [0, 0.25, 0.75, 1.0]


@given(st.integers(1, 300), st.integers(1, 300))
def test_resize_weights_stay_inside_the_image(source, target):
    low, high, weight = resize_weights(source, target)
    assert low.min() >= 0 and high.max() < source and (np.diff(low) >= 0).all()
    assert weight.min() >= 0 and weight.max() <= 256
    exact = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    np.testing.assert_allclose(low + weight / 256, exact, atol=1 / 512 + 1e-9)


def test_bilinear_keeps_constants_and_extremes():
    for dtype, (low, high) in RANGES.items():
        for value in (low, high):
            x = np.full((1, 3, 5, 1), value, dtype)
            assert (Chain.parse([{"resize": {"size": [7, 11]}}]).apply(x) == value).all()


AFFINE = [
    ([], (1.0, 0.0)),
    ([{"scale": {"by": 0.0625}}], (0.0625, 0.0)),
    ([{"scale": {"by": 2, "offset": 3}}, {"scale": {"by": 5, "offset": 7}}], (10.0, 22.0)),
    ([{"divide": {"by": 255}}], (1 / 255, 0.0)),
    ([{"divide": {"by": 255}}, {"normalize": {"mean": [0.5], "std": [0.5]}}], (2 / 255, -1.0)),
    ([{"normalize": {"mean": [128, 128, 128], "std": [64, 64, 64]}}], (1 / 64, -2.0)),
    ([{"normalize": {"mean": [128, 127], "std": [64, 64]}}], None),
    ([{"normalize": {"mean": [128, 128], "std": [64, 65]}}], None),
    ([{"dequantize": {"scale": 0.5847029089927673, "zero_point": 83}}], (0.5847029089927673, -48.530341446399845)),
    ([{"resize": {"size": [9, 9]}}, "grayscale", {"reshape": {"shape": [81]}}, {"scale": {"by": 3}}], (3.0, 0.0)),
    ([{"scale": {"by": 3}}, {"resize": {"size": [9, 9], "method": "nearest"}}], (3.0, 0.0)),
    ([{"scale": {"by": 3}}, {"resize": {"size": [9, 9]}}], None),
    ([{"pad_or_crop": {"size": [9, 9]}}, {"scale": {"by": 3}}], (3.0, 0.0)),
    ([{"scale": {"by": 3}}, {"pad_or_crop": {"size": [9, 9]}}], None),
    ([{"scale": {"by": 3}}, {"pad_or_crop": {"size": [9, 9], "mode": "edge"}}], (3.0, 0.0)),
    ([{"scale": {"by": 1e300}}, {"scale": {"by": 1e300}}], None),
]


@pytest.mark.parametrize(("declared", "expected"), AFFINE, ids=[str(a[0])[:60] or "empty" for a in AFFINE])
def test_affine(declared, expected):
    got = Chain.parse(declared).affine(np.uint8)
    assert got == (None if expected is None else pytest.approx(expected, rel=1e-15))
    assert Chain.parse(declared).affine("float32") is None


@settings(max_examples=30, deadline=None)
@given(st.lists(elementwise, max_size=3), st.sampled_from(["uint8", "int8"]))
def test_affine_says_what_apply_does(declared, dtype):
    chain = Chain.parse(declared)
    u = np.arange(RANGES[dtype][0], RANGES[dtype][1] + 1).astype(dtype)[np.newaxis]
    scale, offset = chain.affine(dtype)
    bound = 1e-30  # each op rounds to float32; what it rounds off is scaled by the ops behind it
    for index in range(len(chain.ops)):
        behind = math.prod(abs(Chain((op,)).affine(dtype)[0]) for op in chain.ops[index + 1 :])
        largest = float(np.abs(Chain(chain.ops[: index + 1]).apply(u)).max())
        bound += (largest * 2.0**-23 + 2.0**-126) * behind
    assert np.abs(chain.apply(u).astype(np.float64) - (scale * u.astype(np.float64) + offset)).max() <= bound


def test_describe_is_what_parse_reads():
    for _, _, declared in CHAINS:
        chain = Chain.parse(declared)
        assert Chain.parse(chain.describe()) == chain
    assert Chain.parse([{"scale": {"by": 2}}]).describe() == [{"scale": {"by": 2.0, "offset": 0.0}}]


def test_all_problems_of_a_declaration_come_at_once():
    with pytest.raises(ConfigError) as caught:
        Chain.parse(
            [
                {"scal": {"by": 1}},
                {"scale": {"bye": 1}},
                {"divide": {"by": 0}},
                {"normalize": {"mean": [1, 2], "std": [1]}},
                {"resize": {"size": [0, 4], "method": "cubic"}},
                {"a": 1, "b": 2},
                7,
                {"scale": [1]},
                {"scale": {"by": float("nan")}},
            ]
        )
    text = str(caught.value)
    for part in (
        "preprocess[0]: unknown op 'scal': did you mean 'scale'?",
        "preprocess[1] scale: unknown option 'bye': did you mean 'by'?",
        "preprocess[1] scale: option 'by' is required",
        "by must not be 0",
        "mean has 2 values and std 1",
        "option 'size.0'",
        "option 'method'",
        "preprocess[5]: expected one op",
        "received 7",
        "preprocess[7] scale: expected a mapping",
        "preprocess[8] scale: option 'by'",
    ):
        assert part in text
    for declared in ("scale", {"scale": {"by": 1}}, None):
        with pytest.raises(ConfigError, match="expected a list of ops"):
            Chain.parse(declared)


@pytest.mark.parametrize(
    ("declared", "shape", "dtype", "message"),
    [
        (["grayscale"], (4, 4, 1), "uint8", r"preprocess\[0\] grayscale: needs images"),
        ([{"scale": {"by": 1}}, "grayscale"], (4, 4, 3), "uint8", r"preprocess\[1\] grayscale: needs uint8"),
        ([{"resize": {"size": [2, 2]}}], (4, 4), "uint8", "resize: needs images"),
        ([{"reshape": {"shape": [5]}}], (4,), "uint8", "another number of values"),
        ([{"pad_or_crop": {"size": [2, 2]}}], (4,), "uint8", "2 sizes"),
        ([{"pad_or_crop": {"size": [9], "value": 300}}], (4,), "uint8", "cannot be stored as uint8"),
        ([{"normalize": {"mean": [1, 2], "std": [1, 1]}}], (4, 3), "uint8", "2 means"),
        ([], (4,), "int64", "raw samples must be"),
    ],
)
def test_chains_that_do_not_apply(declared, shape, dtype, message):
    import tensorflow as tf

    x = np.zeros((2, *shape), dtype)
    with pytest.raises(DataError, match=message):
        Chain.parse(declared).apply(x)
    with pytest.raises(DataError, match=message):
        Chain.parse(declared).tf(tf.constant(x))


def test_importing_data_and_models_imports_no_tensorflow():
    import subprocess
    import sys

    code = "import sys, tinykit.data, tinykit.models; sys.exit(any(m in sys.modules for m in ('tensorflow', 'keras', 'sklearn')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
