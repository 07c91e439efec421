"""Every finding, with its place; all at once; none for what is right."""

from __future__ import annotations

import json
import subprocess
from datetime import date

import pytest

from aml_images_dagster.catalog.builder_features import BUILDKIT, CLASSIC, SEVERAL_PLATFORMS, BuilderFeatures
from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.image_name import GROUPS_OF_THE_FACTORY
from aml_images_dagster.catalog.validation import validate

PUBLISHED = "mcr.microsoft.com/azureml"
ROOT = "base_images/docker/public"
TODAY = date(2026, 11, 23)
PLAN = '{"scenarios": [\n{"name": "one", "kind": "training", "script": "train.py"}]}'


@pytest.fixture
def good(git_repository):
    """A repository without any finding."""
    git_repository.write("base_images/tests/train.py")
    git_repository.image("base/good", tests__json=PLAN)
    return git_repository


def findings(repository, ids=None):
    found = validate(repository.catalog(), repository.tree(), ids, today=TODAY)
    return [(f.image, f.severity, f.path.removeprefix(f"{ROOT}/"), f.line, f.message) for f in found]


def test_nothing_to_say(good):
    assert findings(good) == []


def test_what_the_builder_refuses_is_refused_and_nothing_else(good):
    good.write(f"{ROOT}/base/good/Dockerfile", "FROM debian:12\nRUN <<EOF\nEOF\nCOPY --link LICENSE.txt /\n")
    catalog, tree = good.catalog(), good.tree()
    assert validate(catalog, tree, today=TODAY) == []
    old = BuilderFeatures("Docker 20.10", frozenset({"COPY --link"}))
    (finding,) = validate(catalog, tree, today=TODAY, features_of=lambda _: old)
    assert finding.message == "RUN <<EOF: Docker 20.10, which builds the image, does not know this; remove it"


def test_frontends_that_are_usual_or_have_a_mirror_are_no_finding(good):
    frontends = {"docker/dockerfile": "mirror.example/dockerfile", "stranger.example/frontend": "mirror.example/other"}
    for syntax in ("docker/dockerfile:1", "docker.io/docker/dockerfile:1.9", "stranger.example/frontend:3"):
        good.write(f"{ROOT}/base/good/Dockerfile", f"# syntax={syntax}\nFROM debian:12\n")
        assert validate(good.catalog(), good.tree(), today=TODAY, frontends=frontends) == []


def test_several_platforms_need_a_builder_for_them(good):
    good.write(f"{ROOT}/base/good/image.json", '{"platforms": ["linux/amd64", "linux/arm64"]}')
    good.image("base/child", "FROM mcr.microsoft.com/azureml/good\n", image__json='{"platform": "linux/arm64"}')
    good.write(f"{ROOT}/base/child/tests.json", (good.root / ROOT / "base/good/tests.json").read_text())
    catalog, tree = good.catalog(), good.tree()
    able = BuilderFeatures("Docker 28", frozenset({SEVERAL_PLATFORMS}))
    assert validate(catalog, tree, today=TODAY, features_of=lambda _: able) == []
    (finding,) = validate(catalog, tree, today=TODAY, features_of=lambda _: CLASSIC)
    assert "makes no image for several platforms: it builds for the engine's own platform" in finding.message


def test_times_of_files_are_set_by_a_builder_that_can(good):
    good.write(f"{ROOT}/base/good/image.json", '{"rewrite_timestamp": true}')
    catalog, tree = good.catalog(), good.tree()
    assert validate(catalog, tree, today=TODAY, features_of=lambda _: BUILDKIT) == []
    (finding,) = validate(catalog, tree, today=TODAY, features_of=lambda _: CLASSIC)
    assert (finding.severity, finding.path) == ("error", f"{ROOT}/base/good/image.json")
    assert finding.message.startswith("rewrite_timestamp: the engine's classic builder cannot set the times of files")


def test_where_nothing_is_published_a_missing_licence_is_no_mistake(good):
    good.write(f"{ROOT}/base/x/Dockerfile", "FROM debian:12\n")
    found = validate(good.catalog(), good.tree(), publishes=False, today=TODAY)
    assert "LICENSE.txt and ThirdPartyNotices.txt are missing" in found[0].message
    assert {finding.severity for finding in found} == {"warning"}


