"""`policy.yaml`: which vulnerabilities and licences an image may be released with, and what it says of those found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from aml_images_dagster.catalog.validated_file import StrictModel, read_model_file
from aml_images_dagster.errors import BadInput
from aml_images_dagster.licences import NOT_KNOWN, is_valid, matching
from aml_images_dagster.vulnerabilities.vulnerability import LICENCES, Severity, Vulnerability, merged, rank

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aml_images_dagster.catalog.finding import Finding
    from aml_images_dagster.catalog.tree import Tree
    from aml_images_dagster.trust.packages import Package
    from aml_images_dagster.vulnerabilities.vulnerability import Scan

POLICY_FILE = "policy.yaml"
_EXPIRES_SOON = timedelta(days=14)

Source = Literal["updates", "trivy", "grype", "defender"]


class LicencePolicy(StrictModel):
    """Licences that nothing in an image may have."""

    forbidden: tuple[str, ...] = Field(
        default=(),
        description="SPDX identifiers, or patterns with *; NOASSERTION is a package of which no licence was found. Of "
        "A OR B another side may be chosen, and a licence WITH an exception is one of its own.",
    )

    @field_validator("forbidden")
    @classmethod
    def _are_licences(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if "*" not in each and each != NOT_KNOWN and (not is_valid(each) or " " in each.replace(" WITH ", "")):
                raise ValueError(f"{each!r} is no SPDX identifier, such as AGPL-3.0-only (https://spdx.org/licenses)")
        return value


class PolicyException(StrictModel):
    """A vulnerability, or a licence, that is accepted for a time."""

    id: str = Field(
        min_length=1, description="CVE-…, GHSA-…, or the identifier that the source gives it; or the forbidden licence."
    )
    package: str = Field(default="*", min_length=1, description="Name of the package, or a pattern with *.")
    images: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="<family>/<name>, or patterns with *, of the images that it is for."
    )
    reason: str = Field(min_length=10, max_length=1000, description="Why it may stay, in a sentence.")
    expires: date = Field(description="The last day of the exception, UTC, as YYYY-MM-DD.")

    @field_validator("expires", mode="before")
    @classmethod
    def _is_a_day(cls, value: object) -> object:
        # A strict model takes no text for a date, and YAML has no other form for one.
        if not isinstance(value, str):
            raise ValueError("write a day as YYYY-MM-DD")  # noqa: TRY004 - pydantic's way
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError("write a day as YYYY-MM-DD") from None

    def is_for(self, vulnerability: Vulnerability, image: str) -> bool:
        """Whether it speaks of this vulnerability of this image."""
        return (
            self.id == vulnerability.id
            and fnmatchcase(vulnerability.package, self.package)
            and any(fnmatchcase(image, pattern) for pattern in self.images)
        )


class Policy(StrictModel):
    """The whole of `policy.yaml`."""

    action: Literal["block", "report"] = Field(
        default="block", description="block: a build fails on what the policy does not allow. report: it is shown."
    )
    severity: Severity = Field(
        default="high", description="From this severity on a vulnerability is not allowed; sources name it."
    )
    only_fixable: bool = Field(
        default=True, description="Allow vulnerabilities that nobody has fixed yet; they are reported."
    )
    security_updates: bool = Field(
        default=True,
        description="Do not allow packages that lack a security update of their distribution, whatever its severity.",
    )
    grace_days: int = Field(
        default=0, ge=0, le=365, description="Days after a fix became available in which it may still be missing."
    )
    sources: tuple[Source, ...] = Field(
        default=(), description="Sources that must have looked; one that could not closes the gate."
    )
    licences: LicencePolicy = Field(default=LicencePolicy(), description="Licences that are not allowed.")
    exceptions: tuple[PolicyException, ...] = Field(
        default=(), description="Vulnerabilities and licences that are accepted, each with a reason and an end."
    )


def find_policy(tree: Tree) -> tuple[Policy | None, tuple[Finding, ...]]:
    """Read `policy.yaml` of a tree.

    Returns:
        The policy, None where there is no file or it is wrong; and what is wrong.
    """
    if POLICY_FILE not in tree.files():
        return None, ()
    return read_model_file(Policy, tree.read(POLICY_FILE), POLICY_FILE)


def read_policy(tree: Tree) -> Policy | None:
    """The policy of a tree; None where there is no file.

    Raises:
        BadInput: The file is wrong: every mistake with its line.
    """
    policy, findings = find_policy(tree)
    if findings:
        text = "\n  ".join(f"line {each.line}: {each.message}" if each.line else each.message for each in findings)
        raise BadInput(text, where=POLICY_FILE, hint="docs/trust.md has an example.")
    return policy


WITHOUT_POLICY = Policy(action="report")
"""What counts where a repository has no policy: everything is shown, and nothing blocks."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the policy makes of the scans of an image.

    Attributes:
        blocking: What it does not allow, the worst first.
        inherited: What it does not allow, but the image's base has as well.
        excepted: What an exception allows, with that exception.
        in_grace: What it allows for some days yet.
        allowed: All else that was found.
        looked: Sources that have looked.
        not_looked: Sources that have not, with the reason.
        missing_sources: Those of them that must have.
        expired: Exceptions that have ended.
        unused: Exceptions for this image of which nothing was found.
        expiring: Exceptions that end within two weeks.
    """

    blocking: tuple[Vulnerability, ...]
    inherited: tuple[Vulnerability, ...]
    excepted: tuple[tuple[Vulnerability, PolicyException], ...]
    in_grace: tuple[Vulnerability, ...]
    allowed: tuple[Vulnerability, ...]
    looked: tuple[str, ...]
    not_looked: Mapping[str, str]
    missing_sources: tuple[str, ...]
    expired: tuple[PolicyException, ...]
    unused: tuple[PolicyException, ...]
    expiring: tuple[PolicyException, ...]

    @property
    def passed(self) -> bool:
        """Whether the image may be released as far as the policy goes."""
        return not self.blocking and not self.missing_sources

    @property
    def verdicts(self) -> dict[Vulnerability, str]:
        """What the policy says of each vulnerability, in a word or two; what it does not allow comes first."""
        by_verdict = {
            "not allowed": self.blocking,
            "of the base": self.inherited,
            "in grace": self.in_grace,
            "excepted": tuple(each for each, _ in self.excepted),
            "allowed": self.allowed,
        }
        return {each: verdict for verdict, several in by_verdict.items() for each in several}

    @property
    def remarks(self) -> tuple[str, ...]:
        """What there is to say of exceptions, a sentence for each."""
        return (
            *(f"The exception for {e.id} has expired on {e.expires}." for e in self.expired),
            *(f"The exception for {e.id} is not used any more." for e in self.unused),
            *(f"The exception for {e.id} expires on {e.expires}." for e in self.expiring),
        )

    @property
    def summary(self) -> str:
        """What was found and who has looked, in a sentence or two."""
        counts = {
            "not allowed": len(self.blocking),
            "not allowed, but of the base": len(self.inherited),
            "excepted": len(self.excepted),
            "in their days of grace": len(self.in_grace),
            "allowed": len(self.allowed),
        }
        found = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing found"
        by = f"Vulnerability sources: {', '.join(self.looked)}." if self.looked else "Nobody has looked."
        rest = "".join(f" {source} has not: {why}." for source, why in self.not_looked.items())
        required = f" The policy requires {', '.join(self.missing_sources)}." if self.missing_sources else ""
        return f"{found[0].upper()}{found[1:]}. {by}{rest}{required}"


def assess(
    scans: Collection[Scan],
    policy: Policy,
    image: str,
    today: date,
    *,
    packages: Collection[Package] = (),
    of_base: Collection[Vulnerability] | None = None,
) -> Assessment:
    """Hold what sources have found, and the licences of packages, against the policy.

    Args:
        scans: One for each source that was asked.
        policy: The policy.
        image: `<family>/<name>`.
        today: The day, UTC.
        packages: What is in the image, on all platforms.
        of_base: What the image's base has, if that is not to block here: for a pull request, which did not bring it.
    """
    inherited_keys = {(each.id, each.package, each.installed) for each in of_base or ()}
    blocking, inherited, in_grace, allowed = [], [], [], []
    excepted: list[tuple[Vulnerability, PolicyException]] = []
    for each in (*merged(tuple(scans)), *forbidden_licences(packages, policy)):
        exception = next((e for e in policy.exceptions if e.is_for(each, image) and e.expires >= today), None)
        if not _is_forbidden(each, policy):
            allowed.append(each)
        elif exception is not None:
            excepted.append((each, exception))
        elif each.fixed_since is not None and (today - each.fixed_since).days < policy.grace_days:
            in_grace.append(each)
        elif (each.id, each.package, each.installed) in inherited_keys:
            inherited.append(each)
        else:
            blocking.append(each)
    used = {id(exception) for _, exception in excepted}
    here = [e for e in policy.exceptions if any(fnmatchcase(image, pattern) for pattern in e.images)]
    looked = tuple(scan.source for scan in scans if scan.has_looked)
    return Assessment(
        blocking=tuple(blocking),
        inherited=tuple(inherited),
        excepted=tuple(excepted),
        in_grace=tuple(in_grace),
        allowed=tuple(allowed),
        looked=looked,
        not_looked={scan.source: scan.detail for scan in scans if not scan.has_looked},
        missing_sources=tuple(source for source in policy.sources if source not in looked),
        expired=tuple(e for e in here if e.expires < today),
        unused=tuple(e for e in here if e.expires >= today and id(e) not in used),
        expiring=tuple(e for e in here if today <= e.expires <= today + _EXPIRES_SOON),
    )


def forbidden_licences(packages: Collection[Package], policy: Policy) -> tuple[Vulnerability, ...]:
    """The licences of packages that a policy forbids, as findings."""
    if not policy.licences.forbidden:
        return ()
    found = {
        (licence, package.name, package.version): Vulnerability(
            id=licence,
            package=package.name,
            type=package.type,
            installed=package.version,
            fixed_in="",
            severity="unknown",
            source=LICENCES,
            title=package.licence,
        )
        for package in packages
        for licence in matching(package.licence, policy.licences.forbidden)
    }
    return tuple(found[key] for key in sorted(found))


def _is_forbidden(vulnerability: Vulnerability, policy: Policy) -> bool:
    if vulnerability.source == LICENCES:
        return True
    if policy.security_updates and vulnerability.is_security_update:
        return True
    return rank(vulnerability.severity) >= rank(policy.severity) and bool(
        vulnerability.fixed_in or not policy.only_fixable
    )
