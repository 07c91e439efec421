"""The release number that a build takes which starts automatically: free, whatever was built and released that day."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.artifacts import Artifacts, write_atomically
from aml_images_dagster.builds.ledger import Ledger, TagChange
from aml_images_dagster.builds.records import BuildRecord
from aml_images_dagster.builds.release_number import next_release_num
from tests.builds.test_ledger import record

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from aml_images_dagster.errors import BadInput

DAY = date(2026, 11, 23)


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(str(tmp_path))


def number_of(artifacts: Artifacts, *images: str, promised: Iterable[int] = ()) -> int:
    """The next number of a day on which every record can be read."""
    errors: list[BadInput] = []
    number = next_release_num(DAY, images or ["base/a"], artifacts, promised, unreadable=errors.append)
    assert errors == []
    return number


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
    assert number_of(artifacts) == 1


@pytest.mark.parametrize(
    ("status", "number"),
    [("running", 3), ("succeeded", 3), ("expired", 3), ("failed", 1), ("canceled", 1), ("partial", 1)],
)
def test_builds_that_may_be_released_count(artifacts: Artifacts, status: str, number: int) -> None:
    build(artifacts, "20261123.00000001", "20261123.v2", status)
    assert number_of(artifacts, "base/a", "base/b") == number


def test_releases_count(artifacts: Artifacts) -> None:
    """Also those whose build is of another place, and those that were withdrawn since."""
    released(artifacts, "20261123.v11")
    assert number_of(artifacts) == 12


def test_other_images_and_other_tags_do_not_count(artifacts: Artifacts) -> None:
    build(artifacts, "20261123.00000001", "20261123.v2", image="base/b")
    build(artifacts, "20261123.00000002", "nightly")
    build(artifacts, "20261123.00000003", "20261123.v9-test")
    released(artifacts, "20261123.v3", "base/b")
    assert number_of(artifacts) == 1


def test_promised_numbers_count(artifacts: Artifacts) -> None:
    build(artifacts, "20261123.00000001", "20261123.v2")
    assert number_of(artifacts, promised=[1, 5]) == 6


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 3),
        ("{", 3),
        ('{"build": "20261123.00000009", "release_tag": "20261123.v7", "ima', 8),
        ('{"release_tag": "nightly", "of_a_newer_version": 1}', 3),
        (b"\xff\xfe", 3),
    ],
    ids=["empty", "damaged", "cut off", "newer", "no text"],
)
def test_a_record_that_cannot_be_read_hides_no_other_number(
    artifacts: Artifacts, text: str | bytes, number: int
) -> None:
    build(artifacts, "20261123.00000001", "20261123.v1")
    released(artifacts, "20261123.v2")
    content = text if isinstance(text, bytes) else text.encode()
    write_atomically(artifacts.build("20261123.00000009").root / "build.json", content)
    errors: list[BadInput] = []
    assert next_release_num(DAY, ["base/a"], artifacts, unreadable=errors.append) == number
    assert ["20261123.00000009" in error.where for error in errors] == [True]


def test_a_release_record_that_cannot_be_read_hides_no_build(artifacts: Artifacts) -> None:
    build(artifacts, "20261123.00000001", "20261123.v4")
    write_atomically(Ledger(artifacts).folder / "000001.json", b"{")
    errors: list[BadInput] = []
    assert next_release_num(DAY, ["base/a"], artifacts, unreadable=errors.append) == 5
    assert len(errors) == 1
