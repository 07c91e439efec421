"""Names of jobs: a function of what they test, valid for Azure ML, for Docker and as a label."""

from __future__ import annotations

import hashlib
import re

_LONGEST = 200
"""Characters; Azure ML allows 255, and a container's name adds the node to it."""


def job_name(build: str, image: str, scenario: str, attempt: int) -> str:
    """The name of one attempt at one scenario of one image of one build.

    The hash at the end keeps apart what looks alike once it is made of letters, digits and dashes.

    Args:
        build: The build's number.
        image: `<family>/<image name>`.
        scenario: The scenario's name.
        attempt: Counted from 1.
    """
    readable = re.sub(r"[^A-Za-z0-9]+", "-", f"{build}-{image}-{scenario}").strip("-").lower()
    exact = hashlib.sha256("\0".join((build, image, scenario, str(attempt))).encode()).hexdigest()[:8]
    ending = f"-{attempt}-{exact}"
    return f"{readable[: _LONGEST - len(ending)]}{ending}"
