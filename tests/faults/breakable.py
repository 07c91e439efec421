"""The product's definitions, with cleanup layers that a test can break one by one while they are loaded.

A file that the environment names lists the layers that are broken at the moment; they raise instead of cleaning up.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aml_images_dagster.definitions import definitions
from aml_images_dagster.defs.operations import cleanup
from aml_images_dagster.settings import load_settings
from aml_images_dagster.testing import containers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import dagster as dg

FILE = "FAULTS_BROKEN_LAYERS"
WORKSPACE = f"""
load_from:
  - python_module:
      module_name: {__name__}
      attribute: defs
      location_name: aml_images_dagster
      working_directory: {Path(__file__).resolve().parents[2]}
"""


def is_broken(layer: str) -> bool:
    return layer in Path(os.environ[FILE]).read_text().splitlines()


def breakable(layer: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if is_broken(layer):
            raise RuntimeError(f"the layer {layer} is broken")
        return function(*arguments, **named)

    return call


_end_job = containers._nothing_left


@contextmanager
def _perhaps_end_job(*arguments: Any) -> Iterator[Callable[[], None]]:
    if is_broken("job"):
        yield lambda: None
    else:
        with _end_job(*arguments) as leave:
            yield leave


_of_run = breakable("status sensor", cleanup.clean_up)
_of_step = breakable("hook", cleanup.clean_up)


def _clean_up(run_id: str, status: Any, factory: Any, instance: dg.DagsterInstance) -> Any:
    """A hook cleans up while its run goes on, the status sensors when it is over."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return (_of_run if run.is_finished else _of_step)(run_id, status, factory, instance)


def _load() -> Any:
    containers._nothing_left = _perhaps_end_job
    cleanup.clean_up = _clean_up
    cleanup.sweep_now = breakable("janitor", cleanup.sweep_now)
    return definitions(load_settings())


if FILE in os.environ:
    defs = _load()
