"""Logs of steps in files only.

Dagster's manager copies what a step prints to the terminal as well, by two `tail` and two Python processes per step.
Here a step's file descriptors are its files, and nothing runs beside it. The UI reads the same files at the same
places; dagster.yaml names this class as `compute_logs`.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from dagster import Field, StringSource
from dagster._core.execution.compute_logs import redirect_to_file
from dagster._core.instance.ref import compute_logs_directory
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.local_compute_log_manager import IO_TYPE_EXTENSION, LocalComputeLogManager
from dagster._utils import ensure_file, touch_file

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from dagster._serdes import ConfigurableClassData


class FileComputeLogManager(LocalComputeLogManager):
    """Captures stdout and stderr in files below `base_dir`, as `LocalComputeLogManager` names them."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """As of `LocalComputeLogManager`; `base_dir` is by default where that one has them in the instance's folder."""
        return {**super().config_type(), "base_dir": Field(StringSource, is_required=False)}  # type: ignore[dict-item]

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """What Dagster makes from dagster.yaml."""
        return cls(
            **{"base_dir": compute_logs_directory(os.environ["DAGSTER_HOME"]), **config_value, "inst_data": inst_data}
        )

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[CapturedLogContext]:
        """Turn the file descriptors of stdout and stderr to the files of `log_key`."""
        out, err = (
            self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[stream])
            for stream in (ComputeIOType.STDOUT, ComputeIOType.STDERR)
        )
        ensure_file(out)
        ensure_file(err)
        with redirect_to_file(sys.stdout, out), redirect_to_file(sys.stderr, err):
            yield CapturedLogContext(log_key)
        touch_file(self.complete_artifact_path(log_key))  # type: ignore[no-untyped-call]
