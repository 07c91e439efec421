"""The release number that a build takes which starts automatically: free, whatever was built and released that day."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.ledger import Ledger, TagChange
from aml_images_dagster.builds.records import BuildRecord
from aml_images_dagster.builds.release_number import next_release_num
from tests.builds.test_ledger import record

if TYPE_CHECKING:
    from pathlib import Path

DAY = date(2026, 11, 23)


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(str(tmp_path))


def build(artifacts: Artifacts, number: str, tag: str, status: str = "succeeded", image: str = "base/a") -> None:
    about = {"build": number, "run_id": "", "commit": "", "source": "", "images": (image,), "status": status}
    created = datetime.fromisoformat(f"{number[:8]}T12:00:00Z")
    artifacts.build(number).write_build(BuildRecord.model_validate(about | {"created": created, "release_tag": tag}))


def released(artifacts: Artifacts, tag: str, image: str = "base/a") -> None:
    change = TagChange(image=image, repository="public/a", tag=tag, before=None, after="sha256:1")
    Ledger(artifacts).append(record(changes=(change,), release_tag=tag))


def test_the_first_of_a_day(artifacts: Artifacts) -> None:
    build(artifacts, "20261122.00000001", "20261122.v4")
    released(artifacts, "20261122.v4")
    assert next_release_num(DAY, ["base/a"], artifacts) == 1


@pytest.mark.parametrize(
    ("status", "number"),
    [("running", 3), ("succeeded", 3), ("expired", 3), ("failed", 1), ("canceled", 1), ("partial", 1)],
)
def test_builds_that_may_be_released_count(artifacts: Artifacts, status: str, number: int) -> None:
    build(artifacts, "20261123.00000001", "20261123.v2", status)
    assert next_release_num(DAY, ["base/a", "base/b"], artifacts) == number


def test_releases_count(artifacts: Artifacts) -> None:
    """Also those whose build is of another place, and those that were withdrawn since."""
    released(artifacts, "20261123.v11")
    assert next_release_num(DAY, ["base/a"], artifacts) == 12


def test_other_images_and_other_tags_do_not_count(artifacts: Artifacts) -> None:
    build(artifacts, "20261123.00000001", "20261123.v2", image="base/b")
    build(artifacts, "20261123.00000002", "nightly")
    build(artifacts, "20261123.00000003", "20261123.v9-test")
    released(artifacts, "20261123.v3", "base/b")
    assert next_release_num(DAY, ["base/a"], artifacts) == 1


def test_promised_numbers_count(artifacts: Artifacts) -> None:
    build(artifacts, "20261123.00000001", "20261123.v2")
    assert next_release_num(DAY, ["base/a"], artifacts, [1, 5]) == 6
