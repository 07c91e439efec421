"""Why a node failed, in one line, read from its exit code and its output."""

from __future__ import annotations

import re
import signal

TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*: |[\w.]*(Error|Exception|Exit|Interrupt|Warning)\s*$")
_FENCE = re.compile(r"[-=*]{20,}")
_INIT_FAILURE = re.compile(r"\[FATAL tini \(\d+\)\] exec (\S+) failed: (.+)")
_NOT_FOUND = re.compile(r'exec: \\?"([^"\\]+)\\?":? (?:executable file not found|stat [^:]+: no such file)')
_LONGEST = 400


def failure_reason(exit_code: int, output: str, errors: str = "") -> str:
    """The exit code in words and the line of the output that says most.

    Args:
        exit_code: That of the node.
        output: What it printed, standard output and standard error.
        errors: The end of standard error, if it was printed together with the end of standard output.
    """
    missing = missing_program(output)
    if missing:
        return missing
    line = telling_line(output, errors)
    return f"{_in_words(exit_code)}: {line}" if line else _in_words(exit_code)


def missing_program(text: str) -> str:
    """A sentence when the engine or its init process says that the program to start is not there; else empty."""
    found = _NOT_FOUND.search(text)
    if found:
        return f"{found[1]} is not in the image's PATH"
    found = _INIT_FAILURE.search(text)
    if found:
        why = "is not in the image's PATH" if "No such file" in found[2] else f"cannot be started: {found[2].strip()}"
        return f"{found[1]} {why}"
    return ""


def telling_line(output: str, errors: str = "") -> str:
    """The exception of the last traceback, else the last line that is not part of a launcher's banner.

    Args:
        output: See `failure_reason`.
        errors: See `failure_reason`. Its last line counts more than that of the output, which may be either.
    """
    lines = output.splitlines()
    words = (_last_words(_without_banners(errors.splitlines())), _last_words(_without_banners(lines)))
    line = _exception(lines) or words[0] or words[1] or _last_words(lines)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _exception(lines: list[str]) -> str:
    starts = [number for number, line in enumerate(lines) if line.strip() == TRACEBACK]
    if not starts:
        return ""
    # Standard output may have come in between, so not every line that is not indented is the exception.
    below = lines[starts[-1] + 1 :]
    return next((line.strip() for line in below if _EXCEPTION.match(line)), "")


def _without_banners(lines: list[str]) -> list[str]:
    """Drop what stands between two fences of dashes: Open MPI frames its own comments so."""
    kept: list[str] = []
    inside = False
    for line in lines:
        if _FENCE.fullmatch(line.strip()):
            inside = not inside
        elif not inside:
            kept.append(line)
    return kept


def _last_words(lines: list[str]) -> str:
    return next((line.strip() for line in reversed(lines) if re.search(r"\w", line)), "")


def _in_words(exit_code: int) -> str:
    try:
        name = signal.Signals(exit_code - 128).name
    except ValueError:
        return f"exit code {exit_code}"
    return f"exit code {exit_code} ({name})"
