"""The drop: the folder for the release system, complete and with checksums.

`service_group_root/` has what Ev2 reads to run the import in its own, approved place. Sources: the schemas named in
its documents, and public Microsoft repositories that push images through Ev2 (see docs/release-files.md). Everything
that differs between clouds is a `__NAME__` there, which ScopeBindings.json binds to a variable of the release system.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from importlib.resources import files
from typing import TYPE_CHECKING

from aml_images_dagster.builds.artifacts import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.resources.abc import Traversable

    from upath import UPath

    from aml_images_dagster.release.import_cfg import ImportCfg
    from aml_images_dagster.release.release_json import ReleaseJson

_PACKAGE = files("aml_images_dagster.release")
_SHELL_FILES = ("import.sh", "import_images.py")
_BUILD = b"{build}"
"""What the build's number replaces in the files of `service_group_root/`."""


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
    shell = _PACKAGE / "shell"
    members = dict(documents) | {name: (shell / name).read_bytes() for name in _SHELL_FILES}
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(members):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(members[name]), mtime
            member.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(member, io.BytesIO(members[name]))
    return package.getvalue()
