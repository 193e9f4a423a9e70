import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import UsageError
from rtun_tui.strict_toml import MAX_BYTES, dotted, line_of, nearest, parse_document, read_document

TEXT = '''# a comment with key = 1
top = 1

[console]
theme = "x"
  indented = true
"quoted.key" = 2
dotted.inner = 3
inline = { a = 1, b = 2 }

[views]
[views.heavy]   # a comment
note = """
theme = "inside a text"
[console.fake]
"""
filter = "dn>1M"
lines = [
  "one",
]
['views'."odd name"]
table = "flows"
[[many]]
key = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("console",), 4),
        (("console", "theme"), 5),
        (("console", "indented"), 6),
        (("console", "quoted.key"), 7),
        (("console", "dotted", "inner"), 8),
        (("console", "inline", "b"), 9),
        (("views", "heavy"), 12),
        (("views", "heavy", "note"), 13),
        (("views", "heavy", "filter"), 17),
        (("views", "odd name", "table"), 22),
        (("views", "heavy", "missing"), 12),
        (("console", "fake"), 4),
        (("many", "key"), 24),
        (("nothing",), 1),
        ((), 1),
    ],
)
def test_line_of_a_key(path, line):
    tomllib.loads(TEXT)
    assert line_of(TEXT, *path) == line


@given(st.text(), st.lists(st.text(), max_size=3))
def test_any_text_has_a_line_for_any_key(text, path):
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert 1 <= line_of(text, *path) <= max(1, len(text.splitlines()))


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 9), min_size=1, max_size=5))
def test_keys_of_any_name_are_found(values):
    quoted = {key: '"' + "".join(f"\\U{ord(sign):08x}" for sign in key) + '"' for key in values}
    text = "".join(f"{name} = {values[key]}\n" for key, name in quoted.items())
    assert tomllib.loads(text) == values
    assert [line_of(text, key) for key in values] == list(range(1, len(values) + 1))


@pytest.fixture
def document():
    return parse_document("f.toml", 'a = 1\nb = "x"\n[t]\nok = true\nlist = ["p", "q"]\nbad = ["p", 1]\n')


def test_values_of_the_right_type(document):
    assert document.get(int, 0, "a") == 1
    assert document.get(float, 0.0, "a") == 1.0
    assert document.get(bool, False, "t", "ok") is True
    assert document.get(str, "default", "t", "missing") == "default"
    assert document.get(str, "default", "no", "such") == "default"
    assert document.texts("t", "list") == ("p", "q")
    assert document.texts("b") == ("x",)
    assert document.texts("t", "missing") == ()
    assert document.table("t")["ok"] is True
    assert document.table("missing") == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.get(str, "", "a"), "f.toml:1: a: must be a text, not a whole number"),
        (lambda d: d.get(int, 0, "t", "ok"), "f.toml:4: t.ok: must be a whole number, not true or false"),
        (lambda d: d.get(bool, True, "b"), "f.toml:2: b: must be true or false, not a text"),
        (lambda d: d.get(float, 1.0, "t", "list"), "f.toml:5: t.list: must be a number, not a list"),
        (lambda d: d.texts("t", "bad"), "f.toml:6: t.bad: must be a text or a list of texts"),
        (lambda d: d.texts("a"), "f.toml:1: a: must be a text or a list of texts"),
        (lambda d: d.table("b"), "f.toml:2: b: must be a table, not a text"),
        (lambda d: d.table("b", "deeper"), "f.toml:2: b: must be a table, not a text"),
        (lambda d: d.only(["a", "b"]), "f.toml:3: t: unknown key; known are a, b"),
        (lambda d: d.only(["ok", "liste", "bad"], "t"), "f.toml:5: t.list: unknown key; did you mean liste?"),
    ],
)
def test_complaints_name_file_line_and_key(document, call, message):
    with pytest.raises(UsageError) as caught:
        call(document)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a = 1\nb = \n", "f.toml:2: not valid TOML: "),
        ("a = 1\na = 2\n", "f.toml:2: not valid TOML: "),
        ('a = 1\n\nb = """', "f.toml:3: not valid TOML: "),
    ],
)
def test_syntax_errors_have_a_line(text, start):
    with pytest.raises(UsageError) as caught:
        parse_document("f.toml", text)
    assert str(caught.value).startswith(start)
    assert "(at" not in str(caught.value)


def test_a_file_is_read(tmp_path):
    file = tmp_path / "f.toml"
    file.write_text("a = 1")
    assert read_document(file).data == {"a": 1}
    assert read_document(file).name == str(file)


@pytest.mark.parametrize(
    ("raw", "words"),
    [(b"a = 1\nb = '\xff'", ":2: is not UTF-8 text"), (b"#" * (MAX_BYTES + 1), "is larger than 256 KiB")],
)
def test_files_that_cannot_be_text(tmp_path, raw, words):
    file = tmp_path / "f.toml"
    file.write_bytes(raw)
    with pytest.raises(UsageError, match=words):
        read_document(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_document(tmp_path / "f.toml")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_document(tmp_path)


def test_small_words():
    assert dotted(("a", "b c", "d-1")) == 'a."b c".d-1'
    assert nearest("thme", ["theme", "mouse"]) == "did you mean theme?"
    assert nearest("zzz", ["theme", "mouse"]) == "known are theme, mouse"