def test_missing_files(good):
    good.write(f"{ROOT}/base/x/Dockerfile", "FROM debian:12\n")
    missing = "missing: the image can be built, but its source can't be published"
    no_tests = "there is no tests.json: the image is released untested"
    untested = ("base/x", "warning", "base/x/tests.json", None, no_tests)
    assert findings(good) == [
        ("base/x", "error", "base/x", None, f"LICENSE.txt and ThirdPartyNotices.txt are {missing}"),
        untested,
    ]
    good.write(f"{ROOT}/base/x/LICENSE.txt", "MIT\n")
    assert findings(good) == [
        ("base/x", "error", "base/x/ThirdPartyNotices.txt", None, f"ThirdPartyNotices.txt is {missing}"),
        untested,
    ]


def test_only_the_images_asked_for(good):
    good.write(f"{ROOT}/base/x/Dockerfile", "FROM debian:12\n")
    assert findings(good, ["base/good"]) == []
    assert {image for image, *_ in findings(good, ["base/x"])} == {"base/x"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"Dockerfile": "FROM debian\n"}, ("warning", "Dockerfile", 1, "debian means another image")),
        ({"Dockerfile": "FROM debian:latest\n"}, ("warning", "Dockerfile", 1, "debian:latest means another image")),
        (
            {"Dockerfile": f"FROM {PUBLISHED}/goood:latest\n"},
            (
                "warning",
                "Dockerfile",
                1,
                f"no image folder is published as {PUBLISHED}/goood:latest; did you mean base/g",
            ),
        ),
        (
            {"Dockerfile": f"FROM {PUBLISHED}/of-others:1\n"},
            ("warning", "Dockerfile", 1, f"no image folder is published as {PUBLISHED}/of-others:1; is it published"),
        ),
        ({"Dockerfile": "RUN x\n"}, ("error", "Dockerfile", 1, "RUN is before the first FROM")),
        ({"Dockerfile": "", "Dockerfile.private": "# a\nCOPY a /\n"}, ("error", "Dockerfile", 1, "there is no FROM")),
        ({"Dockerfile.private": "\nFROM x\n"}, ("error", "Dockerfile.private", 2, "Dockerfile.private may not")),
        (
            {"Dockerfile.private": "RUN a\nCOPY --from=busybox /a /b\n"},
            ("warning", "Dockerfile.private", 2, "busybox means another image"),
        ),
        ({"tests.json": '{\n"scenario": []}'}, ("error", "tests.json", 2, "unknown key")),
        (
            {"tests.json": PLAN.replace("train.py", "gone.py")},
            ("error", "tests.json", 2, "scenario 'one' runs base_images/tests/gone.py, which does not exist"),
        ),
        (
            {"tests.json": '{"scenarios": [{"name": "p", "kind": "pytest",\n"path": "base_images/nosuch"}]}'},
            ("error", "tests.json", 2, "scenario 'p' runs base_images/nosuch, which does not exist"),
        ),
        ({"image.json": '{"platfrom": "x"}'}, ("error", "image.json", 1, 'unknown key "platfrom"; did you mean')),
        (
            {"Dockerfile": "FROM mcr.microsoft.com/windows/servercore:2099\n"},
            ("error", "Dockerfile", None, "the tag of the base names no known Windows version"),
        ),
        (
            {
                "Dockerfile": "FROM mcr.microsoft.com/windows/servercore:ltsc2019\n",
                "image.json": '{"platform": "linux/amd64"}',
            },
            ("error", "image.json", None, "the base is a Windows image, but the platform is linux/amd64"),
        ),
        (
            {"image.json": '{"platform": "windows/amd64"}'},
            ("warning", "Dockerfile", None, "the platform is windows/amd64, but no base"),
        ),
        (
            {"Dockerfile": "FROM mcr.microsoft.com/windows/servercore:ltsc2019\nCOPY --chmod=755 LICENSE.txt b\n"},
            (
                "error",
                "Dockerfile",
                2,
                "COPY --chmod: the engine's classic builder, which builds the image, does not know",
            ),
        ),
        (
            {"Dockerfile": "FROM debian:12\nRUN --mount=type=cache,target=/x true\nCOPY --depth=1 LICENSE.txt /\n"},
            ("error", "Dockerfile", 3, "COPY --depth: BuildKit, which builds the image, does not know this"),
        ),
        (
            {"Dockerfile": "# syntax=docker/dockerfile:1.7-labs\nFROM debian:12\n"},
            (
                "warning",
                "Dockerfile",
                1,
                "# syntax=docker/dockerfile:1.7-labs: the builder's own frontend reads the file",
            ),
        ),
        (
            {"Dockerfile": "# escape=`\n# syntax=stranger.example/frontend\nFROM debian:12\n"},
            ("error", "Dockerfile", 2, "# syntax=stranger.example/frontend is none of the frontends"),
        ),
        (
            {"image.json": '{"build_args": {"BUILDKIT_SYNTAX": "stranger.example/frontend"}}'},
            ("error", "image.json", None, "the build argument BUILDKIT_SYNTAX would steer the builder itself"),
        ),
        (
            {
                "Dockerfile": "FROM debian:12\nADD https://host.example/a /\n"
                f"ADD --checksum=sha256:{'0' * 64} https://host.example/a /\n"
            },
            ("warning", "Dockerfile", 2, "ADD https://host.example/a: not reproducible"),
        ),
        (
            {
                "Dockerfile": "FROM debian:12\nADD https://x.example/a.git#main /\n"
                f"ADD https://x.example/a.git#{'a' * 40} /\n"
            },
            ("warning", "Dockerfile", 2, "ADD https://x.example/a.git#main: not reproducible"),
        ),
        (
            {"Dockerfile": "FROM debian:12\nADD GIT://x.example/a#main /\n"},
            ("warning", "Dockerfile", 2, "ADD GIT://x.example/a#main: not reproducible"),
        ),
        (
            {"Dockerfile": "FROM debian:12\nCOPY HTTPS://x.example/a.git /\n"},
            ("error", "Dockerfile", 2, "COPY takes nothing from elsewhere, such as HTTPS://x.example/a.git; ADD does"),
        ),
        (  # BuildKit takes the scheme of a file as it stands there
            {"Dockerfile": "FROM debian:12\nADD HTTPS://x.example/a /\n"},
            ("error", "Dockerfile", 2, "ADD HTTPS://x.example/a: there is nothing of this name in the build context"),
        ),
        (
            {"Dockerfile": "FROM debian:12\n\nCOPY LICENSE.txt gone.txt /\n"},
            ("error", "Dockerfile", 3, "COPY gone.txt: there is nothing of this name in the build context"),
        ),
        (
            {"Dockerfile": "FROM debian:12\nARG F=left.txt\nADD $F /\n", "left.txt": "", ".dockerignore": "*.txt\n"},
            ("error", "Dockerfile", 3, "ADD $F: there is nothing of this name in the build context"),
        ),
        (
            {"Dockerfile.private": "# ours\nCOPY tests.json /\n"},
            ("error", "Dockerfile.private", 2, "COPY tests.json: only the factory reads this file"),
        ),
        (
            {"Dockerfile": f"FROM {PUBLISHED}/good\n", "image.json": '{"platform": "linux/arm64"}'},
            ("error", "Dockerfile", 1, "the image is for linux/arm64, its base base/good for linux/amd64"),
        ),
    ],
)
def test_one_finding(good, files, expected):
    folder = good.image("base/x", tests__json=PLAN)
    for name, content in files.items():
        good.write(f"{folder}/{name}", content)
    (found,) = findings(good)
    _, severity, path, line, message = found
    assert (severity, path, line) == (expected[0], f"base/x/{expected[1]}", expected[2])
    assert message.startswith(expected[3])


