"""The drop: the folder for the release system, complete and with checksums; written, and read to import it.

`service_group_root/` has what Ev2 reads to run the import in its own, approved place. Sources: the schemas named in
its documents, and public Microsoft repositories that push images through Ev2 (see docs/release-files.md). Everything
that differs between clouds is a `__NAME__` there, which ScopeBindings.json binds to a variable of the release system.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from importlib.resources import files
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from aml_images_dagster.builds.artifacts import write_atomically
from aml_images_dagster.engine.interface import RegistryLogin
from aml_images_dagster.errors import BadInput
from aml_images_dagster.release.import_cfg import ImportCfg, import_cfg
from aml_images_dagster.release.release_json import ReleaseJson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from upath import UPath

_PACKAGE = files("aml_images_dagster.release")
_SHELL_FILES = ("import.sh", "import_images.py")
_BUILD = b"{build}"
"""What the build's number replaces in the files of `service_group_root/`."""
M = TypeVar("M", ImportCfg, ReleaseJson)

_DOCUMENTS = ("import.cfg", "release.json")
_SUM = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<path>[^\r\n]+)\r?\n")
_DAMAGED = "Take the drop of the build again: it is in the build's artifacts."


def drop_files(release: ReleaseJson, cfg: ImportCfg) -> dict[str, bytes]:
    """Every file of the drop by path, `SHA256SUMS` last. The same build always gives the same bytes."""
    documents = {"import.cfg": cfg.to_json(), "release.json": release_bytes(release)}
    drop = dict(documents)
    for path, content in _files_below(_PACKAGE / "service_group_root"):
        drop[f"ServiceGroupRoot/{path}"] = content.replace(_BUILD, release.build.encode())
    drop["ServiceGroupRoot/import.tar"] = _shell_package(documents, int(release.created.timestamp()))
    drop["SHA256SUMS"] = checksums(drop)
    return drop


def release_bytes(release: ReleaseJson) -> bytes:
    """The bytes of release.json."""
    return (release.model_dump_json(indent=2) + "\n").encode()


def checksums(drop: Mapping[str, bytes]) -> bytes:
    """SHA256SUMS in the form that `sha256sum --check` reads."""
    return "".join(f"{hashlib.sha256(drop[path]).hexdigest()}  {path}\n" for path in sorted(drop)).encode()


def write_drop(folder: UPath, drop: Mapping[str, bytes]) -> None:
    """Write the drop; the checksums come last, so that a folder with them is complete."""
    for path, content in drop.items():
        write_atomically(folder / path, content)


def _files_below(folder: Traversable, above: str = "") -> Iterator[tuple[str, bytes]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _files_below(entry, f"{above}{entry.name}/")
        else:
            yield f"{above}{entry.name}", entry.read_bytes()


def _shell_package(documents: Mapping[str, bytes], mtime: int) -> bytes:
    shell = _PACKAGE / "drop_script"
    members = dict(documents) | {name: (shell / name).read_bytes() for name in _SHELL_FILES}
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(members):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(members[name]), mtime
            member.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(member, io.BytesIO(members[name]))
    return package.getvalue()


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
    named = _read_sums(sums)
    missing = [name for name in _DOCUMENTS if name not in named]
    if missing:
        raise BadInput(f"it does not name {' and '.join(missing)}", where=str(sums), hint=_DAMAGED)
    for name, digest in named.items():
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise BadInput("the file is missing or does not match SHA256SUMS", where=str(file), hint=_DAMAGED)


def _read_sums(sums: Path) -> dict[str, str]:
    """The digests in SHA256SUMS by path. Each line of it ends, so one that is cut off is found."""
    try:
        text = sums.read_bytes().decode()
    except UnicodeDecodeError:
        raise BadInput("it is not UTF-8", where=str(sums), hint=_DAMAGED) from None
    lines = [_SUM.fullmatch(line) for line in text.splitlines(keepends=True)]
    if None in lines:
        raise BadInput(f"line {lines.index(None) + 1} is damaged", where=str(sums), hint=_DAMAGED)
    return {line["path"]: line["digest"] for line in lines if line}
