"""Dataset csv: windows by hand, no leakage between splits, and every way in which a file can be wrong."""

import csv as csv_module
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinykit.data import load_dataset, textfiles
from tinykit.data.windows import pick_recordings, split_recordings, window_starts, windows_at
from tinykit.errors import ConfigError, DataError


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYKIT_DATA", str(tmp_path))
    return tmp_path


def load(quicktest=False, **options):
    return load_dataset("csv", {"path": "a.csv", "label": "label", "window": 4, **options}, seed=0, quicktest=quicktest)


def rows(people=6, each=24, classes=("walk", "run"), offset=0):
    """Rows (ax, ay, label, person): ax numbers the rows, so that a window tells where it is from."""
    count = itertools.count(offset)
    return [
        (next(count), person + 0.25, classes[step * len(classes) // each], f"p{person}") for person in range(people) for step in range(each)
    ]


def write(path, table, header=("ax", "ay", "label", "person"), delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv_module.writer(stream, delimiter=delimiter)
        writer.writerows(([header] if header else []) + list(table))
    return path


def windows_by_hand(table, window, stride):
    """Every window of rows of one label and one person, as a list of ax."""
    found = []
    for _, run in itertools.groupby(table, key=lambda row: (row[2], row[3])):
        values = [row[0] for row in run]
        found += [values[first : first + window] for first in range(0, len(values) - window + 1, stride)]
    return found


def all_windows(data):
    return [x for part in (data.train, data.val, data.test) for x in part.x]


@pytest.mark.parametrize(("window", "stride"), [(4, None), (4, 1), (5, 3), (12, 5)])
def test_windows_by_hand(root, window, stride):
    table = rows()
    write(root / "a.csv", table)
    data = load(group="person", window=window, stride=stride)
    assert data.train.x.dtype == np.float32 and data.input_shape == (window, 2) and data.class_names == ("run", "walk")
    found = sorted([int(v) for v in x[:, 0]] for x in all_windows(data))
    assert found == windows_by_hand(table, window, stride or window)
    for part in (data.train, data.val, data.test):
        for x, y in zip(part.x, part.y):
            row = table[int(x[0, 0])]
            assert row[2] == data.class_names[y] and np.all(x[:, 1] == row[1])


def people_of(data, table):
    return [{table[int(x[0, 0])][3] for x in part.x} for part in (data.train, data.val, data.test)]


def test_no_person_is_in_two_splits(root):
    table = rows(people=9)
    write(root / "a.csv", table)
    data = load(group="person", stride=1)
    train, val, test = people_of(data, table)
    assert train | val | test == {f"p{n}" for n in range(9)} and not (train & val or train & test or val & test)
    assert load(group="person", stride=1).split_sha256 == data.split_sha256


def test_a_person_may_span_files(root):
    first, second = rows(), rows(offset=144)
    write(root / "a.csv", first)
    write(root / "b.csv", second)
    data = load(path=["a.csv", "b.csv"], group="person", stride=2)
    train, val, test = people_of(data, first + second)
    assert not (train & val or train & test or val & test) and len(train | val | test) == 6


def test_files_are_recordings_and_each_class_gives_its_share(root):
    (root / "gestures").mkdir()
    for number in range(16):
        label = "up" if number % 4 == 0 else "down"
        write(root / "gestures" / f"{number:02}.csv", [(100 * number + step, 0, label, "x") for step in range(20)])
    data = load(path="gestures", columns=["ax", "ay"], stride=1)
    files = [{int(x[0, 0]) // 100 for x in part.x} for part in (data.train, data.val, data.test)]
    assert set.union(*files) == set(range(16)) and sum(map(len, files)) == 16
    assert {number % 4 == 0 for number in files[2]} == {True, False} and len(files[2]) == 4
    assert sorted(load(path=[f"gestures/{n:02}.csv" for n in range(16)], columns=["ax", "ay"], stride=1).test.x[:, 0, 0]) == sorted(
        data.test.x[:, 0, 0]
    )


def test_runs_of_one_file_are_recordings(root):
    table = [(step, 0, "ab"[step // 10 % 2], "") for step in range(200)]
    write(root / "a.csv", table)
    data = load(columns=["ax", "ay"], stride=1)
    spans = [{int(v) for x in part.x for v in x[:, 0]} for part in (data.train, data.val, data.test)]
    assert sum(map(len, spans)) == 200 and len(set.union(*spans)) == 200, "no row is in two splits"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), min_size=1, max_size=60))
def test_pick_recordings_never_divides_one(pairs):
    y, owner = np.array(pairs).T
    parts = split_recordings(y, owner)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(y)))
    sets = [set(owner[part]) for part in parts]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    alone = pick_recordings(np.zeros(4, int), np.zeros(4, int), 0.25)
    assert len(alone[1]) == 0


def test_windows_at_by_loops():
    x = np.arange(2 * 7 * 3).reshape(2, 7, 3)
    starts = window_starts(7, 3, 2)
    assert starts.tolist() == [0, 2, 4] and len(window_starts(2, 3, 1)) == 0
    assert np.array_equal(windows_at(x, 3, starts), [x[c, s : s + 3] for c in range(2) for s in (0, 2, 4)])


def test_no_header_other_delimiter_and_int16(root):
    table = [(row[3], row[0] - 70, row[2]) for row in rows()]
    write(root / "a.csv", table, header=None, delimiter=";")
    options = {"header": False, "delimiter": ";", "label": 2, "group": 0, "columns": [1]}
    data = load(**options, dtype="int16")
    assert data.input_shape == (4, 1) and data.train.x.dtype == np.int16
    assert sorted(int(x[0, 0]) for x in all_windows(data)) == list(range(-70, 74, 4))
    with pytest.raises(DataError, match="has no header line"):
        load(**{**options, "label": "label"})
    with pytest.raises(DataError, match="a.csv: column 3: the file has columns 0 to 2"):
        load(**{**options, "columns": [3]})


def test_quoted_fields_spaces_byte_order_mark_and_blank_lines(root):
    lines = ['" ax",ay,"label",person'] + [f'{n}, 1.5 ," walk ","p, {n // 8}"' if n % 16 < 8 else f"{n},2,run,q{n // 8}" for n in range(96)]
    (root / "a.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode() + b"\r\n")
    data = load(group="person")
    assert data.class_names == ("run", "walk") and len(all_windows(data)) == 24


def test_labels_that_are_numbers_are_sorted_as_such_and_classes_may_be_declared(root):
    write(root / "a.csv", rows(classes=("10", "9")))
    assert load(group="person").class_names == ("9", "10")
    assert load(group="person", classes=["10", "9"]).class_names == ("10", "9")
    with pytest.raises(DataError, match="a.csv:14: label '9' is not among the classes"):
        load(group="person", classes=["10", "8"])


def spoil(root, line, text):
    path = write(root / "a.csv", rows())
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (3, "1,2,walk", "a.csv:3: expected 4 fields, as in the first line, received 3"),
        (3, "1,2,walk,p0,9", "a.csv:3: expected 4 fields, as in the first line, received 5"),
        (7, "1,nan,walk,p0", "a.csv:7: column ay: expected a finite number, received 'nan'"),
        (7, "1,,walk,p0", "a.csv:7: column ay: expected a finite number, received ''"),
        (7, "inf,1,walk,p0", "a.csv:7: column ax: expected a finite number"),
        (7, "1_0,1,walk,p0", "a.csv:7: column ax: expected a finite number"),
        (7, f"{'9' * 999},1,walk,p0", "a.csv:7: column ax: expected a finite number, received '999"),
        (7, "1e39,1,walk,p0", r"a.csv:7: column ax: expected a float32, received 1e\+39"),
        (9, "1,1, ,p0", "a.csv:9: the label is empty"),
        (9, "1,1,walk,", "a.csv:9: the group is empty"),
        (1, "ax,ay,Label,person", "a.csv:1: no column 'label': did you mean 'Label'"),
        (1, "ax,label,label,person", "a.csv:1: 2 columns are called 'label'"),
        (4, '1,"2,walk,p0', "a.csv:145: no CSV: unexpected end of data"),
        (4, "1,2,wa\0lk,p0", "a.csv:4: holds a zero byte"),
    ],
)
def test_damaged_files_name_file_and_line(root, line, text, message):
    spoil(root, line, text)
    with pytest.raises(DataError, match=message):
        load(group="person")


def test_problems_of_all_files_and_no_endless_list(root):
    write(root / "a.csv", [("x", 1, "walk", "p")] * 500)
    write(root / "b.csv", [(1, 1, "walk", "p"), (1, 1)], header=("ax", "ay", "label", "person"))
    with pytest.raises(DataError) as caught:
        load(path=["a.csv", "b.csv"])
    text = caught.value.problems
    assert len(text) == textfiles.SHOWN_PROBLEMS + 3 and "stopped here" in text[20] and "b.csv:2" in text[21] and "b.csv:3" in text[22]


def test_what_cannot_be_split_is_refused(root):
    write(root / "a.csv", rows(people=2))
    with pytest.raises(DataError, match="no windows for val"):
        load(group="person")
    write(root / "a.csv", rows(classes=("walk",)))
    with pytest.raises(DataError, match="one class only, 'walk'"):
        load(group="person")
    write(root / "a.csv", rows())
    with pytest.raises(DataError, match="no window of 13 rows.*the longest of 12 such runs has 12"):
        load(group="person", window=13)
    write(root / "a.csv", [(n, 0, "rare" if n < 8 else "common", f"p{n // 8}") for n in range(80)])
    with pytest.raises(DataError, match="no window of class 'rare' in test"):
        load(group="person")
    for name, header in (("a.csv", ("ax", "ay", "label")), ("b.csv", ("ax", "az", "label"))):
        write(root / name, [row[:3] for row in rows()], header=header)
    with pytest.raises(DataError, match="b.csv:1: columns ax, az; a.csv has ax, ay"):
        load(path=["a.csv", "b.csv"])


def test_limits(root, monkeypatch):
    write(root / "a.csv", rows())
    monkeypatch.setattr("tinykit.data.csvseries.MAX_ROWS", 100)
    with pytest.raises(DataError, match="a.csv:102: more than the limit of 100 rows"):
        load(group="person")
    monkeypatch.setattr("tinykit.data.csvseries.MAX_ROWS", 1000)
    monkeypatch.setattr("tinykit.data.csvseries.MAX_ARRAY_BYTES", 1000)
    with pytest.raises(DataError, match="more than 1000 bytes; choose a larger stride"):
        load(group="person")
    monkeypatch.setattr(textfiles, "MAX_LINE", 12)
    with pytest.raises(DataError, match="a.csv:1: line longer than 12 characters"):
        load(group="person")
    monkeypatch.setattr(textfiles, "MAX_TEXT_BYTES", 50)
    with pytest.raises(DataError, match="more than the limit of 50"):
        load(group="person")


def test_files_that_are_none(root):
    with pytest.raises(DataError, match="a.csv does not exist"):
        load()
    (root / "a.csv").write_bytes(b"ax,label\n1,\xff\xfe\n")
    with pytest.raises(DataError, match="no UTF-8 text"):
        load()
    (root / "a.csv").write_text("")
    with pytest.raises(DataError, match="holds no rows"):
        load()
    (root / "a.csv").write_text("ax,label\n")
    with pytest.raises(DataError, match="holds no rows below its header line"):
        load()
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="holds no .csv file"):
        load(path="empty")
    with pytest.raises(DataError, match="given twice"):
        load(path=["a.csv", "a.csv"])


def test_options_are_checked(root):
    for options, word in (({"windw": 3}, "did you mean 'window'"), ({"delimiter": ";;"}, "delimiter"), ({"classes": ["a"]}, "classes")):
        with pytest.raises(ConfigError, match=word):
            load(**options)
    write(root / "a.csv", rows())
    with pytest.raises(DataError) as caught:
        load(columns=["ax", "label", "ax", "q"], group="persn")
    assert [word in str(caught.value) for word in ("'persn'", "'q'", "column ax is used twice", "column label is used twice")] == [True] * 4
    with pytest.raises(DataError, match="column person: expected a finite number, received 'p0'"):
        load()


def test_quicktest(root):
    with pytest.raises(DataError, match="declare columns and classes"):
        load(quicktest=True)
    data = load(quicktest=True, columns=["ax", "ay", "az"], classes=["a", "b"], window=7, dtype="int16")
    assert data.synthetic and data.input_shape == (7, 3) and data.train.x.dtype == np.int16
    write(root / "a.csv", rows(people=12))
    data = load(quicktest=True, group="person", stride=1)
    assert not data.synthetic and len(data.train) == 64 and len(data.val) <= 32


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 300))
def test_damaged_bytes_never_raise_anything_else(root, junk, position):
    content = write(root / "a.csv", rows(people=4, each=8)).read_bytes()
    (root / "a.csv").write_bytes(content[:position] + junk + content[position:])
    try:
        load(group="person", window=2)
    except DataError as error:
        assert "a.csv" in str(error)
