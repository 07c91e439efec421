"""The backends behind the interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = {
    "staging_registry": "127.0.0.1:9",
    "production_registry": "127.0.0.1:9",
    "docker_host": "unix:///nowhere.sock",
}


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STAGING_CLIENT_ID", "STAGING_CLIENT_SECRET", "AML_IMAGES_WINDOWS_DOCKER_HOST"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_contacted_before_it_is_used(tmp_path: Path) -> None:
    backends = backends_for(load_settings(repo=tmp_path, **NOBODY))
    with pytest.raises(Unreachable):
        backends.staging.ping()
    with pytest.raises(Unreachable):
        backends.builder.info()
    assert not list(backends.artifacts.builds())
    assert list(tmp_path.iterdir()) == []


def test_a_registry_that_does_not_answer_names_its_setting(tmp_path: Path) -> None:
    addresses = {"staging_registry": "127.0.0.1:9", "production_registry": "127.0.0.1:7"}
    backends = backends_for(load_settings(repo=tmp_path, **addresses))
    for registry, setting in (
        (backends.staging, "staging_registry"),
        (backends.production, "production_registry"),
    ):
        with pytest.raises(Unreachable) as caught:
            registry.ping()
        assert f"is the address right (setting {setting})" in caught.value.hint


def test_a_windows_engine_is_asked_for_by_name(tmp_path: Path) -> None:
    backends = backends_for(load_settings(repo=tmp_path, **NOBODY))
    assert backends.builder_for("linux") is backends.builder
    with pytest.raises(BadInput, match="nothing is configured that builds Windows images"):
        backends.builder_for("windows")
    backends = backends_for(load_settings(repo=tmp_path, windows_docker_host="tcp://127.0.0.1:9", **NOBODY))
    assert backends.builder_for("windows") is backends.windows_builder is not None


def test_the_login_is_for_staging_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = NOBODY["staging_registry"]
    assert backends_for(load_settings(repo=tmp_path, **NOBODY)).login_for(staging) is None
    monkeypatch.setenv("STAGING_CLIENT_ID", "someone")
    monkeypatch.setenv("STAGING_CLIENT_SECRET", "correct-horse-battery")
    backends = backends_for(load_settings(repo=tmp_path, **NOBODY))
    assert backends.login_for(staging) is not None
    assert backends.login_for("docker.io") is None
    assert "correct-horse-battery" not in repr(backends)
