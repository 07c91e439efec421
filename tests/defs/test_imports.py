"""What loading costs: every step of a run and every start of a code location pays for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.image_repository import ImageRepository

CLOUD_AND_ML = {"azure", "torch", "tensorflow", "numpy", "pandas", "boto3", "botocore", "google.cloud", "adlfs", "msal"}

MAKE_THE_BACKENDS = """
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import load_settings
backends_for(load_settings())
"""


TELL = "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"

FORKED_STEPS = """
import json, multiprocessing
from aml_images_dagster import fork_server
fork_server.start()
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["json"])  # too late: it runs
with context.Pool(1) as pool:
    print(json.dumps(pool.apply(eval, ("sorted(__import__('sys').modules)",))))
"""
FORKED_RUNS = """
import json
from dagster._grpc.server import DagsterApiServer
from aml_images_dagster.definitions import definitions
from aml_images_dagster.settings import load_settings
definitions(load_settings())
server = object.__new__(DagsterApiServer)
server._mp_ctx = "what it sets"
with server._mp_ctx.Pool(1) as pool:
    print(json.dumps(pool.apply(eval, ("sorted(__import__('sys').modules)",))))
"""
PRELOADED = f"import aml_images_dagster.preload_definitions{TELL}"


def modules_after(code: str, repository: ImageRepository, **variables: str) -> set[str]:
    """The modules that a process has imported after it has run some code."""
    return modules_told_by(f"{code}{TELL}", repository, **variables)


def modules_told_by(program: str, repository: ImageRepository, **variables: str) -> set[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AML_IMAGES_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=repository.root,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("program", [FORKED_STEPS, FORKED_RUNS, PRELOADED], ids=["steps", "runs", "imported"])
def test_preloading_works(repository: ImageRepository, program: str) -> None:
    """The servers that runs and steps are forked from hide an import that fails, so it has to be seen here."""
    modules = modules_told_by(program, repository)
    assert {"docker", "requests", "aml_images_dagster.definitions", "dagster._core.storage.sqlite_storage"} <= modules


def test_runs_are_as_dagster_starts_them_where_nothing_is_to_be_forked(repository: ImageRepository) -> None:
    program = FORKED_RUNS.replace('"what it sets"', "multiprocessing.get_context('spawn')").replace(
        "import json", "import json, multiprocessing"
    )
    modules = modules_told_by(program, repository, AML_IMAGES_EXECUTOR="multiprocess")
    assert not {name for name in modules if name.startswith(("dagster", "aml_images_dagster"))}


def test_what_preloading_leaves_to_the_steps(repository: ImageRepository) -> None:
    """Modules of ours that a step would have to import itself are few: it has all that a build is made of."""
    modules = modules_after("import aml_images_dagster.preload_definitions", repository)
    for module in (
        "builds.steps.staging",
        "builds.steps.scenarios",
        "release.release_files",
        "engine.docker_engine",
        "registry.oci",
    ):
        assert f"aml_images_dagster.{module}" in modules


@pytest.mark.parametrize("profile", ["local", "azure"])
@pytest.mark.parametrize(
    "code", ["import aml_images_dagster.preload_definitions", MAKE_THE_BACKENDS], ids=["preload", "backends"]
)
def test_loading_imports_no_cloud(repository: ImageRepository, profile: str, code: str) -> None:
    assert CLOUD_AND_ML & modules_after(code, repository, AML_IMAGES_PROFILE=profile) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("list", "--json"),
        ("show", "apps/other"),
        ("graph",),
        ("graph", "--format", "mermaid"),
        ("validate",),
        ("discover", "--base", "main"),
        ("--help",),
        ("--version",),
    ],
)
def test_commands_that_only_read_import_neither_dagster_nor_a_network(
    repository: ImageRepository, arguments: tuple[str, ...]
) -> None:
    code = f"""
import sys
from aml_images_dagster.cli.main import main
sys.argv = ["aml-images", *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    modules = modules_after(code, repository)
    yaml = set() if arguments == ("validate",) else {"yaml"}  # schedules are checked, too
    # The one reads the last build and release, the other asks the builder what it knows.
    artifacts = set() if arguments[0] in ("show", "validate") else {"requests", "upath", "fsspec"}
    assert ({"dagster", "docker"} | yaml | artifacts) & modules == set()
