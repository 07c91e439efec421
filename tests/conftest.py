"""What several tests share: the real engine, the two real registries, and images to play with."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import signal
import tarfile
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from alembic.script import ScriptDirectory

from aml_images_dagster.builds.naming import build_number, release_tag_for
from aml_images_dagster.builds.session import BuildSession
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.buildkit.buildx import Buildx
from aml_images_dagster.engine.docker_engine import DockerEngine
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.registry.interface import Manifest
from aml_images_dagster.registry.oci import OciRegistry, read_manifest
from aml_images_dagster.registry.platforms import manifests_below
from aml_images_dagster.settings import Settings, load_settings
from tests.emulators.azure.fixtures import blob_account as blob_account  # a fixture
from tests.emulators.azure.fixtures import cloud as cloud  # a fixture
from tests.faults.matrix import pytest_terminal_summary as pytest_terminal_summary  # a hook
from tests.image_repository import DOCKERFILES, ImageRepository
from tests.indexes import push_index

if TYPE_CHECKING:
    from alembic.config import Config

    from aml_images_dagster.builds.backends import Backends

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and what is printed would be as narrow

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("short", deadline=None)
hypothesis.settings.load_profile("short")
hypothesis.settings.register_profile("long", max_examples=300, stateful_step_count=40, deadline=None)
"""For the tests of state machines, by hand: `--hypothesis-profile=long`."""

LONGEST = (
    "tests/e2e/test_inventory_and_syft.py",
    "tests/e2e/test_pull_requests.py",
    "tests/e2e/test_missing_fixes.py",
    "tests/e2e/test_azure_profile.py",
    "tests/e2e/test_build.py",
    "tests/e2e/test_platforms.py",
    "tests/e2e/test_upstream.py",
    "tests/catalog/test_dockerfile_engine.py",
    "tests/release/test_cut_points.py",
    "tests/faults/test_faults_with_daemon.py",
    "tests/faults/test_hosts.py",
    "tests/faults/test_faults_command_line.py",
    "tests/faults/test_concurrent_builds.py",
    "tests/faults/test_faults_on_postgres.py",
)
"""Files that take more than a minute, the longest first: scripts/test gives a file to one process, or a class of it."""

MakeContext = Callable[[Mapping[str, str | bytes]], Path]
PushNewImage = Callable[..., Reference]
NewSession = Callable[..., BuildSession]


@pytest.fixture(scope="session", autouse=True)
def _migrations_read_once() -> Iterator[None]:
    """Dagster reads the scripts of its migrations for each of the three stores of an instance; they never change."""
    read = ScriptDirectory.from_config
    known: dict[str | None, ScriptDirectory] = {}

    def from_config(config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        return known.get(place) or known.setdefault(place, read(config))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", from_config)
        yield


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """Let no test leave SIGINT or SIGTERM blocked or ignored: processes that later ones start would inherit that."""
    yield
    numbers = {signal.SIGINT, signal.SIGTERM}
    left = signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers) & numbers
    left |= {number for number in numbers if signal.getsignal(number) is signal.SIG_IGN}
    for number in left:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    if left:
        warnings.warn(f"a test has left blocked or ignored: {sorted(left)}", stacklevel=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first, then other whole builds: nothing long is to be left for the end, and one process."""
    places = {path: place for place, path in enumerate(LONGEST)}

    def place(item: pytest.Item) -> tuple[int, bool]:
        is_long = any(item.get_closest_marker(long) for long in ("e2e", "browser"))
        return places.get(item.nodeid.partition("::")[0], len(LONGEST)), not is_long

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """What is there before the first test stays: no collection of garbage looks at it again, and no fork copies it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def engine() -> DockerEngine:
    """The engine of this machine."""
    engine = DockerEngine()
    _must_answer(engine.info)
    return engine


@pytest.fixture(scope="session")
def staging() -> OciRegistry:
    """The staging registry; it also mirrors the bases that tests build from."""
    return _registry("AML_IMAGES_STAGING_REGISTRY", "127.0.0.1:5000")


@pytest.fixture(scope="session")
def production() -> OciRegistry:
    """The production registry."""
    return _registry("AML_IMAGES_PRODUCTION_REGISTRY", "127.0.0.1:5001")


@pytest.fixture
def repository(request: pytest.FixtureRequest, staging: OciRegistry, production: OciRegistry) -> Iterator[str]:
    """A repository of the test's own; what it and those below it hold is deleted after the test.

    Its name is the same in every run: registries list a repository for ever, so new names would pile up.
    """
    owner = f"{request.config.rootpath} {request.node.nodeid}"
    name = f"tests/{hashlib.sha256(owner.encode()).hexdigest()[:12]}"
    registries = (staging, production)
    for registry in registries:
        _empty(registry, name)
    yield name
    for registry in registries:
        for found in registry.repositories():
            if f"{found}/".startswith(f"{name}/"):
                _empty(registry, found)


@pytest.fixture(scope="session")
def busybox(staging: OciRegistry) -> Reference:
    """A small base image, by digest, in the mirror of the staging registry."""
    base = Reference(staging.host, "mirror/docker.io/library/busybox", "latest")
    digest = staging.digest(base)
    if digest is None:
        pytest.fail(f"{base} is missing: push a busybox image there")
    return base.with_digest(digest)


@pytest.fixture(scope="session")
def emulation() -> None:
    """This machine runs programs of linux/arm64, in the engine's containers too."""
    if "linux/arm64" not in Buildx().inspect().platforms:
        pytest.fail("the engine does not emulate linux/arm64: run `scripts/emulation arm64`", pytrace=False)


