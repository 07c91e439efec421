"""The report on the page of a pull request: a status of the commit, and one comment.

Names and logs come from strangers: they are shown as code, where Markdown and @mentions have no effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from aml_images_dagster.pull_requests.hosts.interface import MARKER, Status
from aml_images_dagster.text import code, code_block, first_of, printable, printable_line, size_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_images_dagster.pull_requests.hosts.interface import Outcome

_LONGEST = 60_000
"""Characters of a comment. GitHub takes 65,536, Azure DevOps 150,000."""
_SHOWN_IMAGES = 100
_SHOWN_REASONS = 4
_SHOWN_NOTES = 20
_SHOWN_LINE = 200
_SHOWN_LOG = 4000
_SHOWN_SUMMARY = 500
_STYLED = 4
"""As many times longer may a text be before its colours go."""
_TITLES: dict[Outcome, str] = {
    "pending": "⏳ pending",
    "success": "✅ success",
    "failure": "❌ failure",
    "canceled": "🚫 canceled",
}


@dataclass(frozen=True, slots=True)
class ChangesReport:
    """What would change for users of an image.

    Attributes:
        summary: In a line, against what production serves; or why that is not known.
        may_break: Changes that a release refuses until a person accepts them.
        details: All of it, in Markdown in which whatever strangers have written is code; may be empty.
    """

    summary: str
    may_break: tuple[str, ...] = ()
    details: str = ""


@dataclass(frozen=True, slots=True)
class ImageReport:
    """The result of an image.

    Attributes:
        name: `<family>/<name>`.
        reasons: Why it is part of the build.
        result: Its state: `built`, `reused`, `failed`, …; empty when nothing has yet.
        size_bytes: Its compressed size; None when it is not staged.
        size_before_bytes: The size of the last one that passed, builds of pull requests aside; None when none has.
        changes: What would change for users; None when nothing is known of it yet.
    """

    name: str
    reasons: tuple[str, ...]
    result: str = ""
    size_bytes: int | None = None
    size_before_bytes: int | None = None
    changes: ChangesReport | None = None


@dataclass(frozen=True, slots=True)
class FailureReport:
    """Why a build failed.

    Attributes:
        step: What failed first.
        message: What, where and how to fix it.
        log: The end of the log that shows it; may be empty.
    """

    step: str
    message: str
    log: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is reported to a pull request.

    Attributes:
        head: The commit.
        outcome: How far it is.
        summary: One sentence.
        details: An explanation of it; may be empty.
        notes: Further information.
        build: The build's number; empty without one.
        url: Where the run is shown; empty without one.
        images: What is built.
        failure: Why it failed.
    """

    head: str
    outcome: Outcome
    summary: str
    details: str = ""
    notes: tuple[str, ...] = ()
    build: str = ""
    url: str = ""
    images: tuple[ImageReport, ...] = ()
    failure: FailureReport | None = None

    @property
    def status(self) -> Status:
        """What is shown beside the commit."""
        return Status(self.outcome, self.summary, self.url)

    @property
    def comment(self) -> str:
        """The comment, in Markdown."""
        build = f", build {self.build}" if self.build else ""
        lines = [MARKER, f"### aml-images: {_TITLES[self.outcome]}", "", _code(self.summary)]
        lines += ["", _block(self.details)] if self.details else []
        lines += ["", *(f"- {_code(note)}" for note in self.notes[:_SHOWN_NOTES])] if self.notes else []
        lines += [f"- and {len(self.notes) - _SHOWN_NOTES} more"] if len(self.notes) > _SHOWN_NOTES else []
        end = []
        if self.failure is not None:
            end += ["", f"**{_code(self.failure.step)} failed**", "", _block(self.failure.message)]
            if self.failure.log:
                end += ["", "The end of its log:", "", _block(self.failure.log)]
        end += ["", f"Commit {self.head[:12]}{build}" + (f", [run]({self.url})" if self.url else ""), ""]
        lines += _warnings(self.images)
        room = _LONGEST - len("\n".join([*lines, *end]))
        if self.images:
            lines += ["", *_table(self.images, room)]
        lines += _changes(self.images, _LONGEST - len("\n".join([*lines, *end])))
        return "\n".join([*lines, *end])


