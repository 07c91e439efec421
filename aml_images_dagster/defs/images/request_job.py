"""The job `build`: what `aml-images build` does, for a person in the UI. It plans a build and starts its run.

The run of the build is a run of its own, as those that sensors and schedules ask for: it has only the steps that the
plan requires, which are not known before.
"""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pydantic import Field

from aml_images_dagster.builds.ledger import Ledger
from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.builds.planning.preflight import check_plan, check_prerequisites
from aml_images_dagster.builds.planning.preparation import PreparedBuild, Wanted, prepare
from aml_images_dagster.builds.records import Plan
from aml_images_dagster.defs.in_process import in_process_executor
from aml_images_dagster.defs.keys import BUILD_JOB, REQUEST, REQUEST_JOB, image_of
from aml_images_dagster.defs.planning import promised_numbers
from aml_images_dagster.defs.request import (
    BUILD_TAG,
    COMMIT_TAG,
    DAGSTER_UI,
    IMAGES_TAG,
    TRIGGER_TAG,
    WHO_TAG,
    build_config,
    images_tag,
    plan_keys,
)
from aml_images_dagster.defs.run import Factory, acting, created_at, explained
from aml_images_dagster.errors import BadInput
from aml_images_dagster.release.release_plan import hint_at_release_tag, hint_at_withdrawn
from aml_images_dagster.settings import Settings


class BuildRequest(dg.Config):
    """The launchpad block of a build. Every field may stay as it is."""

    images: list[str] = Field(
        default=[],
        description="Images to build, as FAMILY/IMAGE. Parents that are neither staged nor released are added. "
        "Default: what changed since `base`, and everything FROM it; all images if none changed.",
    )
    all_images: bool = Field(default=False, description="Build all images that are not past their end of life.")
    base: str = Field(
        default="", description="Build what changed since this branch, tag or commit. Default: the main branch."
    )
    head: str = Field(
        default="", description="Build this commit. Default: the setting source_commit, else the working tree."
    )
    docker_files_path: str = Field(
        default="", description="Folders to read the image folders from, separated by ';'. Default: the setting."
    )
    release_num: int = Field(
        default=0, description="Number of the release on its day: YYYYMMDD.v<release_num>. 0: the next free one."
    )
    release_tag: str = Field(default="", description="Replaces the whole release tag; not together with release_num.")
    dry_run: bool = Field(default=False, description="Only show what would be built and why.")
    force: bool = Field(default=False, description="Build and test again even if the image has passed already.")
    keep_failed: bool = Field(
        default=False, description="If the build fails, keep its images and containers for inspection."
    )
    who: str = Field(default="", description="Who starts it; a tag of the run. Default: the setting release.who.")

    def wanted(self) -> Wanted:
        """What it asks for."""
        return Wanted(
            asked="in the Dagster UI",
            images=tuple(self.images),
            base=self.base,
            head=self.head,
            everything=self.all_images,
            release_num=self.release_num or None,
            release_tag=self.release_tag,
            force=self.force,
        )


def request_job(settings: Settings) -> dg.JobDefinition:
    """The job. Its run ends when the run of the build is in the queue, and links to it."""

    @dg.op(name=REQUEST)
    def request_build(context: dg.OpExecutionContext, config: BuildRequest, factory: dg.ResourceParam[Factory]) -> None:
        with explained():
            settings, backends = factory.settings, factory.backends
            if config.docker_files_path:
                settings = settings.model_copy(update={"docker_files_path": config.docker_files_path})

            def promised(images: Collection[str]) -> Iterable[int]:
                return promised_numbers(datetime.now(UTC).date(), images, backends.artifacts, context.instance)

            backends.resolver.forget()
            prepared = prepare(config.wanted(), settings, backends, context.log.warning, promised)
            plan = prepared.plan
            shown = {"plan": _plan_table(plan), "release_tag": prepared.release_tag}
            records = Ledger(backends.artifacts).records()
            tag, withdrawn = prepared.release_tag, hint_at_withdrawn(plan.reused_digests, records)
            for hint in filter(None, (hint_at_release_tag(tag, plan.by_name, records), withdrawn)):
                context.log.warning(hint)
            if config.dry_run:
                context.log.info(f"Dry run: {_count(plan)}. Nothing was started.")
                context.add_output_metadata(shown)
            check_plan(plan)
            if config.dry_run:
                return
            check_prerequisites(plan, prepared.source, backends)
            run = _start(context, factory, prepared, config)
            number = build_number(run.run_id, created_at(context.instance, run.run_id))
            context.instance.add_run_tags(context.run_id, {BUILD_TAG: number})
            context.log.info(f"Build {number} is in the queue: {_count(plan)}. Its run: /runs/{run.run_id}")
            link = dg.MetadataValue.dagster_run(run.run_id)
            context.add_output_metadata({"build": number, "run": link, **shown})

    @dg.job(
        name=REQUEST_JOB,
        description="Build, test and describe images, all or nothing: those that are named, or what changed. "
        "Open the launchpad and press Launch Run; the run links to the run of the build.",
        executor_def=in_process_executor(settings),
    )
    def build() -> None:
        request_build()

    return build


