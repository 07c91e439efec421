"""The gates in runs of builds. What looks is a program made for these tests, which prints a report as Trivy does."""

from __future__ import annotations

import copy
import json
import os
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from aml_images_dagster.builds.planning.preflight import check_folders
from aml_images_dagster.catalog.image import NOTICES_FILE, NOTICES_LOCK
from aml_images_dagster.catalog.notices import Component, NoticesLock, notices_text
from aml_images_dagster.defs.request import PULL_REQUEST_TAG
from aml_images_dagster.errors import BadInput
from tests.builds.in_memory import write
from tests.defs.planned_runs import ALL, FILES, Run, Scene
from tests.vulnerabilities.test_reports import TRIVY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICY = "sources: [trivy]\n"
IMAGES = {f"{image.partition('/')[2]}.staged": image for image in ALL}
CLEAN: dict[str, Any] = {"SchemaVersion": 2, "Results": []}


class Trivy:
    """A program on PATH."""

    def __init__(self, folder: Path) -> None:
        self._report = folder / "report.json"
        self._asked = folder / "asked"
        script = f"#!/bin/sh\necho \"$@\" >> '{self._asked}'\ncat '{self._report}'\n"
        write(folder / "bin" / "trivy", script)
        (folder / "bin" / "trivy").chmod(0o755)
        self.path = folder / "bin"
        self.finds(CLEAN)

    def finds(self, report: dict[str, Any]) -> None:
        self._report.write_text(json.dumps(report))

    @property
    def asked(self) -> int:
        return len(self._asked.read_text().splitlines()) if self._asked.exists() else 0


@pytest.fixture
def trivy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trivy:
    made = Trivy(tmp_path / "trivy")
    monkeypatch.setenv("PATH", f"{made.path}:{os.environ['PATH']}")
    monkeypatch.setenv("AML_IMAGES_VULNERABILITIES__SOURCES", "trivy")
    return made


@pytest.fixture
def scene(tmp_path: Path, trivy: Trivy) -> Iterator[Scene]:
    del trivy  # the settings are read when the scene is made
    with dg.DagsterInstance.ephemeral() as instance:
        yield Scene(tmp_path, instance)


def _run(scene: Scene, **tags: str) -> Run:
    return scene.run(scene.plan(tags.get(PULL_REQUEST_TAG, "")), **tags)


def _evaluations(done: Run, check: str = "vulnerabilities") -> dict[str, dg.AssetCheckEvaluation]:
    found = done.result.get_asset_check_evaluations()
    return {each.asset_key.path[-1]: each for each in found if each.check_name == check}


def test_without_a_policy_nobody_is_asked_and_there_is_no_check(scene: Scene, trivy: Trivy) -> None:
    trivy.finds(TRIVY)
    done = scene.build()

    assert trivy.asked == 0
    assert _evaluations(done) == {}


def test_what_the_policy_does_not_allow_fails_the_build_and_says_what_and_who_looked(
    scene: Scene, trivy: Trivy
) -> None:
    write(scene.repo / "policy.yaml", POLICY)
    trivy.finds(TRIVY)
    done = _run(scene)

    assert not done.result.success
    ((asset, check),) = _evaluations(done).items()  # the first one stops the others
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "libssl3 3.0.15-1~deb12u1 → 3.0.17-1~deb12u2 (CVE-2026-1)" in str(check.description)
    assert "Vulnerability sources: trivy." in str(check.description)
    assert "policy.yaml does not allow it" in done.page(IMAGES[asset], "staged")["reason"]
    assert not done.made & FILES


def test_a_build_without_findings_passes(scene: Scene, trivy: Trivy) -> None:
    write(scene.repo / "policy.yaml", POLICY)
    done = scene.build()

    assert trivy.asked == len(ALL)
    assert {name: check.passed for name, check in _evaluations(done).items()} == dict.fromkeys(IMAGES, True)


def test_a_policy_that_reports_shows_a_warning(scene: Scene, trivy: Trivy) -> None:
    write(scene.repo / "policy.yaml", f"{POLICY}action: report\n")
    trivy.finds(TRIVY)
    done = scene.build()

    check = _evaluations(done)["root.staged"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)


