"""Admission of pull requests to a build: a Dockerfile runs commands on the machines that build."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.settings.pull_requests import AUTHOR, EVERYONE, LABEL, SAME_REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a pull request comes from, as its host says.

    Attributes:
        author: Its author.
        labels: Its labels.
        same_repository: Whether its branch is in the repository itself: only those who may write there can push to it.
    """

    author: str
    labels: frozenset[str]
    same_repository: bool


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a head of a pull request is built.

    Attributes:
        admitted: Whether.
        why: The rule that admits it, or what is missing, in a sentence.
    """

    admitted: bool
    why: str


def admit(rules: Sequence[str], origin: Origin | None, *, seen_without_label: bool) -> Admission:
    """Decide whether the head of a pull request is built.

    A label approves the commit that was reviewed. So it counts only for a head that was seen without it before: one
    that is pushed to a pull request that has the label already is not approved by it.

    Args:
        rules: The setting `allow`.
        origin: What the host says; None when there is none that could be asked.
        seen_without_label: Whether this very head was seen before without a label that admits it.
    """
    if EVERYONE in rules:
        return Admission(True, "every pull request is built")
    if origin is None:
        return Admission(
            False,
            "its author is unknown: no token is set, or the host of the remote is not supported "
            f"(pull_requests.token, pull_requests.host, or pull_requests.allow = {EVERYONE})",
        )
    if SAME_REPOSITORY in rules and origin.same_repository:
        return Admission(True, "its branch is in the repository itself")
    # The names of users are the same to hosts whatever their case.
    if f"{AUTHOR}{origin.author}".casefold() in {rule.casefold() for rule in rules}:
        return Admission(True, f"{origin.author} is trusted")
    labels = approving_labels(rules, origin)
    if labels and seen_without_label:
        return Admission(True, f"it has the label {labels[0]}")
    if labels:
        return Admission(
            False,
            f"the label {labels[0]} was there before this commit: review it, remove the label and set it again",
        )
    wanted = [rule.removeprefix(LABEL) for rule in rules if rule.startswith(LABEL)]
    if wanted:
        return Admission(False, f"it comes from outside: after a review, set the label {' or '.join(wanted)}")
    return Admission(False, "it comes from outside, and its author is not trusted")


def approving_labels(rules: Sequence[str], origin: Origin) -> list[str]:
    """The labels of a pull request that a rule names."""
    return sorted(label for label in origin.labels if f"{LABEL}{label}" in rules)
