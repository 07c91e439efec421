"""Reading a drop to import it: its images, and the account that may pull them."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from aml_images_dagster.engine.interface import RegistryLogin
from aml_images_dagster.errors import BadInput
from aml_images_dagster.release.import_cfg import ImportCfg, import_cfg
from aml_images_dagster.release.release_json import ReleaseJson

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

M = TypeVar("M", ImportCfg, ReleaseJson)

_DAMAGED = "Take the drop of the build again: it is in the build's artifacts."


def read_drop(path: Path) -> tuple[ReleaseJson, ImportCfg]:
    """The release.json beside an import.cfg, and the import.cfg, which say the same.

    Raises:
        BadInput: One is missing or damaged, holds a literal credential, or they disagree, or the checksums do.
    """
    cfg, release = _read(path, ImportCfg), _read(path.with_name("release.json"), ReleaseJson)
    if [(e.source.image_name, e.destination) for e in cfg.root] != [
        (e.source.image_name, e.destination) for e in import_cfg(release.images).root
    ]:
        raise BadInput("import.cfg and release.json name different images or tags", where=str(path), hint=_DAMAGED)
    sums = path.with_name("SHA256SUMS")
    if sums.is_file():
        _check_sums(path.parent, sums)
    return release, cfg


def resolve_login(cfg: ImportCfg, environment: Mapping[str, str] | None = None) -> RegistryLogin | None:
    """The account that import.cfg refers to, taken from the environment; it is not stored.

    Returns:
        None if neither variable is set: then the caller's identity is used, or staging allows anonymous pulls.

    Raises:
        BadInput: Only one of name and password is set, or the entries refer to different accounts.
    """
    values = os.environ if environment is None else environment
    accounts = {(entry.source.registry_username, entry.source.registry_password) for entry in cfg.root}
    if len(accounts) != 1:
        raise BadInput(
            "the entries refer to several accounts",
            where="import.cfg",
            hint="Import the entries of each account separately.",
        )
    (references,) = accounts
    username, password = (values.get(reference[2:-1], "") for reference in references)
    if not username and not password:
        return None
    missing = [reference for reference, value in zip(references, (username, password), strict=True) if not value]
    if missing:
        raise BadInput(
            f"{missing[0][2:-1]} is not set",
            where="import.cfg",
            hint=f"import.cfg refers to {' and '.join(references)}: set both in the environment.",
        )
    return RegistryLogin(username, password)


def _read(path: Path, model: type[M]) -> M:
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BadInput("there is no such file", where=str(path), hint=_DAMAGED) from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise BadInput(f"{place}: {first['msg']}" if place else first["msg"], where=str(path), hint=_DAMAGED) from None


def _check_sums(folder: Path, sums: Path) -> None:
    for line in sums.read_text("utf-8").splitlines():
        digest, _, name = line.partition("  ")
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise BadInput("the file is missing or does not match SHA256SUMS", where=str(file), hint=_DAMAGED)