def test_a_fix_that_comes_out_closes_the_gate_for_images_that_are_reused(scene: Scene, trivy: Trivy) -> None:
    write(scene.repo / "policy.yaml", POLICY)
    scene.build()
    trivy.finds(TRIVY)
    closed = _run(scene)
    trivy.finds(CLEAN)
    opened = scene.build()

    assert closed.steps == ["release_files"]
    assert not closed.result.success
    assert {check.passed for check in _evaluations(closed).values()} == {False}
    assert set(_evaluations(closed)) == set(IMAGES)
    assert not closed.made & FILES
    assert opened.reused() == set(ALL)


def test_a_fix_that_comes_out_closes_the_gate_for_images_of_which_only_a_test_is_new(
    scene: Scene, trivy: Trivy
) -> None:
    write(scene.repo / "policy.yaml", POLICY)
    scene.build()
    write(scene.repo / "checks" / "check.py", "echo better\n")
    trivy.finds(TRIVY)
    closed = _run(scene)

    assert len(closed.steps) == 1 + len(ALL)
    assert not closed.result.success
    assert {name: check.passed for name, check in _evaluations(closed).items()} == dict.fromkeys(IMAGES, False)
    assert not closed.made & FILES


def test_an_exception_that_has_expired_closes_the_gate_again(scene: Scene, trivy: Trivy) -> None:
    exception = "exceptions: [{{id: CVE-2026-1, reason: not reachable here, expires: {}}}]\n"
    report = copy.deepcopy(TRIVY)
    trivy.finds(report)
    write(scene.repo / "policy.yaml", POLICY + exception.format("9999-12-31"))
    scene.build()
    write(scene.repo / "policy.yaml", POLICY + exception.format("2020-12-31"))
    closed = _run(scene)

    assert not closed.result.success
    check = next(iter(_evaluations(closed).values()))
    assert "The exception for CVE-2026-1 has expired on 2020-12-31." in str(check.description)


def test_a_pull_request_is_not_blocked_by_images_that_it_leaves_alone(scene: Scene, trivy: Trivy) -> None:
    scene.build()
    write(scene.repo / "policy.yaml", POLICY)
    trivy.finds(TRIVY)
    done = _run(scene, **{PULL_REQUEST_TAG: "7"})

    assert done.result.success
    assert trivy.asked == 0


def test_a_wrong_policy_is_refused_before_anything_is_built(scene: Scene, trivy: Trivy) -> None:
    write(scene.repo / "policy.yaml", "sources: [trivy]\nseverty: high\n")

    with pytest.raises(BadInput, match=r'policy\.yaml:2: error: unknown key "severty"'):
        check_folders(scene.factory.source, ALL, scene.world.backends)
    assert trivy.asked == 0


def _keep_a_lock(scene: Scene, *names: str) -> None:
    """The images of a scene have no packages: whatever a lock names was removed."""
    lock = NoticesLock(components=tuple(Component(type="deb", name=name) for name in names))
    folder = scene.repo / "images" / "apps" / "other"
    write(folder / NOTICES_LOCK, lock.text())
    write(folder / NOTICES_FILE, notices_text("NOTICES", lock))


def test_an_image_that_has_what_its_lock_says_passes_and_others_have_no_such_check(scene: Scene) -> None:
    _keep_a_lock(scene)
    done = scene.build()

    assert {name: check.passed for name, check in _evaluations(done, "notices_drift").items()} == {"other.staged": True}


def test_drift_fails_the_build_and_its_page_names_the_component_with_its_line(scene: Scene) -> None:
    _keep_a_lock(scene, "curl")
    done = _run(scene)

    assert not done.result.success
    check = _evaluations(done, "notices_drift")["other.staged"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert f"deb curl was removed [{NOTICES_LOCK}:3" in str(check.description)
    assert "deb curl was removed" in done.page("apps/other", "staged")["reason"]
    assert not done.made & FILES


def test_an_image_that_is_reused_is_held_against_the_lock_of_the_new_commit(scene: Scene) -> None:
    scene.build()
    _keep_a_lock(scene, "curl")
    (scene.repo / "images" / "apps" / "other" / NOTICES_FILE).unlink()  # it would be another image
    closed = _run(scene)

    assert closed.steps == ["release_files"]
    assert not closed.result.success
    assert _evaluations(closed, "notices_drift")["other.staged"].severity == dg.AssetCheckSeverity.ERROR


def test_drift_is_told_in_a_pull_request(scene: Scene) -> None:
    _keep_a_lock(scene, "curl")
    done = _run(scene, **{PULL_REQUEST_TAG: "7"})

    assert done.result.success
    check = _evaluations(done, "notices_drift")["other.staged"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
