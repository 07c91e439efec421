"""A factory without engine and network: an image is the hash of what its builder sees, and every job passes."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.backends import Backends
from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.builds.planning.plan import plan_build
from aml_images_dagster.builds.session import BuildSession
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.builds.steps.scenarios import test
from aml_images_dagster.builds.steps.staging import stage, stage_once
from aml_images_dagster.builds.steps.unchanged import record_unchanged
from aml_images_dagster.catalog.builder_features import BUILDKIT
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.interface import EngineInfo, PushedImage
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.interface import Manifest
from aml_images_dagster.registry.oci import OCI_INDEX, OCI_MANIFEST
from aml_images_dagster.registry.resolution import ResolvedBase
from aml_images_dagster.settings import load_settings
from aml_images_dagster.testing.interface import JobResult, NodeLog

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    from aml_images_dagster.builds.records import Plan
    from aml_images_dagster.catalog.builder_features import BuilderFeatures
    from aml_images_dagster.engine.interface import BuildRequest
    from aml_images_dagster.testing.interface import TestJob

TITLE = "org.opencontainers.image.title"


class MemoryRegistry:
    """Tags and digests, the labels of each, and the images of indexes by platform."""

    host = "staging.example"
    url = "https://staging.example"

    def __init__(self) -> None:
        self.served: dict[tuple[str, str], str] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.indexes: dict[str, dict[str, str]] = {}

    def digest(self, reference: Reference) -> str | None:
        return self.served.get((reference.repository, reference.version))

    def push(self, reference: Reference, digest: str, config: dict[str, Any]) -> None:
        self.served |= {(reference.repository, version): digest for version in (reference.tag, digest)}
        self.configs[digest] = config

    def push_index(self, reference: Reference, digest: str, labels: dict[str, str], platforms: Sequence[str]) -> None:
        self.indexes[digest] = {}
        for platform in platforms:
            part = f"sha256:{hashlib.sha256(f'{digest} {platform}'.encode()).hexdigest()}"
            os_, architecture = platform.split("/")
            self.push(reference.with_tag(part), part, {"os": os_, "architecture": architecture})
            self.indexes[digest][platform] = part
        self.push(reference, digest, {"config": {"Labels": labels}})

    def config(self, reference: Reference) -> Mapping[str, Any]:
        digest = self.digest(reference)
        if digest is None:
            raise BadInput("it is not there", where=str(reference))
        return self.configs[digest]

    def manifest(self, reference: Reference) -> Manifest | None:
        digest = self.digest(reference)
        if digest in self.indexes:
            entries = [
                {"digest": part, "size": 2, "platform": dict(zip(("os", "architecture"), name.split("/"), strict=True))}
                for name, part in self.indexes[digest].items()
            ]
            return Manifest(digest, OCI_INDEX, json.dumps({"manifests": entries}).encode())
        body = json.dumps({"config": {"digest": digest, "size": 2}, "layers": []}).encode()
        return Manifest(digest, OCI_MANIFEST, body) if digest else None

    def referrers(self, _repository: str, _digest: str) -> Sequence[Mapping[str, Any]]:
        return []

    def referrers_tags(self, _repository: str) -> Sequence[str]:
        return ()

    def size_bytes(self, reference: Reference) -> int:
        return len(reference.digest)

    def repositories(self) -> Sequence[str]:
        return sorted({repository for repository, _ in self.served})

    def tags(self, repository: str) -> Sequence[str]:
        return [version for found, version in self.served if found == repository and ":" not in version]

    def tag(self, reference: Reference, tag: str) -> None:
        digest = self.digest(reference)
        if digest is None:
            raise BadInput("there is no such image", where=str(reference), hint="Push it first.")
        self.served[reference.repository, tag] = digest

    def untag(self, reference: Reference) -> None:
        self.served.pop((reference.repository, reference.tag), None)

    def delete(self, reference: Reference) -> None:
        digest = self.digest(reference)
        for key in [key for key, found in self.served.items() if key[0] == reference.repository and found == digest]:
            del self.served[key]


def _without_labels(request: BuildRequest) -> tuple[bytes, dict[str, str]]:
    """A context but for the labels in its Dockerfile, which name the build; and the labels."""
    kept, labels = [], {}
    with tarfile.open(request.context) as context:
        for member in context:
            file = context.extractfile(member)
            content = file.read() if file else member.linkname.encode()
            if member.name == request.dockerfile:
                text, _, instruction = content.decode().rpartition("\nLABEL ")
                pairs = re.findall(r'"((?:[^"\\]|\\.)*)"="((?:[^"\\]|\\.)*)"', instruction)
                labels = {re.sub(r"\\(.)", r"\1", key): re.sub(r"\\(.)", r"\1", value) for key, value in pairs}
                content = text.encode()
            kept.append(f"{member.name} {member.mode} ".encode() + content)
    return b"|".join(kept), labels


@dataclass
class HashingBuilder:
    """Builds by hashing all that it is given; says which images it was asked for."""

    registry: MemoryRegistry
    built: list[str] = field(default_factory=list)

    def info(self) -> EngineInfo:
        return EngineInfo("1", "linux", "amd64", None)

    def features(self) -> BuilderFeatures:
        return BUILDKIT

    def build_and_push(self, request: BuildRequest, log: object, **_: object) -> PushedImage:
        content, labels = _without_labels(request)
        seen = [content, json.dumps([*request.build_args.items(), request.platform]).encode()]
        title = labels[TITLE]
        digest = f"sha256:{hashlib.sha256(b'|'.join([title.encode(), *seen])).hexdigest()}"
        if "," in request.platform:
            self.registry.push_index(Reference.parse(request.tag), digest, labels, request.platform.split(","))
        else:
            config = {"os": "linux", "architecture": "amd64", "config": {"Labels": labels}}
            self.registry.push(Reference.parse(request.tag), digest, config)
        self.built.append(title)
        return PushedImage(digest, dict.fromkeys(request.look_for, True))

    def abandon(self, tag: str, work: str | None) -> None:
        pass

    def sweep(self) -> int:
        return 0


@dataclass
class PassingRunner:
    """Passes every job, but for scenarios that are to fail; remembers by image and scenario what each was given."""

    kind = "memory"
    failing: set[str] = field(default_factory=set)
    failing_on: set[tuple[str, str]] = field(default_factory=set)
    ran: dict[tuple[str, str], str] = field(default_factory=dict)
    platforms: set[str] = field(default_factory=lambda: {"linux/amd64"})
    references: dict[str, str] = field(default_factory=dict)

    def run_all(self, jobs: Sequence[TestJob], _: object) -> Generator[JobResult, None, None]:
        for job in jobs:
            files = sorted((str(path.relative_to(job.code)), path) for path in job.code.rglob("*") if path.is_file())
            seen = [job.reference, job.scenario.model_dump_json()]
            seen += [f"{name} {path.stat().st_mode:o} {path.read_text()}" for name, path in files]
            self.references[job.platform] = job.reference
            self.ran[job.image, job.scenario.name] = hashlib.sha256(repr(seen).encode()).hexdigest()
            if job.scenario.name in self.failing or (job.scenario.name, job.platform) in self.failing_on:
                yield JobResult(job.name, "failed", 1, "exit code 1", (NodeLog("node0", "the accuracy is too low\n"),))
            yield JobResult(job.name, "passed", 1)

    def load(self) -> None:
        pass

    def runs(self, platform: str) -> bool:
        return platform in self.platforms

    def check(self, computes: object, platforms: object = ()) -> str:
        return self.kind

    def cancel(self, build: str) -> list[str]:
        return []

    def live(self, build: str) -> list[str]:
        return []


@dataclass
class MemoryResolver:
    """External bases, as tests have them."""

    digests: dict[str, str] = field(default_factory=dict)
    of: dict[str, Sequence[str]] = field(default_factory=dict)

    def resolve(self, reference: str) -> ResolvedBase:
        if reference not in self.digests:
            raise BadInput("nobody has it", where=reference)
        digest = self.digests[reference]
        return ResolvedBase(reference, digest, f"mirror.example/{reference.partition(':')[0]}@{digest}")

    def platforms(self, image: str) -> Sequence[str]:
        return self.of.get(image.rpartition("@")[2], ("linux/amd64", "linux/arm64"))

    def triggers(self, _image: str) -> Sequence[str]:
        return ()

    def forget(self) -> None:
        pass


class MemoryFactory:
    """Image folders on a disk, and backends that need nothing else.

    Args:
        repo: A folder with `images/<family>/<name>` and `checks`.
        home: Its artifacts and logs.
        bases: Digests of external bases by reference.
    """

    def __init__(self, repo: Path, home: Path, bases: dict[str, str]) -> None:
        self.settings = load_settings(
            repo=repo,
            home=home,
            docker_files_path="images",
            tests_path="checks",
            published_as=["registry.example/{name}"],
            artifacts=str(home / "artifacts"),
            trust={"attach": False},  # the registry holds digests, and no bytes that could be signed
        )
        self.staging = MemoryRegistry()
        self.builder = HashingBuilder(self.staging)
        self.runner = PassingRunner()
        self.backends = Backends(
            builder=self.builder,  # type: ignore[arg-type]
            windows_builder=None,
            engine=None,  # type: ignore[arg-type]
            windows_engine=None,
            staging=self.staging,  # type: ignore[arg-type]
            login_for=lambda _: None,
            production=MemoryRegistry(),  # type: ignore[arg-type]
            importer=None,  # type: ignore[arg-type]
            runner=self.runner,  # type: ignore[arg-type]
            resolver=MemoryResolver(bases),  # type: ignore[arg-type]
            artifacts=Artifacts(str(home / "artifacts")),
        )

    def plan(self, *images: str, pull_request: str = "") -> Plan:
        source = load_source(self.settings)
        selection = dict.fromkeys(images or source.catalog.images, ("all",))
        return plan_build(selection, source, self.backends, self.settings, pull_request=pull_request)

    def session(self, plan: Plan | None = None, **fields: Any) -> BuildSession:
        run_id, now = str(uuid.uuid4()), datetime.now(UTC)
        source = load_source(self.settings)
        return BuildSession(
            number=build_number(run_id, now),
            run_id=run_id,
            created=now,
            release_tag="v1",
            images=frozenset(plan.by_name if plan else source.catalog.images),
            source=source,
            settings=self.settings,
            backends=self.backends,
            plan=plan,
            **fields,
        )

    def build(self, plan: Plan, log: Callable[[str], None] = lambda _: None, **fields: Any) -> BuildSession:
        """What the steps of a run do that follows a plan."""
        session = self.session(plan, **fields)
        for planned in plan.images:
            if planned.action == "build":
                stage(session, planned.image, log)
        for planned in plan.images:
            if not planned.is_unchanged:
                test(session, stage_once(session, planned.image, log), log)
        list(record_unchanged(session, log))
        return session


def staged_digests(session: BuildSession) -> dict[str, str]:
    found = {image: session.folder.read_staged(image) for image in session.images}
    return {image: staged.digest for image, staged in found.items() if staged}


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def write_image(
    repo: Path, image: str, dockerfile: str, scenario: str | None = "check.py", names: Sequence[str] = ("runs",)
) -> None:
    folder = repo / "images" / image
    write(folder / "Dockerfile", dockerfile)
    write(folder / "Dockerfile.private", "COPY LICENSE.txt /\n")
    write(folder / "LICENSE.txt", "MIT\n")
    write(folder / "data", "data\n")
    if scenario:
        tests = {"scenarios": [{"name": name, "kind": "training", "script": scenario} for name in names]}
        write(folder / "tests.json", json.dumps(tests))
