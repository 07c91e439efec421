"""A service that takes messages by HTTP, as Apprise's json:// sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.emulators.json_api import JsonApi

if TYPE_CHECKING:
    from tests.emulators.json_api import Request


class MessageService(JsonApi):
    """The service. With a `fault` it refuses."""

    def answer(self, request: Request) -> tuple[Any, ...]:
        """It accepts everything."""
        return 200, {}

    def address(self, channel: str) -> str:
        """The address of a channel, as Apprise writes it."""
        return f"json://robot:pass-word@{self.url.partition('//')[2]}/{channel}?+X-Token=to-ken"

    @property
    def messages(self) -> list[tuple[str, str, str]]:
        """Channel, title and message of each that came, also of those that were refused."""
        return [(one.path.strip("/"), one.body["title"], one.body["message"]) for one in self.received]

    @property
    def titles(self) -> list[tuple[str, str]]:
        """Channel and title of each."""
        return [(channel, title) for channel, title, _ in self.messages]
