"""Each event is sent once, and again until its channel has accepted it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.notifications.channels import Channels, _reason
from aml_images_dagster.notifications.notification import Delivery, Notification, NotificationState
from aml_images_dagster.notifications.rules import NotificationRules
from tests.emulators.message_service import MessageService

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
RULES = NotificationRules.model_validate(
    {"rules": [{"events": ["sensor_failing"], "to": ["one", "two"]}, {"events": ["sensor_failing"], "to": ["one"]}]}
)


SECRETS = ("pass-word", "to-ken", "robot", "/hidden")


@pytest.fixture
def service() -> Iterator[MessageService]:
    with MessageService() as service:
        yield service


def failing(name: str, reason: str = "it broke") -> Notification:
    link = f"http://ui.example/{name}"
    return Notification(kind="sensor_failing", key=name, title=f"Sensor {name} fails", reason=reason, link=link)


def channels(service: MessageService, *names: str) -> Channels:
    return Channels({f"AML_IMAGES_NOTIFY_{name.upper()}": service.address(name) for name in names})


def evaluate(state: NotificationState, *conditions: Notification, now: datetime = NOW) -> NotificationState:
    return state.with_new([], conditions, RULES, {}, now)


def test_a_condition_is_sent_to_each_channel_when_it_begins_and_not_while_it_holds(service: MessageService) -> None:
    warnings: list[str] = []
    state = evaluate(NotificationState(), failing("a")).deliver(channels(service, "one", "two"), warnings.append)
    for _ in range(3):
        state = evaluate(state, failing("a", "another reason")).deliver(channels(service, "one"), warnings.append)
    assert service.messages == [
        ("one", "Sensor a fails", "it broke\n\nhttp://ui.example/a"),
        ("two", "Sensor a fails", "it broke\n\nhttp://ui.example/a"),
    ]
    assert warnings == []
    state = evaluate(evaluate(state), failing("a"))
    assert len(state.pending) == 2, "it has ended and begun again"


def test_a_channel_that_is_down_keeps_no_other_from_its_message_and_gets_its_own_later(service: MessageService) -> None:
    warnings: list[str] = []
    state = evaluate(NotificationState(), failing("a"), failing("b"))
    state = state.deliver(channels(service, "two"), warnings.append)
    assert service.titles == [("two", "Sensor a fails"), ("two", "Sensor b fails")]
    assert len(warnings) == 1, "once for each channel"
    assert "AML_IMAGES_NOTIFY_ONE" in warnings[0]
    state = NotificationState.model_validate_json(state.model_dump_json())
    state = evaluate(state, failing("a"), failing("b")).deliver(channels(service, "one", "two"), warnings.append)
    assert service.titles[2:] == [("one", "Sensor a fails"), ("one", "Sensor b fails")]
    assert (state.pending, len(warnings)) == ((), 1)


def test_an_owner_who_cannot_be_reached_keeps_no_other_from_the_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    def send(_channel: str, _title: str, _body: str, email: str = "") -> None:
        if email.startswith("gone"):
            raise Unreachable("550 no such user")
        sent.append(email)

    owners = Channels({})
    monkeypatch.setattr(owners, "send", send)
    emails = ("gone@example.com", "a@example.com", "gone@example.com", "b@example.com", "gone2@example.com")
    pending = tuple(Delivery(notification=failing("a"), channel="mail", email=each, since=NOW) for each in emails)
    warnings: list[str] = []
    state = NotificationState(pending=pending).deliver(owners, warnings.append)
    assert sent == ["a@example.com", "b@example.com"]
    assert {delivery.email for delivery in state.pending} == {"gone@example.com", "gone2@example.com"}
    assert len(warnings) == 1, "once for each channel"


def test_a_secret_that_is_encoded_in_the_address_is_not_shown() -> None:
    log = SimpleNamespace(logs=lambda: [SimpleNamespace(message="refused for p@ssw0rd!")])
    shown = _reason(log, "mailtos://user:p%40ssw0rd%21@host")  # type: ignore[arg-type]
    assert shown == "refused for …"


def test_what_no_service_has_accepted_for_a_week_is_given_up() -> None:
    state = evaluate(NotificationState(), failing("a"))
    assert len(evaluate(state, failing("a"), now=NOW + timedelta(days=6)).pending) == 2
    assert evaluate(state, failing("a"), now=NOW + timedelta(days=8)).pending == ()


def test_hostile_and_endless_reasons_are_short_and_plain(service: MessageService) -> None:
    bad = Notification(kind="sensor_failing", key="a", title="a\nb\x1b[2J", reason="x\x1b]0;" + "y" * 9000, link="l")
    evaluate(NotificationState(), bad).deliver(channels(service, "one", "two"), pytest.fail)
    channel, title, message = service.messages[0]
    assert (channel, title) == ("one", "a\\nb\\x1b[2J")
    assert len(message) < 1600
    assert message.startswith("x\\x1b]0;yyy")
    assert message.endswith("…\n\nl")


def test_a_fault_says_why_and_nothing_of_the_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with MessageService(fault=403) as service, pytest.raises(Unreachable) as refused:
        channels(service, "hidden").send("hidden", "title", "body")
    assert "403" in refused.value.what
    with pytest.raises(Unreachable) as down:
        channels(service, "hidden").send("hidden", "title", "body")
    assert "onnection" in down.value.what
    for text in (str(refused.value), str(down.value)):
        assert [secret for secret in (*SECRETS, "127.0.0.1") if secret in text] == []
    assert [secret for secret in SECRETS if secret in caplog.text] == []


def test_headers_of_the_address_are_sent(service: MessageService) -> None:
    channels(service, "one").send("one", "title", "body")
    assert service.received[0].headers["X-Token"] == "to-ken"


@pytest.mark.parametrize("address", ["nonsense", "nowhere://secret-word"])
def test_an_address_that_apprise_does_not_know_is_not_shown(address: str) -> None:
    with pytest.raises(BadInput) as refused:
        Channels({"AML_IMAGES_NOTIFY_ONE": address}).send("one", "title", "body")
    assert refused.value.where == "AML_IMAGES_NOTIFY_ONE"
    assert address not in str(refused.value)


def test_the_address_of_an_owner_takes_its_place(service: MessageService) -> None:
    url = service.address("mail/{email}")
    owners = Channels({"AML_IMAGES_NOTIFY_MAIL": url})
    owners.send("mail", "title", "body", "a+b@example.com")
    assert service.messages[0][0].removeprefix("mail/") in ("a%2Bb%40example.com", "a+b@example.com")
    with pytest.raises(BadInput, match="no owner is to be reached"):
        owners.send("mail", "title", "body")
    with pytest.raises(BadInput, match=r"has no \{email\}"):
        channels(service, "one").send("one", "title", "body", "a@example.com")


def test_addresses_come_from_the_environment_and_from_the_file_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("AML_IMAGES_NOTIFY_FILE=json://here\nAML_IMAGES_NOTIFY_BOTH=json://{email}\n")
    monkeypatch.setenv("AML_IMAGES_NOTIFY_BOTH", "json://environment")
    found = Channels.of(tmp_path)
    assert [found.is_set(name) for name in ("file", "both", "none")] == [True, True, False]
    assert not found.takes_email("both")
