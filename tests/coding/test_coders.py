"""Coders: what is coded comes back, codes are as short as they can be, and what nobody coded is refused."""

import itertools
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinykit.coding.ans import SCALES, Ans, normalised
from tinykit.coding.huffman import MOST_BITS, Huffman, code_lengths
from tinykit.coding.lut import Lut
from tinykit.coding.schemes import SCHEMES, pack, unpack
from tinykit.errors import ModelError


def weights(seed: int, count: int, zeros: float, values: int) -> np.ndarray:
    """int8 [count]: a share of zeros, of the others so many different values, some more frequent than others."""
    rng = np.random.default_rng(seed)
    book = rng.permutation(np.arange(-128, 128))[:values]
    drawn = book[np.minimum(rng.geometric(min(1, 4 / values), count) - 1, values - 1)]
    return np.where(rng.random(count) < zeros, 0, drawn).astype(np.int8)


LAYERS = st.builds(
    weights,
    st.integers(0, 2**32),
    st.one_of(st.integers(0, 40), st.integers(0, 3000)),
    st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    st.sampled_from([1, 2, 3, 16, 128, 129, 256]),
)


# ---------------------------------------------------------------- there and back


@pytest.mark.parametrize("name", SCHEMES)
@settings(max_examples=60, deadline=None)
@given(values=LAYERS)
def test_what_is_coded_comes_back(name: str, values: np.ndarray) -> None:
    data = pack(name, values)
    if data is not None:
        found = unpack(data)
        assert found.dtype == np.int8
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("name", SCHEMES)
@settings(max_examples=25, deadline=None)
@given(values=LAYERS, cuts=st.lists(st.integers(0, 3000), max_size=4))
def test_parts_share_a_book(name: str, values: np.ndarray, cuts: list[int]) -> None:
    scheme = SCHEMES[name]
    book = scheme.book(values)
    if book is None:
        return
    parts = np.split(values, sorted(min(cut, len(values)) for cut in cuts))
    found = [scheme.decode(book, scheme.encode(book, part)) for part in parts]
    np.testing.assert_array_equal(np.concatenate(found), values)


@pytest.mark.parametrize("name", SCHEMES)
@settings(max_examples=25, deadline=None)
@given(values=LAYERS)
def test_sizes_are_known_without_coding(name: str, values: np.ndarray) -> None:
    scheme = SCHEMES[name]
    book = scheme.book(values)
    if book is None:
        return
    size, seen = scheme.size(book, values)
    part = scheme.encode(book, values)
    assert seen == part.coded
    assert abs(size - len(part.mask) - len(part.stream)) <= (4 if name == "ans" else 0)


def test_what_each_scheme_cannot_code() -> None:
    assert pack("lut", np.arange(-128, 127).astype(np.int8)) is None  # 255 values: more than indices of 7 bits
    assert pack("huffman", np.arange(-128, 128).astype(np.int8)) is None  # 256 codes of one length
    assert pack("bitmap+lut", np.zeros(9, np.int8)) is None
    assert pack("ans", np.arange(-128, 128).astype(np.int8)) is not None


# ---------------------------------------------------------------- as short as they can be


def entropy(counts: np.ndarray) -> float:
    """Bits of all of them together."""
    return float(-(counts * np.log2(counts / counts.sum())).sum())


@pytest.mark.parametrize("counts", [(5, 4, 3, 2, 1), (1, 1, 1, 100), (7, 7), (1, 2, 4, 8, 16, 32)])
def test_lengths_are_the_best_of_all(counts: tuple[int, ...]) -> None:
    """Against every assignment of lengths that Kraft allows, for limits that bind and that do not."""
    for most in (3, 4, 6):
        allowed = [
            sum(n * length for n, length in zip(counts, lengths))
            for lengths in itertools.product(range(1, most + 1), repeat=len(counts))
            if sum(2.0**-length for length in lengths) <= 1
        ]
        found = code_lengths(np.array(counts), most)
        assert found.max() <= most
        assert int(found @ np.array(counts)) == min(allowed)


@settings(max_examples=50, deadline=None)
@given(values=LAYERS.filter(lambda v: len(v) > 0))
def test_huffman_lies_between_entropy_and_a_bit_more(values: np.ndarray) -> None:
    counts = np.unique(values, return_counts=True)[1]
    bits = int(code_lengths(counts, 16) @ counts)
    assert entropy(counts) - 1e-6 <= bits <= entropy(counts) + len(values)


@pytest.mark.parametrize("zeros", [0.5, 0.75, 0.9, 0.97])
def test_ans_is_close_to_the_entropy_where_huffman_cannot_be(zeros: float) -> None:
    values = weights(3, 20_000, zeros, 16)
    counts = np.unique(values, return_counts=True)[1]
    ans, huffman = (len(data) for data in (pack("ans", values), pack("huffman", values)) if data is not None)
    assert 8 * ans <= 1.02 * entropy(counts) + 8 * 80
    assert ans <= huffman


