"""Channels: addresses of services in Apprise's form, each in a variable of the environment.

An address holds the secrets of a service, so no message repeats it or a part of it.
Source of the form: https://github.com/caronc/apprise/wiki.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, unquote_plus

from dotenv import dotenv_values

from aml_images_dagster.catalog.finding import Finding
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.notifications.rules import RULES_FILE
from aml_images_dagster.text import printable_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from apprise import Apprise, AppriseResult

_PREFIX = "AML_IMAGES_NOTIFY_"
_EMAIL = "{email}"
_SERVICE_SECONDS = 10.0
_SHORTEST_SECRET = 4
_SEPARATORS = re.compile(r"[/:@?&=+#,;\s]+")


def find_unset(names: Iterable[str], channels: Channels) -> list[Finding]:
    """Channels of `notifications.yaml` that have no address although others have: a name may be misspelt.

    Where none has an address, nothing is known of any: they may be set where the factory runs.
    """
    every = [*names]
    known = [name for name in every if channels.is_set(name)]
    found = []
    for name in every if known else ():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f'; did you mean "{close[0]}"?' if close else ""
            message = f'the channel "{name}" has no address, {variable(name)} is not set{meant}'
            found.append(Finding("", "warning", message, RULES_FILE))
    return found


def variable(channel: str) -> str:
    """The variable that holds the address of a channel."""
    return _PREFIX + channel.upper()


class Channels:
    """Sends messages to channels.

    Args:
        environment: Where the addresses are, by the name of the variable.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    @classmethod
    def of(cls, repo: Path) -> Channels:
        """Those of this process: the environment, and below it the `.env` of a repository, as with settings."""
        written = {name: value for name, value in dotenv_values(repo / ".env").items() if value}
        return cls(written | dict(os.environ))

    def is_set(self, channel: str) -> bool:
        """Whether a channel has an address."""
        return bool(self._environment.get(variable(channel)))

    def takes_email(self, channel: str) -> bool:
        """Whether the address of a channel is completed by that of an owner."""
        return _EMAIL in self._environment.get(variable(channel), "")

    def send(self, channel: str, title: str, body: str, email: str = "") -> None:
        """Send a message, and wait until the service has accepted it.

        Args:
            channel: Its name.
            title: One line.
            body: Plain text.
            email: Takes the place of `{email}` in the address; empty sends to the address as it is.

        Raises:
            BadInput: The channel has no address, or one that Apprise does not know.
            Unreachable: The service does not answer, or refuses the message.
        """
        address = self._address(channel, email)
        services = _services(address, variable(channel))
        with _logs_no_address(), services.notify(title=title, body=body, body_format="text") as result:
            if not result:
                raise Unreachable(
                    _reason(result, address) or "the service does not accept the message",
                    where=f"channel {channel}",
                    hint=f"Check the service and {variable(channel)}; `aml-images notify --test` sends a test message.",
                )

    def _address(self, channel: str, email: str) -> str:
        address = self._environment.get(variable(channel), "")
        if not address:
            raise BadInput(
                "the variable is not set",
                where=variable(channel),
                hint=f"It holds the address of the channel {channel}, as Apprise writes it.",
            )
        if bool(email) != self.takes_email(channel):
            raise BadInput(
                f"the address has no {_EMAIL}" if email else f"the address has {_EMAIL}, and no owner is to be reached",
                where=variable(channel),
                hint=f"Only a channel for owners has it: mailtos://USER:PASSWORD@HOST?from=ADDRESS&to={_EMAIL}",
            )
        return address.replace(_EMAIL, quote(email, safe=""))


@contextmanager
def _logs_no_address() -> Iterator[None]:
    """What Apprise and urllib3 log has hosts, paths and headers, and each may be a secret. The result has warnings."""
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (logger.level, logger.propagate) in zip(loggers, before, strict=True):
            logger.setLevel(logger.level)  # what is cached by level is cleared


def _services(address: str, name: str) -> Apprise:
    """The services of an address.

    Raises:
        BadInput: Apprise does not know it.
    """
    import apprise  # half a second

    asset = apprise.AppriseAsset(
        app_id="aml-images",
        async_mode=False,
        http_redirects=False,
        storage_mode="memory",
        service_timeout=_SERVICE_SECONDS,
        result_log_memory_size=1 << 16,
    )
    services = apprise.Apprise(asset=asset)
    with _logs_no_address():
        is_known = services.add(address)
    if not is_known:
        raise BadInput(
            "this is no address that Apprise knows",
            where=name,
            hint="Addresses of services: https://github.com/caronc/apprise/wiki. It is not shown: it holds secrets.",
        )
    return services


def _reason(result: AppriseResult, address: str) -> str:
    """What Apprise says of a failure, without anything that is in the address."""
    said = " ".join(dict.fromkeys(entry.message.strip() for entry in result.logs()))
    written = _SEPARATORS.split(address.partition("://")[2])
    secrets = {decoded for part in written for decoded in (part, unquote(part), unquote_plus(part))}
    for secret in sorted(filter(lambda part: len(part) >= _SHORTEST_SECRET, secrets), key=len, reverse=True):
        said = said.replace(secret, "…")
    return printable_line(said.strip().rstrip("."))
