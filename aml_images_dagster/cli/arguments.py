"""What arguments name: builds by the start of their number, images, release tags. Shells complete all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem
from typing_extensions import override

from aml_images_dagster.builds.naming import BUILD_NUMBER
from aml_images_dagster.cli.console import print_error
from aml_images_dagster.errors import BadInput
from aml_images_dagster.settings import load_settings
from aml_images_dagster.text import first_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.builds.records import BuildRecord
    from aml_images_dagster.settings import Settings

LATEST = "latest"
_SHOWN = 5
"""How many builds a message names."""


class _Completed(click.ParamType[str]):
    """A word that shells complete with names that the settings of the repository lead to."""

    name = "text"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return str(value)

    @override
    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            settings = load_settings(repo=ctx.params.get("repo"), docker_files_path=ctx.params.get("docker_files_path"))
            # Where the value of an option is completed, click has not yet matched the arguments in front of it.
            arguments = [each.name for each in ctx.command.params if isinstance(each, click.Argument)]
            given = ctx.params | dict(zip(arguments, ctx.args, strict=False))
            names = list(self.names(settings, given))
            if not any(name.startswith(incomplete) for name in names):  # an image may be named without its family
                names = [name.rpartition("/")[2] for name in names]
            return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]
        except Exception:  # noqa: BLE001 - a shell that completes shows no messages
            return []

    def names(self, settings: Settings, given: Mapping[str, Any]) -> Iterable[str]:
        """Everything that may stand there, the most likely first.

        Args:
            settings: All settings.
            given: The other arguments and options, as far as they are written.
        """
        raise NotImplementedError


class _Stated(click.ParamType[str]):
    """A word that says something: an empty one is mostly a variable that is not set."""

    name = "text"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value)
        if not text.strip():
            self.fail("it is empty; leave the option out, or say what it is to be", param, ctx)
        return text


class _Build(_Completed):
    @override
    def names(self, settings: Settings, given: Mapping[str, Any]) -> Iterable[str]:
        return [record.build for record in _builds(settings)]


class _CompleteBuild(_Completed):
    @override
    def names(self, settings: Settings, given: Mapping[str, Any]) -> Iterable[str]:
        return [each.build for each in _builds(settings) if each.status == "succeeded" and not each.pull_request]


class _ImageOfBuild(_Completed):
    @override
    def names(self, settings: Settings, given: Mapping[str, Any]) -> Iterable[str]:
        record = _artifacts(settings).build(build_named(settings, given["build"], latest=True)).read_build()
        return record.images if record else ()


class _ReleaseTag(_Completed):
    @override
    def names(self, settings: Settings, given: Mapping[str, Any]) -> Iterable[str]:
        from aml_images_dagster.builds.history import History
        from aml_images_dagster.builds.ledger import Ledger, released_images
        from aml_images_dagster.catalog.image_name import full_name

        records = Ledger(_artifacts(settings)).records()
        history = History(records)
        return history.tags(full_name(given["image"], released_images(records), "", ""))


class _Image(_Completed):
    @override
    def names(self, settings: Settings, given: Mapping[str, Any]) -> Iterable[str]:
        from aml_images_dagster.builds.source import load_catalog
        from aml_images_dagster.catalog.tree import WorkingTree

        return load_catalog(settings, WorkingTree(settings.repo)).images


BUILD = _Build()
"""Type of an argument that names a build; `build_named` finds it."""
COMPLETE_BUILD = _CompleteBuild()
"""The same, of a build that can be released."""
IMAGE_OF_BUILD = _ImageOfBuild()
"""Type of an argument that names an image of the build of the argument `build`."""
RELEASE_TAG = _ReleaseTag()
"""Type of an argument or an option that names a release of the argument `image`."""
STATED = _Stated()
"""Type of an option that may be left out, and not be empty."""
IMAGE = _Image()
"""Type of an argument or an option that names an image of the repository."""


def build_named(settings: Settings, text: str, *, latest: bool = False) -> str:
    """The number of the build that a person names.

    Args:
        settings: Where builds are.
        text: Its number, or the start of it.
        latest: Whether `latest` is the newest build. Not for what changes something: another may start meanwhile.

    Returns:
        The number; `text` itself when no build has it.

    Raises:
        BadInput: Several builds begin so, or `latest` is not taken, or there is no build yet.
    """
    if BUILD_NUMBER.fullmatch(text) or not text:
        return text
    if text == LATEST and not latest:
        raise BadInput(
            "`latest` is only for commands that change nothing: another build may start meanwhile",
            where="BUILD",
            hint="Give its number, which `aml-images status latest` shows.",
        )
    if text == LATEST:
        builds = _artifacts(settings).builds(print_error)
        if not builds:
            require_images(settings)
            raise BadInput(
                "there are no builds yet", where=settings.artifacts_uri, hint="`aml-images build` starts one."
            )
        return builds[0][1].build
    found = {folder.build for folder in _artifacts(settings).folders() if folder.build.startswith(text)}
    if len(found) > 1:
        # One whose record is missing or cannot be read has no time, and comes last.
        newest = [record.build for record in _builds(settings) if record.build in found]
        newest += sorted(found.difference(newest), reverse=True)
        raise BadInput(
            f"{len(found)} builds begin with {text!r}",
            where=settings.artifacts_uri,
            hint=f"Give more of the number: {first_of(newest, _SHOWN)}.",
        )
    return found.pop() if found else text


def require_images(settings: Settings) -> None:
    """Refuse a folder that is no repository of image folders, when no artifacts were found in it.

    Artifacts that a setting has placed elsewhere are used without a repository, and may be empty.

    Raises:
        BadInput: As every command that reads image folders.
    """
    if settings.model_fields_set & {"home", "artifacts"}:
        return
    from aml_images_dagster.builds.source import load_catalog
    from aml_images_dagster.catalog.tree import WorkingTree

    load_catalog(settings, WorkingTree(settings.repo))


def _artifacts(settings: Settings) -> Artifacts:
    from aml_images_dagster.profiles import backends_for  # commands that only read image folders do without it

    return backends_for(settings).artifacts


def _builds(settings: Settings) -> list[BuildRecord]:
    """The records of all builds that can be read, newest first."""
    return [record for _, record in _artifacts(settings).builds(lambda _: None)]
