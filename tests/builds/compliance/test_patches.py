"""The fixes that an image in production lacks, and the days that are left."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.compliance.patches import ProductionScan, ProductionScans, fixes_in_words, patch_status
from aml_images_dagster.vulnerabilities.policy import Policy
from aml_images_dagster.vulnerabilities.vulnerability import Scan, Vulnerability

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 26, 6, tzinfo=UTC)
DIGEST = f"sha256:{1:064x}"
UPDATE = Vulnerability(
    "CVE-2026-1",
    "libssl3",
    "deb",
    "3.0.15-1",
    "3.0.16-1",
    "unknown",
    "updates",
    fixed_since=date(2026, 11, 6),
    is_security_update=True,
)
LATER = replace(
    UPDATE, id="CVE-2026-2", package="libexpat1", installed="2.5", fixed_in="2.6", fixed_since=date(2026, 11, 20)
)


def _scan(*scans: Scan, asked: datetime = NOW, before: ProductionScan | None = None) -> ProductionScan:
    return ProductionScan.of("base/a", DIGEST, asked, scans, before)


def _found(*found: Vulnerability) -> ProductionScan:
    return _scan(Scan("updates", found))


def test_the_oldest_fix_counts_the_days() -> None:
    status = patch_status(_found(LATER, UPDATE), DIGEST, None, 30, NOW)

    assert status.oldest == UPDATE
    assert (status.state, status.days_left) == ("due soon", 10)
    assert status.missing == (UPDATE, LATER)


@pytest.mark.parametrize(
    ("days", "state", "left"),
    [(0, "missing", 30), (19, "missing", 11), (20, "due soon", 10), (30, "due soon", 0), (31, "overdue", -1)],
)
def test_days_run_out(days: int, state: str, left: int) -> None:
    update = replace(UPDATE, fixed_since=NOW.date() - timedelta(days=days))

    status = patch_status(_found(update), DIGEST, None, 30, NOW)

    assert (status.state, status.days_left) == (state, left)


def test_an_image_is_patched_when_all_sources_have_looked_and_found_no_fix() -> None:
    without_fix = replace(UPDATE, fixed_in="", fixed_since=None, is_security_update=False, severity="critical")

    status = patch_status(_found(without_fix), DIGEST, None, 30, NOW)

    assert (status.state, status.days_left, status.oldest) == ("patched", None, None)
    assert status.found == {"critical": 1}


def test_an_image_that_nobody_was_asked_about_is_not_patched() -> None:
    assert patch_status(None, DIGEST, None, 30, NOW).state == "unknown"


def test_an_image_that_production_serves_since_is_not_patched_as_the_one_before_was() -> None:
    assert patch_status(_found(), f"sha256:{2:064x}", None, 30, NOW).state == "unknown"


def test_an_answer_of_the_day_before_yesterday_says_nothing_of_today() -> None:
    assert patch_status(_found(), DIGEST, None, 30, NOW + timedelta(days=2)).state == "patched"
    assert patch_status(_found(), DIGEST, None, 30, NOW + timedelta(days=2, hours=1)).state == "unknown"


def test_an_image_is_not_patched_while_a_source_could_not_look() -> None:
    failed = Scan("updates", None, "the mirror does not answer", failed=True)

    status = patch_status(_scan(Scan("trivy", ()), failed), DIGEST, None, 30, NOW)

    assert status.state == "unknown"
    assert status.not_looked == {"updates": "the mirror does not answer"}


def test_what_one_source_has_found_counts_although_another_could_not_look() -> None:
    status = patch_status(_scan(Scan("updates", (UPDATE,)), Scan("trivy", None, "no trivy")), DIGEST, None, 30, NOW)

    assert (status.state, status.not_looked) == ("due soon", {"trivy": "no trivy"})


def test_a_fix_without_a_day_counts_from_the_day_on_which_it_was_first_found() -> None:
    undated = replace(UPDATE, fixed_since=None, source="trivy", severity="high")
    first = _scan(Scan("trivy", (undated,)), asked=NOW - timedelta(days=5))

    again = _scan(Scan("trivy", (undated, replace(undated, id="CVE-2026-7"))), before=first)

    assert {each.id: each.fixed_since for each in again.fixable} == {
        "CVE-2026-1": date(2026, 11, 21),
        "CVE-2026-7": date(2026, 11, 26),
    }


UNDATED = replace(UPDATE, fixed_since=None, source="trivy", severity="high")
AWAY = Scan("trivy", None, "no answer", failed=True)


def test_what_a_source_has_found_stays_while_it_cannot_look() -> None:
    first = _scan(Scan("trivy", (UNDATED,)), Scan("updates", ()), asked=NOW - timedelta(days=40))

    failed = _scan(AWAY, Scan("updates", ()), asked=NOW - timedelta(days=1), before=first)
    again = _scan(Scan("trivy", (UNDATED,)), Scan("updates", ()), before=failed)

    for scan in (failed, again):
        status = patch_status(scan, DIGEST, None, 30, NOW)
        assert (status.state, status.days_left, status.found) == ("overdue", -10, {"high": 1})


def test_what_a_source_that_has_looked_does_not_find_any_more_is_gone() -> None:
    first = _scan(Scan("trivy", (UNDATED,)), Scan("updates", ()), asked=NOW - timedelta(days=40))
    failed = _scan(AWAY, Scan("updates", ()), before=first)

    assert _scan(Scan("trivy", ()), Scan("updates", None, "no answer"), before=failed).known == ()


def test_days_go_on_in_the_next_image_also_if_its_first_scan_fails() -> None:
    next_digest = f"sha256:{2:064x}"
    first = _scan(Scan("trivy", (UNDATED,)), asked=NOW - timedelta(days=40))

    failed = ProductionScan.of("base/a", next_digest, NOW, (AWAY,), first)
    failed_again = ProductionScan.of("base/a", next_digest, NOW, (AWAY,), failed)
    found = ProductionScan.of("base/a", next_digest, NOW, (Scan("trivy", (UNDATED,)),), failed_again)

    assert (failed.fixable, failed_again.fixable) == ((), ()), "nobody knows whether the next image lacks it"
    assert patch_status(found, next_digest, None, 30, NOW).state == "overdue"
    assert found.of_earlier == ()


def test_what_the_policy_allows_or_excepts_does_not_count_until_its_exception_ends() -> None:
    low = replace(UPDATE, id="CVE-2026-3", is_security_update=False, severity="low")
    exception = {"id": "CVE-2026-1", "reason": "not reachable in a job", "expires": "2026-11-26"}
    policy = Policy.model_validate({"exceptions": (exception,)})
    scan = _found(UPDATE, low)

    assert patch_status(scan, DIGEST, policy, 30, NOW).missing == ()
    assert patch_status(scan, DIGEST, policy, 30, NOW + timedelta(days=1)).missing == (UPDATE,)


def test_days_of_grace_are_none_of_the_promise() -> None:
    assert patch_status(_found(UPDATE), DIGEST, Policy(grace_days=365), 30, NOW).oldest == UPDATE


@pytest.mark.parametrize(
    ("days", "said"),
    [(20, "10 days left"), (29, "1 day left"), (30, "to be in production today"), (32, "2 days overdue")],
)
def test_the_summary_names_the_fix_and_the_days(days: int, said: str) -> None:
    since = NOW.date() - timedelta(days=days)
    update = replace(UPDATE, fixed_since=since)
    scan = _scan(Scan("updates", (update, LATER)), Scan("trivy", None, "there is no trivy on PATH"))

    summary = patch_status(scan, DIGEST, None, 30, NOW).summary

    first, *rest = summary.split(". ")
    assert first == f"libssl3 3.0.15-1 → 3.0.16-1 (CVE-2026-1), available since {since}: {said}"
    assert rest == ["1 more is missing", "trivy has not looked: there is no trivy on PATH."]


def test_the_summary_of_what_is_not_known_says_so() -> None:
    old = _scan(Scan("updates", ()), asked=NOW - timedelta(days=9))

    assert patch_status(None, DIGEST, None, 30, NOW).summary == "No source was asked yet about what production serves."
    assert patch_status(old, DIGEST, None, 30, NOW).summary == "No missing fix is known. Asked on 2026-11-17."
    assert patch_status(_found(), DIGEST, None, 30, NOW).summary == "No missing fix is known."


def test_a_scan_is_read_as_it_was_written_and_replaces_the_last_one(tmp_path: Path) -> None:
    scans = ProductionScans(Artifacts(str(tmp_path)))
    scans.write(_found(LATER))

    scans.write(_found(UPDATE))

    assert scans.read("base/a") == _found(UPDATE)
    assert scans.read("base/b") is None


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"image": "base/b"}'])
def test_a_damaged_scan_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "production_scans" / "base").mkdir(parents=True)
    (tmp_path / "production_scans" / "base" / "a.json").write_bytes(content)

    assert ProductionScans(Artifacts(str(tmp_path))).read("base/a") is None


def test_packages_of_one_update_share_a_line_with_its_newest_version() -> None:
    other = replace(UPDATE, id="CVE-2026-5", fixed_in="3.0.17-1", fixed_since=date(2026, 11, 7))
    of_tool = [replace(each, package="openssl") for each in (UPDATE, other)]

    assert fixes_in_words([UPDATE, other, *of_tool, LATER]) == (
        "libssl3, openssl 3.0.15-1 → 3.0.17-1 (CVE-2026-1, CVE-2026-5)",
        "libexpat1 2.5 → 2.6 (CVE-2026-2)",
    )
