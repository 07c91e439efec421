"""`aml-images notify`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.cli.console import new_table, open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import BadInput, FactoryError
from aml_images_dagster.notifications.channels import Channels, variable
from aml_images_dagster.notifications.rules import RULES_FILE, read_rules

if TYPE_CHECKING:
    from aml_images_dagster.notifications.rules import NotificationRules
    from aml_images_dagster.settings import Settings

_TITLE = "Test of notifications"
_BODY = "Notifications of aml-images reach this channel."


@click.command("notify")
@click.option("--test", "is_test", is_flag=True, help="Send a test message to each channel.")
@click.option("--email", metavar="ADDRESS", default="", help="Recipient of the test where a channel is for owners.")
@common_options
def command(settings: Settings, as_json: bool, is_test: bool, email: str) -> None:
    """Show the channels of notifications.yaml: whether each has an address, and what is sent there.

    Exit codes: 0 each channel has an address and, with --test, has accepted the message; 1 one has not; 2 the file is
    missing or wrong.
    """
    if email and not is_test:
        raise BadInput("--email is for --test", hint="Add --test.")
    rules = read_rules(WorkingTree(settings.repo))
    channels = Channels.of(settings.repo)
    found = [_channel(name, rules, channels) for name in rules.channels]
    for channel in found:
        if is_test:
            channel["fault"] = _test(channel["channel"], channels, email)
    if as_json:
        print_json({"channels": found})
    else:
        _show(found, is_test=is_test)
    if any(channel["fault"] for channel in found):
        sys.exit(1)


def _channel(name: str, rules: NotificationRules, channels: Channels) -> dict[str, Any]:
    events = [event for rule in rules.rules if name in rule.to for event in rule.events]
    of_owners = rules.owners is not None and name in rules.owners.channels
    return {
        "channel": name,
        "variable": variable(name),
        "events": list(dict.fromkeys(events)),
        "owners": of_owners,
        "fault": "" if channels.is_set(name) else "the variable is not set",
    }


def _test(name: str, channels: Channels, email: str) -> str:
    """Why a channel did not accept a test message; empty if it did."""
    if channels.takes_email(name) and not email:
        return "the channel is for owners: give --email"
    try:
        channels.send(name, _TITLE, _BODY, email if channels.takes_email(name) else "")
    except FactoryError as error:
        return error.what
    return ""


def _show(found: list[dict[str, Any]], *, is_test: bool) -> None:
    table = new_table("channel", "variable", "sent there", "state")
    for channel in found:
        sent = [*channel["events"], *(["to owners of images"] if channel["owners"] else [])]
        fine = "has accepted the message" if is_test else "has an address"
        state = f"[bold red]{escape(channel['fault'])}[/]" if channel["fault"] else f"[green]{fine}[/]"
        table.add_row(escape(channel["channel"]), channel["variable"], ", ".join(sent), state)
    console = open_console()
    console.print(f"[dim]Rules: {RULES_FILE}[/]")
    console.print(table)
