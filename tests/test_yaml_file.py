from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from go1_sweep import yaml_file
from go1_sweep.errors import BadInput


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(content: str | bytes) -> yaml_file.Document:
    Path("s.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    return yaml_file.read(Path("s.yaml"))


def refusal(content: str | bytes) -> str:
    with pytest.raises(BadInput) as caught:
        read(content)
    return str(caught.value)


SCALARS = [
    ("147e6", 147e6),
    ("1e-3", 1e-3),
    ("1.0e-5", 1e-5),
    ("1.E+2", 100.0),
    (".5", 0.5),
    ("5.", 5.0),
    ("-3", -3),
    ("+2", 2),
    ("0", 0),
    ("010", 10),
    ("-.5e1", -5.0),
    (".inf", math.inf),
    ("-.INF", -math.inf),
    ("0x10", "0x10"),
    ("1_000", "1_000"),
    ("1e", "1e"),
    ("1e5x", "1e5x"),
    ("12:30", "12:30"),
    ("2026-01-31", "2026-01-31"),
    ("'1e-3'", "1e-3"),
    ('"64"', "64"),
    ("'true'", "true"),
    ("''", ""),
    ("true", True),
    ("False", False),
    ("yes", "yes"),
    ("off", "off"),
    ("null", None),
    ("~", None),
    ("", None),
    ("two words", "two words"),
    ("9" * 40, 1e40),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_are_read_as_yaml_1_2_has_them(text, value):
    found = read(f"key: {text}\n").data["key"]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_a_flag_has_the_values_of_a_file(text, value):
    found = yaml_file.scalar(text)
    assert (type(found), found) == (type(value), value)


def test_a_nan_is_read_as_one():
    assert math.isnan(read("key: .NaN").data["key"])


@pytest.mark.parametrize(("text", "value"), [("[1, [a]]", [1, ["a"]]), ("{a: {b: 1e3}}", {"a": {"b": 1000.0}})])
def test_a_flag_can_set_lists_and_mappings(text, value):
    assert yaml_file.scalar(text) == value


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_editors_of_all_systems_are_understood(newline, mark):
    document = read(mark + newline.join(["# comment", "a: 1", "b: 2", ""]))
    assert (document.data, document.where(("b",))) == ({"a": 1, "b": 2}, "s.yaml:3")


def test_every_key_and_item_has_its_line():
    document = read("a:\n  b: 1\n\n  c:\n    - x\n    - y: 2\nd: [1,\n  2]\n")
    assert {path: int(place.removeprefix("s.yaml:")) for path, place in document.places.items()} == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 4,
        ("a", "c", 0): 5,
        ("a", "c", 1): 6,
        ("a", "c", 1, "y"): 6,
        ("d",): 7,
        ("d", 0): 7,
        ("d", 1): 8,
    }


def test_a_path_that_the_file_lacks_stands_where_its_parent_does():
    document = read("x: 1\na: {b: 1}\n")
    assert document.where(("a", "b", "c")) == "s.yaml:2"
    assert document.where(("z",)) == "s.yaml"


def test_what_is_put_stands_where_it_came_from_with_all_below_it():
    document = read("a: {b: {c: 1}}\nd: 2\n")
    document.put(("a", "b"), {"c": 3}, "--set")
    document.put(("e", "f"), 4, "--set")
    assert document.data == {"a": {"b": {"c": 3}}, "d": 2, "e": {"f": 4}}
    places = {path: document.where(path) for path in [("a",), ("a", "b", "c"), ("d",), ("e",), ("e", "f")]}
    assert list(places.values()) == ["s.yaml:1", "--set", "s.yaml:2", "--set", "--set"]


def test_an_alias_is_a_copy():
    data = read("a: &x {b: 1}\nc: *x\n").data
    data["a"]["b"] = 2
    assert data["c"] == {"b": 1}


BOMB = "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "s.yaml: a sweep file is a mapping of keys to values, this is empty"),
        ("# nothing\n", "s.yaml: a sweep file is a mapping of keys to values, this is empty"),
        ("- a\n", "s.yaml: a sweep file is a mapping of keys to values, this is a list"),
        ("rough\n", "s.yaml: a sweep file is a mapping of keys to values, this is a single value"),
        (b"a: \xff\n", "s.yaml is not text in UTF-8"),
        ("a: 1\n".encode("utf-16"), "s.yaml is not text in UTF-8"),
        ("# " + "x" * yaml_file.MAX_BYTES, "s.yaml has more than 100000 bytes, which no sweep file needs"),
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "s.yaml:5: b.c stands here again, after line 3"),
        ("a: 1\n'a': 2\n", "s.yaml:2: a stands here again, after line 1"),
        (
            "a:\n\tb: 1\n",
            "s.yaml:2: not YAML: while scanning for the next token, "
            "found character '\\t' that cannot start any token (YAML is indented with spaces)",
        ),
        (
            "a: 1\n  b: 2\n",
            "s.yaml:2: not YAML: mapping values are not allowed here",
        ),
        (
            "a: [1,\nb: 2\n",
            "s.yaml:3: not YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
        ),
        ("a: *x\n", "s.yaml:1: not YAML: found undefined alias 'x'"),
        (
            "a: 1\n---\nb: 2\n",
            "s.yaml:2: not YAML: expected a single document in the stream, but found another document",
        ),
        ("a: 1\nb: \0\n", "s.yaml:2: not YAML: the character U+0000 is not allowed"),
        (r'a: "\UFFFFFFFF"', "s.yaml: not YAML: the code of an escaped character is out of range"),
        ('a: 1\nb: "\\0"', r"s.yaml:2: text is one line of printable characters, not '\x00'"),
        ('a: "\\uD800"', r"s.yaml:1: text is one line of printable characters, not '\ud800'"),
        ("a: |\n  b\n  c\n", r"s.yaml:1: text is one line of printable characters, not 'b\nc\n'"),
        ("a:\xa0rough\n", "s.yaml: a sweep file is a mapping of keys to values, this is a single value"),
        ("a: ro\xa0ugh\n", r"s.yaml:1: text is one line of printable characters, not 'ro\xa0ugh'"),
        ("a: 1\n? [b]\n: 1\n", "s.yaml:2: a key is a word, not a list or a mapping"),
        ("a: 1\n'': 2\n", "s.yaml:2: a key is missing before the ':'"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", "s.yaml:3: merge keys (<<) are not supported: write the keys out"),
        ("a: 1\nb: !!python/name:os.system x\n", "s.yaml:2: tags are not supported, this has !!python/name:os.system"),
        ("b: !!python/object:os.X {}\n", "s.yaml:1: tags are not supported, this has !!python/object:os.X"),
        ("b: !!str 5\n", "s.yaml:1: tags are not supported, this has !!str"),
        ("b: !mine [5]\n", "s.yaml:1: tags are not supported, this has !mine"),
        ("a: 1\nb: &b [1, *b]\n", "s.yaml:2: more than 50 levels, or an alias inside what it stands for"),
        ("a: " + "[" * 60 + "]" * 60, "s.yaml:1: more than 50 levels, or an alias inside what it stands for"),
        ("a: " + "[" * 20_000, "s.yaml: nested too deeply"),
        (BOMB, "s.yaml:1: more than 20000 values (an alias counts as all that it stands for)"),
    ],
)
def test_what_is_no_sweep_file_is_refused_with_its_line(content, message):
    assert refusal(content) == message


