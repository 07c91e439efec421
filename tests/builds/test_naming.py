"""The names that a build gives, and those of jobs."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aml_images_dagster.builds.naming import (
    BUILD_NUMBER,
    build_number,
    job_name,
    release_tag_for,
    split_staging_tag,
    staging_reference,
)
from aml_images_dagster.catalog.image_name import name_fault
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

NOW = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)

zones = st.integers(min_value=-12 * 60, max_value=14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2099, 1, 1), timezones=zones)  # noqa: DTZ001
components = st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,6}){0,4}", fullmatch=True)
PARTS = st.tuples(
    st.from_regex(r"[0-9]{8}\.[0-9a-f]{8}", fullmatch=True),
    st.text(alphabet="ab/._-", min_size=1, max_size=300),
    st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True),
    st.integers(1, 9),
)


@given(run=st.uuids(), created=moments)
def test_a_build_number_has_one_form(run: uuid.UUID, created: datetime) -> None:
    number = build_number(str(run), created)
    assert BUILD_NUMBER.fullmatch(number)
    day, _, start = number.partition(".")
    assert day == created.astimezone(UTC).strftime("%Y%m%d")
    assert run.hex.startswith(start)


def test_the_day_of_a_build_number_is_utc() -> None:
    tokyo = timezone(timedelta(hours=9))
    run = "4f2a9c1e-aaaa-bbbb-cccc-000000000000"
    assert build_number(run, NOW.astimezone(tokyo)) == "20261123.4f2a9c1e"


@given(family=components, name=components, run=st.uuids(), created=moments)
@example("base", "intelmpi2018.3-ubuntu16.04", uuid.UUID(int=0x4F2A9C1E << 96), NOW)
def test_a_staging_tag_can_be_split_again(family: str, name: str, run: uuid.UUID, created: datetime) -> None:
    assert name_fault(family, name) is None
    build = build_number(str(run), created)
    reference = staging_reference("127.0.0.1:5000", family, name, build)
    assert Reference.parse(str(reference)) == reference
    assert reference.repository == family
    assert split_staging_tag(reference.tag) == (name, build)


def test_the_staging_reference_as_the_contract_writes_it() -> None:
    reference = staging_reference("staging.example", "base", "intelmpi2018.3-ubuntu16.04", "20261123.4f2a9c1e")
    assert str(reference) == "staging.example/base:intelmpi2018.3-ubuntu16.04--20261123.4f2a9c1e"


@pytest.mark.parametrize(
    "tag",
    [
        "latest",
        "a--20261123.4f2a9c1",
        "a--20261123.4f2a9c1e0",
        "a--20261123.4F2A9C1E",
        "a-20261123.4f2a9c1e",
        "--20261123.4f2a9c1e",
        "a--20261123.4f2a9c1e-old",
        "a--٢٠٢٦١١٢٣.4f2a9c1e",
        "20261123.v1",
        "",
    ],
)
def test_other_tags_are_none_of_ours(tag: str) -> None:
    assert split_staging_tag(tag) is None


def test_release_tags() -> None:
    assert release_tag_for(NOW, None, None) == "20261123.v1"
    assert release_tag_for(NOW, None, "") == "20261123.v1"
    assert release_tag_for(NOW, 12, None) == "20261123.v12"
    assert release_tag_for(NOW, None, "20261123.hotfix-1") == "20261123.hotfix-1"


def test_a_release_number_and_a_release_tag_contradict_each_other() -> None:
    with pytest.raises(BadInput, match="release_num 2 and release_tag 'x' are both given"):
        release_tag_for(NOW, 2, "x")


@pytest.mark.parametrize("number", [0, -1])
def test_releases_are_counted_from_one(number: int) -> None:
    with pytest.raises(BadInput, match=f"release_num is {number}"):
        release_tag_for(NOW, number, None)


@pytest.mark.parametrize("tag", ["latest", "a b", "-a", ".a", "a/b", "a:b", "ä", "a" * 129, "a\n", "$(id)"])
def test_what_cannot_be_a_release_tag(tag: str) -> None:
    with pytest.raises(BadInput, match="cannot be a release tag"):
        release_tag_for(NOW, None, tag)


@given(created=moments, number=st.none() | st.integers(min_value=1, max_value=10**6))
def test_a_release_tag_is_a_tag(created: datetime, number: int | None) -> None:
    tag = release_tag_for(created, number, None)
    assert Reference.parse(f"registry.example/a:{tag}").tag == tag


def test_readable():
    name = job_name("20261123.4f2a9c1e", "base/openmpi4.1-debian12", "single-node", 1)
    assert re.fullmatch(r"20261123-4f2a9c1e-base-openmpi4-1-debian12-single-node-1-[0-9a-f]{8}", name)


@given(PARTS)
def test_valid_for_azure_ml_and_docker(backends):
    # https://learn.microsoft.com/azure/machine-learning/reference-yaml-job-command; a container adds `-node63`.
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{1,247}", job_name(*backends))


@given(PARTS, PARTS)
def test_different_for_different_jobs(one, other):
    assert (job_name(*one) == job_name(*other)) == (one == other)
