"""Changes of one table in a TOML text: every other character stays, and what cannot be changed is refused."""

import tomllib

import pytest

from taskmill.cli.install.config_file import ConfigSyntaxError
from taskmill.cli.install.toml_editor import remove_table, set_table, table_at

OURS = ("mcp_servers", "mine")
ENTRY = {"command": "/bin/taskmill", "args": ["stdio", 'a "b".py'], "env": {"A": "1\n"}}
OTHERS = """# mine
model = "gpt-5"   # none better
text = '''
[not.a.table]
'''

[mcp_servers.other]
command = "x"
args = [
  "one", # first
  "two",
]

# about the profile
[profiles.fast]
model = "o"
"""


@pytest.mark.parametrize("text", ["", "\n", OTHERS, OTHERS.rstrip("\n"), OTHERS.replace("\n", "\r\n")])
def test_a_table_comes_last_and_goes_without_a_trace(text: str) -> None:
    changed = set_table(text, OURS, ENTRY)
    assert changed.startswith(text.strip() and text)
    assert tomllib.loads(changed)["mcp_servers"]["mine"] == ENTRY
    assert set_table(changed, OURS, ENTRY) == changed
    without = remove_table(changed, OURS)
    assert tomllib.loads(without) == tomllib.loads(text)
    assert without.rstrip() == text.rstrip()


def test_a_table_in_the_middle_is_removed_with_those_in_it_and_nothing_else() -> None:
    inner = '[mcp_servers.other.env]\nA = "1"\n\n'
    text = OTHERS.replace("# about", inner + "# about")
    expected = OTHERS[: OTHERS.index("[mcp_servers.other]") - 1] + OTHERS[OTHERS.index("\n# about") :]
    assert remove_table(text, ("mcp_servers", "other")) == expected
    assert remove_table(text, OURS) == text


def test_a_member_is_changed_where_it_stands() -> None:
    args = ("mcp_servers", "other", "args")
    changed = set_table(OTHERS, args, ["three"])
    assert changed == OTHERS.replace('args = [\n  "one", # first\n  "two",\n]', 'args = ["three"]')
    assert table_at(changed, args, None) == ["three"]


def test_a_member_is_added_to_its_table() -> None:
    changed = set_table(OTHERS, ("mcp_servers", "other", "env"), {"A": "1"})
    assert changed == OTHERS.replace("[mcp_servers.other]\n", '[mcp_servers.other]\nenv = { A = "1" }\n')


def test_variables_in_a_table_of_their_own_are_changed_there() -> None:
    text = '[mcp_servers.mine]\ncommand = "x"\n\n[mcp_servers.mine.env]\nA = "1" # one\nB = "2"\n'
    changed = set_table(text, (*OURS, "env"), {"A": "1", "B": "3"})
    assert changed == text.replace('"2"', '"3"')


@pytest.mark.parametrize(
    "text", ['mcp_servers = { other = { command = "x" } }', 'mcp_servers.other.command = "x"', "a = "]
)
def test_a_text_that_cannot_be_changed_is_refused(text: str) -> None:
    try:
        changed = set_table(text, OURS, ENTRY)
    except ConfigSyntaxError:
        return
    assert tomllib.loads(changed)["mcp_servers"] == {"other": {"command": "x"}, "mine": ENTRY}


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(ConfigSyntaxError, match="not a table"):
        table_at("mcp_servers = 5", OURS, None)
