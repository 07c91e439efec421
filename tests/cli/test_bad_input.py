"""What goes wrong for people: one clear message, the right exit code, no traceback, nothing left behind."""

from __future__ import annotations

import json
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from aml_images_dagster.registry.oci import OciRegistry
    from tests.image_repository import ImageRepository

NOWHERE = "127.0.0.1:9"


def told(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """The one message of a command that failed."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.count("aml-images: ") + done.stderr.count("Error: ") <= 1
    assert done.stderr.strip(), "a failure says something"
    return done.stderr


def state(repository: ImageRepository) -> list[Path]:
    return sorted((repository.root / ".aml-images").rglob("*"))


def break_tests_json(repository: ImageRepository) -> None:
    (repository.folder("apps/other") / "tests.json").write_text('{\n  "scenarios": [\n    {"name": "x"}\n  ]\n}\n')


def make_cycle(repository: ImageRepository) -> None:
    (repository.folder("tools/shell") / "Dockerfile").write_text("FROM registry.example/hello\n")


def break_dockerfile(repository: ImageRepository) -> None:
    (repository.folder("apps/other") / "Dockerfile").write_text("FRUM busybox\n")


def break_settings(repository: ImageRepository) -> None:
    with (repository.root / "pyproject.toml").open("a") as table:
        table.write("paralel = 3\n")


def no_git(repository: ImageRepository) -> None:
    shutil.rmtree(repository.root / ".git")


def no_commits(repository: ImageRepository) -> None:
    no_git(repository)
    repository.git("init", "-q", "-b", "main")


def nothing_at_all(repository: ImageRepository) -> None:
    for path in repository.root.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def no_dockerfile(repository: ImageRepository) -> None:
    for file in repository.root.glob("images/*/*/Dockerfile"):
        file.rename(file.with_name("x.Dockerfile"))


def all_ended(repository: ImageRepository) -> None:
    for file in repository.root.glob("images/*/*/Dockerfile"):
        (file.parent / "image.json").write_text('{"eol": "2020-01-01"}')


def nothing(_: ImageRepository) -> None:
    pass


BUILD_ALL = ("build", "--all")
HEAD = ("build", "--all", "--head")


@pytest.mark.parametrize(
    ("prepare", "arguments", "words"),
    [
        pytest.param(break_tests_json, BUILD_ALL, ["images/apps/other/tests.json:3", "validate"], id="tests.json"),
        pytest.param(make_cycle, BUILD_ALL, ["apps/hello", "tools/shell"], id="cycle"),
        pytest.param(make_cycle, ("build", "hello"), ["apps/hello", "tools/shell"], id="cycle, one image"),
        pytest.param(make_cycle, ("graph",), ["apps/hello", "tools/shell"], id="cycle in a graph"),
        pytest.param(break_dockerfile, BUILD_ALL, ["images/apps/other/Dockerfile:1"], id="Dockerfile"),
        pytest.param(nothing, ("build", "apps/hullo"), ["apps/hullo", "Did you mean apps/hello"], id="image"),
        pytest.param(nothing, ("show", "zzz"), ["no image 'zzz'", "aml-images list"], id="image to show"),
        pytest.param(nothing, ("validate", "zzz"), ["no image 'zzz'"], id="image to validate"),
        pytest.param(
            nothing,
            (*BUILD_ALL, "--release-num", "2", "--release-tag", "x"),
            ["aml-images: release_num 2 and release_tag 'x' are both given"],
            id="release number and tag",
        ),
        pytest.param(
            nothing, (*BUILD_ALL, "--release-num", "0"), ["aml-images: release_num is 0"], id="release number"
        ),
        pytest.param(nothing, (*BUILD_ALL, "--release-num", "two"), ["'two' is not a valid integer"], id="no number"),
        pytest.param(
            nothing, (*BUILD_ALL, "--release-tag", "a b"), ["'a b' cannot be a release tag"], id="release tag"
        ),
        pytest.param(nothing, (*HEAD, "no-such"), ["git knows no revision 'no-such'"], id="head"),
        pytest.param(nothing, (*HEAD, "--all"), ["git knows no revision '--all'"], id="head that is an option"),
        pytest.param(nothing, ("build", "--base", "no-such"), ["git knows no revision 'no-such'"], id="base"),
        pytest.param(nothing, ("build", "--base", ""), ["'--base': it is empty"], id="base that is not set"),
        pytest.param(nothing, ("build", "--head", " "), ["'--head': it is empty"], id="head that is not set"),
        pytest.param(nothing, ("discover", "--base", ""), ["'--base': it is empty"], id="base to discover, not set"),
        pytest.param(nothing, ("discover", "--base", "no-such"), ["git knows no revision"], id="base to discover"),
        pytest.param(nothing, ("build", "hello", "--all"), ["cannot be combined"], id="image and all"),
        pytest.param(
            nothing,
            ("inventory", "hello", "--json", "--format", "spdx"),
            ["--json and --format spdx cannot be combined"],
            id="json and another format",
        ),
        pytest.param(nothing, ("list", "--docker-files-path", "none"), ["no folder 'none'"], id="docker_files_path"),
        pytest.param(nothing, ("list", "--docker-files-path", "/etc"), ["no folder of the repository"], id="absolute"),
        pytest.param(nothing, ("list", "--docker-files-path", "../.."), ["no folder of the repository"], id="outside"),
        pytest.param(nothing, ("list", "--repo", "nowhere"), ["there is no such folder", "--repo"], id="repo"),
        pytest.param(nothing, ("list", "--published-as", "a/{nam}"), ["{nam} is no field"], id="published-as"),
        pytest.param(break_settings, ("list",), ["unknown key 'paralel'", "Did you mean 'parallel'?"], id="setting"),
        pytest.param(no_git, ("discover",), ["in no git repository"], id="no git"),
        pytest.param(no_git, (*HEAD, "main"), ["in no git repository"], id="no git to build"),
        pytest.param(no_commits, ("discover",), ["the repository has no commit yet"], id="no commits"),
        pytest.param(no_commits, (*HEAD, "HEAD"), ["git knows no revision 'HEAD'"], id="no commits to build"),
        pytest.param(nothing_at_all, ("list",), ["docker_files_path", "no folder"], id="empty folder"),
        pytest.param(nothing_at_all, BUILD_ALL, ["docker_files_path", "no folder"], id="empty folder to build"),
        pytest.param(no_dockerfile, BUILD_ALL, ["no Dockerfile below images", "dockerfile-names"], id="no Dockerfile"),
        pytest.param(no_dockerfile, ("build",), ["no Dockerfile below images"], id="no Dockerfile, what changed"),
        pytest.param(no_dockerfile, ("validate",), ["no Dockerfile below images"], id="no Dockerfile to validate"),
        pytest.param(all_ended, BUILD_ALL, ["nothing to build: 3 images, past their end of life"], id="all ended"),
        pytest.param(all_ended, ("build",), ["past their end of life"], id="all ended, what changed"),
        pytest.param(all_ended, (*BUILD_ALL, "--dry-run"), ["past their end of life"], id="all ended, dry run"),
        pytest.param(nothing, BUILD_ALL, ["busybox", NOWHERE], id="registry that is down"),
        pytest.param(
            nothing, (*BUILD_ALL, "--dry-run"), ["3 of 3 images cannot be built"], id="dry run without a registry"
        ),
        pytest.param(nothing, ("status", "../.."), ["there is no build '../..'"], id="build"),
        pytest.param(nothing, ("cleanup", "zzz"), ["there is no build 'zzz'", "looks like"], id="build to clean up"),
        pytest.param(nothing, ("biuld",), ["No such command 'biuld'", "Did you mean 'build'?"], id="command"),
        pytest.param(nothing, ("lst",), ["No such command 'lst'", "Did you mean 'list'?"], id="short command"),
        pytest.param(nothing, ("zzz",), ["No such command 'zzz'"], id="a command like no other"),
        pytest.param(nothing, ("new", "apps/x", "--from", "sh"), ["Did you mean tools/shell?"], id="part of a name"),
        pytest.param(
            nothing,
            ("new", "apps/x", "--from", "busybox:1.36"),
            ["no image 'busybox:1.36'", "For an image FROM an upstream image, copy the most similar folder"],
            id="upstream",
        ),
        pytest.param(nothing, ("releases", "hullo"), ["'hullo'", "Did you mean apps/hello"], id="releases"),
        pytest.param(nothing, ("rollback", "zzz"), ["no image 'zzz' was released"], id="rollback"),
        pytest.param(
            nothing, ("withdraw", "zzz", "1", "--reason", "x"), ["no image 'zzz' was released"], id="withdraw"
        ),
        pytest.param(nothing, ("withdraw", "hello", "1", "--reason", ""), ["--reason", "empty"], id="empty reason"),
        pytest.param(nothing, ("withdraw", "hello", "1", "--reason", " "), ["--reason", "empty"], id="blank reason"),
        pytest.param(
            nothing, ("rollback", "hello", "--reason", "\t"), ["--reason", "empty"], id="reason of a rollback"
        ),
        pytest.param(
            nothing, ("release", "latest", "--outside-window", "   "), ["--outside-window", "empty"], id="outside"
        ),
        pytest.param(
            nothing,
            ("import", "--from", "x", "--outside-window", " "),
            ["--outside-window", "empty"],
            id="import outside",
        ),
    ],
)
def test_it_is_told_and_nothing_is_left(
    repository: ImageRepository,
    prepare: Callable[[ImageRepository], None],
    arguments: tuple[str, ...],
    words: list[str],
) -> None:
    prepare(repository)
    message = told(repository.run_in_a_copy(*arguments))
    for word in words:
        assert word in message
    assert state(repository) == []


def test_a_variable_that_is_no_setting_is_named_and_ignored(repository: ImageRepository) -> None:
    done = repository.run_in_a_copy("list", "--json", AML_IMAGES_PRODUCTION_REGISTY="prod.example")
    assert done.returncode == 0
    assert done.stderr == (
        "AML_IMAGES_PRODUCTION_REGISTY is ignored: there is no such setting; "
        "did you mean AML_IMAGES_PRODUCTION_REGISTRY?\n"
    )
    assert json.loads(done.stdout)


@pytest.mark.parametrize("command", [("builds",), ("builds", "--json"), ("releases",), ("status", "latest")])
def test_a_folder_that_is_no_repository_has_no_builds_unless_a_setting_says_where_they_are(
    repository: ImageRepository, command: tuple[str, ...]
) -> None:
    assert "docker_files_path" not in repository.run_in_a_copy(*command).stderr
    nothing_at_all(repository)
    assert "docker_files_path: there is no folder" in told(repository.run_in_a_copy(*command))
    done = repository.run_in_a_copy(*command, AML_IMAGES_ARTIFACTS=str(repository.root / "elsewhere"))
    assert "docker_files_path" not in done.stderr
    assert (done.returncode == 0) is (command[0] != "status")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param(
            ("show", "zzz"),
            {
                "what": "there is no image 'zzz' below images",
                "where": "",
                "hint": "`aml-images list` shows all images.",
            },
            id="bad input",
        ),
        pytest.param(
            ("graph", "--docker-files-path", "none", "--format", "json"),
            {
                "what": "there is no folder 'none' in {root}",
                "where": "docker_files_path",
                "hint": "Name another repository with --repo, or the folders of its images: --docker-files-path, or "
                "docker-files-path of [tool.aml-images] in its pyproject.toml; ';' between them.",
            },
            id="another option",
        ),
        pytest.param(
            ("builds", "--zzz"),
            {
                "what": "No such option '--zzz'",
                "where": "aml-images builds",
                "hint": "`aml-images builds --help` shows how it is used.",
            },
            id="misuse",
        ),
    ],
)
def test_programs_are_told_in_json(
    repository: ImageRepository, arguments: tuple[str, ...], error: dict[str, str]
) -> None:
    is_asked = "json" in arguments
    done = repository.run_in_a_copy(*arguments, *(() if is_asked else ("--json",)))
    assert told(done)
    assert json.loads(done.stdout) == {"error": error | {"what": error["what"].format(root=repository.root)}}
    assert is_asked or repository.run_in_a_copy(*arguments).stdout == ""


def test_a_plan_that_is_refused_is_one_document(repository: ImageRepository) -> None:
    done = repository.run_in_a_copy("build", "--all", "--dry-run", "--json")
    assert told(done)
    assert json.loads(done.stdout)


@pytest.mark.parametrize("arguments", [("list",), ("cleanup", "20261123.4f2a9c1e"), ("build", "--all")])
def test_an_interrupt_has_its_own_exit_code(
    repository: ImageRepository, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        # A shell lets what it starts in the background ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("aml_images_dagster.cli.options.load_settings", interrupt)
    done = repository.run_in_a_copy(*arguments)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "Interrupted.")
    done = repository.run_in_a_copy(*arguments, "--json")
    assert (done.returncode, done.stderr.strip()) == (130, "Interrupted.")
    assert json.loads(done.stdout) == {"error": {"what": "Interrupted", "where": "", "hint": ""}}


def test_an_image_that_was_never_released(repository: ImageRepository) -> None:
    done = repository.run_in_a_copy("releases", "hello")
    assert (done.returncode, done.stdout) == (0, "apps/hello has no releases.\n")


def test_an_empty_git_repository_has_no_images_and_no_trouble(repository: ImageRepository) -> None:
    no_commits(repository)
    assert len(repository.json("list")) == 3
    assert repository.run_in_a_copy("validate").returncode == 0


def test_without_git_the_files_are_still_read(repository: ImageRepository) -> None:
    no_git(repository)
    assert len(repository.json("list")) == 3
    without = {"PATH": "/nowhere"}
    assert "git is not installed" in told(repository.run_in_a_copy("discover", **without))


@pytest.mark.parametrize("command", [("builds",), ("status", "20261123.4f2a9c1e")])
def test_a_home_that_is_below_a_file(repository: ImageRepository, command: tuple[str, ...]) -> None:
    (repository.root / "file").write_text("")
    done = repository.run_in_a_copy(*command, AML_IMAGES_HOME="file/home")
    if command == ("builds",):
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert "file/home" in told(done)


def test_a_record_that_is_damaged(repository: ImageRepository) -> None:
    repository.write(repository.artifacts / "20261123.4f2a9c1e" / "build.json", "{")
    what = "build.json: not a record of this version"
    assert what in told(repository.run_in_a_copy("status", "20261123.4f2a9c1e"))
    done = repository.run_in_a_copy("builds", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, []), "it hides no other build"
    assert what in done.stderr


def test_a_registry_that_is_down_is_not_cleaned_up(repository: ImageRepository) -> None:
    done = repository.run_in_a_copy("cleanup", "20261123.4f2a9c1e", "--json", DOCKER_HOST="unix:///nowhere.sock")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    assert report["clean"] is False
    assert {row["kind"] for row in report["rows"]} == {"job", "staged image"}
    assert {row["outcome"] for row in report["rows"]} == {"left"}


def staged(repository: ImageRepository, staging: OciRegistry) -> list[str]:
    return [tag for family in repository.families.values() for tag in staging.tags(family)]


@pytest.mark.engine
@pytest.mark.parametrize(
    ("environment", "words"),
    [
        pytest.param({"AML_IMAGES_DOCKER_HOST": "unix:///nowhere.sock"}, ["nowhere.sock"], id="no engine"),
        pytest.param({"DOCKER_HOST": "unix:///nowhere.sock"}, ["nowhere.sock"], id="no engine, as docker is told"),
        pytest.param({"AML_IMAGES_DOCKER_HOST": f"tcp://{NOWHERE}"}, [NOWHERE], id="no engine on the network"),
        pytest.param({"AML_IMAGES_STAGING_REGISTRY": NOWHERE}, [NOWHERE], id="no staging registry"),
        pytest.param({"AML_IMAGES_PRODUCTION_REGISTRY": NOWHERE}, [NOWHERE], id="no production registry"),
        pytest.param({"AML_IMAGES_HOME": "file/home"}, ["file/home"], id="a home that cannot be made"),
        pytest.param({"DAGSTER_HOME": "file/home"}, ["file/home"], id="a Dagster home that cannot be made"),
    ],
)
def test_prerequisites_that_do_not_fit(
    image_repository: ImageRepository, staging: OciRegistry, environment: dict[str, str], words: list[str]
) -> None:
    (image_repository.root / "file").write_text("")
    target = "apps/hello" if "AML_IMAGES_PRODUCTION_REGISTRY" in environment else "apps/other"
    message = told(image_repository.run_in_a_copy("build", image_repository.image(target), **environment))
    for word in words:
        assert word in message
    assert not list(image_repository.artifacts.glob("*/build.json"))
    assert staged(image_repository, staging) == []


@pytest.mark.engine
def test_a_disk_that_is_full(image_repository: ImageRepository, staging: OciRegistry) -> None:
    image = image_repository.image("apps/other")
    message = told(image_repository.run("build", image, AML_IMAGES_MIN_FREE_GB="1000000"), code=1)
    assert "the engine's disk is nearly full" in message
    (build,) = image_repository.json("builds")
    assert build["status"] == "failed"
    assert staged(image_repository, staging) == []


@pytest.mark.engine
def test_a_base_that_nobody_has(image_repository: ImageRepository, staging: OciRegistry) -> None:
    image_repository.write_image("apps/other", f"FROM {staging.host}/no/such:1\n")
    message = told(image_repository.run_in_a_copy("build", image_repository.image("apps/other")))
    assert f"{staging.host}/no/such:1" in message
    assert state(image_repository) == []
    assert staged(image_repository, staging) == []


BLOB = {"AML_IMAGES_ARTIFACTS": "az://container/prefix"}


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        pytest.param(BLOB, ["need the profile azure", "AML_IMAGES_PROFILE"], id="profile local"),
        pytest.param(
            BLOB | {"AZURE_TOKEN_CREDENTIALS": "AzureCliCredential"}, ["need the profile azure"], id="signed in"
        ),
        pytest.param(
            BLOB | {"AML_IMAGES_PROFILE": "azure"},
            ["azure.storage_account", "AML_IMAGES_AZURE__STORAGE_ACCOUNT"],
            id="no account",
        ),
        pytest.param(
            {"AML_IMAGES_PROFILE": "azure", "AML_IMAGES_ARTIFACTS": "az://"},
            ["no container is named", "az://CONTAINER/PREFIX"],
            id="no container",
        ),
    ],
)
@pytest.mark.parametrize(
    "command", [("builds",), ("status", "latest"), ("releases",), ("release", "20261123.4f2a9c1e")]
)
def test_artifacts_in_blob_that_cannot_be_found_are_one_message(
    repository: ImageRepository, environment: dict[str, str], words: list[str], command: tuple[str, ...]
) -> None:
    message = told(repository.run_in_a_copy(*command, **environment))
    for word in words:
        assert word in message


@pytest.mark.parametrize("profile", ["local", "azure"])
def test_an_image_is_shown_although_its_builds_cannot_be_found(repository: ImageRepository, profile: str) -> None:
    shown = repository.run_in_a_copy("show", "hello", AML_IMAGES_PROFILE=profile, COLUMNS="200", **BLOB)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "last build     not known: " in shown.stdout
