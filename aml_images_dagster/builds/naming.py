"""The names that a build gives: functions of the run and the image, so that they can be found without records."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

BUILD_NUMBER = re.compile(r"[0-9]{8}\.[0-9a-f]{8}")
PLAN_NAME = re.compile(r"[0-9]{8}\.[0-9a-f]{64}")
_RELEASE_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SEPARATOR = "--"

LABEL_PREFIX = "com.microsoft.aml-images."
"""How the names of our own labels of an image begin."""
CONTENT_KEY_LABEL = f"{LABEL_PREFIX}content-key"
PULL_REQUEST_LABEL = f"{LABEL_PREFIX}pull-request"
PULL_REQUEST_ARGUMENT = "AML_IMAGES_PULL_REQUEST"


def build_number(run_id: str, created: datetime) -> str:
    """`YYYYMMDD.<first 8 of the run id>`, the day in UTC: unique without coordination, traceable to the run."""
    return f"{created.astimezone(UTC):%Y%m%d}.{run_id.replace('-', '')[:8]}"


def release_tag_for(created: datetime, release_num: int | None, release_tag: str | None) -> str:
    """The tag under which the build is to be released.

    Args:
        created: When the build was started.
        release_num: Number of the release on that day; 1 when neither is given.
        release_tag: Replaces the whole tag.

    Raises:
        BadInput: Both are given, or one is malformed.
    """
    if release_num is not None and release_tag:
        raise BadInput(
            f"release_num {release_num} and release_tag {release_tag!r} are both given",
            hint="Give release_num for YYYYMMDD.v<num>, or release_tag for the whole tag, not both.",
        )
    if release_tag:
        if not _RELEASE_TAG.fullmatch(release_tag) or release_tag == "latest":
            raise BadInput(
                f"{release_tag!r} cannot be a release tag",
                where="release_tag",
                hint="Use up to 128 letters, digits, '_', '.' and '-'; 'latest' is moved by releases.",
            )
        return release_tag
    number = 1 if release_num is None else release_num
    if number < 1:
        raise BadInput(f"release_num is {number}", hint="Count releases of a day from 1.")
    return f"{created.astimezone(UTC):%Y%m%d}.v{number}"


def staging_reference(registry: str, family: str, name: str, build: str) -> Reference:
    """`<staging>/<family>:<image name>--<build>`."""
    return Reference(registry, family, f"{name}{_SEPARATOR}{build}")


def temporary_prefix(build: str) -> str:
    """How the names of all temporary folders of a build begin."""
    return f"aml-images-{build}-"


def split_staging_tag(tag: str) -> tuple[str, str] | None:
    """Image name and build of a staging tag; None for any other tag."""
    name, separator, build = tag.rpartition(_SEPARATOR)
    return (name, build) if separator and name and BUILD_NUMBER.fullmatch(build) else None


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
