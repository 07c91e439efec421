"""What a failed run means, and what the user can do about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aml_images_dagster.engine.stream import redact
from aml_images_dagster.errors import BuildFailed

if TYPE_CHECKING:
    from azure.mgmt.containerregistrytasks.models import RunProperties

_SLOW = "See in the log what it waits for, or give it more time (build_timeout_minutes)."
_HOST_TIMED_OUT = re.compile(r"hcsshim.*(timeout|timed out)|hcs::System.*(timeout|0xc0370109)", re.IGNORECASE)
_BASE_DOES_NOT_FIT = re.compile(r"no matching manifest for windows|operating system does not match", re.IGNORECASE)


def run_fault(run: RunProperties, tag: str, tail: str) -> BuildFailed:
    """Say why a run did not succeed."""
    said = redact(run.run_error_message or "").strip()
    because = f": {said}" if said else ""
    what, hint = f"run {run.run_id} failed{because}", "The end of the log shows the failing instruction."
    if run.status == "Canceled":
        what, hint = (
            f"run {run.run_id} was canceled in the registry{because}",
            "A user of the registry canceled it: build again.",
        )
    elif run.status == "Timeout":
        what, hint = f"run {run.run_id} was stopped at its deadline{because}", _SLOW
    elif run.status == "Error":
        hint = f"ACR Tasks itself failed: build again; support wants the run id {run.run_id}."
    elif _BASE_DOES_NOT_FIT.search(tail):
        hint = "The agents run another Windows than the base needs: change the base, or use a Windows engine by URL."
    return BuildFailed(what, where=tag, hint=hint, log=tail)


def deadline_fault(run_id: str, tag: str, seconds: float, tail: str, *, waited: bool) -> BuildFailed:
    """The error of a run that was stopped at its deadline, or whose turn had not come by then."""
    if waited:
        what = f"run {run_id} waited {seconds:g} s for an agent and was canceled"
        hint = "See in the portal what else runs there, use a larger agent pool, or allow more time "
        return BuildFailed(what, where=tag, hint=f"{hint}(build_timeout_minutes).", log=tail)
    return BuildFailed(f"run {run_id} was stopped at its deadline of {seconds:g} s", where=tag, hint=_SLOW, log=tail)


def host_timed_out(failure: BuildFailed) -> bool:
    """Whether a Windows agent was too slow to start a container, which is not a fault of the image."""
    return _HOST_TIMED_OUT.search(failure.log) is not None