@pytest.mark.parametrize("scale", SCALES)
def test_frequencies_add_up_and_none_is_missing(scale: int) -> None:
    rng = np.random.default_rng(scale)
    for size in (1, 2, 5, 100, 256):
        for counts in (np.ones(size, np.int64), rng.integers(1, 10_000, size), np.array([1] * (size - 1) + [10**6])):
            found = normalised(counts, scale)
            assert found.sum() == 1 << scale
            assert found.min() >= 1


def test_targets_of_sparse_and_clustered_weights() -> None:
    """75 % zeros: at most 0.45 of int8's bytes. 16 values: at most 0.51, fewer where some are more frequent."""
    rng = np.random.default_rng(0)
    sparse = np.where(rng.random(40_000) < 0.75, 0, np.clip(rng.normal(0, 30, 40_000).round(), -127, 127)).astype(np.int8)
    even = (8 * rng.integers(-8, 8, 40_000)).astype(np.int8)
    peaked = (8 * np.clip(np.round(rng.normal(0, 2, 40_000)), -8, 7)).astype(np.int8)
    size = {(name, i): len(pack(name, v) or bytes(10**6)) / 40_000 for name in SCHEMES for i, v in enumerate((sparse, even, peaked))}
    assert size["bitmap", 0] <= 0.45
    assert size["ans", 0] < size["bitmap", 0]
    assert size["lut", 1] <= 0.51
    assert max(size["huffman", 2], size["ans", 2]) < size["lut", 2] <= 0.51


# ---------------------------------------------------------------- what nobody coded


@pytest.mark.parametrize("name", SCHEMES)
@settings(max_examples=30, deadline=None)
@given(values=LAYERS.filter(lambda v: len(v) > 0), place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_damage_and_truncation_are_noticed(name: str, values: np.ndarray, place: int, bit: int) -> None:
    data = pack(name, values)
    if data is None:
        return
    damaged = bytearray(data)
    damaged[place % len(data)] ^= 1 << bit
    for wrong in (bytes(damaged), data[: place % len(data)], data + b"\0", b"", bytes(100)):
        with pytest.raises(ModelError):
            unpack(wrong)


@pytest.mark.parametrize("name", SCHEMES)
@settings(max_examples=60, deadline=None)
@given(values=LAYERS.filter(lambda v: len(v) > 0), changes=st.lists(st.tuples(st.integers(4, 10**6), st.integers(0, 255)), max_size=5))
def test_a_right_checksum_does_not_make_it_true(name: str, values: np.ndarray, changes: list[tuple[int, int]]) -> None:
    """Whoever writes such a file can write its checksum: then it is refused for what it holds, or it is as many weights as it says."""
    data = pack(name, values)
    if data is None:
        return
    made = bytearray(data[:-4])
    for place, value in changes:
        made[4 + place % (len(made) - 4)] = value
    made += zlib.crc32(bytes(made)).to_bytes(4, "little")
    try:
        found = unpack(bytes(made))
    except ModelError:
        return
    assert len(found) == int.from_bytes(made[8:12], "little")


@pytest.mark.parametrize(
    ("decode", "book", "stream", "count", "words"),
    [
        (Lut().decode, bytes([3, 3]), bytes(1), 8, "do not ascend"),
        (Lut().decode, bytes([1, 2, 3]), b"\xff\xff", 8, "index 3"),
        (Lut().decode, bytes([1, 2]), b"\x80", 7, "behind the last"),
        (Lut().decode, bytes([1, 2]), b"", 8, "expected 1"),
        (Huffman().decode, b"", b"", 0, "0 bits"),
        (Huffman().decode, bytes([MOST_BITS + 1] * 20), b"", 0, "11 bits"),
        (Huffman().decode, bytes([2, 1, 1, 5, 6]), b"\0", 1, "no complete code"),
        (Huffman().decode, bytes([1, 2, 5, 5]), b"\0", 1, "two codes"),
        (Huffman().decode, bytes([1, 1, 5]), b"\x80", 1, "begins no code"),
        (Huffman().decode, bytes([1, 2, 5, 6]), b"\0", 9, "ends before"),
        (Huffman().decode, bytes([1, 2, 5, 6]), b"\1", 4, "behind the last"),
        (Huffman().decode, bytes([1, 2, 5, 6]), b"\0\0", 4, "expected 1"),
        (Ans().decode, b"", b"", 0, "scale"),
        (Ans().decode, bytes([0, 8, 5, 127]), bytes([0, 0, 1, 0]), 0, "add up to 128"),
        (Ans().decode, bytes([0, 8, 5, 255, 1]), bytes(4), 1, "first state"),
        (Ans().decode, bytes([0, 8, 5, 255, 1]), bytes([1, 0, 1, 0]), 1, "does not end"),
        (Ans().decode, bytes([0, 8, 5, 255, 1]), bytes(3), 1, "3 bytes"),
        (Ans().decode, bytes([1, 8, 5, 127, 5, 127]), bytes([0, 0, 1, 0]), 0, "do not ascend"),
    ],
)
def test_streams_that_lie_are_refused(decode, book: bytes, stream: bytes, count: int, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        decode(book, stream, count)