def test_a_good_windows_image(good):
    good.image("base-windows/x", "FROM mcr.microsoft.com/windows/servercore:ltsc2019\n", tests__json=PLAN)
    good.image("base-windows/child", f"FROM {PUBLISHED}/x\n", tests__json=PLAN)
    assert findings(good) == []


def test_pytest_scenarios_that_exist(good):
    for name, path in (("file", "base_images/tests/train.py"), ("folder", "base_images/tests"), ("all", ".")):
        plan = f'{{"scenarios": [{{"name": "p", "kind": "pytest", "path": "{path}"}}]}}'
        good.image(f"base/{name}", tests__json=plan)
    assert findings(good) == []


def test_bad_names_and_clashes(good):
    for image in ("Base/x", "base/a--b", "base/a.b", "base/a-b"):
        good.image(image, tests__json=PLAN)
    found = [
        (image, path, message.partition(";")[0].partition(":")[0]) for image, _, path, _, message in findings(good)
    ]
    assert found == [
        ("Base/x", "Base/x", "the family name 'Base' does not fit a registry"),
        ("base/a--b", "base/a--b", "jobs and assets of base/a-b, base/a.b would have the same name, base_a_b"),
        (
            "base/a--b",
            "base/a--b",
            "the image name 'a--b' contains '--', which stands before the build in staging tags",
        ),
        ("base/a-b", "base/a-b", "jobs and assets of base/a--b, base/a.b would have the same name, base_a_b"),
        ("base/a.b", "base/a.b", "jobs and assets of base/a--b, base/a-b would have the same name, base_a_b"),
    ]