@pytest.fixture(scope="session")
def busybox_of_both(staging: OciRegistry, busybox: Reference) -> Reference:
    """A busybox for linux/amd64 and linux/arm64, by the digest of its index; in a Dockerfile it is tests/busybox."""
    mirrored = busybox.repository.removesuffix("library/busybox")
    arm64 = Reference(staging.host, f"{mirrored}arm64v8/busybox", "latest")
    digest = staging.digest(arm64)
    if digest is None:
        pytest.fail(f"{arm64} is missing: run `scripts/bases arm64v8/busybox`")
    images = {"linux/amd64": busybox, "linux/arm64": arm64.with_digest(digest)}
    return push_index(staging, images, Reference(staging.host, f"{mirrored}tests/busybox", "latest"))


@pytest.fixture
def make_context(tmp_path: Path) -> MakeContext:
    """Writes a build context from file names and contents."""

    def make(files: Mapping[str, str | bytes]) -> Path:
        path = tmp_path / f"context-{uuid.uuid4().hex[:8]}.tar"
        with tarfile.open(path, "w") as archive:
            for name, content in files.items():
                data = content.encode() if isinstance(content, str) else content
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return path

    return make


@pytest.fixture
def push_new_image(staging: OciRegistry, busybox: Reference) -> PushNewImage:
    """Pushes an image that nobody else has, to a repository and a tag: a busybox whose configuration is unique.

    With values of its `config`, as the specification of images names them.
    """

    def push(repository: str, tag: str, **settings: object) -> Reference:
        copy_image(staging, staging, busybox, repository)
        config = {**staging.config(busybox), "comment": str(uuid.uuid4())}
        config["config"] = {**config["config"], **settings}
        body = json.dumps(config).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        staging.upload_blob(repository, digest, body)
        base = staging.existing(busybox)
        document = read_manifest(base)
        document["config"] |= {"digest": digest, "size": len(body)}
        content = json.dumps(document).encode()
        manifest = Manifest(f"sha256:{hashlib.sha256(content).hexdigest()}", base.media_type, content)
        staging.put_manifest(repository, tag, manifest)
        return Reference(staging.host, repository, tag, manifest.digest)

    return push


@pytest.fixture
def pushed(push_new_image: PushNewImage, repository: str) -> Reference:
    """An image of the test's own, tagged `1` in the staging registry."""
    return push_new_image(repository, "1")


@pytest.fixture
def image_repository(
    request: pytest.FixtureRequest, tmp_path: Path, staging: OciRegistry, production: OciRegistry
) -> Iterator[ImageRepository]:
    """A git repository with three images, tools/shell, apps/hello FROM it and apps/other, and the real registries.

    What the registries hold of its families is deleted before and after the test.
    """
    owner = f"{request.config.rootpath} {request.node.nodeid}"
    suffix = f"-{hashlib.sha256(owner.encode()).hexdigest()[:8]}"  # see `repository`
    repository = ImageRepository.create(tmp_path / "repository", staging.host, production.host, suffix)
    held = [(staging, family) for family in repository.families.values()]
    held += [(production, f"public{suffix}/{image.partition('/')[2]}") for image in DOCKERFILES]
    for registry, name in held:
        _empty(registry, name)
    yield repository
    for registry, name in held:
        _empty(registry, name)


@pytest.fixture
def settings(image_repository: ImageRepository, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of `image_repository`, whatever this process has in its environment."""
    for name in os.environ:
        if name.startswith("AML_IMAGES_"):
            monkeypatch.delenv(name)
    return load_settings(repo=image_repository.root)


@pytest.fixture
def backends(settings: Settings) -> Backends:
    """The real backends behind them."""
    return backends_for(settings)


@pytest.fixture
def new_session(image_repository: ImageRepository, settings: Settings, backends: Backends) -> NewSession:
    """Begins a build of images that `tools/…` and `apps/…` name, from the files as they are now."""

    def new(*images: str, commit: str = "", **fields: Any) -> BuildSession:
        run_id, now = str(uuid.uuid4()), datetime.now(UTC)
        return BuildSession(
            number=build_number(run_id, now),
            run_id=run_id,
            created=now,
            release_tag=release_tag_for(now, None, None),
            images=frozenset(map(image_repository.image, images)),
            source=load_source(settings, commit),
            settings=settings,
            backends=backends,
            **fields,
        )

    return new


def _registry(variable: str, default: str) -> OciRegistry:
    registry = OciRegistry(os.environ.get(variable, default))
    _must_answer(registry.ping)
    return registry


def _empty(registry: OciRegistry, repository: str) -> None:
    """Delete what the tags lead to, lists of what is attached included."""
    for tag in (*registry.tags(repository), *registry.referrers_tags(repository)):
        tagged = Reference(registry.host, repository, tag)
        parts = manifests_below(registry, tagged)
        registry.delete(tagged)
        for part in parts:
            registry.delete(tagged.with_digest(part))


def _must_answer(ask: Callable[[], object]) -> None:
    """A missing engine fails the tests that need it: a skipped test proves nothing."""
    try:
        ask()
    except FactoryError as error:
        pytest.fail(f"this test needs it running: {error}", pytrace=False)
