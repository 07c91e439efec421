"""Evaluates a pull request in a separate process, with limits of time and memory.

Files of strangers can be expensive to read: a tree that expands to billions of files, variables that
double with every line, patterns that never finish. All sensors share one process, so nothing
of it is read there. The separate process is `python -m` this module: it reads its task and writes an answer.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from contextlib import redirect_stdout, suppress
from typing import Literal

from pydantic import BaseModel

from aml_images_dagster.catalog import git
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.pull_requests.changes import Changes, find_changes
from aml_images_dagster.settings import Settings

PROCESSOR_SECONDS = 10
MEMORY_BYTES = 2**30
"""Limits of the process, and of each git that it starts. 1,000 images take a fifth of them."""

_OUT_OF_MEMORY = "out of memory"
_LATER = "It is tried again later."
_HINT = "Make it simpler: its folders, patterns or variables expand to more than they seem."


class _Answer(BaseModel):
    changes: Changes | None = None
    fault: Literal["", "bad input", "unreachable", "killed"] = ""
    what: str = ""
    where: str = ""
    hint: str = ""


def look_through(settings: Settings, target: str, head: str, seconds: float) -> Changes:
    """`find_changes` within limits.

    Args:
        settings: All settings.
        target: Commit of the target branch.
        head: Commit of the pull request.
        seconds: How long it may take.

    Raises:
        BadInput: See `find_changes`; or a limit of the process was reached.
        Killed: The process, or a git that it has started, was killed.
        Unreachable: See `find_changes`; or the time is over.
        RuntimeError: A defect of ours, with the last of what the process wrote.
    """
    # By standard input and not as arguments, which everybody on the machine can read; only we can write there.
    task = pickle.dumps((settings.model_dump(), target, head))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # it starts others, which have to end with it
    )
    try:
        out, err = process.communicate(task, timeout=seconds)
    except BaseException as ended:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(ended, subprocess.TimeoutExpired):
            raise Unreachable(f"it was not evaluated within {seconds:.0f} s", hint=_LATER) from None
        raise
    if process.returncode == -signal.SIGKILL:
        raise git.Killed("its evaluation was killed", hint=_LATER)
    if process.returncode == -signal.SIGXCPU:
        raise BadInput(f"its evaluation takes more than {PROCESSOR_SECONDS} s of CPU time", hint=_HINT)
    if process.returncode:
        words = err.decode("utf-8", "replace").strip().splitlines() or ["nothing"]
        raise RuntimeError(f"the process that evaluates it ended with {process.returncode}: {words[-1]}")
    answer = _Answer.model_validate_json(out)
    if answer.changes is not None:
        return answer.changes
    kinds = {"unreachable": Unreachable, "killed": git.Killed}
    raise kinds.get(answer.fault, BadInput)(answer.what, where=answer.where, hint=answer.hint)


def _answer(settings: Settings, target: str, head: str) -> _Answer:
    try:
        return _Answer(changes=find_changes(settings, backends_for(settings), target, head))
    except git.Killed as fault:
        return _Answer(fault="killed", what=fault.what, hint=_LATER)
    except (BadInput, Unreachable) as fault:
        if _OUT_OF_MEMORY in fault.what.lower():  # a git that we have started
            return _too_much_memory()
        kind: Literal["bad input", "unreachable"] = "bad input" if isinstance(fault, BadInput) else "unreachable"
        where = "" if fault.where == str(settings.repo) else fault.where  # paths of this machine are not published
        return _Answer(fault=kind, what=fault.what, where=where, hint=fault.hint)
    except MemoryError:
        return _too_much_memory()


def _too_much_memory() -> _Answer:
    what = f"its evaluation takes more than {MEMORY_BYTES / 1e9:.1f} GB of memory"
    return _Answer(fault="bad input", what=what, hint=_HINT)


def _main() -> None:
    import resource  # Windows has none, and definitions load there too

    values, target, head = pickle.load(sys.stdin.buffer)  # noqa: S301 - of the process that has started this one
    settings = Settings.model_validate(values)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(
        resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS + 5)
    )  # the second one kills, and says nothing
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    with redirect_stdout(sys.stderr):
        answer = _answer(settings, target, head)
    # Names of files need not be text; what is none of it is shown as a question mark.
    text = json.dumps(answer.model_dump(), default=str, ensure_ascii=False)
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))


if __name__ == "__main__":
    _main()
