"""notifications.yaml: what is accepted, what is refused, and whom an event reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.errors import BadInput
from aml_images_dagster.notifications.notification import Notification, recipients
from aml_images_dagster.notifications.rules import NotificationRules, find_rules, read_rules

if TYPE_CHECKING:
    from pathlib import Path

RULES = """\
owners:
  email: mail
  teams: {frameworks: frameworks_chat}
  others: operators
rules:
  - events: [build_failed]
    to: [owners]
  - events: [build_failed, sensor_failing]
    to: [operators]
    images: ["base/*"]
"""
OWNERS = {"base/cuda": ("team:frameworks", "a@example.com"), "apps/tool": ("team:unknown",), "apps/none": ()}


def write(root: Path, text: str) -> WorkingTree:
    (root / "notifications.yaml").write_text(text)
    return WorkingTree(root)


def rules(root: Path, text: str = RULES) -> NotificationRules:
    return read_rules(write(root, text))


def reached(rules: NotificationRules, *images: str) -> list[tuple[str, str]]:
    failed = Notification(kind="build_failed", key="x", title="x", reason="x", link="x", images=images)
    return list(recipients(failed, rules, OWNERS))


def test_each_channel_and_owner_is_reached_once(tmp_path: Path) -> None:
    assert reached(rules(tmp_path), "base/cuda") == [
        ("frameworks_chat", ""),
        ("mail", "a@example.com"),
        ("operators", ""),
    ]


@pytest.mark.parametrize("image", ["apps/tool", "apps/none"])
def test_an_image_whose_owners_have_no_channel_reaches_the_others(tmp_path: Path, image: str) -> None:
    assert reached(rules(tmp_path), image) == [("operators", "")]


def test_what_is_about_no_image_reaches_the_others_and_matches_no_pattern(tmp_path: Path) -> None:
    assert reached(rules(tmp_path)) == [("operators", "")]
    only_pattern = rules(tmp_path, "rules: [{events: [build_failed], to: [x], images: ['*']}]")
    assert reached(only_pattern) == []
    assert reached(only_pattern, "apps/none") == [("x", "")]


def test_every_channel_of_the_file_is_known(tmp_path: Path) -> None:
    assert rules(tmp_path).channels == ("mail", "operators", "frameworks_chat")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RULES.replace("email:", "mail:"), 'notifications.yaml:2: error: unknown key "owners.mail"'),
        (RULES.replace("[build_failed]", "[build_fail]"), "notifications.yaml:6: error: rules[0].events[0]: must be"),
        (RULES.replace("[build_failed]", "[build_fialed]"), 'not "build_fialed"; did you mean "build_failed"?'),
        (RULES.replace("[operators]", "[Operators]"), "notifications.yaml:9: error: rules[1].to[0]: "),
        ("rules: [{events: [build_failed], to: [owners]}]", 'say in "owners" how they are reached'),
        (RULES.replace("others: operators", "others: owners"), 'no channel can be named "owners"'),
        ("rules: []", "notifications.yaml:1: error: rules: must not be empty"),
        ("rules: [", "notifications.yaml:"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    read, findings = find_rules(write(tmp_path, text))
    assert read is None
    assert said in "\n".join(map(str, findings))
    with pytest.raises(BadInput) as refused:
        rules(tmp_path, text)
    assert said in refused.value.what


def test_a_repository_without_the_file(tmp_path: Path) -> None:
    assert find_rules(WorkingTree(tmp_path)) == (None, ())
    with pytest.raises(BadInput, match="no such file"):
        read_rules(WorkingTree(tmp_path))
