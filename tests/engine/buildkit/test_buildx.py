"""Finding buildx, and reading what it says of a builder."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from aml_images_dagster.catalog.builder_features import REWRITE_TIMESTAMP, SEVERAL_PLATFORMS
from aml_images_dagster.engine.buildkit import buildx as module
from aml_images_dagster.engine.buildkit import features
from aml_images_dagster.engine.buildkit.builder import BuildKitBuilder
from aml_images_dagster.engine.buildkit.buildx import Buildx
from aml_images_dagster.engine.interface import EngineInfo
from aml_images_dagster.errors import BadInput, Unreachable
from tests.engine.buildkit.conftest import INSPECTION, VERSION


def test_a_machine_without_buildx_is_told_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "_PLUGIN_FOLDERS", ())
    with pytest.raises(BadInput, match="buildx is not installed") as failed:
        Buildx().version()
    assert "docker-buildx" in failed.value.hint
    assert "scripts/services" in failed.value.hint


@pytest.mark.parametrize(
    ("said", "refusal"),
    [("github.com/docker/buildx v0.12.1 x", "buildx v0.12.1 is too old"), ("hello", "does not say its version")],
)
def test_another_program_or_an_old_one_is_refused(fake_buildx, said, refusal):
    fake_buildx(f"echo '{said}'")
    with pytest.raises(BadInput, match=refusal):
        Buildx().version()


def test_a_program_is_asked_for_its_version_once_and_again_when_it_is_another(fake_buildx, tmp_path):
    calls = tmp_path / "calls"
    fake_buildx(f"echo x >>{calls}; {VERSION} esac")
    assert [Buildx().version(), Buildx().version()] == [(0, 13), (0, 13)]
    assert calls.read_text() == "x\n"
    fake_buildx("echo github.com/docker/buildx v0.29.1 abc")
    assert Buildx().version() == (0, 29)


def test_what_it_says_of_a_builder(fake_buildx):
    fake_buildx(f"{VERSION} {INSPECTION} esac")
    assert Buildx().version() == (0, 13)
    info = Buildx().inspect()
    assert (info.driver, info.has_image_store) == ("docker", True)
    assert info.platforms == ("linux/amd64", "linux/arm64")


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("echo 'ERROR: no builder \"mine\" found' >&2; exit 1", BadInput, "buildx has no builder 'mine'"),
        ("echo 'ERROR: dial tcp: refused' >&2; exit 1", Unreachable, "the builder does not answer: dial tcp: refused"),
        ("printf 'Name: mine\\nStatus: inactive\\nError: no route\\n'", Unreachable, "does not answer: no route"),
    ],
)
def test_a_builder_that_is_not_there_is_explained(fake_buildx, script, error, message):
    fake_buildx(script)
    with pytest.raises(error, match=message):
        Buildx(builder="mine").inspect()


def test_buildx_gets_neither_our_secrets_nor_the_users_choice_of_a_builder(fake_buildx, tmp_path, monkeypatch):
    fake_buildx("")
    monkeypatch.setenv("STAGING_CLIENT_SECRET", "s3cret")
    monkeypatch.setenv("BUILDX_BUILDER", "mine")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    (tmp_path / "own").mkdir()
    environment = Buildx("tcp://engine.example:2376").environment(tmp_path / "own")
    assert "s3cret" not in json.dumps(environment)
    assert "BUILDX_BUILDER" not in environment
    assert environment["HTTPS_PROXY"] == "http://proxy.example"
    assert environment["DOCKER_HOST"] == "tcp://engine.example:2376"
    assert environment["DOCKER_CONFIG"] == environment["TMPDIR"] == str(tmp_path / "own")
    assert environment["BUILDX_CONFIG"].startswith(str(tmp_path / "own"))
    of_the_user = Buildx(builder="mine").environment(tmp_path / "own")
    assert of_the_user["BUILDX_CONFIG"] == str(tmp_path / "docker" / "buildx")


def test_the_platforms_of_all_machines_of_a_builder_are_its_own(fake_buildx):
    second = "Name: arm\nStatus: running\nPlatforms: linux/arm64*, linux/arm/v7"
    fake_buildx(INSPECTION.replace("END\n;;", f"\n{second}\nEND\n;;").join((f"{VERSION} ", " esac")))
    assert Buildx().inspect().platforms == ("linux/amd64", "linux/arm64", "linux/arm/v7")


@pytest.mark.parametrize(
    ("version", "buildkit", "label", "several", "sets_times"),
    [
        ("0.13.1", "0.0.0+unknown", "worker.containerd.uuid", True, False),
        ("0.29.1", "0.0.0+unknown", "worker.containerd.uuid", True, True),
        ("0.29.1", "0.13.0", "worker.containerd.uuid", True, True),
        ("0.29.1", "0.12.5", "worker.containerd.uuid", True, False),
        ("0.29.1", "0.0.0+unknown", "worker.moby.uuid", False, False),
    ],
)
def test_what_an_engine_makes_depends_on_its_store_and_on_buildx(
    fake_buildx, tmp_path, version, buildkit, label, several, sets_times
):
    inspection = INSPECTION.replace("worker.containerd.uuid", label).replace("0.0.0+unknown", buildkit)
    fake_buildx(f"{VERSION.replace('0.13.1', version)} {inspection} *) exit 0;; esac")
    builder = BuildKitBuilder(
        Buildx(), None, lambda _: None, features_file=tmp_path / "features.json", wait_seconds=0, push_seconds=1
    )
    features = builder.features()
    assert (SEVERAL_PLATFORMS in features.supported) == several
    assert (REWRITE_TIMESTAMP in features.supported) == sets_times
    assert ("containerd-snapshotter" in features.one_platform) == (not several)


def test_a_builder_that_was_updated_is_asked_again(fake_buildx, tmp_path, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(features, "_ask", lambda buildx: asked.extend(buildx.inspect().nodes) or set())
    for version in ("0.11.6", "0.11.6", "0.20.0"):
        fake_buildx(f"{VERSION} {INSPECTION.replace('0.0.0+unknown', version)} *) exit 0;; esac")
        BuildKitBuilder(
            Buildx(), None, lambda _: None, features_file=tmp_path / "features.json", wait_seconds=0, push_seconds=1
        ).features()
    assert [node.rpartition(" ")[2] for node in asked if "BuildKit" in node] == ["v0.11.6", "v0.20.0"]


@pytest.mark.parametrize(("version", "sets_times"), [("25.0.5", False), ("26.0.0", True), ("26.1.5+dfsg1", True)])
def test_an_engine_sets_times_from_docker_26_on(fake_buildx, tmp_path, version, sets_times):
    fake_buildx(f"{VERSION.replace('0.13.1', '0.29.1')} {INSPECTION} *) exit 0;; esac")
    engine = SimpleNamespace(info=lambda: EngineInfo(version, "linux", "amd64", None), has_image_store=True)
    builder = BuildKitBuilder(
        Buildx(), engine, lambda _: None, features_file=tmp_path / "features.json", wait_seconds=0, push_seconds=1
    )
    assert (REWRITE_TIMESTAMP in builder.features().supported) == sets_times
