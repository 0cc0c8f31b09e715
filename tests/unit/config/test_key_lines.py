"""The scan for lines agrees with the parser on every document that the parser accepts."""

import tomli
from hypothesis import given
from hypothesis import strategies as st

from config.key_lines import key_lines, line_of

# Written with ~~~ for three apostrophes.
DOCUMENT = r'''# [not.a.section]
top = "a = 1 # no comment"  # a comment = ]

[a]  # [x]
one = [  # a comment with ] in it
  "]", ']', # "
  [1, 2],
]
two = """
three = 3
[b]
quoted \""" still """""
four.five = 4
'six.seven' = ~~~
[c]
'~~~
"eight \" = nine" = { x = 1, y = [ { z = 2 } ] }

[ b . "c=d" ]
x = 1
[[list]]
y = 1
[[list]]
y = 2
'''.replace("~~~", "'''")


def test_lines_of_sections_and_keys() -> None:
    assert tomli.loads(DOCUMENT)["a"]["four"] == {"five": 4}
    assert key_lines(DOCUMENT) == {
        ("top",): 2,
        ("a",): 4,
        ("a", "one"): 5,
        ("a", "two"): 9,
        ("a", "four"): 13,
        ("a", "four", "five"): 13,
        ("a", "six.seven"): 14,
        ("a", 'eight " = nine'): 17,
        ("b",): 19,
        ("b", "c=d"): 19,
        ("b", "c=d", "x"): 20,
        ("list",): 21,
        ("list", "y"): 22,
    }


def test_what_has_no_line_bears_that_of_what_holds_it() -> None:
    lines = key_lines(DOCUMENT)
    assert line_of(lines, ("a", 'eight " = nine', "y", "z")) == 17
    assert line_of(lines, ("b", "none")) == 19
    assert line_of(lines, ("none",)) is None


FRAGMENTS = [
    "a",
    "b",
    '"c d"',
    "'e'",
    ".",
    "=",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    ",",
    "\n",
    " ",
    "1",
    "true",
    "#",
    '"""',
    "'''",
    '"',
    "'",
    "\\",
]
STATEMENTS = [
    "[a]\n", "[[b]]\n", "[a.c] # ]\n", "x = 1\n", 'y = "#["\n', "z.k = [1,\n[2],\n]\n", 'm = """\n"" = \n"""\n',
    "n = '''\n]'''\n", "# = [\n", "\n", "i = {a = [1, 2], b.c = '}'}\n", '"q=\\"" = 1\n', "  'r]' = 1 # \n",
    'o = """""a"""""\n',
]  # fmt: skip


def paths(document: dict[str, object], prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found = set()
    for name, value in document.items():
        found.add((*prefix, name))
        if isinstance(value, dict):
            found |= paths(value, (*prefix, name))
    return found


@given(
    st.lists(st.sampled_from(STATEMENTS), max_size=12).map("".join) | st.lists(st.sampled_from(FRAGMENTS)).map("".join)
)
def test_every_key_of_a_valid_document_has_a_line_on_which_its_name_stands(document: str) -> None:
    try:
        parsed = tomli.loads(document)
    except tomli.TOMLDecodeError:
        return
    lines = key_lines(document)
    for path in paths(parsed):
        line = line_of(lines, path)
        assert line is not None
        if path in lines:
            assert path[-1].replace('"', '\\"') in document.splitlines()[line - 1]
    tables = {path for path in lines if isinstance(parsed[path[0]], dict)}
    assert tables <= paths(parsed)
