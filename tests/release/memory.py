"""Releases without registries: everything is in memory but the artifacts, and anything can happen at any request."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aml_images_dagster.builds.artifacts import Artifacts, write_atomically
from aml_images_dagster.builds.ledger import LATEST, Ledger
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.interface import Manifest
from aml_images_dagster.registry.oci import OCI_MANIFEST
from aml_images_dagster.release.drop import release_bytes
from aml_images_dagster.release.production import Releaser
from aml_images_dagster.release.release_json import ReleaseImage, ReleaseJson, StagedReference
from aml_images_dagster.release.rollback import roll_back
from aml_images_dagster.release.withdrawal import withdraw
from aml_images_dagster.settings import load_settings
from tests.records import build_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from aml_images_dagster.builds.ledger import ReleaseRecord
    from aml_images_dagster.catalog.reference import Reference

FIRST = datetime(2026, 11, 23, tzinfo=UTC)


class MemoryRegistry:
    """Tags and digests of a registry that deletes a digest with all its tags.

    Args:
        host: Its name.
        before: Is called before each request that changes it, with what is done and to which name.
    """

    def __init__(self, host: str, before: Callable[[str, str], object]) -> None:
        self.host = host
        self.url = f"https://{host}"
        self.tagged: dict[tuple[str, str], str] = {}
        self.digests: set[tuple[str, str]] = set()
        self.attached: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._before = before

    def digest(self, reference: Reference) -> str | None:
        if reference.digest:
            return reference.digest if (reference.repository, reference.digest) in self.digests else None
        return self.tagged.get((reference.repository, reference.tag))

    def tags(self, repository: str) -> list[str]:
        return [tag for its, tag in self.tagged if its == repository]

    def repositories(self) -> list[str]:
        return sorted({repository for repository, _ in self.tagged})

    def config(self, _: Reference) -> Mapping[str, Any]:
        return {}

    def manifest(self, _: Reference) -> None:
        """It holds digests alone; none of them is one of an index."""

    def existing(self, reference: Reference) -> Manifest:
        return Manifest(reference.digest, OCI_MANIFEST, b"{}")

    def referrers(self, repository: str, digest: str) -> list[dict[str, Any]]:
        return [{"mediaType": OCI_MANIFEST, "digest": each, "size": 2} for each in self.attached[repository, digest]]

    def referrers_tags(self, _repository: str) -> list[str]:
        return []

    def has_blob(self, _repository: str, _digest: str) -> bool:
        return True

    def put_manifest(self, repository: str, version: str, manifest: Manifest) -> None:
        self._before("attach", f"{repository}@{version}")
        subject = json.loads(manifest.body)["subject"]["digest"]
        self.attached[repository, subject].add(version)

    def put(self, repository: str, tag: str, digest: str) -> None:
        self._before("tag", f"{repository}:{tag}")
        self.digests.add((repository, digest))
        self.tagged[repository, tag] = digest

    def tag(self, reference: Reference, tag: str) -> None:
        if self.digest(reference) is None or reference.digest is None:
            raise BadInput("there is no such image", where=str(reference))
        self.put(reference.repository, tag, reference.digest)

    def untag(self, reference: Reference) -> None:
        self._before("untag", f"{reference.repository}:{reference.tag}")
        self.tagged.pop((reference.repository, reference.tag), None)

    def delete(self, reference: Reference) -> None:
        digest = reference.digest or self.tagged.get((reference.repository, reference.tag))
        self._before("delete", f"{reference.repository}@{digest}")
        self.digests.discard((reference.repository, str(digest)))
        self.tagged = {key: its for key, its in self.tagged.items() if (key[0], its) != (reference.repository, digest)}


class MemoryImporter:
    """Brings an image by digest, if staging has it."""

    def __init__(self, staging: MemoryRegistry, production: MemoryRegistry) -> None:
        self._staging = staging
        self._production = production

    def import_image(self, source: Reference, destination: Reference, *, replace: bool) -> None:
        there = self._production.digest(destination)
        if there == source.digest:
            return
        if there and not replace:
            raise BadInput(f"the tag points to {there}", where=str(destination))
        if self._staging.digest(source) is None or source.digest is None:
            raise BadInput("there is no such image", where=str(source))
        self._production.put(destination.repository, destination.tag, source.digest)


class MemoryWorld:
    """Staging, production, artifacts, and those who release.

    Args:
        folder: Where the artifacts are.

    Attributes:
        before_change: Is called before each request that changes a registry: registry, what, name.
    """

    def __init__(self, folder: Path) -> None:
        self.before_change: Callable[[str, str, str], object] = lambda *_: None
        self.staging = MemoryRegistry("staging.example", lambda what, name: self.before_change("staging", what, name))
        self.production = MemoryRegistry(
            "prod.example", lambda what, name: self.before_change("production", what, name)
        )
        self.artifacts = Artifacts(str(folder / "artifacts"))
        self.settings = load_settings(repo=folder, home=folder / "home")
        # There is nothing behind its digests that could be compared.
        self.configure(wait_minutes=0, major_changes="report")
        builder = SimpleNamespace(abandon=lambda *_: None)
        runner = SimpleNamespace(cancel=lambda _: [], live=lambda _: [])
        self.backends: Any = SimpleNamespace(
            artifacts=self.artifacts,
            staging=self.staging,
            production=self.production,
            importer=MemoryImporter(self.staging, self.production),
            runner=runner,
            builder=builder,
            windows_builder=None,
        )
        self.told: list[str] = []

    def configure(self, **release: Any) -> None:
        group = self.settings.release.model_validate({**self.settings.release.model_dump(), **release})
        self.settings = self.settings.model_copy(update={"release": group})

    def build(
        self, number: int, images: Mapping[str, str] | Sequence[str] = ("base/a",), *, tag: str = "", hours: float = 0
    ) -> ReleaseJson:
        """A complete build.

        Args:
            number: Counted from 1; also its age: the higher the newer.
            images: Image → what is in it; without that it is new in this build.
            tag: Release tag; default: `v<number>`.
            hours: When it was started, after the first day; default: the number.
        """
        contents = images if not isinstance(images, (tuple, list)) else dict.fromkeys(images, f"{number:x}")
        assert not isinstance(contents, (tuple, list))
        build, release_tag = f"20261123.{number:08x}", tag or f"v{number}"
        created = FIRST + timedelta(hours=hours or number)
        made = []
        for image, content in contents.items():
            family, _, name = image.partition("/")
            digest = f"sha256:{content:0>64}"
            self.staging.put(family, f"{name}--{build}", digest)
            repository = self.settings.production_names.format(family=family, name=name)
            made.append(
                ReleaseImage(
                    name=name,
                    family=family,
                    os="linux",
                    reasons=(),
                    staging=StagedReference(reference=f"staging.example/{family}:{name}--{build}", digest=digest),
                    destinations=(f"{repository}:{release_tag}", f"{repository}:{LATEST}"),
                    content_key="c",
                    bases=(),
                    tests=(),
                    size_bytes=1,
                )
            )
        release = ReleaseJson(
            build=build, commit="c" * 40, source="x", created=created, release_tag=release_tag, images=tuple(made)
        )
        record = build_record(
            build, status="succeeded", images=tuple(contents), created=created, release_tag=release_tag, commit="c" * 40
        )
        folder = self.artifacts.build(build)
        folder.create_build(record)
        write_atomically(folder.root / "release.json", release_bytes(release))
        return release

    def release(self, release: ReleaseJson, **fields: Any) -> ReleaseRecord:
        return self.releaser().release(release, **fields).record

    def releaser(self, who: str = "somebody") -> Releaser:
        return Releaser(self.backends, self.settings, who, self.told.append)

    def roll_back(self, image: str = "base/a", to: str = "") -> ReleaseRecord | None:
        return roll_back(image, to, "it is broken", self.backends, self.settings, "somebody", self.told.append)

    def withdraw(self, tag: str, image: str = "base/a") -> ReleaseRecord | None:
        return withdraw(image, tag, "a hole", self.backends, self.settings, "somebody", self.told.append)

    def served(self, image: str = "base/a", tag: str = LATEST) -> str | None:
        """The content that production serves."""
        family, _, name = image.partition("/")
        repository = self.settings.production_names.format(family=family, name=name)
        digest = self.production.tagged.get((repository, tag))
        return digest.removeprefix("sha256:").lstrip("0") if digest else None

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.artifacts)
