"""Commands that only read: what they print for programs and for people."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.planning.preparation import PreparedBuild
from aml_images_dagster.builds.records import Plan, PlannedImage
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.settings import Settings

if TYPE_CHECKING:
    from tests.image_repository import ImageRepository


def test_list(repository: ImageRepository) -> None:
    images = repository.json("list")
    assert [f"{image['family']}/{image['name']}" for image in images] == ["apps/hello", "apps/other", "tools/shell"]
    assert images[0] == {
        "name": "hello",
        "family": "apps",
        "path": "images/apps/hello",
        "dockerfile": "images/apps/hello/Dockerfile",
        "context": "images/apps/hello",
        "variant": "",
        "description": "",
        "platform": "linux/amd64",
        "platforms": ["linux/amd64"],
        "parents": ["tools/shell"],
        "bases": [],
        "tests": ["runs"],
        "eol": None,
        "problems": 0,
    }
    shown = repository.run_in_a_copy("list")
    assert shown.returncode == 0
    for image in images:
        assert f"{image['family']}/{image['name']}" in shown.stdout


def test_show(repository: ImageRepository) -> None:
    shell = repository.json("show", "shell")
    assert shell["descendants"] == ["apps/hello"]
    assert shell["files"] == [
        "Dockerfile",
        "Dockerfile.private",
        "LICENSE.txt",
        "ThirdPartyNotices.txt",
        "greeting",
        "python",
        "tests.json",
    ]
    assert shell["dockerfile"].startswith("FROM busybox\n")
    assert shell["scenarios"][0]["name"] == "runs"
    assert "registry.example/shell" in repository.run_in_a_copy("show", "tools/shell").stdout


def test_names_that_are_no_text(repository: ImageRepository) -> None:
    (Path(os.fsdecode(bytes(repository.folder("apps/other")) + b"/caf\xe9"))).write_text("")
    shown = repository.run_in_a_copy("show", "other", PYTHONIOENCODING="utf-8:strict")
    assert shown.returncode == 0, shown.stderr
    assert r"caf\xe9" in shown.stdout


def test_an_image_at_the_top_of_the_repository(repository: ImageRepository) -> None:
    repository.write(repository.root / "Dockerfile", "FROM busybox\n")
    shown = repository.json("show", repository.root.name, "--docker-files-path", ".")
    assert {"Dockerfile", "checks/runs.py"} <= set(shown["files"])


def test_graph_for_programs(repository: ImageRepository) -> None:
    expected = {
        "images": [
            {
                "name": "hello",
                "family": "apps",
                "path": "images/apps/hello",
                "parents": ["tools/shell"],
                "bases": [],
            },
            {
                "name": "other",
                "family": "apps",
                "path": "images/apps/other",
                "parents": [],
                "bases": ["busybox:latest"],
            },
            {"name": "shell", "family": "tools", "path": "images/tools/shell", "parents": [], "bases": ["busybox"]},
        ]
    }
    assert repository.json("graph") == expected
    assert json.loads(repository.run_in_a_copy("graph", "--format", "json").stdout) == expected


def test_graph_for_people(repository: ImageRepository) -> None:
    lines = repository.run_in_a_copy("graph").stdout.splitlines()
    assert lines == ["busybox", "└── tools/shell", "    └── apps/hello", "busybox:latest", "└── apps/other"]


def test_graph_as_mermaid(repository: ImageRepository) -> None:
    assert repository.run_in_a_copy("graph", "--format", "mermaid").stdout == (
        "flowchart LR\n"
        '    n0(["busybox"])\n'
        '    n1(["busybox:latest"])\n'
        '    n2["apps/hello"]\n'
        '    n3["apps/other"]\n'
        '    n4["tools/shell"]\n'
        "    n4 --> n2\n"
        "    n1 --> n3\n"
        "    n0 --> n4\n"
    )


def test_validate(repository: ImageRepository) -> None:
    done = repository.run_in_a_copy("validate", "--json")
    assert done.returncode == 0
    for finding in json.loads(done.stdout)["findings"]:
        assert set(finding) == {"image", "severity", "message", "path", "line"}
        assert finding["severity"] == "warning"
    (repository.folder("apps/other") / "tests.json").write_text('{\n  "scenarioz": []\n}\n')
    done = repository.run_in_a_copy("validate", "--json")
    assert done.returncode == 2
    errors = [f for f in json.loads(done.stdout)["findings"] if f["severity"] == "error"]
    assert {(error["image"], error["path"], error["line"]) for error in errors} >= {
        ("apps/other", "images/apps/other/tests.json", 2)
    }
    assert repository.run_in_a_copy("validate", "apps/hello").returncode == 0
    shown = repository.run_in_a_copy("validate")
    assert shown.returncode == 2
    assert "images/apps/other/tests.json:2" in shown.stdout


def test_validate_warns_of_what_the_day_decides_and_the_notices_deny(repository: ImageRepository) -> None:
    repository.run_in_a_copy("new", "apps/mine", "--from", "tools/shell")
    repository.write(
        repository.folder("apps/mine") / "Dockerfile", "FROM registry.example/shell\nRUN pip install humanize\n"
    )
    shown = repository.run_in_a_copy("validate", "apps/mine", COLUMNS="200")
    assert shown.returncode == 0
    assert "Dockerfile:2\n    pip install humanize: each build may get another version; pin it with ==" in shown.stdout
    assert "ThirdPartyNotices.txt\n    it says that nothing is added, and pip installs something" in shown.stdout


def test_new_says_where_the_test_of_the_image_goes(repository: ImageRepository) -> None:
    done = repository.run_in_a_copy("new", "apps/mine", "--from", "tools/shell", COLUMNS="60")
    assert done.returncode == 0
    assert (
        "a script below checks, named in images/apps/mine/tests.json. Then aml-images validate apps/mine\n"
        in done.stdout
    )


def test_what_cannot_be_released_is_said_before_anything_is_built(repository: ImageRepository) -> None:
    def said() -> str:
        return repository.run_in_a_copy("build", "--all", "--dry-run", COLUMNS="60").stderr.splitlines()[0]

    assert "released" not in said()
    repository.write(repository.folder("tools/shell") / "greeting", "good day\n")
    assert said() == (
        "The working tree has changes that are not committed, or files that git does not know: this build cannot be "
        "released."
    )
    (repository.root / ".git").rename(repository.root.parent / "elsewhere")
    assert said() == "The image folders are in no commit of git: this build cannot be released."


def test_discover(repository: ImageRepository) -> None:
    base = repository.git("rev-parse", "HEAD")
    found = repository.json("discover", "--base", base)
    assert set(found) >= {"base", "head", "merge_base", "fallback", "images", "removed"}
    assert found["fallback"] is True
    assert [image["change"] for image in found["images"]] == ["fallback"] * 3

    (repository.folder("tools/shell") / "greeting").write_text("good day\n")
    (repository.folder("apps/other") / "Dockerfile").unlink()
    head = repository.commit("change")
    found = repository.json("discover", "--base", base, "--head", "HEAD")
    assert (found["base"], found["head"], found["merge_base"], found["fallback"]) == (base, head, base, False)
    assert found["images"] == [
        {
            "name": "hello",
            "family": "apps",
            "path": "images/apps/hello",
            "variant": "",
            "change": "descendant",
            "reasons": ["FROM tools/shell"],
        },
        {
            "name": "shell",
            "family": "tools",
            "path": "images/tools/shell",
            "variant": "",
            "change": "modified",
            "reasons": ["modified: images/tools/shell/greeting"],
        },
    ]
    assert found["removed"] == [{"name": "other", "family": "apps", "path": "images/apps/other"}]
    shown = repository.run_in_a_copy("discover", "--base", base).stdout
    assert "FROM tools/shell" in shown
    assert "apps/other" in shown


def test_a_published_name_has_the_fields_of_image_paths(repository: ImageRepository) -> None:
    fields = {
        "AML_IMAGES_IMAGE_PATHS": "images/{team}/{name} = {team}/{name}",
        "AML_IMAGES_PUBLISHED_AS": "registry.example/{team}:{name}",
    }
    shown = repository.run_in_a_copy("show", "other", COLUMNS="200", **fields)
    assert shown.returncode == 0, shown.stderr
    assert "registry.example/apps:other" in shown.stdout.split()


def test_discover_without_a_fallback(repository: ImageRepository) -> None:
    base = repository.git("rev-parse", "HEAD")
    repository.write(repository.root / "notes.md", "nothing that matters\n")
    found = repository.json("discover", "--base", base, "--no-fallback")
    assert (found["fallback"], found["images"]) == (False, [])
    said = f"nothing to build: no image changed since {base[:12]}"
    assert f"{said}.\n" in repository.run_in_a_copy("discover", "--base", base, "--no-fallback").stdout
    assert repository.json("discover", "--base", base)["images"][0]["reasons"] == [
        f"all are selected: no image changed since {base[:12]}"
    ]


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_build_without_a_fallback_builds_nothing_and_is_no_failure(
    repository: ImageRepository, options: tuple[str, ...]
) -> None:
    base = repository.git("rev-parse", "HEAD")
    call = ("build", "--base", base, "--no-fallback", *options)
    done = repository.run_in_a_copy(*call)
    assert (done.returncode, done.stdout) == (0, f"nothing to build: no image changed since {base[:12]}.\n")
    assert repository.json(*call) == {"build": None, "status": "nothing to build", "images": []}
    repository.git("rm", "-rqf", "images/apps/other")
    for asked in (call, ("build", "--base", base, *options)):  # that an image has gone is a change
        done = repository.run_in_a_copy(*asked)
        assert (done.returncode, done.stdout.count("gone: apps/other")) == (0, 1)
    assert not repository.artifacts.exists()


def test_a_line_in_a_file_ends_with_its_last_word(repository: ImageRepository) -> None:
    repository.write(repository.folder("apps/hello") / "image.json", '{"eol": "2021-04-30"}')
    for command in ("list", "discover"):
        lines = repository.run_in_a_copy(command).stdout.splitlines()
        assert len(lines) > 3
        assert lines == [line.rstrip() for line in lines]


def test_an_image_past_its_end_of_life(repository: ImageRepository) -> None:
    base = repository.git("rev-parse", "HEAD")
    repository.write(repository.folder("apps/hello") / "image.json", '{"eol": "2021-04-30"}')
    first, *rows = repository.run_in_a_copy("list").stdout.splitlines()
    (row,) = (row for row in rows if "apps/hello" in row)
    assert row[first.index("state") :] == "end of life 2021-04-30"
    assert "2021-04-30: built only if named" in repository.run_in_a_copy("show", "hello").stdout
    assert "end of life  changed, but built only if named" in repository.run_in_a_copy("discover").stdout
    repository.write(repository.folder("tools/shell") / "greeting", "good day\n")
    found = repository.json("discover", "--base", base)
    assert [image["name"] for image in found["images"]] == ["shell"]
    assert found["end_of_life"] == ["apps/hello"]


def test_a_number_of_5000_digits_stops_its_own_image_only(repository: ImageRepository) -> None:
    tests = f'{{"scenarios": [{{"name": "x", "kind": "training", "script": "runs.py", "nodes": {"9" * 5000}}}]}}'
    repository.write(repository.folder("apps/other") / "tests.json", tests)
    listed = repository.run_in_a_copy("list", COLUMNS="")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "1 error: aml-images validate apps/other" in listed.stdout
    assert repository.run_in_a_copy("validate", "hello").returncode == 0
    refused = repository.run_in_a_copy("validate")
    assert refused.returncode == 2
    assert "scenarios[0].nodes: a number of 5,000 digits is too long" in refused.stdout


def test_tables_are_as_wide_as_columns_says(repository: ImageRepository) -> None:
    wide = repository.run_in_a_copy("list", COLUMNS="").stdout.splitlines()
    assert len(wide) == 4
    narrow = repository.run_in_a_copy("list", COLUMNS="30").stdout.splitlines()
    assert max(map(len, narrow)) <= 30
    assert sum("apps/hello" in line for line in narrow) == 1


def test_a_list_of_nothing_is_a_sentence_and_no_head_of_a_table(repository: ImageRepository) -> None:
    for file in repository.root.glob("images/*/*/Dockerfile"):
        file.rename(file.with_name("x.Dockerfile"))
    done = repository.run_in_a_copy("list")
    assert (done.returncode, repository.json("list")) == (0, [])
    assert done.stdout.startswith("dockerfile-names: there is no Dockerfile below images\n")


def test_new(repository: ImageRepository) -> None:
    written = repository.json("new", "apps/greeter", "--from", "shell")
    assert written["path"] == "images/apps/greeter"
    assert written["files"] == sorted(file.name for file in repository.folder("apps/greeter").iterdir())
    assert repository.run_in_a_copy("validate").returncode == 0
    again = repository.run_in_a_copy("new", "apps/greeter", "--from", "shell")
    assert (again.returncode, "the folder is there already" in again.stderr) == (2, True)


def test_builds_and_status_before_any_build(repository: ImageRepository) -> None:
    assert repository.json("builds") == []
    assert "No builds" in repository.run_in_a_copy("builds").stdout
    done = repository.run_in_a_copy("status", "20261123.4f2a9c1e")
    assert done.returncode == 2
    assert "there is no build '20261123.4f2a9c1e'" in done.stderr
    assert not (repository.root / ".aml-images").exists()


@pytest.mark.parametrize("command", [("list",), ("show", "apps/other"), ("graph",), ("validate",), ("discover",)])
def test_what_a_file_says_is_never_taken_for_markup(repository: ImageRepository, command: tuple[str, ...]) -> None:
    """Rich reads square brackets as styles, and stops at a closing one that nothing opened."""
    folder = repository.folder("apps/other")
    tests = {"scenarios": [{"name": "runs", "kind": "training", "script": "runs.py"}]}
    repository.write(folder / "image.json", json.dumps({"description": "about [/nothing] [bold]"}))
    repository.write(folder / "tests.json", json.dumps(tests))
    repository.write(folder / "[/a] [red]b", "")
    repository.write(folder / "Dockerfile", "FROM busybox\nCOPY [/a]* /\nSTOPSIGNAL [/x]\n")
    done = repository.run_in_a_copy(*command, COLUMNS="300")
    assert "Traceback" not in done.stderr, done.stderr
    if command[0] in ("show", "discover"):
        assert "[/a] [red]b" in done.stdout
    if command[0] == "show":
        assert "about [/nothing] [bold]" in done.stdout


def test_help_names_every_command_and_the_exit_codes(repository: ImageRepository) -> None:
    shown = repository.run_in_a_copy("--help")
    assert shown.returncode == 0
    for command in (
        *("list", "show", "graph", "validate", "discover", "build", "builds", "status", "cleanup"),
        *("new", "publish-source", "publish-docs"),
    ):
        assert f"  {command} " in shown.stdout
        own = repository.run_in_a_copy(command, "--help")
        assert own.returncode == 0
        assert "--json" in own.stdout
        assert "--repo" in own.stdout
    assert "Exit codes: 0 success, 1" in shown.stdout


def test_a_pipe_that_is_closed_is_no_trouble(repository: ImageRepository) -> None:
    code = "from aml_images_dagster.cli.main import main; main()"
    command = f'"{sys.executable}" -c "{code}" graph --format mermaid | head -1'
    done = subprocess.run(["bash", "-c", command], cwd=repository.root, capture_output=True, text=True, check=False)
    assert done.stdout == "flowchart LR\n"
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("command", [("build", "--all", "--dry-run"), ("discover",)])
def test_a_build_and_what_shows_its_images_read_the_commit_of_the_settings(
    repository: ImageRepository, command: tuple[str, ...]
) -> None:
    done = repository.run_in_a_copy(*command, AML_IMAGES_SOURCE_COMMIT="no-such-commit")
    assert done.returncode == 2
    assert "git knows no revision 'no-such-commit'" in done.stderr


def test_validate_shows_what_is_wrong_with_schedules(repository: ImageRepository) -> None:
    repository.write(repository.root / "schedules" / "nightly.yaml", "name: nightly\ncorn: 0 3 * * *\n")
    shown = repository.run_in_a_copy("validate", "--json")
    assert shown.returncode == 2
    findings = [finding for finding in json.loads(shown.stdout)["findings"] if finding["path"].startswith("schedules")]
    assert findings[0]["message"] == '"description" is missing'
    assert {(finding["image"], finding["line"]) for finding in findings} == {("", 1), ("", 2)}
    assert "error schedules/nightly.yaml:2" in repository.run_in_a_copy("validate").stdout
    assert repository.run_in_a_copy("validate", "tools/shell").returncode == 0


@pytest.mark.parametrize(("reused", "is_listed"), [(20, True), (21, False)])
@pytest.mark.parametrize("built", [0, 1])
def test_many_images_that_are_reused_hide_none_that_is_built(
    repository: ImageRepository, monkeypatch: pytest.MonkeyPatch, reused: int, is_listed: bool, built: int
) -> None:
    planned = [
        PlannedImage(image=f"apps/{number}", action=action, because=(), reasons=(), bases=(), scenarios=())
        for number, action in enumerate(["reuse"] * reused + ["build"] * built)
    ]
    plan = Plan(commit="abc", images=tuple(planned))
    prepared = PreparedBuild(
        plan, load_source(Settings(repo=repository.root, docker_files_path="images")), 1, "20261123.v1"
    )
    monkeypatch.setattr("aml_images_dagster.cli.build.prepare", lambda *_: prepared)
    printed = repository.run_in_a_copy("build", "--all", "--dry-run").stdout
    rows = {line.split()[0] for line in printed.splitlines() if line.startswith(" apps/")}
    assert rows == {each.image for each in planned if is_listed or each.action == "build"}
    more = f"21 {'more ' * built}images, 21 of them not tested, to reuse as they are: `--json` lists all"
    assert (more in printed) is not is_listed
    document = json.loads(repository.run_in_a_copy("build", "--all", "--dry-run", "--json").stdout)
    assert len(document["images"]) == len(planned)
