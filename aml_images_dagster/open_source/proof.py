"""The proof that a public Dockerfile builds alone: from the files of the public tree and nothing else.

It is built as a stranger would build it, without Dockerfile.private and the build arguments of image.json. Only the
names behind FROM are replaced, by the digests that they point to: an external base by what its registry (or a mirror)
serves, an image of our own by its last release, or by what was just built from the same public tree.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.builds.steps.bases import resolve_base
from aml_images_dagster.builds.steps.parents import named_release, released
from aml_images_dagster.catalog.dockerfile import pin
from aml_images_dagster.catalog.image import DOCKERFILE
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.engine.interface import BuildRequest, DockerfileFailed
from aml_images_dagster.errors import BadInput, BuildFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.session import Source
    from aml_images_dagster.engine.interface import LogLine
    from aml_images_dagster.open_source.public_part import PublicPart
    from aml_images_dagster.settings import Settings


def prove_that_they_build(
    public: Iterable[PublicPart], source: Source, backends: Backends, settings: Settings, log: LogLine
) -> None:
    """Build every public part alone, parents first; what was built is forgotten again.

    Raises:
        BadInput: A base can't be resolved, or there is no engine for an image.
        BuildFailed: An image does not build from what is public.
        Unreachable: The engine or a registry does not answer.
    """
    by_id = {part.image.id: part for part in public}
    built: dict[str, str] = {}
    try:
        for name in source.catalog.order(by_id):
            log(f"building {name} from its public files alone")
            built[name] = _build(by_id[name], built, source, backends, settings, log)
    finally:
        for name, tag in built.items():
            backends.engine_for(by_id[name].image.os).forget(tag)


def _build(
    part: PublicPart,
    built: Mapping[str, str],
    source: Source,
    backends: Backends,
    settings: Settings,
    log: LogLine,
) -> str:
    image = part.image
    pins = {
        use.reference: _stands_for(
            use.reference, f"{image.file(DOCKERFILE)}:{use.line}", built, source, backends, settings
        )
        for use in part.dockerfile.uses
    }
    hosts = {Reference.parse(pinned).registry for pinned in pins.values()}
    logins = {host: login for host in sorted(hosts) if (login := backends.login_for(host))}
    tag = f"aml-images.public/{image.family}:{image.name}"
    with tempfile.TemporaryDirectory(prefix="aml-images-public-") as folder:
        context = Path(folder) / "context.tar"
        mtime = int(time.time()) if source.committed is None else source.committed
        _write_context(context, part, pin(part.dockerfile, pins), mtime)
        request = BuildRequest(
            context=context,
            dockerfile=DOCKERFILE,
            tag=tag,
            platform=image.platform,
            timeout_seconds=settings.build_timeout_minutes * 60,
            network=settings.build_network,
            logins=logins,
        )
        try:
            backends.engine_for(image.os).build(request, log)
        except BuildFailed as failure:
            raise BuildFailed(
                f"the public Dockerfile of {image.id} does not build alone: {failure.what}",
                where=image.dockerfile_path if isinstance(failure, DockerfileFailed) else failure.where,
                hint="What it needs has to be public, too: no private files, build arguments or internal addresses.",
                log=failure.log,
            ) from None
    return tag


def _stands_for(
    reference: str, where: str, built: Mapping[str, str], source: Source, backends: Backends, settings: Settings
) -> str:
    parent = source.catalog.published.resolve(reference)
    if parent is None:
        return resolve_base(reference, source.catalog, backends, partial(_released, source, backends, settings)).pull
    if parent in built:
        return built[parent]
    release = released(source.catalog.get(parent), backends, settings)
    if release is None:
        raise BadInput(
            f"{parent} is not released, so the public cannot build images FROM it",
            where=where,
            hint=f"Release {parent} first, or publish both.",
        )
    return str(release)


def _released(
    source: Source, backends: Backends, settings: Settings, image: str, release: str = ""
) -> Reference | None:
    return named_release(source.catalog.get(image), release, backends, settings)


def _write_context(target: Path, part: PublicPart, dockerfile: str, mtime: int) -> None:
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, file in part.files.items():
            content = dockerfile.encode() if name == DOCKERFILE else file.content
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), mtime
            member.mode = 0o755 if file.mode is FileMode.EXECUTABLE else 0o644
            tar.addfile(member, io.BytesIO(content))