def test_one_published_name(good):
    good.image("base-gpu/good", tests__json=PLAN)
    assert [(image, severity) for image, severity, *_ in findings(good)] == [
        ("base-gpu/good", "error"),
        ("base/good", "error"),
    ]
    assert "base/good is published under the same name, mcr.microsoft.com/azureml/good" in findings(good)[0][-1]


def test_one_name_in_production(good):
    good.image("base-gpu/good", tests__json=PLAN)

    def released_as(*patterns):
        catalog = Catalog.load(good.tree(), ROOT, ["example/{family}/{name}"], released_as=patterns)
        return [(f.image, f.severity, f.message) for f in validate(catalog, good.tree(), today=TODAY)]

    assert released_as("public/{family}/{name}") == []
    hint = "put {family} into production_names (release.public_names), or rename one of the folders"
    assert released_as("public/{family}/{name}", "public/{name}") == [
        ("base-gpu/good", "error", f"base/good would be released under the same name, public/good; {hint}"),
        ("base/good", "error", f"base-gpu/good would be released under the same name, public/good; {hint}"),
    ]


def test_families_that_are_one_group_of_assets(good):
    for image in ("a-b/one", "a-b/two", "a_b/three"):
        good.image(image, tests__json=PLAN)
    rename = "would be in the same group, a_b; rename one of the families"
    assert [(image, severity, message) for image, severity, _, _, message in findings(good)] == [
        ("a-b/one", "error", f"the assets of a_b/three {rename}"),
        ("a-b/two", "error", f"the assets of a_b/three {rename}"),
        ("a_b/three", "error", f"the assets of a-b/one, a-b/two {rename}"),
    ]


@pytest.mark.parametrize("family", sorted(GROUPS_OF_THE_FACTORY))
def test_a_family_named_like_a_group_of_the_factory_has_one_of_its_own(good, family):
    good.image(f"{family}/x", tests__json=PLAN)
    assert findings(good) == []
    good.image(f"{family}-images/x2", tests__json=PLAN)
    assert {message for _, _, _, _, message in findings(good)} == {
        f"the assets of {other} would be in the same group, {family}_images; rename one of the families"
        for other in (f"{family}/x", f"{family}-images/x2")
    }


def test_duplicates(good):
    good.write("more/base/good/Dockerfile", "FROM debian:12\n")
    catalog = good.catalog(docker_files_path=f"{ROOT};more")
    found = validate(catalog, good.tree(), ["base/good"], today=TODAY)
    places = [finding.path for finding in found if "same family and name" in finding.message]
    assert places == [f"{ROOT}/base/good/Dockerfile", "more/base/good/Dockerfile"]


def test_all_cycles_are_named(good):
    for image, parent in (("a", "b"), ("b", "a"), ("c", "d"), ("d", "c"), ("child", "a")):
        good.image(f"base/{image}", f"FROM {PUBLISHED}/{parent}\n", tests__json=PLAN)
    messages = {image: message for image, _, _, _, message in findings(good)}
    assert messages == {
        "base/a": "images are built FROM each other: base/a → base/b → base/a",
        "base/b": "images are built FROM each other: base/a → base/b → base/a",
        "base/c": "images are built FROM each other: base/c → base/d → base/c",
        "base/d": "images are built FROM each other: base/c → base/d → base/c",
    }


def test_a_parent_past_its_end_of_life(good):
    good.image("base/old", tests__json=PLAN, image__json='{"eol": "2026-01-31"}')
    good.image("base/child", f"# one\nFROM {PUBLISHED}/old\n", tests__json=PLAN)
    assert findings(good) == [
        (
            "base/child",
            "warning",
            "base/child/Dockerfile",
            2,
            "base/old is past its end of life (2026-01-31) and not built any more",
        )
    ]


def test_everything_at_once(good):
    good.write(f"{ROOT}/base/a/Dockerfile", "FROM\n")
    good.write(f"{ROOT}/base/b/Dockerfile", "FROM debian\n")
    good.write(f"{ROOT}/base/b/tests.json", "{")
    found = findings(good)
    assert len(found) == 6
    assert found == sorted(found, key=lambda f: (f[0], f[2], f[3] or 0))


