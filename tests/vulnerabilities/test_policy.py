"""`policy.yaml`, and what it makes of what was found."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.errors import BadInput
from aml_images_dagster.trust.packages import Package
from aml_images_dagster.vulnerabilities.policy import (
    WITHOUT_POLICY,
    LicencePolicy,
    Policy,
    PolicyException,
    assess,
    forbidden_licences,
    read_policy,
)
from aml_images_dagster.vulnerabilities.vulnerability import Scan, Vulnerability, merged

if TYPE_CHECKING:
    from pathlib import Path

TODAY = date(2026, 11, 26)
CRITICAL = Vulnerability("CVE-2026-1", "libssl3", "deb", "3.0.15", "3.0.17", "critical", "trivy")
UPDATE = Vulnerability(
    "CVE-2026-9",
    "libexpat1",
    "deb",
    "2.5.0-1",
    "2.5.0-1+deb12u1",
    "unknown",
    "updates",
    fixed_since=date(2026, 11, 1),
    is_security_update=True,
)


def _exception(**fields: Any) -> PolicyException:
    described = {"id": "CVE-2026-1", "reason": "the function is not reachable", "expires": "2026-12-15"}
    return PolicyException.model_validate(described | fields)


def _scan(*found: Vulnerability, source: str = "trivy") -> Scan:
    return Scan(source, found)


def _read(folder: Path, text: str) -> Policy:
    (folder / "policy.yaml").write_text(text)
    policy = read_policy(WorkingTree(folder))
    assert policy is not None
    return policy


def test_without_a_file_there_is_no_policy_and_what_counts_instead_blocks_no_build(tmp_path: Path) -> None:
    assert read_policy(WorkingTree(tmp_path)) is None
    assert WITHOUT_POLICY.action == "report"


def test_a_whole_file(tmp_path: Path) -> None:
    policy = _read(
        tmp_path,
        """\
