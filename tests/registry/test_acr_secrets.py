"""Signing in, listing, pushing and importing at DEBUG: no token and no password is told to a log or an exception."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.interface import BuildRequest
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeContext
    from tests.emulators.azure.cloud import EmulatedCloud

pytestmark = pytest.mark.engine

PASSWORD = "correct-horse-battery-staple"


def test_nothing_secret_is_told(
    cloud: EmulatedCloud,
    tmp_path: Path,
    busybox: Reference,
    make_context: MakeContext,
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
    context = make_context({"Dockerfile": f"FROM {busybox}\nLABEL one=two\n"})
    login = backends.login_for(reference.registry)
    assert login is not None
    told: list[str] = [repr(login), repr(backends)]
    backends.engine.build(
        BuildRequest(
            context,
            "Dockerfile",
            str(reference),
            platform="linux/amd64",
            timeout_seconds=60,
            logins={reference.registry: login},
        ),
        told.append,
    )
    digest = backends.engine.push(str(reference), told.append, login)
    backends.engine.forget(str(reference))
    source, latest = reference.with_digest(digest), Reference(cloud.production.host, "public/pushed", "latest")
    backends.importer.import_image(source, latest, replace=True)
    assert backends.staging.tags("apps/pushed") == ["1"]
    cloud.staging.accounts["puller"] = "another"
    cloud.staging.allowed = frozenset()
    for refused in (
        lambda: backends.importer.import_image(source, latest.with_tag("2"), replace=True),
        lambda: backends.staging.untag(reference),
        lambda: backends.staging.digest(reference),
    ):
        with pytest.raises(FactoryError) as error:
            refused()
        told.append(repr(error.value) + str(error.value))
    text = "\n".join((*told, caplog.text, *capfd.readouterr()))
    assert "DEBUG" in text
    tokens = [*cloud.identity.issued, *cloud.staging.tokens, *cloud.production.tokens]
    assert len(tokens) > 10
    # The end of a token is what nobody can guess.
    secrets = [PASSWORD, cloud.identity.secret, *(token.rpartition(".")[2] for token in tokens)]
    assert [secret for secret in secrets if secret in text] == []
