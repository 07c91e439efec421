"""What needs a person, in which order, and the fleet for programs and for everybody."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.fleet.fleet import STATUSES, BaseState
from tests.fleet import fleets


def test_what_needs_a_person_comes_first() -> None:
    rows = fleets.fleet(fleets.of_each_kind()).rows
    assert [row.facts.image for row in rows[:3]] == [
        "base/openmpi4.1-debian12",  # its patch is overdue
        "framework/pytorch-2.9",  # its build failed
        "base-gpu/openmpi5-cuda13-ubuntu24.04",  # few days are left
    ]
    assert rows[-1].facts.image == "framework/jax"  # it is not released
    order = [STATUSES.index(row.status) for row in rows]
    assert order == sorted(order)


@given(st.permutations(fleets.of_each_kind()))
def test_the_order_does_not_depend_on_where_images_come_from(images: list[fleets.FleetImage]) -> None:
    assert fleets.fleet(images) == fleets.fleet(fleets.of_each_kind())


def test_the_fewest_days_left_come_first() -> None:
    images = [fleets.image(f"a/{days}", patches=fleets.patches(days)) for days in (3, 28, 27, 40, 33)]
    rows = fleets.fleet(images).rows
    assert [row.facts.patches.days_left for row in rows] == [-10, -3, 2, 3, 27]


def test_the_most_urgent_concern_comes_first() -> None:
    image = fleets.image("a/b", base=BaseState("behind"), patches=fleets.patches(31), eol=date(2026, 1, 1))
    (row,) = fleets.fleet([image]).rows
    assert [(concern.urgency, concern.text) for concern in row.concerns] == [
        ("act", "patch 1 day late"),
        ("act", "past its end of life"),
        ("watch", "base has changed"),
    ]


def test_an_image_that_is_not_signed_or_too_large_is_watched() -> None:
    image = fleets.image("a/b", served=fleets.served(signed_by="", sizes=(11_000_000,)), size_budget_mb=10)
    (row,) = fleets.fleet([image]).rows
    assert [concern.text for concern in row.concerns] == ["not signed", "larger than 10 MB"]
    (unsigned,) = fleets.fleet([replace(image, must_be_signed=False, size_budget_mb=11)]).rows
    assert unsigned.concerns == ()


def test_scans_that_are_old_or_incomplete_are_watched() -> None:
    for patches, said in (
        (fleets.patches(state="unknown", not_looked={"trivy": "no"}), "not scanned by all"),
        (fleets.patches(state="unknown", asked=fleets.NOW - timedelta(days=9)), "not scanned lately"),
    ):
        (row,) = fleets.fleet([fleets.image("a/b", patches=patches)]).rows
        assert [concern.text for concern in row.concerns] == [said]


def test_the_document_is_json_and_has_the_counts() -> None:
    fleet = fleets.fleet(fleets.of_each_kind())
    document = json.loads(json.dumps(fleet.document()))
    assert document["counts"] == {"act": 2, "watch": 4, "good": 5, "unreleased": 1}
    first = document["images"][0]
    assert (first["image"], first["status"], first["age_days"]) == ("base/openmpi4.1-debian12", "act", 47)
    assert first["patches"]["days_left"] == -6
    assert first["patches"]["oldest"] == "openssl 3.0.15-1~deb12u1 → 3.0.15-1~deb12u2 (CVE-2026-10231)"
    assert first["patches"]["looked"] == ["updates", "trivy"]
    assert first["served"]["since"] == "2026-10-11T06:41:00+00:00"


def test_what_is_of_the_team_alone_is_not_public() -> None:
    fleet = fleets.fleet(fleets.of_each_kind()).public
    said = json.dumps(fleet.document())
    assert "framework/jax" not in said
    for private in ("contoso.com", "team:", "20261126.81b0c7d2", "NCCL", "nvidia", "no trivy on PATH"):
        assert private not in said
    assert [row.facts.image for row in fleet.rows if row.status == "act"] == ["base/openmpi4.1-debian12"]


def test_the_summary_is_a_line() -> None:
    assert fleets.fleet([]).summary == "no images"
    assert fleets.fleet(fleets.of_each_kind()).summary == "12 images: 2 action needed, 4 watch, 5 good, 1 not released"