def _start(
    context: dg.OpExecutionContext, factory: Factory, prepared: PreparedBuild, config: BuildRequest
) -> dg.DagsterRun:
    """Put the run of a planned build into the queue.

    Raises:
        BadInput: The code location has not loaded an image, or this instance has no queue of runs.
    """
    instance, plan = context.instance, prepared.plan
    if not isinstance(instance.run_coordinator, dg.QueuedRunCoordinator):
        raise BadInput(
            "this Dagster instance has no queue of runs",
            where="dagster.yaml",
            hint="Remove `run_coordinator` from it: the queue is Dagster's default.",
        )
    job = context.repository_def.get_job(BUILD_JOB)
    keys = plan_keys(plan)
    _check_loaded(keys, job)
    commit = prepared.source.tree.commit or ""
    run_config = build_config(
        release_num=prepared.release_num,
        release_tag=config.release_tag,
        source_commit=commit,
        docker_files_path=config.docker_files_path,
        force=config.force,
        keep_failed=config.keep_failed,
        plan=factory.backends.artifacts.write_plan(plan, datetime.now(UTC)),
    )
    tags = {
        **job.run_tags,
        TRIGGER_TAG: DAGSTER_UI,
        IMAGES_TAG: images_tag(plan.by_name),
        WHO_TAG: acting(context.run, config.who, factory.settings),
        **({COMMIT_TAG: commit} if commit else {}),
    }
    here, code = context.run.remote_job_origin, context.run.job_code_origin
    run = instance.create_run_for_job(
        job_def=job,
        run_config=run_config,
        tags=tags,
        asset_selection=frozenset(keys),
        remote_job_origin=here.repository_origin.get_job_origin(BUILD_JOB) if here else None,
        job_code_origin=code._replace(job_name=BUILD_JOB) if code else None,
    )
    # The queue takes a run without the workspace that it is started from.
    return instance.submit_run(run.run_id, workspace=None)  # type: ignore[arg-type]


def _check_loaded(keys: Iterable[dg.AssetKey], job: dg.JobDefinition) -> None:
    loaded = job.asset_layer.executable_asset_keys
    missing = sorted({image[0] for key in keys if key not in loaded and (image := image_of(key))})
    if missing:
        raise BadInput(
            f"the code location has not loaded {', '.join(missing)}",
            where="images",
            hint="They were added since: press Reload on the page Deployment, and launch again.",
        )


def _count(plan: Plan) -> str:
    built = sum(planned.action == "build" for planned in plan.images)
    return f"{built} to build, {len(plan.images) - built} to reuse"


def _plan_table(plan: Plan) -> dg.TableMetadataValue:
    names = ("image", "action", "because", "tests", "selected because")
    rows: list[Any] = [
        dg.TableRecord(
            dict(
                zip(
                    names,
                    (
                        planned.image,
                        planned.action,
                        "; ".join(planned.because),
                        ", ".join(f"{name}: {status}" for name, status in planned.tests.items()) or "not tested",
                        "; ".join(planned.reasons),
                    ),
                    strict=True,
                )
            )
        )
        for planned in plan.images
    ]
    return dg.MetadataValue.table(rows, schema=dg.TableSchema([dg.TableColumn(name, "string") for name in names]))