def test_a_file_that_cannot_be_read_is_named():
    Path("folder").mkdir()
    for path, message in [
        ("gone.yaml", "gone.yaml: no such file"),
        ("folder", "folder is a folder, not a sweep file"),
        ("folder/" + "x" * 300, f"folder/{'x' * 300} cannot be read: File name too long"),
        ("/dev/zero", "/dev/zero has more than 100000 bytes, which no sweep file needs"),
    ]:
        with pytest.raises(BadInput) as caught:
            yaml_file.read(Path(path))
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1e-3, "0.001"),
        ("64", "'64'"),
        ([1, "a", None], '[1, "a", null]'),
        ("x" * 100, "'" + "x" * 56 + "..."),
    ],
)
def test_messages_show_values_as_a_file_has_them_and_not_at_length(value, text):
    assert yaml_file.in_yaml(value) == text


WORDS = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=200)
NUMBER_LIKE = st.from_regex(r"\A[-+]?[0-9._]{1,4}([eE][-+]?[0-9]{1,3})?\Z") | st.sampled_from([t for t, _ in SCALARS])
TEXTS = WORDS | NUMBER_LIKE
KEYS = TEXTS.filter(lambda key: key not in ("", "<<"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | TEXTS,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(KEYS, children, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_what_is_dumped_is_read_back_the_same(data):
    assert repr(read(yaml_file.dump(data)).data) == repr(data)


def test_another_programs_file_may_have_several_documents_and_texts_of_several_lines(tmp_path):
    (tmp_path / "s.yaml").write_text("a: 1\n---\n---\nb: |\n  one\n  two\n")
    first, second = yaml_file.read_all(tmp_path / "s.yaml", "a file")
    assert (first.data, second.data) == ({"a": 1}, {"b": "one\ntwo\n"})
    assert second.where(("b",)).endswith("s.yaml:4")
