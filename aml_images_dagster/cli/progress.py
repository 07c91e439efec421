"""Live progress of a run, images by stages, read from the events of the Dagster instance.

It is shown by a process of its own: the process that asks for it runs the build, whose steps are forks of it, and a
process with a second thread must not fork.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import dagster as dg
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.cli.console import is_narrow
from aml_images_dagster.defs.keys import Stage, image_of
from aml_images_dagster.defs.request import is_tested_when_staged
from aml_images_dagster.defs.run import created_at
from aml_images_dagster.defs.run_state import waiting, was_stopped
from aml_images_dagster.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection
    from types import TracebackType

    from dagster import DagsterEvent
    from rich.console import Console, RenderableType

    from aml_images_dagster.builds.records import Plan

_STATES = {
    dg.DagsterEventType.STEP_START: "running",
    dg.DagsterEventType.STEP_SUCCESS: "done",
    dg.DagsterEventType.STEP_FAILURE: "failed",
    dg.DagsterEventType.STEP_SKIPPED: "skipped",
}
_SHOWN = {
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    *_STATES,
}
_AT_ONCE = 1000
"""Events that are read at once."""
_POLL_SECONDS = 0.3
_LOOK_SECONDS = 2
_STAGES: tuple[Stage, ...] = ("staged", "tested", "import_cfg")
_COLUMNS: dict[Stage, str] = {"staged": "staged", "tested": "tested", "import_cfg": "release entry"}
_WIDEST_NOW = len("release entry 123.4 s")


@dataclass
class _Cell:
    state: str = "waiting"
    started: float = 0.0
    seconds: float = 0.0
    note: str = ""


class Progress:
    """A context in which the progress of the run with the given tags is shown.

    On a terminal it is a table that changes in place; elsewhere a line for every stage that ends.
    """

    def __init__(self, instance: dg.DagsterInstance, tags: Mapping[str, str], plan: Plan, console: Console) -> None:
        self._instance = instance
        self._tags = dict(tags)
        self._console = console
        # What is reused as it is has no steps.
        self._images = [planned.image for planned in plan.images if not planned.is_unchanged]
        self._unchanged = len(plan.images) - len(self._images)
        self._cells: dict[tuple[str, Stage], _Cell] = {(i, s): _Cell() for i in self._images for s in _STAGES}
        for planned in plan.images:
            if planned.action == "reuse" and not planned.is_unchanged:
                self._cells[planned.image, "staged"] = _Cell("done", note="reused")
        self._without_test = {image for image in self._images if is_tested_when_staged(plan, image)}
        self._steps: dict[str, list[tuple[str, Stage]]] = {}
        self._run_id = ""
        self._cursor: str | None = None
        self._waiting = ""
        self._next_look = 0.0

    def __enter__(self) -> Self:
        self._console.file.flush()
        # At the end of file the run is over, or the process that ran it.
        run_is_over, self._running = multiprocessing.Pipe(duplex=False)
        self._process = multiprocessing.get_context("fork").Process(
            target=self._show, args=(run_is_over, self._running), name="progress"
        )
        self._process.start()
        run_is_over.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()
        self._process.join()

    def _show(self, run_is_over: Connection, running: Connection) -> None:
        running.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what was interrupted is shown to its end
        with self._live() if self._moves and self._images else nullcontext() as live:
            last = False
            while not last:
                last = run_is_over.poll(_POLL_SECONDS)
                self._read()
                self._look_for_places()
                if live is not None:
                    live.update(self._table(), refresh=True)

    @property
    def _moves(self) -> bool:
        """Whether a table can change in place."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def _live(self) -> Live:
        return Live(console=self._console, auto_refresh=False, transient=False)

    def _read(self) -> None:
        if not self._run_id:
            runs = self._instance.get_runs(dg.RunsFilter(tags=self._tags), limit=1)
            if not runs:
                return
            self._run_id = runs[0].run_id
            build = build_number(self._run_id, created_at(self._instance, self._run_id))
            self._console.print(f"build {build} started: {self._count()}", markup=False)
        if not self._cells:  # nothing is made, and the events of the release files hold all images
            return
        has_more = True
        while has_more:  # the last look is at all that there is
            connection = self._instance.get_records_for_run(self._run_id, self._cursor, of_type=_SHOWN, limit=_AT_ONCE)
            self._cursor, has_more = connection.cursor, connection.has_more
            for record in connection.records:
                event = record.event_log_entry.dagster_event
                if event is not None:
                    self._apply(event, record.event_log_entry.timestamp)

    def _look_for_places(self) -> None:
        """Find out whether other builds hold all places that this one has need of."""
        if not self._run_id or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        before, self._waiting = self._waiting, ""
        if not any(cell.state == "running" for cell in self._cells.values()):
            self._waiting = waiting(self._instance, self._run_id)
        if self._waiting and self._waiting != before and not self._console.is_terminal:
            self._console.print(self._waiting, markup=False)

    def _count(self) -> str:
        images = counted(len(self._images) + self._unchanged, "image")
        return f"{images}, {self._unchanged} of them reused" if self._unchanged else images

    def _apply(self, event: DagsterEvent, when: float) -> None:
        kind = event.event_type
        if kind is dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED and event.asset_key and event.step_key:
            split = image_of(event.asset_key)
            if split in self._cells:
                self._steps.setdefault(event.step_key, []).append(split)
            return
        if kind is dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key:
            split = image_of(event.asset_key)
            reused = event.step_materialization_data.materialization.metadata.get("reused")
            if split in self._cells and reused is not None and reused.value:
                self._cells[split].note = "reused"
            elif split and split[1] == "tested" and split[0] in self._without_test:
                self._cells[split] = _Cell("done", note="no tests")
            return
        state = _STATES.get(kind)
        if state is None or event.step_key is None:
            return
        if state == "failed" and was_stopped(event):
            state = "stopped"
        for split in self._steps.get(event.step_key, ()):
            cell = self._cells[split]
            cell.state = state
            if state == "running":
                cell.started = when
            else:
                cell.seconds = when - cell.started if cell.started else 0.0
                if not self._moves:
                    image, stage = split
                    note = f" ({cell.note})" if cell.note else ""
                    self._console.print(f"{image} {_COLUMNS[stage]}: {state}{note} {cell.seconds:.1f} s", markup=False)

    def _table(self) -> Table:
        """The images; no row is wider than the console, because a row that wraps cannot change in place."""
        narrow = is_narrow(self._console)
        table = Table(box=None, header_style="bold", caption=self._waiting or None, caption_justify="left")
        table.add_column("image", no_wrap=True)
        for heading in ["now"] if narrow else _COLUMNS.values():
            table.add_column(heading, min_width=_WIDEST_NOW if narrow else 12, no_wrap=True)
        for image in self._images:
            cells = {stage: self._cells[image, stage] for stage in _STAGES}
            table.add_row(Text(image), *([_now(cells)] if narrow else map(_render, cells.values())))
        return table


