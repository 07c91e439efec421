"""The Dagster instance that the command line and the UI share."""

from __future__ import annotations

import logging
import os
import re
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from sqlalchemy.exc import OperationalError

from aml_images_dagster.cli.instance_home import instance_home
from aml_images_dagster.defs.keys import image_of
from aml_images_dagster.defs.pools import free_places_of_ended_runs, set_missing_limits
from aml_images_dagster.defs.run_state import InstanceRuns, waiting
from aml_images_dagster.errors import BadInput, FactoryError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aml_images_dagster.settings import Settings

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "dagster.yaml"
"""The configuration of every instance that has none of its own."""


def step_logs(home: Path, run_id: str, image: str | None) -> Iterator[tuple[str, str]]:
    """What the steps of a run have printed, by the name of the step, in the order in which they began.

    Args:
        home: Where the instance is.
        run_id: The run; it may be unknown there.
        image: Only steps that make something of it; None for all.
    """
    with existing_instance(home) as instance:
        manager = instance.compute_log_manager
        planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
        kinds = {planned, dg.DagsterEventType.LOGS_CAPTURED}
        of_image: set[str] = set()
        captured = []
        for record in instance.get_records_for_run(run_id, of_type=kinds, ascending=True).records:
            event = record.event_log_entry.dagster_event
            if event is None:
                continue
            if event.event_type is not planned:
                captured.append(event.logs_captured_data)
            elif event.asset_key and event.step_key and (split := image_of(event.asset_key)) and split[0] == image:
                of_image.add(event.step_key)
        for log in captured:
            if image is None or not of_image.isdisjoint(log.step_keys):
                printed = manager.get_log_data(manager.build_log_key_for_run(run_id, log.file_key))
                text = (printed.stdout or b"") + (printed.stderr or b"")
                yield ", ".join(log.step_keys), text.decode("utf-8", "replace")


def schedules_switched(home: Path) -> dict[str, bool]:
    """The schedules that a person has switched on or off, by name, and whether they are on.

    Args:
        home: Where the instance is.
    """
    with existing_instance(home) as instance:
        return {state.name: state.is_running for state in instance.all_instigator_state()}


def waiting_runs(home: Path, runs: Iterable[str]) -> dict[str, str]:
    """What runs of builds wait for; those of another instance, or with a step that runs, are left out.

    Args:
        home: Where the instance is.
        runs: Their ids.
    """
    with existing_instance(home) as instance:
        return {run: found for run in runs if (found := waiting(instance, run))}


def is_over(home: Path, run_id: str, patience_seconds: float) -> bool:
    """Whether a run has ended, also by the death of its process; False also if it is unknown there.

    Args:
        home: Where the instance is.
        run_id: The run.
        patience_seconds: See `InstanceRuns`.
    """
    with existing_instance(home) as instance:
        return InstanceRuns(instance, patience_seconds).state(run_id) not in ("alive", "unknown")


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The Dagster instance of the settings, made when it is not there yet."""
    home = instance_home(settings)
    home.mkdir(parents=True, exist_ok=True)
    # Even when the instance is elsewhere: artifacts and logs come here, and are no change of the working tree.
    settings.home.mkdir(parents=True, exist_ok=True)
    ignore = settings.home / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    configuration = home / "dagster.yaml"
    if configuration.is_symlink() and not configuration.exists():  # it leads to a checkout that is gone
        configuration.unlink(missing_ok=True)
    if not configuration.exists():
        with suppress(FileExistsError):  # several processes may start at once
            configuration.symlink_to(CONFIGURATION)
    os.environ["DAGSTER_HOME"] = str(home)
    with _explained(home):
        instance = dg.DagsterInstance.get()
        set_missing_limits(instance, settings)
        free_places_of_ended_runs(instance)
    return instance


@contextmanager
def existing_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance in a folder that has a dagster.yaml.

    Raises:
        BadInput: Its dagster.yaml is wrong, or needs a package or a variable that is missing.
        Unreachable: Its database does not answer.
    """
    os.environ["DAGSTER_HOME"] = str(home)  # its storages are found by it
    with ExitStack() as opened:
        with _explained(home):
            instance = opened.enter_context(dg.DagsterInstance.from_config(str(home)))
        yield instance


_UNSET = re.compile(r'environment variable "(\w+)" which is not set')
_PACKAGES = {"dagster_postgres": "aml-images-dagster[postgres]"}


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    """Turn what Dagster raises when an instance cannot be opened into one message.

    Dagster repeats a failed connection for ten seconds, with a warning each time, and then raises its own exception.
    """
    where = str(home / "dagster.yaml")
    log = logging.getLogger()
    try:
        log.addFilter(_is_no_retry)
        yield
    except Exception as error:  # noqa: BLE001 - each kind of storage raises its own
        raise _explanation(error, where) from None
    finally:
        log.removeFilter(_is_no_retry)


def _explanation(error: Exception, where: str) -> FactoryError:
    unset = dict.fromkeys(_UNSET.findall(str(error)))
    if unset:
        return BadInput(
            f"it takes values from variables that are not set: {', '.join(unset)}",
            where=where,
            hint="Set them in the environment of every process of Dagster.",
        )
    fault = database_fault(error)
    if fault:
        return Unreachable(
            f"{_AWAY}: {fault}", where=where, hint="Start it, or correct the file and the variables that it names."
        )
    for cause in _causes(error):
        if isinstance(cause, ModuleNotFoundError):
            package = next((package for module, package in _PACKAGES.items() if module in str(error)), "")
            hint = f"Install it: pip install '{package}'" if package else "Install the package that has it."
            return BadInput(f"it names a module that is not installed: {cause.name or error}", where=where, hint=hint)
    return BadInput(
        f"the instance cannot be opened: {error}",
        where=where,
        hint="Correct its dagster.yaml, or move the folder away: the next build creates a new one.",
    )


_AWAY = "the database of the instance does not answer"


def database_fault(error: BaseException) -> str:
    """What the database has said, if an exception comes of one that does not answer; else empty."""
    causes = (cause for cause in _causes(error) if isinstance(cause, OperationalError))
    return next((str(cause.orig).splitlines()[0] for cause in causes), "")


def database_away(error: BaseException) -> Unreachable | None:
    """The message for a database that has gone away during a build; None for any other exception."""
    fault = database_fault(error)
    if not fault:
        return None
    return Unreachable(
        f"{_AWAY}: {fault}",
        hint="Start it. The janitor, or the next `aml-images build`, then cleans up what the build has left.",
    )


@contextmanager
def explained_outage() -> Iterator[None]:
    """Turn the exceptions of a database that has gone away into one message.

    Raises:
        Unreachable: In their place.
    """
    try:
        yield
    except Exception as error:
        away = database_away(error)
        if away is None:
            raise
        raise away from None


def _is_no_retry(record: logging.LogRecord) -> bool:
    return "Retrying failed database" not in record.getMessage()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
