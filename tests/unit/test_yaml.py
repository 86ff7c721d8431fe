"""YAML: what two versions of it take for two things, or what would lose its text, is refused with its key and line."""

import os
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bnn.errors import UserError
from campaign.io.yamlfile import read_yaml
from campaign.io.yamlscalars import core
from campaign.site.site import TEXTS
from tests.support.messages import one_line

ROOT = Path(__file__).parents[2]


def read(folder, text, texts=()):
    file = folder / "c.yaml"
    file.write_text(text, encoding="utf-8")
    return read_yaml(file, texts)


TRAPS = [
    "24:00:00", "8:00:00", "1:32", "-1:30", "190:20:30.15", "010", "-017", "0777", "08", "0o17", "0b101", "1_000",
    "1_0.5", "0x_f", "yes", "Yes", "NO", "on", "off", "y", "N", "2024-01-01", "2001-12-14t21:59:43.10-05:00",
    "2024-99-99", ".inf", "-.Inf", ".NaN", "1e999", "=",
]  # fmt: skip


@pytest.mark.parametrize("word", TRAPS)
@pytest.mark.parametrize("form", ["a:\n  b: {}\n", "a: {{b: {}}}\n", "a: {{b: [1, {}]}}\n"])
def test_a_word_of_two_meanings_is_refused_with_file_line_key_and_the_quoted_form(tmp_path, word, form):
    with pytest.raises(UserError) as error:
        read(tmp_path, form.format(word))
    said = str(error.value)
    assert re.match(rf"{re.escape(str(tmp_path))}/c.yaml: line \d: a.b(\[1\])?: ", said)
    assert f'"{word}" in quotes' in said
    assert "\n" not in said
    found = read(tmp_path, form.format(f'"{word}"'))["a"]["b"]
    assert found == word or found[1] == word


@pytest.mark.parametrize(
    ("written", "value"),
    [("1", 1), ("-3", -3), ("0", 0), ("1.5", 1.5), ("1.50", 1.5), ("1e-4", 1e-4), ("1E5", 1e5), (".5", 0.5), ("+1", 1),
     ("0x10", 16), ("true", True), ("False", False), ("~", None), ("null", None), ("", None), ("gcc/12", "gcc/12"),
     ("a:b", "a:b"), ("24h", "24h"), ("'010'", "010"), ('"no"', "no"), ("1.2.3", "1.2.3"), ("no-op", "no-op")],
)  # fmt: skip
def test_what_all_read_alike_is_read(tmp_path, written, value):
    assert read(tmp_path, f"a: {written}\n") == {"a": value}


TAGGED = ['!!float ""', "!!bool yes", "!!timestamp 1", "!!int x", "!!str 5", "!a b", "!!set {x}"]


@pytest.mark.parametrize("written", TAGGED)
def test_a_value_that_is_told_what_to_be_is_refused(tmp_path, written):
    with pytest.raises(UserError, match=r"c\.yaml: line 2: tag !.*: tags are not read"):
        read(tmp_path, f"a: 1\nb: [{written}]\n")


def test_aliases_may_not_stand_for_more_than_a_file_could_hold(tmp_path):
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    with pytest.raises(UserError, match="aliases stand for more than 1,000,000 values"):
        read(tmp_path, f"a0: &a0 [x]\n{levels}title: *a8\n")
    assert read(tmp_path, "a: &a [1, 2]\nb: [*a, *a]\n")["b"] == [[1, 2], [1, 2]]


WORDS = st.text(st.sampled_from("0123456789+-_:.eExobnyNftTZ~= aif"), min_size=1, max_size=9)


