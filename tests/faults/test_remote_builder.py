"""A builder that runs elsewhere, over a socket; and the same image from two engines."""

from __future__ import annotations

import json
import threading
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.buildkit.builder import BuildKitBuilder
from aml_images_dagster.engine.buildkit.buildx import Buildx
from aml_images_dagster.engine.interface import BuildRequest
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.registry.oci import OciRegistry
from tests.emulators.buildkit_socket import BuildKitSocket, RemoteBuilder
from tests.faults.alone import naming
from tests.faults.own_engine import OwnEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import MakeContext
    from tests.faults.scene import World

pytestmark = pytest.mark.faults

EPOCH = 1_700_000_000


@pytest.fixture
def remote(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[OwnEngine], tuple[BuildKitBuilder, BuildKitSocket]]]:
    """Makes builders of buildx on sockets."""
    # The plugin stays where it is found; the builders are this test's own.
    monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path / "buildx"))
    stack = ExitStack()

    def new(engine: OwnEngine) -> tuple[BuildKitBuilder, BuildKitSocket]:
        folder = engine.folder / uuid.uuid4().hex[:6]
        folder.mkdir()
        builder = RemoteBuilder(engine.url, folder, tmp_path / "buildx")
        stack.enter_context(builder.socket)
        options = {"wait_seconds": 0, "push_seconds": 60, "pauses": ()}
        kept = {"features_file": tmp_path / "features.json", **options}
        return BuildKitBuilder(Buildx(builder=builder.name), None, lambda _: None, **kept), builder.socket

    with stack:
        yield new


def request_for(world: World, make_context: MakeContext, text: str, **fields: object) -> BuildRequest:
    base = f"{world.front.host}/mirror/docker.io/library/busybox:latest"
    context = make_context({"Dockerfile": f"FROM {base}\n{text}", "note": "x"})
    tag = f"{world.front.host}/remote/{uuid.uuid4().hex[:8]}:1"
    options = {"platform": "linux/amd64", "timeout_seconds": 120, "network": "none", **fields}
    return BuildRequest(context, "Dockerfile", tag, **options)  # type: ignore[arg-type]


def build(builder: BuildKitBuilder, request: BuildRequest, lines: list[str]) -> str:
    pushed = builder.build_and_push(request, lines.append, still_wanted=lambda: None, started=lambda _: None)
    assert pushed.digest
    return pushed.digest


def test_the_same_image_comes_from_two_engines_without_a_secret_in_it(
    world: World, remote: Callable[[OwnEngine], tuple[BuildKitBuilder, BuildKitSocket]], make_context: MakeContext
) -> None:
    secret, lines = f"s3cret-{uuid.uuid4()}", []
    text = "COPY note /note\nRUN --mount=type=secret,id=word test -s /run/secrets/word && cat /run/secrets/word\n"
    text += "RUN <<END\nmkdir /made\ndate > /dev/null\necho y > /made/y\nEND\n"
    fields = {"secrets": {"word": secret}, "epoch": EPOCH, "rewrite_timestamp": True, "no_cache": True}
    port = int(world.front.host.partition(":")[2])
    first, _ = remote(world.engine)
    assert first.info().version.startswith("builder remote-")
    assert {"RUN --mount", "heredocs", "COPY --link"} <= first.features().supported
    one = request_for(world, make_context, text, **fields)
    two = request_for(world, make_context, text, **fields)
    digest = build(first, one, lines)
    with OwnEngine(world.engine.folder.with_name("second"), (port,), namespace="-2") as engine:
        second, _ = remote(engine)
        assert build(second, two, lines) == digest
    registry = OciRegistry(world.front.host)
    reference = Reference.parse(one.tag)
    assert registry.digest(reference) == digest
    assert registry.config(reference)["created"].startswith("2023-11-14T22:13:20")
    assert secret not in "".join(lines)
    assert "***" in "".join(lines)
    manifest = json.loads(registry.existing(reference).body)
    for descriptor in (manifest["config"], *manifest["layers"]):
        with registry.open_blob(reference.repository, descriptor["digest"]) as blob:
            assert secret.encode() not in blob.read()


def test_a_remote_builder_that_goes_away_is_lost_and_leaves_nothing(
    world: World, remote: Callable[[OwnEngine], tuple[BuildKitBuilder, BuildKitSocket]], make_context: MakeContext
) -> None:
    builder, socket = remote(world.engine)
    mark = uuid.uuid4().hex
    request = request_for(world, make_context, f"RUN : {mark}; sleep 60; true\n")
    world_lost = threading.Event()

    def still_wanted() -> None:
        if not world_lost.is_set() and [*naming(f": {mark}")]:
            world_lost.set()
            socket.end()

    with pytest.raises(Unreachable):
        builder.build_and_push(request, print, still_wanted=still_wanted, started=lambda _: None)
    assert world_lost.is_set()
    for _ in range(200):
        if not [*naming(f": {mark}")]:
            break
        threading.Event().wait(0.1)
    assert not [*naming(f": {mark}")]
    assert OciRegistry(world.front.host).digest(Reference.parse(request.tag)) is None
