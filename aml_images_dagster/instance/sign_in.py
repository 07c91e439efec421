"""The user whom a sign-in proxy has let in, as a tag of the runs that the user starts.

Dagster reads no user from a request. It gives the request to the run coordinator, which is the one place where a run
and who has asked for it are together. The header counts for what the proxy makes it: the webserver has to be reachable
through the proxy only (docs/operate.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
from typing_extensions import override

from aml_images_dagster.text import printable_line

if TYPE_CHECKING:
    from dagster import SubmitRunContext

SIGNED_IN_TAG = "aml-images/signed-in"
"""The user, as the proxy names it."""
USER_HEADER = "X-Forwarded-User"
_LONGEST = 200


class SignedInRunCoordinator(dg.QueuedRunCoordinator):
    """The queue of runs, which tags each run with the signed-in user.

    It replaces a tag of that name that the request brings along.
    """

    @override
    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        user = context.get_request_header(USER_HEADER)
        if user:
            # Before it is in the queue: it starts as soon as it is there.
            self._instance.add_run_tags(run.run_id, {SIGNED_IN_TAG: printable_line(user)[:_LONGEST]})
        return super().submit_run(context)
