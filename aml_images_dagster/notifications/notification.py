"""What is sent, and the memory of what was: each event once, and again until its channel has accepted it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, BaseModel, ConfigDict

from aml_images_dagster.errors import FactoryError
from aml_images_dagster.notifications.rules import OWNERS, Kind
from aml_images_dagster.text import printable, printable_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from aml_images_dagster.notifications.channels import Channels
    from aml_images_dagster.notifications.rules import NotificationRules

_LONGEST_REASON = 1500
_KEPT = timedelta(days=7)
_MOST_PENDING = 500
_DELIVERY_SECONDS = 30.0
"""A tick ends after a minute; what is not sent by then is sent at the next one."""


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True)


class Notification(_Kept):
    """One event.

    Attributes:
        kind: What has happened.
        key: Distinguishes it from all other events; one that holds on has the same key every time.
        title: One line.
        reason: Why; may have several lines.
        link: Page that shows it.
        images: The images that it is about, `<family>/<name>`; may be none.
    """

    kind: Kind
    key: str
    title: str
    reason: str
    link: str
    images: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The title as services take it."""
        return printable_line(self.title)

    @property
    def body(self) -> str:
        """Reason and link, as plain text."""
        reason = printable(self.reason)
        shown = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]} …"
        return "\n\n".join(filter(None, (shown, self.link)))


class Delivery(_Kept):
    """A notification that a channel has not accepted yet.

    Attributes:
        notification: What is sent.
        channel: Where to.
        email: Address of an owner; empty where the channel's own counts.
        since: When it happened, UTC.
    """

    notification: Notification
    channel: str
    email: str
    since: AwareDatetime


class NotificationState(_Kept):
    """What is remembered between two evaluations.

    Attributes:
        positions: Up to where each source of events was read; a source that was never read has none.
        holding: Keys of conditions that hold and were notified of.
        pending: What is still to be sent, oldest first.
    """

    positions: dict[str, int] = {}
    holding: frozenset[str] = frozenset()
    pending: tuple[Delivery, ...] = ()

    def with_new(
        self,
        events: Iterable[Notification],
        conditions: Sequence[Notification],
        rules: NotificationRules,
        owners: Mapping[str, Sequence[str]],
        now: datetime,
    ) -> NotificationState:
        """Add what is new.

        Args:
            events: What has happened since the last evaluation.
            conditions: Everything that holds now. Each is sent when it begins to hold; one that has ended and
                begins again is sent again.
            rules: Who is notified.
            owners: Owners by image.
            now: The time, UTC.
        """
        began = [condition for condition in conditions if condition.key not in self.holding]
        deliveries = [
            Delivery(notification=notification, channel=channel, email=email, since=now)
            for notification in (*events, *began)
            for channel, email in recipients(notification, rules, owners)
        ]
        pending = [delivery for delivery in self.pending if now - delivery.since <= _KEPT]
        return self.model_copy(
            update={
                "holding": frozenset(condition.key for condition in conditions),
                "pending": tuple([*pending, *deliveries][-_MOST_PENDING:]),
            }
        )

    def deliver(self, channels: Channels, warn: Callable[[str], None]) -> NotificationState:
        """Send what is pending. What a channel does not accept stays; `warn` gets the reason, once per channel."""
        end = time.monotonic() + _DELIVERY_SECONDS
        left: list[Delivery] = []
        failed: set[tuple[str, str]] = set()
        for delivery in self.pending:
            # An address that is gone keeps no mail from others.
            if (delivery.channel, delivery.email) in failed or time.monotonic() > end:
                left.append(delivery)
                continue
            notification = delivery.notification
            try:
                channels.send(delivery.channel, notification.line, notification.body, delivery.email)
            except FactoryError as error:
                if delivery.channel not in {channel for channel, _ in failed}:
                    warn(str(error))
                failed.add((delivery.channel, delivery.email))
                left.append(delivery)
        return self.model_copy(update={"pending": tuple(left)})


def recipients(
    notification: Notification, rules: NotificationRules, owners: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str]]:
    """Each channel once, with the e-mail address of an owner or an empty text.

    Args:
        notification: What is sent.
        rules: Who is notified.
        owners: Owners by image.
    """
    channels = [to for rule in rules.rules if rule.is_about(notification.kind, notification.images) for to in rule.to]
    found: dict[tuple[str, str], None] = {}
    for channel in channels:
        if channel != OWNERS:
            found[channel, ""] = None
            continue
        assert rules.owners is not None  # noqa: S101 - validated
        for named in [owners.get(image, ()) for image in notification.images] or [()]:
            found |= dict.fromkeys([rules.channel_of(owner) for owner in named] or [(rules.owners.others, "")])
    yield from found
