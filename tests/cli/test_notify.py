"""`notify`: which channels there are, and whether a message reaches them."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.emulators.message_service import MessageService

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.image_repository import ImageRepository

RULES = """\
owners: {email: mail, others: operators}
rules: [{events: [build_failed, base_paused], to: [owners, operators]}]
"""


@pytest.fixture
def service() -> Iterator[MessageService]:
    with MessageService() as service:
        yield service


def write(repository: ImageRepository, text: str = RULES) -> None:
    repository.write(repository.root / "notifications.yaml", text)


def run(repository: ImageRepository, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: Apprise has threads, which a copy of this process would lack."""
    process = repository.start(*arguments, **environment)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def test_a_test_message_reaches_each_channel(repository: ImageRepository, service: MessageService) -> None:
    write(repository)
    addresses = {
        "AML_IMAGES_NOTIFY_OPERATORS": service.address("operators"),
        "AML_IMAGES_NOTIFY_MAIL": service.address("mail/{email}"),
    }
    done = run(repository, "notify", "--test", "--email", "me@example.com", **addresses)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [title for _, title, _ in service.messages] == ["Test of notifications"] * 2
    assert done.stdout.count("has accepted the message") == 2
    assert "pass-word" not in done.stdout + done.stderr
    service.fault = 500
    done = run(repository, "notify", "--test", "--json", **addresses)
    assert done.returncode == 1
    faults = {channel["channel"]: channel["fault"] for channel in json.loads(done.stdout)["channels"]}
    assert faults["mail"] == "the channel is for owners: give --email"
    assert "500" in faults["operators"]


def test_validate_warns_of_a_channel_that_alone_has_no_address(repository: ImageRepository) -> None:
    write(repository, RULES.replace("to: [owners, operators]", "to: [owners, operatorz]"))
    known = {"AML_IMAGES_NOTIFY_OPERATORS": "json://a.example", "AML_IMAGES_NOTIFY_MAIL": "json://b.example/{email}"}
    done = repository.run_in_a_copy("validate", **known)
    said = 'the channel "operatorz" has no address, AML_IMAGES_NOTIFY_OPERATORZ is not set; did you mean "operators"?'
    assert (done.returncode, done.stdout.count(said)) == (0, 1)
    assert done.stdout.count("has no address") == 1
    assert "has no address" not in repository.run_in_a_copy("validate").stdout


def test_channels_without_an_address_are_shown(repository: ImageRepository) -> None:
    write(repository)
    done = repository.run("notify", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["channels"] == [
        {
            "channel": name,
            "variable": f"AML_IMAGES_NOTIFY_{name.upper()}",
            "events": events,
            "owners": True,
            "fault": "the variable is not set",
        }
        for name, events in (("mail", []), ("operators", ["build_failed", "base_paused"]))
    ]


def test_a_wrong_file_is_one_message_here_and_in_validate(repository: ImageRepository) -> None:
    write(repository, RULES.replace("base_paused", "base_pause"))
    for command in ("notify", "validate"):
        done = repository.run(command)
        assert done.returncode == 2
        assert "notifications.yaml:2" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    (repository.root / "notifications.yaml").unlink()
    done = repository.run("notify")
    assert done.returncode == 2
    assert "there is no such file" in done.stderr
