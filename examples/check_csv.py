"""Check a large CSV file, a thousand rows at a time: a killed worker goes on behind the last thousand.

Here: the tool, what it checks, and the file of problems that it writes. Not here: mending what is wrong.
"""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, TypedDict

from anyio import to_thread
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel

from taskmill.server import Context, TaskServer

mcp = TaskServer("Check CSV")

ROWS = 1000
DELIMITERS = ",;\t|"
Kind = Literal["filled", "number", "date", "email"]
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
HEAD = "line,column,value,problem\n"
LONGEST = 200


class Progress(TypedDict):
    """What is kept with the task: how far it is, and how long the file of problems was then."""

    rows: int
    written: int
    bad_rows: int
    problems: dict[str, int]


class Checked(BaseModel):
    file: str
    rows: int
    bad_rows: int
    problems: dict[str, int]
    """How many, by column."""
    report: str


class Table:
    """A CSV file that is open for reading. `read` is how many bytes of it have been."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.read = file, 0
        sample = file.read(65536).decode("utf-8-sig", "replace")
        file.seek(0)
        try:
            dialect: Any = csv.Sniffer().sniff(sample, DELIMITERS)
        except csv.Error:
            dialect = csv.excel  # one column, or too little to tell
        self.rows = csv.reader(self.lines(), dialect)
        self.header = next(self.rows, [])

    def lines(self) -> Iterator[str]:
        for line in self.file:
            encoding = "utf-8-sig" if self.read == 0 else "utf-8"
            self.read += len(line)
            yield line.decode(encoding, "replace")

    def next_rows(self) -> list[tuple[int, list[str]]]:
        """The next thousand rows, each with the number of its last line; empty at the end.

        Raises:
            ToolError: this is no CSV.
        """
        try:
            return [(self.rows.line_num, row) for row in islice(self.rows, ROWS)]
        except csv.Error as error:
            raise ToolError(f"Line {self.rows.line_num} is no CSV: {error}. Check its quotes.") from None


def problem_with(value: str, kind: Kind) -> str:
    """What is wrong with a value; empty if nothing is. An empty value is wrong only where it has to be filled."""
    if "\ufffd" in value:
        return "not UTF-8"
    value = value.strip()
    if kind == "filled" or not value:
        return "empty" if kind == "filled" and not value else ""
    if kind == "date":
        try:
            date.fromisoformat(value)
        except ValueError:
            return "no date like 2026-01-31"
        return ""
    pattern = NUMBER if kind == "number" else EMAIL
    return "" if pattern.fullmatch(value) else f"no {kind}"


def problems_in(row: list[str], header: list[str], kinds: dict[str, Kind]) -> Iterator[tuple[str, str, str]]:
    """Column, value and what is wrong with it."""
    if len(row) != len(header):
        yield "", "", f"{len(row)} fields, the header has {len(header)}"
        return
    for name, value in zip(header, row, strict=True):
        if problem := problem_with(value, kinds[name]) if name in kinds else "":
            yield name, value, problem


def check_rows(table: Table, kinds: dict[str, Kind], report: Path, progress: Progress) -> bool:
    """Check the next rows, and add what is wrong to the report and to `progress`. False: there were none left."""
    rows = table.next_rows()
    counts = Counter(progress["problems"])
    with report.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for line, row in rows:
            found = list(problems_in(row, table.header, kinds)) if row else []
            writer.writerows((line, column, value[:LONGEST], problem) for column, value, problem in found)
            counts.update(column or "(row)" for column, _, _ in found)
            progress["bad_rows"] += bool(found)
        file.flush()
        os.fsync(file.fileno())
        progress["written"] = file.tell()
    progress["rows"] += len(rows)
    progress["problems"] = dict(counts)
    return bool(rows)


def opened(path: Path, kinds: dict[str, Kind]) -> Table:
    """The file, its header read.

    Raises:
        ToolError: it cannot be read, or has no such columns.
    """
    try:
        file = path.open("rb")
        table = Table(file)
    except (OSError, csv.Error) as error:
        raise ToolError(f"Cannot read {path}: {error}. Name a CSV file that can be read.") from None
    if missing := [name for name in kinds if name not in table.header]:
        file.close()
        has = ", ".join(table.header[:20]) or "none"
        raise ToolError(f"{path.name} has no column {', '.join(missing)}. Its columns: {has}.")
    return table


def begun(report: Path, table: Table, progress: Progress) -> None:
    """Put file and report where the last attempt has kept them: what it wrote behind that is cut off.

    Raises:
        ToolError: the report cannot be written.
    """
    try:
        with report.open("a", encoding="utf-8") as file:
            file.truncate(progress["written"])
            if not progress["written"]:
                file.write(HEAD)
    except OSError as error:
        raise ToolError(f"Cannot write {report}: {error.strerror}. Name another file as `report`.") from None
    for _ in range(0, progress["rows"], ROWS):
        table.next_rows()


def render(checked: Checked) -> str:
    """The result as text for a terminal."""
    out = [f"{checked.file}: {checked.rows:,} rows, {checked.bad_rows:,} with problems"]
    out += [f"{count:10,}  {column}" for column, count in sorted(checked.problems.items(), key=lambda one: -one[1])]
    return "\n".join([*out, f"each with its line: {checked.report}"])


@mcp.tool(task=True)
async def check_csv(
    path: str, columns: dict[str, Kind], ctx: Context, report: str = ""
) -> Annotated[CallToolResult, Checked]:
    """Check the values of a CSV file: `columns` says of each column that counts whether it must be filled, a number, a
    date or an email. The problems go to `report`, by default beside the file."""
    source = Path(path).expanduser().absolute()
    target = Path(report).expanduser().absolute() if report else source.with_name(f"{source.name}.problems.csv")
    table = await to_thread.run_sync(opened, source, columns)
    with closing(table.file):
        size = source.stat().st_size
        progress: Progress = ctx.state.get("progress") or Progress(rows=0, written=0, bad_rows=0, problems={})
        await to_thread.run_sync(begun, target, table, progress)
        while await to_thread.run_sync(check_rows, table, columns, target, progress):
            # Saved behind each thousand: what is in the report and not in here is cut off by the next attempt.
            ctx.state["progress"] = progress
            await ctx.save()
            await ctx.report_progress(table.read, size, f"{progress['rows']:,} rows, {progress['bad_rows']:,} bad")
    checked = Checked(
        file=str(source),
        rows=progress["rows"],
        bad_rows=progress["bad_rows"],
        problems=progress["problems"],
        report=str(target),
    )
    text = TextContent(type="text", text=render(checked))
    return CallToolResult(content=[text], structured_content=checked.model_dump(mode="json"))
