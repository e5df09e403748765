"""The documents say what is true: generated parts, links, settings, fields and faults are held against the code."""

import dataclasses
import re
from pathlib import Path

import pytest

from taskmill.adapters.remote.settings import RemoteSettings
from taskmill.cli.commands import app
from taskmill.cli.install.hosts import HOSTS
from taskmill.engine.outcome import Fault
from taskmill.engine.policy import TaskConfig
from taskmill.engine.record import TaskRecord, TaskView
from taskmill.engine.status import Status
from taskmill.server.api.shapes import task_json
from taskmill.server.settings import SamplingSettings, ServerSettings
from taskmill.store.audit.records import Action, ActorFacts, ActorKind, AuditRecord, Outcome, Reason
from taskmill.store.settings import StoreSettings
from taskmill.workers.settings import WorkerSettings
from tests.model.mutants import MUTANTS
from tests.support import lifecycle_page

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")])
CLIENTS = (ROOT / "docs" / "clients.md").read_text()
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


def test_the_lifecycle_diagram_is_made_from_the_table_of_moves() -> None:
    text = lifecycle_page.PAGE.read_text()
    assert text == lifecycle_page.page(text), "run scripts/lifecycle"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:tests|store|engine|server|workers|cli|scripts|examples|docs)/[\w./-]+)`", page.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_decision_has_a_number_of_its_own() -> None:
    numbers = [page.name.partition("-")[0] for page in PAGES if page.parent.name == "decisions"]
    assert len(numbers) > 10
    assert sorted(set(numbers)) == sorted(numbers)


def test_every_decision_is_in_the_list_of_decisions() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text()
    titles = {page.name: page.read_text().splitlines()[0].lstrip("# ") for page in PAGES if page.name[:2] == "00"}
    rows = [f"- [{name[:4]}]({name}): {title}" for name, title in sorted(titles.items())]
    assert [row for row in rows if row not in index.splitlines()] == [], "add these to docs/decisions/README.md"


def test_every_setting_is_in_the_reference_with_its_default() -> None:
    said = dict(re.findall(r"^\| `TASKMILL_(\w+)` \| ([^|]+?) \|", REFERENCE, re.MULTILINE))
    kinds = (StoreSettings, ServerSettings, SamplingSettings, WorkerSettings, RemoteSettings)
    fields = {name: field for kind in kinds for name, field in kind.model_fields.items()}
    assert said.keys() == {name.upper() for name in fields}
    for name, field in fields.items():
        if isinstance(field.default, int | float):
            assert float(said[name.upper()]) == field.default, name


def test_every_policy_field_is_in_the_reference() -> None:
    section = REFERENCE.split("## TaskConfig")[1].split("##")[0]
    fields = [field.name for field in dataclasses.fields(TaskConfig)]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == fields


def test_every_field_of_a_task_is_on_the_page_of_the_api() -> None:
    section = (ROOT / "docs/api.md").read_text().split("| field | meaning |")[1].split("## Events")[0]
    moments = {"created_ms": 0, "updated_ms": 0, "seq": 1}
    record = TaskRecord(id="", tool="", queue="", principal="", status=Status.PENDING, **moments)
    assert task_json(TaskView(record)).keys() <= set(re.findall(r"`(\w+)`", section))


def test_every_fault_is_in_the_reference() -> None:
    assert {fault.value for fault in Fault} <= set(re.findall(r"`(\w+)`", REFERENCE))


def test_every_threat_names_a_test_that_there_is() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (.+) \| (.+) \| (.+) \|$", page.partition("## Threats")[2].partition("\n## ")[0], re.MULTILINE
    )
    threats = [row for row in rows if row[0] not in ("threat", "---")]
    assert len(threats) > 20
    unshown = [threat for threat, _, tests in threats if not re.search(r"the same|`tests/[\w/]+\.py[:`]", tests)]
    assert unshown == []
    files = set(re.findall(r"`(tests/[\w/]+\.py)", page))
    assert [file for file in sorted(files) if not (ROOT / file).is_file()] == []
    named = re.findall(r"`(tests/[\w/]+\.py): (test_\w+)`", page)
    assert [one for one in named if f"def {one[1]}(" not in (ROOT / one[0]).read_text(encoding="utf-8")] == []


def test_every_audit_action_field_and_reason_is_on_the_page_of_the_trail() -> None:
    page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    fields = AuditRecord(Action.AUDIT_READ, Outcome.OK, ActorFacts(ActorKind.SYSTEM)).to_json()
    words = [*Action, *Reason, *Outcome, *ActorKind, *fields]
    assert [word for word in words if f"`{word}`" not in page] == []


def test_every_command_is_in_the_reference() -> None:
    section = REFERENCE.split("## Commands")[1].split("##")[0]
    named = set(re.findall(r"^\| `taskmill (\w+)", section, re.MULTILINE))
    assert named >= {command.callback.__name__ for command in app.registered_commands if command.callback is not None}


def test_every_host_is_on_the_page_of_clients_with_its_file() -> None:
    said = dict(re.findall(r"^\| `([a-z-]+)` \| (?:`([^`]+)`)? ?\|", CLIENTS, re.MULTILINE))
    assert said == {name.value: host.project_file or "" for name, host in HOSTS.items()}


def test_every_fault_put_in_on_purpose_is_in_the_table() -> None:
    rows = re.findall(
        r"^\| ([^|]+?) \| [^|]+ \| sees (?:it|nothing) \|$", (ROOT / "docs/reliability.md").read_text(), re.MULTILINE
    )
    assert rows == [mutant.name for mutant in MUTANTS]


def test_every_word_of_the_glossary_has_one_row() -> None:
    rows = re.findall(r"^\| \*\*.*", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    words = [match[1] for row in rows if (match := re.fullmatch(r"\| \*\*(.+?\*\*[^|]*) \| [^|]+ \|", row))]
    assert len(words) == len(rows) > 50
    assert sorted(words) == sorted(set(words))