severity: critical
only_fixable: false
grace_days: 7
sources: [updates, trivy]
exceptions:
  - id: CVE-2026-1
    package: libssl*
    images: [framework/*]
    reason: the function is not reachable in a training job
    expires: 2026-12-15
""",
    )

    assert policy.action == "block"
    assert policy.exceptions[0].expires == date(2026, 12, 15)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("severty: high\n", 'line 1: unknown key "severty"; did you mean "severity"?'),
        ("severity: bad\n", "line 1: severity"),
        ("grace_days: -1\n", "line 1: grace_days"),
        ("sources: [snyk]\n", "line 1: sources"),
        ("exceptions:\n  - id: CVE-1\n    reason: because of that\n", '"exceptions[0].expires" is missing'),
        (
            "exceptions:\n  - id: CVE-1\n    reason: because of that\n    expires: soon\n",
            "line 4: exceptions[0].expires: write a day as YYYY-MM-DD",
        ),
        (
            "exceptions:\n  - id: CVE-1\n    reason: because of that\n    expires: 2026-02-30\n",
            "line 4: exceptions[0].expires: write a day as YYYY-MM-DD",
        ),
        ("exceptions:\n  - id: CVE-1\n    reason: ''\n    expires: 2026-12-30\n", "line 3: exceptions[0].reason"),
        ("licences: {forbidden: [AGPL3]}\n", "line 1: licences.forbidden: 'AGPL3' is no SPDX identifier"),
        ("licences: {forbidden: [MIT OR GPL-2.0-only]}\n", "'MIT OR GPL-2.0-only' is no SPDX identifier"),
        ("a: [\n", "not valid YAML"),
        ("- a\n", ""),
    ],
)
def test_a_wrong_file_is_refused_with_its_lines(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        _read(tmp_path, text)

    assert caught.value.where == "policy.yaml"
    assert said in caught.value.what


def test_a_severe_vulnerability_with_a_fix_blocks_and_one_that_nobody_has_fixed_does_not() -> None:
    unfixed = replace(CRITICAL, id="CVE-2026-2", fixed_in="")
    low = replace(CRITICAL, id="CVE-2026-3", severity="low")

    assessment = assess([_scan(CRITICAL, unfixed, low)], Policy(), "base/a", TODAY)

    assert assessment.blocking == (CRITICAL,)
    assert set(assessment.allowed) == {unfixed, low}
    assert not assessment.passed
    assert assess([_scan(unfixed)], Policy(only_fixable=False), "base/a", TODAY).blocking == (unfixed,)


def test_a_missing_security_update_blocks_whatever_its_severity() -> None:
    assert assess([_scan(UPDATE, source="updates")], Policy(), "base/a", TODAY).blocking == (UPDATE,)
    assert assess([_scan(UPDATE)], Policy(security_updates=False), "base/a", TODAY).passed


@pytest.mark.parametrize(("days", "passed"), [(25, False), (26, True)])
def test_days_of_grace_are_counted_from_the_fix(days: int, passed: bool) -> None:
    assessment = assess([_scan(UPDATE, source="updates")], Policy(grace_days=days), "base/a", TODAY)

    assert assessment.passed is passed
    assert bool(assessment.in_grace) is passed


def test_a_vulnerability_whose_fix_has_no_day_has_no_days_of_grace() -> None:
    assert assess([_scan(CRITICAL)], Policy(grace_days=365), "base/a", TODAY).blocking == (CRITICAL,)


def test_an_exception_ends_with_its_last_day() -> None:
    policy = Policy(exceptions=(_exception(images=["framework/*"]),))

    on_the_last = assess([_scan(CRITICAL)], policy, "framework/x", date(2026, 12, 15))
    after_it = assess([_scan(CRITICAL)], policy, "framework/x", date(2026, 12, 16))

    assert on_the_last.passed
    assert [vulnerability for vulnerability, _ in on_the_last.excepted] == [CRITICAL]
    assert on_the_last.expiring == policy.exceptions
    assert after_it.blocking == (CRITICAL,)
    assert after_it.expired == policy.exceptions


def test_an_exception_is_for_its_images_and_packages_only() -> None:
    assert not assess([_scan(CRITICAL)], Policy(exceptions=(_exception(images=["apps/*"]),)), "base/a", TODAY).passed
    assert not assess([_scan(CRITICAL)], Policy(exceptions=(_exception(package="lib?"),)), "base/a", TODAY).passed


def test_an_exception_for_nothing_is_told_for_the_images_that_it_names() -> None:
    policy = Policy(exceptions=(_exception(id="CVE-1999-1"),))

    assert assess([_scan(CRITICAL)], policy, "base/a", TODAY).unused == policy.exceptions
    elsewhere = Policy(exceptions=(_exception(images=["apps/*"]),))
    assert assess([_scan()], elsewhere, "base/a", TODAY).unused == ()


def test_a_source_that_must_look_and_has_not_closes_the_gate() -> None:
    failed = Scan("updates", None, "the mirror does not answer")

    assessment = assess([failed], Policy(sources=("updates", "trivy")), "base/a", TODAY)

    assert not assessment.passed
    assert assessment.missing_sources == ("updates", "trivy")
    assert assessment.summary == (
        "Nothing found. Nobody has looked. updates has not: the mirror does not answer. "
        "The policy requires updates, trivy."
    )


def test_what_the_base_brings_along_does_not_block_a_pull_request() -> None:
    own = replace(CRITICAL, id="CVE-2026-4", package="curl")

    assessment = assess([_scan(CRITICAL, own)], Policy(), "base/a", TODAY, of_base=[CRITICAL])

    assert assessment.inherited == (CRITICAL,)
    assert assessment.blocking == (own,)


def test_another_version_than_that_of_the_base_is_the_image_s_own() -> None:
    older = replace(CRITICAL, installed="3.0.11")

    assert assess([_scan(older)], Policy(), "base/a", TODAY, of_base=[CRITICAL]).blocking == (older,)


def test_two_sources_of_one_mind_are_one_vulnerability_of_the_worse_severity() -> None:
    other = replace(CRITICAL, severity="medium", source="grype", fixed_since=date(2026, 11, 2), url="https://a")

    (both,) = merged((_scan(CRITICAL), _scan(other, source="grype")))

    assert (both.severity, both.source, both.fixed_since, both.url) == (
        "critical",
        "trivy, grype",
        date(2026, 11, 2),
        "https://a",
    )


_FOUND = st.builds(
    Vulnerability,
    id=st.sampled_from(["CVE-1", "CVE-2", "CVE-3"]),
    package=st.sampled_from(["a", "b"]),
    type=st.just("deb"),
    installed=st.just("1"),
    fixed_in=st.sampled_from(["", "2"]),
    severity=st.sampled_from(["unknown", "low", "high", "critical"]),
    source=st.sampled_from(["trivy", "grype"]),
    fixed_since=st.none() | st.dates(TODAY - timedelta(days=40), TODAY),
    is_security_update=st.booleans(),
)
_POLICIES = st.builds(
    Policy,
    severity=st.sampled_from(["low", "high"]),
    only_fixable=st.booleans(),
    security_updates=st.booleans(),
    grace_days=st.integers(0, 40),
    exceptions=st.lists(
        st.builds(
            _exception,
            id=st.sampled_from(["CVE-1", "CVE-2"]),
            package=st.sampled_from(["*", "a"]),
            images=st.sampled_from([["*"], ["apps/*"]]),
            expires=st.sampled_from(["2026-11-25", "2026-11-26"]),
        ),
        max_size=2,
    ).map(tuple),
)


@given(st.lists(_FOUND, max_size=6), _POLICIES, st.lists(_FOUND, max_size=3))
def test_each_vulnerability_counts_once_and_none_is_lost(
    found: list[Vulnerability], policy: Policy, of_base: list[Vulnerability]
) -> None:
    assessment = assess([Scan("trivy", tuple(found))], policy, "base/a", TODAY, of_base=of_base)

    parts = [
        *assessment.blocking,
        *assessment.inherited,
        *(vulnerability for vulnerability, _ in assessment.excepted),
        *assessment.in_grace,
        *assessment.allowed,
    ]
    assert len(parts) == len(set(parts))
    assert set(parts) == set(merged((Scan("trivy", tuple(found)),)))


GHOSTSCRIPT = Package("deb", "ghostscript", "10.0", licence="AGPL-3.0-or-later AND MIT")


def test_a_forbidden_licence_is_a_finding_like_others() -> None:
    policy = Policy(licences=LicencePolicy(forbidden=("AGPL-*", "NOASSERTION", "GPL-2.0-only WITH GCC-exception-3.1")))
    packages = [GHOSTSCRIPT, Package("pypi", "tool", "1"), Package("pypi", "free", "1", licence="MIT OR AGPL-3.0-only")]
    assessment = assess([_scan()], policy, "base/a", TODAY, packages=packages)

    assert [each.said for each in assessment.blocking] == [
        "ghostscript 10.0 is under AGPL-3.0-or-later",
        "tool 1 is under NOASSERTION",
    ]
    assert {each.source for each in assessment.blocking} == {"licences"}
    assert assessment.looked == ("trivy",)  # reading licences is not looking for vulnerabilities
    assert assess([_scan()], Policy(), "base/a", TODAY, packages=packages).passed


def test_an_exception_allows_a_forbidden_licence_until_it_expires() -> None:
    allowed = _exception(id="AGPL-3.0-or-later", package="ghostscript", images=["base/*"])
    policy = Policy(licences=LicencePolicy(forbidden=("AGPL-*",)), exceptions=(allowed,))

    on_the_last = assess([_scan()], policy, "base/a", allowed.expires, packages=[GHOSTSCRIPT])
    after_it = assess([_scan()], policy, "base/a", allowed.expires + timedelta(days=1), packages=[GHOSTSCRIPT])
    assert (on_the_last.passed, after_it.passed) == (True, False)
    assert assess([_scan()], policy, "base/a", TODAY).unused == (allowed,)


def test_a_forbidden_licence_that_the_base_brings_is_told_in_a_pull_request() -> None:
    policy = Policy(licences=LicencePolicy(forbidden=("AGPL-*",)))
    of_base = forbidden_licences([GHOSTSCRIPT], policy)
    assessment = assess([_scan()], policy, "base/a", TODAY, packages=[GHOSTSCRIPT], of_base=of_base)

    assert (assessment.passed, assessment.inherited) == (True, of_base)