def _now(cells: Mapping[Stage, _Cell]) -> RenderableType:
    """Where an image is."""
    if all(cell.state == "done" for cell in cells.values()):
        return Text(f"done {sum(cell.seconds for cell in cells.values()):.1f} s", style="green")
    stage, cell = next(
        ((stage, cell) for stage, cell in cells.items() if cell.state in ("running", "failed", "stopped")),
        [(stage, cell) for stage, cell in cells.items() if cell.state == "done" or stage == "staged"][-1],
    )
    if cell.state == "running":
        return Spinner("dots", text=f"{_COLUMNS[stage]} {time.time() - cell.started:.0f} s")
    return Text(f"{_COLUMNS[stage]} ").append_text(_text(cell)) if cell.state != "waiting" else _text(cell)


def _render(cell: _Cell) -> RenderableType:
    if cell.state == "running":
        return Spinner("dots", text=f"{time.time() - cell.started:.0f} s")
    return _text(cell)


def _text(cell: _Cell) -> Text:
    match cell.state:
        case "done":
            return Text(f"{cell.note or 'done'} {cell.seconds:.1f} s", style="green")
        case "failed":
            return Text("failed", style="bold red")
        case "stopped":
            return Text("stopped", style="yellow")
        case "skipped":
            return Text("-", style="dim")
    return Text("…", style="dim")
