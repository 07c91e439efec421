"""`import.cfg`: what the release system imports into production. A JSON list; credentials are references only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import ConfigDict, RootModel, field_validator
from pydantic.alias_generators import to_camel

from aml_images_dagster.builds.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aml_images_dagster.release.release_json import ReleaseImage

USERNAME_REFERENCE = "${STAGING_CLIENT_ID}"
PASSWORD_REFERENCE = "${STAGING_CLIENT_SECRET}"  # noqa: S105 - a name, not a value

_REFERENCE = re.compile(r"\$\{[A-Z][A-Z0-9_]*\}")


# A credential that does not belong there must not be repeated by the error that says so.
_SILENT = ConfigDict(hide_input_in_errors=True)


class _Camel(Record):
    """The format is written in camel case."""

    model_config = ConfigDict(**_SILENT, alias_generator=to_camel, validate_by_name=True)


class ImportSource(_Camel):
    """Where an image comes from.

    Attributes:
        image_name: The staging reference.
        registry_username: Reference to the name of the account that may pull it.
        registry_password: Reference to its password.
    """

    image_name: str
    registry_username: str = USERNAME_REFERENCE
    registry_password: str = PASSWORD_REFERENCE

    @field_validator("registry_username", "registry_password")
    @classmethod
    def _is_reference(cls, value: str) -> str:
        if not _REFERENCE.fullmatch(value):
            raise ValueError("credentials must be references such as ${STAGING_CLIENT_SECRET}, never literal values")
        return value


class ImportDestination(_Camel):
    """Where an image goes.

    Attributes:
        image_names: Names in the production registry; `latest` is the last.
    """

    image_names: tuple[str, ...]


class ImportEntry(Record):
    """One image to import."""

    model_config = _SILENT

    source: ImportSource
    destination: ImportDestination


class ImportCfg(RootModel[tuple[ImportEntry, ...]]):
    """The whole of an import.cfg."""

    model_config = _SILENT

    def to_json(self) -> bytes:
        """The file's bytes."""
        return (self.model_dump_json(by_alias=True, indent=2) + "\n").encode()


def import_entry(image: ReleaseImage) -> ImportEntry:
    """The entry of an image."""
    return ImportEntry(
        source=ImportSource(image_name=image.staging.reference),
        destination=ImportDestination(image_names=image.destinations),
    )


def import_cfg(images: Iterable[ReleaseImage]) -> ImportCfg:
    """The entries of all images, in the order of release.json."""
    return ImportCfg(tuple(import_entry(image) for image in images))
