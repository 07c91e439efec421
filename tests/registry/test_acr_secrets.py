"""Signing in, listing, building, pushing and importing at DEBUG: no token and no password is told to anybody else.

That is: to a log, an exception, the arguments, environment and files of buildx, the image, or a file.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.buildkit.buildx import Buildx
from aml_images_dagster.engine.interface import BuildRequest
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.engine.interface import PushedImage
    from tests.conftest import MakeContext
    from tests.emulators.azure.cloud import EmulatedCloud

pytestmark = pytest.mark.engine

PASSWORD = "correct-horse-battery-staple"


@pytest.fixture
def given_to_buildx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the arguments, the environment and the configuration of every call of buildx."""
    seen, folder = tmp_path / "given-to-buildx", tmp_path / "docker" / "cli-plugins"
    folder.mkdir(parents=True)
    program = folder / "docker-buildx"
    program.write_text(
        "#!/bin/sh\n"
        f'{{ printf "argument %s\\n" "$@"; env; cat "$DOCKER_CONFIG"/*; }} >>{seen} 2>&1\n'
        f'exec {Buildx().program} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("DOCKER_CONFIG", str(folder.parent))
    return seen


def test_nothing_secret_is_told(
    cloud: EmulatedCloud,
    tmp_path: Path,
    busybox: Reference,
    make_context: MakeContext,
    given_to_buildx: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    cloud.staging.accounts["puller"] = PASSWORD
    monkeypatch.setenv("AML_IMAGES_AZURE__IMPORT_BY", "password")
    monkeypatch.setenv("STAGING_CLIENT_ID", "puller")
    monkeypatch.setenv("STAGING_CLIENT_SECRET", PASSWORD)
    (tmp_path / "images").mkdir()
    backends = backends_for(load_settings(repo=tmp_path / "images"))
    reference = Reference(cloud.staging.host, "apps/pushed", "1")
    dockerfile = f"FROM {busybox}\nRUN echo {uuid.uuid4()}; env\nLABEL one="
    login = backends.login_for(reference.registry)
    assert login is not None
    request = BuildRequest(
        tmp_path / "context.tar",
        "Dockerfile",
        str(reference),
        platform="linux/amd64",
        timeout_seconds=60,
        logins={reference.registry: login},
        cache_reference=f"{reference.registry}/cache/pushed:1",
    )
    told: list[str] = [repr(login), repr(backends), repr(request)]

    def build(label: str) -> PushedImage:
        labelled = replace(request, context=make_context({"Dockerfile": f"{dockerfile}{label}\n"}))
        return backends.builder.build_and_push(labelled, told.append, still_wanted=lambda: None, started=told.append)

    pushed = build("two")
    assert pushed.digest is not None
    assert backends.staging.tags("cache/pushed") == ["1"]
    source, latest = reference.with_digest(pushed.digest), Reference(cloud.production.host, "public/pushed", "latest")
    backends.importer.import_image(source, latest, replace=True)
    assert backends.staging.tags("apps/pushed") == ["1"]
    cloud.staging.accounts["puller"] = "another"
    cloud.staging.allowed = frozenset()
    cloud.staging.fail(403, method="PUT", path="/v2/apps/pushed/manifests/", times=None)
    for refused in (
        lambda: build("three"),
        lambda: backends.importer.import_image(source, latest.with_tag("2"), replace=True),
        lambda: backends.staging.untag(reference),
        lambda: backends.staging.digest(reference),
    ):
        with pytest.raises(FactoryError) as error:
            refused()
        told.append(repr(error.value) + str(error.value))
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    calls = files[given_to_buildx].decode()
    assert f"argument --output=type=image,name={reference},push=true" in calls
    assert "credsStore" in calls
    assert "auths" not in calls  # which would have them in base64
    text = "\n".join((*told, caplog.text, *capfd.readouterr()))
    assert "DEBUG" in text
    assert any(line.endswith(" PWD=/") for line in told)  # what RUN sees
    tokens = [*cloud.identity.issued, *cloud.staging.tokens, *cloud.production.tokens]
    assert len(tokens) > 10
    # The end of a token is what nobody can guess.
    secrets = [PASSWORD, cloud.identity.secret, *(token.rpartition(".")[2] for token in tokens)]
    assert [secret for secret in secrets if secret in text] == []
    for path, content in files.items():  # of the registries' storage, too
        assert [secret for secret in secrets if secret.encode() in content] == [], path