@given(WORDS)
def test_any_plain_word_is_read_as_both_versions_read_it_or_refused(tmp_path_factory, word):
    """PyYAML speaks YAML 1.1; `core` is checked against the specification's own examples below."""
    folder = tmp_path_factory.getbasetemp()
    try:
        plain = yaml.compose(f"a: {word}").value[0][1]
    except (yaml.YAMLError, IndexError, AttributeError, TypeError):
        return
    if not isinstance(plain, yaml.ScalarNode):
        return
    try:
        value = read(folder, f"a: {word}\n")["a"]
    except UserError as error:
        one_line(error)
        return
    assert value == core(plain.value)
    assert type(value) is type(core(plain.value))
    old = yaml.safe_load(f"a: {word}")["a"]
    assert old == value or (isinstance(value, float) and isinstance(old, str)), "only exponents are YAML 1.2's alone"


@given(WORDS | st.floats().map(repr) | st.integers().map(str))
def test_an_exported_text_is_the_text_that_was_written_or_refused(tmp_path_factory, word):
    folder = tmp_path_factory.getbasetemp()
    text = f"site: {{environment: {{variables: {{A: {word}}}}}}}\n"
    try:
        value = read(folder, text, TEXTS)["site"]["environment"]["variables"]["A"]
    except (UserError, AttributeError, TypeError, KeyError):
        return
    assert str(value) == word.strip() or " " in word or ":" in word


# YAML 1.2.2, section 10.3.2, and its examples 10.8, 10.9
@pytest.mark.parametrize(
    ("word", "value"),
    [("null", None), ("", None), ("true", True), ("FALSE", False), ("0", 0), ("0o7", 7), ("0x3A", 58), ("-19", -19),
     ("0.", 0.0), ("-0.0", 0.0), (".5", 0.5), ("+12e03", 12000.0), ("-2E+05", -2e5), ("-.inf", -float("inf")),
     ("yes", "yes"), ("010", 10), ("1_000", "1_000"), ("24:00:00", "24:00:00"), ("2024-01-01", "2024-01-01")],
)  # fmt: skip
def test_the_core_schema(word, value):
    assert core(word) == value
    assert type(core(word)) is type(value)


@pytest.mark.parametrize("word", ["1.50", "1e3", "+1", ".5", "1.", "0x10", "true", "False", "~", "null", ""])
def test_an_exported_value_that_would_lose_its_text_is_refused(tmp_path, word):
    text = f"site:\n  environment:\n    variables:\n      VERSION: {word}\n"
    with pytest.raises(UserError, match=r"line 4: site.environment.variables.VERSION: ") as error:
        read(tmp_path, text, TEXTS)
    assert f'write "{word}"' in str(error.value)
    assert read(tmp_path, text), "elsewhere it is a number"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n\tb: 1\n", r"line 2: found character '\\t'"), ("", "expected keys and values"),
        ("# x\n", "expected keys"),
        ("- 1", "expected keys"), ("yes: 1", r'line 1: yes: .*write "yes"'),
        ("a: {1: 2}", r'a.1: .*write "1" in quotes'),
        ("? [a]\n: 1", "a key must be a word"), ("a: &x {b: *x}", "an alias within itself"),
        ("a: !!python/name:os.x", "tag"),
        ("<<: {a: 1}", "merge keys"), ('"a\\nb": 1', r"'a\\nb': a key with"), ('a: "\\0"', "character that no file"),
        ('a: "\\ud800"', "character that no file"), ("a: 1\n---\nb: 1", "another document"),
        ("a: " + "[" * 5000, "c.yaml"),
    ],
)  # fmt: skip
def test_other_slips_are_one_line_with_the_file(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path}/c.yaml:")
    assert len(str(error.value).splitlines()) == 1


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path):
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match=r"pipe.yaml: a named pipe, where a file is expected"):
        read_yaml(pipe)
    with pytest.raises(UserError, match=r"a folder, where a file is expected"):
        read_yaml(tmp_path)
    with pytest.raises(UserError, match=r"/dev/zero: a device, where a file is expected"):
        read_yaml(Path("/dev/zero"))


def test_everything_that_comes_with_the_project_is_read():
    for file in [ROOT / "config.yaml", *ROOT.glob("profiles/*/site.yaml")]:
        assert read_yaml(file, TEXTS)
