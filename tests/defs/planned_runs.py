"""Three images, and runs that build them in one process, without engine and registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import dagster as dg

from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.defs import images
from aml_images_dagster.defs.keys import BUILD_JOB, RELEASE_FILES, STAGES, Stage, asset_key, is_of_build
from aml_images_dagster.defs.planning import ToDo, pull_request_to_do, to_do
from aml_images_dagster.defs.release.release_files import release_files
from aml_images_dagster.defs.release.released import released_assets
from aml_images_dagster.defs.request import PULL_REQUEST_TAG, RESOURCE, BuildOptions, build_config
from aml_images_dagster.defs.run import FACTORY, Factory
from aml_images_dagster.pull_requests.changes import Changes
from tests.builds.in_memory import MemoryFactory, write, write_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aml_images_dagster.builds.artifacts import BuildFolder

ALL = ("apps/leaf", "apps/other", "tools/root")


class Scene:
    """Three images, and a Dagster instance that remembers every run."""

    current: ClassVar[Scene]
    """For definitions that Dagster loads by the name of a function."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.repo = root / "repo"
        write_image(self.repo, "tools/root", "FROM base:1\nCOPY data /\n")
        write_image(self.repo, "apps/leaf", "FROM registry.example/root:latest\nCOPY data /\n")
        write_image(self.repo, "apps/other", "FROM base:1\nRUN true\n")
        write(self.repo / "checks" / "check.py", "echo well\n")
        self.world = MemoryFactory(self.repo, root / "home", {"base:1": f"sha256:{'b' * 64}"})
        self.instance = instance
        self.loaded = ALL

    def add(self, image: str) -> None:
        """Write an image of which the code location knows nothing yet."""
        write_image(self.repo, image, "FROM base:1\nRUN true\n")

    @property
    def factory(self) -> Factory:
        return Factory(self.world.settings, load_source(self.world.settings), self.world.backends)

    def plan(self, pull_request: str = "") -> ToDo:
        factory = self.factory
        selection = dict.fromkeys(ALL, ("all",))
        if pull_request:
            changes = Changes(reasons=selection, images=(), notes=(), plan=self.world.plan())
            found = pull_request_to_do(factory, changes)
        else:
            found = to_do(factory, selection, factory.source, seconds=60)
        assert not found.unplanned
        return found

    def definitions(self) -> dg.Definitions:
        """What a code location has of these three, with the files as they are now."""
        factory = self.factory
        known = [image for image in factory.source.catalog.images.values() if image.id in self.loaded]
        shared = dg.Definitions(
            jobs=[images.build_job(known)],
            resources={RESOURCE: BuildOptions.configure_at_launch(), FACTORY: factory},
        )
        files = dg.Definitions(
            assets=[release_files(known, factory.timetable), released_assets(known, factory.settings)]
        )
        return dg.Definitions.merge(images.definitions(known, factory), files, shared)

    def run(
        self,
        requested: ToDo,
        ops: dict[str, Any] | None = None,
        definitions: dg.Definitions | None = None,
        **tags: str,
    ) -> Run:
        """Run some assets: those of a build in its job, others as a click on Materialize does it."""
        definitions = definitions or self.definitions()
        if all(map(is_of_build, requested.keys)):
            job = definitions.resolve_job_def(BUILD_JOB)
        else:
            job = definitions.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            run_config=build_config(**requested.options) | {"ops": ops or {}},
            asset_selection=requested.keys,
            instance=self.instance,
            tags=tags,
            raise_on_error=False,
        )
        return Run(self, result)

    def build(self, **tags: str) -> Run:
        done = self.run(self.plan(tags.get(PULL_REQUEST_TAG, "")), **tags)
        assert done.result.success
        return done


class Run:
    """A run that is over."""

    def __init__(self, scene: Scene, result: dg.ExecuteInProcessResult) -> None:
        self.result = result
        record = scene.instance.get_run_record_by_id(result.run_id)
        assert record is not None
        self.record = record
        self.artifacts = scene.factory.backends.artifacts

    @property
    def folder(self) -> BuildFolder:
        return self.artifacts.build(build_number(self.result.run_id, self.record.create_timestamp))

    def page(self, image: str, stage: Stage) -> dict[str, Any]:
        """The metadata of the observation of an asset."""
        (shown,) = [
            event.asset_observation_data.asset_observation
            for event in self.result.get_asset_observation_events()
            if event.asset_key == asset_key(image, stage)
        ]
        return {name: value.value for name, value in shown.metadata.items()}

    @property
    def checks(self) -> dict[str, bool]:
        """The results of asset checks, by `<asset> <check>`."""
        found = self.result.get_asset_check_evaluations()
        return {f"{check.asset_key.path[-1]} {check.check_name}": check.passed for check in found}

    @property
    def steps(self) -> list[str]:
        return [str(event.step_key) for event in self.result.all_events if event.is_step_start]

    @property
    def made(self) -> set[str]:
        return {"/".join(event.asset_key.path) for event in self.result.get_asset_materialization_events()}  # type: ignore[union-attr]

    def reused(self) -> set[str]:
        staged = [record for image in ALL if (record := self.folder.read_staged(image))]
        assert all(self.folder.read_tested(record.image) for record in staged)
        return {record.image for record in staged if record.reused(self.folder.build)}


def chain(image: str, stages: Sequence[str] = STAGES) -> set[str]:
    return {f"{image}.{stage}" for stage in stages}


FILES = {"/".join(key.path) for key in RELEASE_FILES}
