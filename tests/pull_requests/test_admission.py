"""Whose pull requests are built."""

from __future__ import annotations

import itertools

import pytest

from aml_images_dagster.pull_requests.admission import Origin, admit

INSIDE = Origin("alice", frozenset(), True)
OUTSIDE = Origin("mallory", frozenset(), False)
LABELLED = Origin("mallory", frozenset({"build", "x"}), False)


@pytest.mark.parametrize(
    ("rules", "origin", "seen", "admitted"),
    [
        ((), INSIDE, True, False),
        ((), None, True, False),
        (("everyone",), None, False, True),
        (("everyone",), OUTSIDE, False, True),
        (("same-repository",), INSIDE, False, True),
        (("same-repository",), OUTSIDE, True, False),
        (("same-repository",), None, True, False),
        (("author:alice",), INSIDE, False, True),
        (("author:Mallory",), OUTSIDE, False, True),
        (("author:mall",), OUTSIDE, True, False),
        (("author:alice",), OUTSIDE, True, False),
        (("label:build",), LABELLED, True, True),
        (("label:build",), LABELLED, False, False),
        (("label:build",), OUTSIDE, True, False),
        (("label:Build",), LABELLED, True, False),
        (("same-repository", "label:x"), LABELLED, True, True),
    ],
)
def test_admission(rules: tuple[str, ...], origin: Origin | None, seen: bool, admitted: bool) -> None:
    found = admit(rules, origin, seen_without_label=seen)
    assert found.admitted is admitted
    assert found.why


def test_an_author_named_like_a_rule_is_nobody() -> None:
    for name, rule in itertools.product(
        ("everyone", "same-repository", "label:build"), ("same-repository", "label:build")
    ):
        assert not admit((rule,), Origin(name, frozenset(), False), seen_without_label=True).admitted
