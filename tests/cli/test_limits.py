"""`taskmill limits`: what one caller may have, and which setting or line says so."""

import json

from tests.support.command_line import CommandLine

RULES = '[[limits]]\nclaims = { plan = "free" }\n\nopen_tasks = 3\ncreations = 0.5\n'


def test_limits_are_shown_with_the_setting_or_the_line_that_gives_them(cli: CommandLine) -> None:
    (cli.folder / "limits.toml").write_text(RULES)
    cli.environment |= {"TASKMILL_LIMITS_FILE": "limits.toml", "TASKMILL_SESSION_LIMIT": "7"}
    shown = json.loads(cli.run("limits", "--claim", "plan=free", "--json").stdout)
    assert shown["open_tasks"] == {"value": 3, "from": "limits.toml, line 1"}
    assert shown["creations"] == {"value": 0.5, "from": "limits.toml, line 1"}
    assert shown["sessions"] == {"value": 7, "from": "TASKMILL_SESSION_LIMIT"}

    (cli.folder / "limits.toml").write_text(RULES.replace("open_tasks", "open"))
    refused = cli.run("limits")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "TASKMILL_LIMITS_FILE: limits.toml, line 4: 'open' is no limit." in refused.stderr
    doctor = cli.run("doctor")
    assert doctor.returncode == 1
    assert "limits.toml, line 4: 'open' is no limit." in " ".join(doctor.stdout.split())