@pytest.mark.parametrize(
    ("run", "unpinned"),
    [
        ("pip install humanize", ["humanize"]),
        ("apt-get update && python3.11 -m pip install --no-cache-dir --upgrade pip humanize==4.1", ["pip"]),
        ("/opt/conda/bin/pip install -q 'numpy>=1' \\\n    && true", ["numpy>=1"]),
        ("""["pip3", "install", "a[b]", "c==1.*"]""", ["a[b]", "c==1.*"]),
        ("<<EOF\nset -e\npip install humanize # a reason\nEOF", ["humanize"]),
        ('pip install humanize==4.11.0 \'x==1; python_version<"4"\' "y==${Y}"', []),
        ("pip install --no-cache-dir -r requirements.txt -e . ./local a.whl git+https://a.example/b#egg=c", []),
        ("pip install -c constraints.txt humanize", []),
        ("pip install --no-binary humanize humanize==4.1 && pip check", []),
        ("echo pip install humanize", []),
        ("python -m pip download humanize", []),
    ],
)
def test_pip_without_a_version_is_a_warning_with_its_line(good, run, unpinned):
    good.write(f"{ROOT}/base/good/Dockerfile", f"FROM debian:12\nRUN {run}\n")
    assert findings(good) == [
        ("base/good", "warning", "base/good/Dockerfile", 2, f"pip install {each}: {more}")
        for each in unpinned
        for more in ["each build may get another version; pin it with =="]
    ]


def test_a_stage_that_the_image_is_not_made_from_installs_nothing(good):
    good.write(f"{ROOT}/base/good/Dockerfile", "FROM debian:12 AS other\nRUN pip install a\nFROM debian:12\n")
    assert findings(good) == []


@pytest.mark.parametrize("run", ["apt-get install -y git", "pip install -r requirements.txt", "conda create -n a b=1"])
def test_notices_that_say_nothing_was_added_while_something_is(good, run):
    notices = "This image is built on good. It adds no third-party software of its own\nyet: name here what ..."
    good.image("base/child", f"FROM debian:12\nRUN {run}\n", tests__json=PLAN, ThirdPartyNotices__txt=notices)
    manager = run.split()[0]
    message = f"it says that nothing is added, and {manager} installs something ({ROOT}/base/child/Dockerfile:2)"
    assert findings(good) == [("base/child", "warning", "base/child/ThirdPartyNotices.txt", None, message)]
    good.write(f"{ROOT}/base/child/Dockerfile", "FROM debian:12\nRUN apt-get update\n")
    assert findings(good) == []


@pytest.mark.parametrize(
    ("notices", "denies"),
    [
        ("Nothing was added.", True),
        ("nothing else is\ninstalled", True),
        ("The image contains no third-party software.", True),
        ("It adds nothing to its base.", True),
        ("No third-party software was added.", True),
        ("The image has no other licence than MIT.", False),
        ("if you add no other conditions whatsoever to those of this License", False),
        ("nothing was added to the text of the licence", False),
        ("Nothing of it may be sold. numpy is added under BSD-3-Clause.", False),
    ],
)
def test_notices_deny_in_words_of_their_own(good, notices, denies):
    good.image(
        "base/child", "FROM debian:12\nRUN apt-get install -y a\n", tests__json=PLAN, ThirdPartyNotices__txt=notices
    )
    assert len(findings(good)) == denies


@pytest.mark.parametrize(("context", "shown"), [("src", f"{ROOT}/base/good/src"), ("repository", "the repository")])
def test_a_build_context_elsewhere_is_named_where_a_file_is_not_in_it(good, context, shown):
    good.write(f"{ROOT}/base/good/image.json", json.dumps({"context": context}))
    good.write(f"{ROOT}/base/good/Dockerfile", "FROM debian:12\nCOPY file /\n")
    message = f"COPY file: there is nothing of this name in the build context, {shown}"
    assert findings(good) == [("base/good", "error", "base/good/Dockerfile", 2, message)]


def test_git_is_not_started_for_each_image(git_repository, monkeypatch):
    """What was read before does not count: the files of the images are not the same."""

    def processes(images: int) -> int:
        for number in range(images):
            content = f"{number} of {images}"
            git_repository.image(f"apps/a{number}", "FROM debian:12\nCOPY file /\n", file=content)
        git_repository.commit()
        tree = git_repository.tree("HEAD")
        catalog = git_repository.catalog()
        with monkeypatch.context() as patch:
            started = []
            popen = subprocess.Popen
            patch.setattr(
                "aml_images_dagster.catalog.tree.subprocess.Popen",
                lambda *args, **kwargs: started.append(args) or popen(*args, **kwargs),
            )
            assert [finding for finding in validate(catalog, tree) if finding.severity == "error"] == []
        return len(started)

    assert processes(2) == processes(20)
