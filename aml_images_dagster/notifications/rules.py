"""`notifications.yaml` at the top of a repository: which events are sent to which channels."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from aml_images_dagster.catalog.validated_file import StrictModel, read_model_file
from aml_images_dagster.errors import BadInput
from aml_images_dagster.messages import form

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aml_images_dagster.catalog.finding import Finding
    from aml_images_dagster.catalog.tree import Tree

RULES_FILE = "notifications.yaml"
OWNERS = "owners"
"""In the place of a channel: the owners of the images, as image.json names them."""
_TEAM = "team:"

Kind = Literal[
    "build_failed",
    "release_done",
    "rollback_done",
    "withdrawal_done",
    "release_late",
    "base_paused",
    "fix_overdue",
    "cleanup_unhealthy",
    "sensor_failing",
]

_CHANNEL = form(r"^[a-z][a-z0-9_]{0,39}$", "small letters, digits and underscores, at most 40, beginning with a letter")
Channel = Annotated[str, Field(pattern=_CHANNEL)]


class OwnerChannels(StrictModel):
    """How the owners of an image are reached."""

    email: Channel | None = Field(
        default=None, description="Channel for owners that are e-mail addresses; its URL has {email}."
    )
    teams: dict[str, Channel] = Field(
        default_factory=dict, description="Channels of teams: NAME of an owner team:NAME, and its channel."
    )
    others: Channel = Field(description="Channel where an image has no owner, or one without a channel.")

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel."""
        return tuple(dict.fromkeys((*filter(None, (self.email, self.others)), *self.teams.values())))


class Rule(StrictModel):
    """One rule."""

    events: tuple[Kind, ...] = Field(min_length=1, description="What is sent.")
    to: tuple[Channel, ...] = Field(min_length=1, description="Channels, and `owners` for those of the images.")
    images: tuple[str, ...] = Field(
        default=(),
        description="Only of these images: <family>/<name>, or a pattern with *. Events that are not about images "
        "match no pattern. Default: all.",
    )

    def is_about(self, kind: Kind, images: Iterable[str]) -> bool:
        """Whether an event matches."""
        return kind in self.events and (
            not self.images or any(fnmatchcase(image, pattern) for image in images for pattern in self.images)
        )


class NotificationRules(StrictModel):
    """The whole of notifications.yaml. The address of a channel is in the variable AML_IMAGES_NOTIFY_<CHANNEL>."""

    owners: OwnerChannels | None = Field(default=None, description="How the owners of images are reached.")
    rules: tuple[Rule, ...] = Field(min_length=1, description="An event is sent by every rule that matches.")

    @model_validator(mode="after")
    def _reaches_owners(self) -> Self:
        if self.owners is None and any(OWNERS in rule.to for rule in self.rules):
            raise ValueError('a rule has "to: [owners]"; say in "owners" how they are reached')
        if self.owners and OWNERS in self.owners.channels:
            raise ValueError('no channel can be named "owners"')
        return self

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel, in the order of the file."""
        of_owners = self.owners.channels if self.owners else ()
        named = [*of_owners, *(channel for rule in self.rules for channel in rule.to if channel != OWNERS)]
        return tuple(dict.fromkeys(named))

    def channel_of(self, owner: str) -> tuple[str, str]:
        """The channel of an owner, and the e-mail address that is put into its URL; empty for a team."""
        assert self.owners is not None  # noqa: S101 - validated
        team = owner.removeprefix(_TEAM)
        if team != owner:
            return self.owners.teams.get(team, self.owners.others), ""
        return (self.owners.email, owner) if self.owners.email else (self.owners.others, "")


def find_rules(tree: Tree) -> tuple[NotificationRules | None, tuple[Finding, ...]]:
    """Read the file of a tree.

    Returns:
        The rules, None where there is no file or it is wrong; and what is wrong.
    """
    if RULES_FILE not in tree.files():
        return None, ()
    return read_model_file(NotificationRules, tree.read(RULES_FILE), RULES_FILE)


def read_rules(tree: Tree) -> NotificationRules:
    """The rules of a tree.

    Raises:
        BadInput: There is no file, or it is wrong.
    """
    rules, findings = find_rules(tree)
    if findings:
        raise BadInput("\n".join(map(str, findings)), hint="`aml-images validate` shows all findings.")
    if rules is None:
        raise BadInput(
            "there is no such file",
            where=RULES_FILE,
            hint="docs/operate.md shows one; without it nobody is notified of anything.",
        )
    return rules
