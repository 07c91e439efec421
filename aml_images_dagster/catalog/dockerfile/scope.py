"""The values of variables, from the top of a Dockerfile to its end.

Rules: https://docs.docker.com/reference/dockerfile/#scope; in code `dispatchArg` and `dispatchEnv` of BuildKit's
dockerfile2llb. For BuildKit, ARG and ENV of a stage are one environment, of which the last counts, and a stage FROM
another has all of it. For the classic builder ENV wins, and ARG ends with its stage.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.dockerfile.dockerfile import SCRATCH, stage_named
from aml_images_dagster.catalog.dockerfile.expansion import (
    ExpansionError,
    MissingValueError,
    expand,
    platform_variables,
)
from aml_images_dagster.catalog.dockerfile.instructions import plain_words, words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.catalog.dockerfile.dockerfile import Dockerfile
    from aml_images_dagster.catalog.dockerfile.instructions import Instruction

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Build arguments that the factory or a client adds, whatever image.json has.
_ADDED = re.compile(r"SOURCE_DATE_EPOCH|BUILDKIT_\w+|(?:http|https|ftp|no|all)_proxy", re.IGNORECASE)


@dataclass
class _Values:
    """The values of variables at one place: above the first FROM, or in a stage.

    Attributes:
        known: The values that are known.
        unknown: Names of variables that have one which is not.
        is_open: Whether all others may have one, too: that of a base, of which nothing is known.
        environment: What ENV has set.
    """

    known: dict[str, str]
    unknown: set[str]
    is_open: bool
    environment: set[str]

    def may_have(self, name: str) -> bool:
        """Whether a variable may have a value that is not known here."""
        return name not in self.known and (self.is_open or name in self.unknown)

    def set(self, name: str | None, value: str | None) -> None:
        """Give a variable a value; None for one that is not known, or for a name that is not: it may be any."""
        if name is None:
            self.known.clear()
            self.is_open = True
        elif value is None:
            self.known.pop(name, None)
            self.unknown.add(name)
        else:
            self.known[name] = value
            self.unknown.discard(name)


class Scope:
    """Follows the values through the instructions of a Dockerfile, each of which is given to `take` in its turn.

    Args:
        dockerfile: The Dockerfile.
        build_args: Values for ARG.
        platform: What TARGETARCH and its companions are made from.
        on_any_builder: Nothing is known of what builder and client give values to: BUILDARCH and its companions,
            TARGETSTAGE, SOURCE_DATE_EPOCH, the variables of proxies.
    """

    def __init__(
        self, dockerfile: Dockerfile, build_args: Mapping[str, str], platform: str, *, on_any_builder: bool = False
    ) -> None:
        self._dockerfile = dockerfile
        self._build_args = build_args
        self._on_any_builder = on_any_builder
        self._is_windows = platform.startswith("windows/")
        known = {} if self._is_windows else platform_variables(platform, build_args)
        of_builder: set[str] = set()
        if not self._is_windows and (on_any_builder or not platform.startswith("linux/amd64")):
            # The builder's platform is not the image's, and not known here.
            of_builder = {name for name in known if name.startswith("BUILD")} - build_args.keys()
            known = {name: value for name, value in known.items() if name not in of_builder}
        if on_any_builder:
            of_builder.add("TARGETSTAGE")
        self._before_from = _Values(known, of_builder, is_open=False, environment=set())
        self._stages: list[_Values] = []

    @property
    def stage(self) -> int:
        """Index of the stage, -1 before the first."""
        return len(self._stages) - 1

    @property
    def variables(self) -> Mapping[str, str]:
        """The values that are known here."""
        return self._here.known

    @property
    def _here(self) -> _Values:
        return self._stages[-1] if self._stages else self._before_from

    def take(self, instruction: Instruction) -> None:
        """Note what FROM, ARG or ENV changes; other instructions change nothing."""
        if instruction.on_build:
            return
        if instruction.keyword == "FROM":
            self._stages.append(self._values_from(instruction))
        elif instruction.keyword == "ARG":
            self._declare(instruction)
        elif instruction.keyword == "ENV" and self._stages:
            found = [
                (self._value(name), self._value(value)) for name, value in pairs(instruction, self._dockerfile.escape)
            ]
            for name, value in found:
                self._here.set(name, value)
                self._here.environment.add(name or "")

    def known(self, word: str, *, is_heredoc: bool = False) -> str | None:
        """A word after expansion; None when a variable in it has no value here that a base may give it.

        Args:
            word: A word, or the text of a heredoc.
            is_heredoc: Quotes mean nothing, and the escape character is the backslash.

        Raises:
            ExpansionError: It cannot be expanded, whatever the base has.
        """
        return self._known(word, self._here, is_heredoc=is_heredoc)

    def _known(self, word: str, values: _Values, *, is_heredoc: bool = False) -> str | None:
        try:
            escape = "\\" if is_heredoc else self._dockerfile.escape
            expansion = expand(word, values.known, escape, quotes=not is_heredoc)
        except MissingValueError as error:
            if values.may_have(error.name):
                return None
            raise
        return None if any(map(values.may_have, expansion.without_value)) else expansion.value

    def _values_from(self, instruction: Instruction) -> _Values:
        """What a stage begins with: the values of the stage that it is FROM, or those of a base."""
        base, parent = self._from(instruction)
        if parent is None:
            values = _Values({}, set(self._before_from.unknown), is_open=base != SCRATCH, environment=set())
            if base == SCRATCH and not self._is_windows:
                values.known["PATH"] = _PATH
            return values
        above = self._stages[parent]
        kept = above.environment if self._is_windows else above.known.keys()
        known = {name: value for name, value in above.known.items() if name in kept}
        return _Values(known, set(above.unknown), above.is_open, set(above.environment))

    def _from(self, instruction: Instruction) -> tuple[str | None, int | None]:
        """What a stage is FROM, None where that is not known, and the index of the stage that this means.

        With variables it may be another stage than the one for which the Dockerfile was read, see `platform`.
        """
        stages = self._dockerfile.stages[: len(self._stages) + 1]
        word = plain_words(instruction.text)[0]
        try:
            base = self._known(word, self._before_from) if "$" in word else stages[-1].base
        except ExpansionError:  # the template of a tag
            base = stages[-1].base
        if base == stages[-1].base:
            return base, stages[-1].parent
        meant = stage_named(stages[:-1], base or "", is_windows=self._is_windows)
        return base, meant.index if meant else None

    def _declare(self, instruction: Instruction) -> None:
        """What ARG declares: a build argument wins over the default, and that over one before the first FROM."""
        here, before = self._here, self._before_from
        for word in words(instruction.text, self._dockerfile.escape):
            written, has_default, default = word.partition("=")
            name = self._value(written) if self._stages else written
            if self._is_windows and self._stages and name in here.environment:
                continue
            if name is None:
                here.set(None, None)
            elif self._on_any_builder and _ADDED.fullmatch(name):
                here.set(name, None)
            elif name in self._build_args:
                here.set(name, self._build_args[name])
            elif has_default:
                here.set(name, self._value(default))
            elif not self._stages:
                here.set(name, "")
            elif name in before.unknown:
                here.set(name, None)
            elif name in before.known:
                here.set(name, before.known[name])

    def _value(self, word: str) -> str | None:
        try:
            return self.known(word)
        except ExpansionError:
            return None if self._stages else ""


def pairs(instruction: Instruction, escape: str) -> list[tuple[str, str]]:
    """Names and values of ENV or LABEL, before they are expanded."""
    given = words(instruction.text, escape)
    if given and "=" not in given[0]:  # the old form, ENV name value
        name, *_ = plain_words(instruction.text)
        return [(name, instruction.text[len(name) :].lstrip("\t\v\f\r "))]
    return [(name, value) for name, _, value in (word.partition("=") for word in given)]
