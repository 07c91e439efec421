"""Lines of a log from the events of a build."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.engine.buildkit.progress import Progress


def output(vertex: str, text: str) -> dict[str, object]:
    return {"logs": [{"vertex": vertex, "stream": 1, "data": base64.b64encode(text.encode()).decode()}]}


EVENTS = [
    {"vertexes": [{"digest": "a", "name": "[1/2] FROM debian"}, {"digest": "b", "name": "[2/2] RUN make"}]},
    {"vertexes": [{"digest": "a", "name": "[1/2] FROM debian", "cached": True}]},
    output("b", "one\nha"),
    output("b", "lf s3cret\n 10%\r 99%\r100%\n"),
    {"statuses": [{"id": "transferring context", "vertex": "b"}]},
    {"vertexes": [{"digest": "b", "name": "[2/2] RUN make", "error": "exit code: 7"}]},
]
LINES = [
    "#1 [1/2] FROM debian",
    "#2 [2/2] RUN make",
    "#1 CACHED",
    "#2 one",
    "#2 half ***",
    "#2 100%",
    "#2 ERROR: exit code: 7",
    "Dockerfile:2",
    'ERROR: failed to build: failed to solve: process "make" did not complete successfully: exit code: 7',
]
TAIL = f"Dockerfile:2\n{LINES[-1]}\n"


@pytest.mark.parametrize("indent", [None, 2])
@given(cuts=st.lists(st.integers(1, 60), min_size=1, max_size=20))
def test_events_become_lines_however_they_are_written_and_cut(indent: int | None, cuts: list[int]) -> None:
    stream = "".join(json.dumps(event, indent=indent) + "\n" for event in EVENTS) + TAIL
    lines: list[str] = []
    progress = Progress(lines.append, ["s3cret"])
    data, turn = stream.encode(), 0
    while data:
        size = cuts[turn % len(cuts)]
        progress.take(data[:size])
        data, turn = data[size:], turn + 1
    progress.end()
    assert lines == LINES
    assert progress.error == 'process "make" did not complete successfully: exit code: 7', "as BuildKit says it"
    assert progress.exit_code == 7
    assert progress.failed_output == "one\nhalf ***\n100%"
    assert progress.pushing_since is None


@pytest.mark.parametrize(
    "event",
    [
        {"statuses": [{"id": "pushing layers", "vertex": "a"}]},
        {"vertexes": [{"digest": "p", "name": "pushing x/y:1 with docker", "started": "2026-01-01T00:00:00Z"}]},
    ],
)
def test_a_push_that_begins_is_noticed(event: dict[str, object]) -> None:
    progress = Progress(lambda _: None)
    progress.take(json.dumps(event).encode() + b"\n")
    assert progress.pushing_since is not None


def test_what_is_no_event_is_shown_as_it_is() -> None:
    lines: list[str] = []
    progress = Progress(lines.append)
    progress.take(b"a warning\n{broken}\n{\n half")
    progress.end()
    assert lines == ["a warning", "{broken}", "{", " half"]


@pytest.mark.parametrize(
    ("secret", "printed"),
    [
        ("tok123456\n", "tok123456"),  # of a file
        ("machine a\n  password tok123456\r\n", "password tok123456"),
        ("-----BEGIN KEY-----\nAAAA\nBBBBBB\n", "AAAA and BBBBBB"),
        ("tok\x01123456", "tok\x01123456"),
    ],
)
def test_no_line_shows_a_part_of_a_secret(secret: str, printed: str) -> None:
    lines: list[str] = []
    progress = Progress(lines.append, [secret])
    events = [{"vertexes": [{"digest": "b", "name": "RUN make"}]}, output("b", f"it is {printed}.\n")]
    events.append({"vertexes": [{"digest": "b", "name": "RUN make", "error": f"no {printed}"}]})
    progress.take("".join(json.dumps(event) + "\n" for event in events).encode())
    progress.end()
    shown = "\n".join([*lines, progress.failed_output, progress.tail, progress.error])
    assert "***" in shown
    assert [part for part in ("tok", "123456", "AAAA", "BBBBBB") if part in shown] == []
