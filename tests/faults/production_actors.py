"""Processes that change production, each a copy of one that has imported the factory before.

A line on standard input is a JSON list: what to do, who does it, a file for what is said, and arguments. The answer is
the process id of the copy, which has a session of its own and ends with the exit code that the command line has.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_images_dagster.builds.housekeeping.janitor import sweep
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.identity.credential import credential_for
from aml_images_dagster.identity.endpoints import endpoints_of
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.profiles.blob_artifacts import artifacts_of
from aml_images_dagster.release.candidate import completed
from aml_images_dagster.release.production import Releaser
from aml_images_dagster.release.rollback import roll_back
from aml_images_dagster.release.withdrawal import withdraw
from aml_images_dagster.settings import load_settings

if TYPE_CHECKING:
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.settings import Settings


class AllSucceeded:
    """Runs that are over."""

    def state(self, _: str) -> Any:
        return "succeeded"

    def failure(self, _: str) -> None:
        return None


def open_factory(repo: Path) -> tuple[Settings, Backends]:
    """The backends of the profile local; the artifacts may be in Blob nevertheless."""
    settings = load_settings(repo=repo)
    artifacts = artifacts_of(settings, credential_for(settings.azure), endpoints_of(settings.azure))
    return settings, replace(backends_for(settings.model_copy(update={"artifacts": ""})), artifacts=artifacts)


def act(repo: Path, what: str, who: str, *arguments: str) -> None:
    settings, backends = open_factory(repo)
    if what == "release":
        Releaser(backends, settings, who, print).release(completed(arguments[0], backends.artifacts))
    elif what == "rollback":
        roll_back(arguments[0], arguments[1], "it is broken", backends, settings, who, print)
    elif what == "withdraw":
        withdraw(arguments[0], arguments[1], "a hole", backends, settings, who, print)
    else:
        for report in sweep(backends, settings, AllSucceeded(), datetime.fromisoformat(arguments[0])):
            print(report.model_dump_json())


def main() -> None:
    repo = Path(sys.argv[1])
    for imported_late in ("aml_images_dagster.profiles.blob_filesystem", "azure.identity"):
        importlib.import_module(imported_late)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the copies
    for line in sys.stdin:
        what, who, out, *arguments = json.loads(line)
        child = os.fork()
        if child:
            print(child, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        said = os.open(out, os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        code = 0
        try:
            act(repo, what, who, *arguments)
        except FactoryError as error:
            print(error)
            code = error.exit_code
        except BaseException:  # noqa: BLE001 - as Python itself would end
            traceback.print_exc(file=sys.stdout)
            code = 99
        sys.stdout.flush()
        Path(f"{out}.code").write_text(str(code))
        os._exit(code)


if __name__ == "__main__":
    main()