def _warnings(images: Sequence[ImageReport]) -> list[str]:
    """What may break users, a line for each image."""
    found = [(image.name, image.changes.may_break) for image in images if image.changes and image.changes.may_break]
    lines = [f"- {_code(name)}: {', '.join(map(_code, changes[:_SHOWN_NOTES]))}" for name, changes in found]
    if not lines:
        return []
    more = [f"- and {len(lines) - _SHOWN_NOTES} more"] if len(lines) > _SHOWN_NOTES else []
    title = "⚠️ **May break users**, so that a release needs `--accept-major`:"
    return ["", title, "", *lines[:_SHOWN_NOTES], *more]


def _changes(images: Sequence[ImageReport], longest: int) -> list[str]:
    """What changes for users of each image, collapsed, as much as there is room for."""
    lines: list[str] = []
    without_details: dict[str, list[str]] = {}
    for image in images:
        block = _details(image.name, image.changes) if image.changes else []
        if block and len("\n".join([*lines, *block])) < longest:
            lines += block
        elif image.changes:
            without_details.setdefault(image.changes.summary, []).append(image.name)
    for summary, names in without_details.items():
        block = ["", f"{first_of([*map(_code, names)], _SHOWN_NOTES)}: {_code(summary)}"]
        if len("\n".join([*lines, *block])) < longest:
            lines += block
    return lines


def _details(name: str, changes: ChangesReport) -> list[str]:
    if not changes.details:
        return []
    # In HTML, where Markdown means nothing, and mentions nothing in code.
    title = escape(printable_line(f"{name} {changes.summary}"[:_SHOWN_SUMMARY]))
    return ["", f"<details><summary><code>{title}</code></summary>", "", changes.details, "", "</details>"]


def _table(images: Sequence[ImageReport], longest: int) -> list[str]:
    """A row for each image, as many as there is room for."""
    lines = ["| image | why | result | size |", "|---|---|---|---|"]
    left = longest
    for number, image in enumerate(images):
        reasons = [_cell(reason) for reason in image.reasons[:_SHOWN_REASONS]]
        if len(image.reasons) > _SHOWN_REASONS:
            reasons.append(f"and {len(image.reasons) - _SHOWN_REASONS} more")
        line = f"| {_cell(image.name)} | {'<br>'.join(reasons)} | {image.result} | {_size(image)} |"
        left -= len(line) + 1
        if number == _SHOWN_IMAGES or left < 0:
            lines.append(f"| and {len(images) - number} more | | | |")
            break
        lines.append(line)
    return lines


def _size(image: ImageReport) -> str:
    if image.size_bytes is None:
        return ""
    size = size_in_words(image.size_bytes)
    if image.size_before_bytes is None:
        return f"{size} (new)"
    change = image.size_bytes - image.size_before_bytes
    return f"{size} ({'+' if change > 0 else '-'}{size_in_words(abs(change))})" if change else f"{size} (as before)"


def _code(text: str) -> str:
    """Text as code in a line; its beginning if it is long."""
    clean = printable(text[: _STYLED * _SHOWN_LINE])
    return code(clean if len(clean) <= _SHOWN_LINE else f"{clean[:_SHOWN_LINE]}…")


def _cell(text: str) -> str:
    """The same in a table, where a bar ends a cell even in code."""
    return _code(text).replace("|", "\\|")


def _block(text: str) -> str:
    """Text as a block of code; its end if it is long."""
    clean = printable(text[-_STYLED * _SHOWN_LOG :]).strip("\n")
    return code_block(clean if len(clean) <= _SHOWN_LOG else f"…{clean[-_SHOWN_LOG:]}", "text")
