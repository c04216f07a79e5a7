"""YAML with places: what it reads, what it refuses, and that what is dumped is read back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinykit.config.document import Document, apply_override, describe, dump_yaml, parse_yaml
from tinykit.config.sizes import format_size, parse_size
from tinykit.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1", 1), ("-7", -7), ("0x10", 16), ("010", 10), ("1.5", 1.5), (".5", 0.5), ("5.", 5.0),
        ("no", "no"), ("on", "on"), ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("12:30:45", "12:30:45"), ("2024-01-01", "2024-01-01"), ("'1'", "1"), ("256kB", "256kB"), ("1_000", "1_000"),
        ("[1, {a: b}]", [1, {"a": "b"}]), ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
    ],
)  # fmt: skip
def test_plain_values(text, value):
    read = parse_yaml(text, "f").data
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "f:4: key 'b.c' was already given in line 3"),
        ("a: 1\na: 2\n", "f:2: key 'a' was already given in line 1"),
        ("1: 2\n", "f:1: a key must be plain text, got '1'"),
        ("? [a]\n: 2\n", "f:1: a key must be plain text"),
        ("a: !!python/object/apply:os.system [x]\n", None),
        ("a: !thing x\n", "f:1: cannot read 'x': tag '!thing' is not supported; only plain data"),
        ("<<: {a: 1}\n", "f:1: merge keys (<<) are not supported; write the keys out"),
        ("a: [1\n", None),
        ("a: b: c\n", None),
        ("a: 1\n---\nb: 2\n", None),
        ("[" * 40 + "]" * 40, "f:1: nested deeper than 32 levels"),
        ("a: &a [*a]\n", None),
        ("a: \x00\n", None),
        ("x: " + "9" * 5000, None),
        ("x: 0x" + "f" * 5000, "f:1: cannot read '0xffffffffffffffffffffffffffffffffffffff': a whole number of more than 100 digits"),
        ("x: \udcff", None),
    ],
)
def test_refused(text, message):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f")
    assert message is None or message in caught.value.problems
    assert all(problem.startswith("f") for problem in caught.value.problems)


def test_aliases_cannot_grow_without_bound():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="after aliases are expanded") as caught:
        parse_yaml("\n".join(lines), "f")
    assert len(caught.value.problems) == 1


def test_too_large():
    with pytest.raises(ConfigError, match="larger than"):
        parse_yaml("a: " + "x" * 1_000_001, "f")


def test_places():
    document = parse_yaml("a:\n  b:\n    - 1\n    - c: 2\n", "f")
    assert document.place(("a", "b", 1, "c")) == "f:4"
    assert document.place(("a", "b", 0)) == "f:3"
    assert document.place(("a", "missing")) == "f:1"
    assert document.place(("z",)) == "f"
    assert describe(("a", "b", 1, "c")) == "a.b[1].c"


def test_an_override_takes_over_the_places_below_it():
    document = parse_yaml("a:\n  b: {c: 1}\n", "f")
    apply_override(document, "a.b={d: 2}")
    assert document.data == {"a": {"b": {"d": 2}}}
    assert document.place(("a", "b", "d")) == "--set a.b"
    assert document.place(("a",)) == "f:1"
    apply_override(document, "x.y=1")
    assert document.place(("x",)) == "--set x.y"


def test_an_override_of_an_empty_document():
    document = Document(None, {(): "f"})
    apply_override(document, "a.b=text with = signs, and commas")
    assert document.data == {"a": {"b": "text with = signs, and commas"}}


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["on", "1e-3", "no", "~", "", "a: b", "0x1", "12:30", "<<", "- x", "'", "é\n"])
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcde"), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(PLAIN)
def test_dumped_values_are_read_back(value):
    again = parse_yaml(dump_yaml(value), "f").data
    assert again == value
    assert type(again) is type(value)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_message(text):
    try:
        parse_yaml(text, "f")
    except ConfigError as error:
        assert all(problem.startswith("f") for problem in error.problems)


@pytest.mark.parametrize(
    ("text", "count"),
    [(1, 1), ("256kB", 256_000), ("64KB", 64_000), ("1MB", 10**6), ("1.5 MB", 1_500_000), ("64KiB", 65536), ("1MiB", 2**20)]
    + [("12", 12), ("12 B", 12), ("0.5KiB", 512)],
)
def test_sizes(text, count):
    assert parse_size(text) == count


@pytest.mark.parametrize("bad", ["", "kB", "-1kB", 0, -3, 1.5, True, None, "1kb", "1GB", "0.0001kB", "1e3", "9" * 30, [1]])
def test_wrong_sizes(bad):
    with pytest.raises(ValueError):
        parse_size(bad)


def test_format_size():
    assert [format_size(n) for n in (None, 999, 983_040, 2_097_152)] == ["-", "999 B", "983.0 kB", "2.10 MB"]
