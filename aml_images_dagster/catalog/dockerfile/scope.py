"""The values of variables, from the top of a Dockerfile to its end.

Rules: https://docs.docker.com/reference/dockerfile/#scope; in code `dispatchArg` and `dispatchEnv` of BuildKit's
dockerfile2llb. For BuildKit, ARG and ENV of a stage are one environment, of which the last counts, and a stage FROM
another has all of it. For the classic builder ENV wins, and ARG ends with its stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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


class Scope:
    """Follows the values through the instructions of a Dockerfile, each of which is given to `take` in its turn.

    Args:
        dockerfile: The Dockerfile.
        build_args: Values for ARG.
        platform: What TARGETARCH and its companions are made from.
    """

    def __init__(self, dockerfile: Dockerfile, build_args: Mapping[str, str], platform: str) -> None:
        self._dockerfile = dockerfile
        self._build_args = build_args
        self._is_windows = platform.startswith("windows/")
        self._before_from = {} if self._is_windows else platform_variables(platform, build_args)
        self._of_builder = set()
        if not self._is_windows and not platform.startswith("linux/amd64"):
            # The builder's platform is not the image's, and not known here.
            self._of_builder = {name for name in self._before_from if name.startswith("BUILD")} - build_args.keys()
            self._before_from = {n: value for n, value in self._before_from.items() if n not in self._of_builder}
        self._stages: list[dict[str, str]] = []
        self._environments: list[set[str]] = []
        """Of every stage, what ENV has set."""

    @property
    def stage(self) -> int:
        """Index of the stage, -1 before the first."""
        return len(self._stages) - 1

    @property
    def variables(self) -> Mapping[str, str]:
        """The values that are known here."""
        return self._stages[-1] if self._stages else self._before_from

    def take(self, instruction: Instruction) -> None:
        """Note what FROM, ARG or ENV changes; other instructions change nothing."""
        if instruction.on_build:
            return
        if instruction.keyword == "FROM":
            parent = self._dockerfile.stages[len(self._stages)].parent
            variables = {} if parent is None else dict(self._stages[parent])
            environment = set() if parent is None else set(self._environments[parent])
            if self._is_windows:
                variables = {name: value for name, value in variables.items() if name in environment}
            elif parent is None and self._dockerfile.stages[len(self._stages)].base == "scratch":
                variables["PATH"] = _PATH
            self._stages.append(variables)
            self._environments.append(environment)
        elif instruction.keyword == "ARG":
            self._declare(instruction)
        elif instruction.keyword == "ENV" and self._stages:
            found = [
                (self._value(name), self._value(value)) for name, value in pairs(instruction, self._dockerfile.escape)
            ]
            for name, value in found:
                self._set(name or "", value)
                self._environments[-1].add(name or "")

    def known(self, word: str, *, is_heredoc: bool = False) -> str | None:
        """A word after expansion; None when a variable in it has no value here that a base may give it.

        Args:
            word: A word, or the text of a heredoc.
            is_heredoc: Quotes mean nothing, and the escape character is the backslash.

        Raises:
            ExpansionError: It cannot be expanded, whatever the base has.
        """
        try:
            escape = "\\" if is_heredoc else self._dockerfile.escape
            expansion = expand(word, self.variables, escape, quotes=not is_heredoc)
        except MissingValueError as error:
            if self._may_have(error.name):
                return None
            raise
        return None if any(map(self._may_have, expansion.without_value)) else expansion.value

    def _may_have(self, name: str) -> bool:
        """Whether a base, of which nothing is known, may have a value for a variable."""
        if name in self.variables:
            return False
        if name in self._of_builder:
            return True
        if not self._stages:
            return False
        stage = self._dockerfile.stages[self.stage]
        while stage.parent is not None:
            stage = self._dockerfile.stages[stage.parent]
        return stage.base != "scratch"

    def _declare(self, instruction: Instruction) -> None:
        """What ARG declares: a build argument wins over the default, and that over one before the first FROM."""
        for word in words(instruction.text, self._dockerfile.escape):
            written, has_default, default = word.partition("=")
            name = (self._value(written) or "") if self._stages else written
            if self._is_windows and self._stages and name in self._environments[-1]:
                continue
            if name in self._build_args:
                self._set(name, self._build_args[name])
            elif has_default:
                self._set(name, self._value(default))
            elif not self._stages:
                self._set(name, "")
            elif name in self._before_from:
                self._set(name, self._before_from[name])

    def _set(self, name: str, value: str | None) -> None:
        """Give a variable a value; None for one that depends on what the base has."""
        variables = self._stages[-1] if self._stages else self._before_from
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value

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
