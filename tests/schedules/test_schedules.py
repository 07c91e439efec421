"""The files of `schedules/`: what they choose, and what is wrong with them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.catalog.validated_file import read_model_file
from aml_images_dagster.schedules.schedule import read_timetable
from aml_images_dagster.schedules.schedule_file import ScheduleFile

if TYPE_CHECKING:
    from aml_images_dagster.catalog.finding import Finding
    from aml_images_dagster.schedules.schedule import Schedule

ROOT = Path(__file__).parents[2]
TODAY = date(2026, 11, 23)
PATCH_DAY = """\
name: patch_day
description: Windows images
cron: 0 9 * * 3#2
timezone: America/Los_Angeles
selection:
  os: windows
"""
DOCKERFILES = {
    "base/win": "FROM mcr.microsoft.com/windows/servercore:ltsc2022\n",
    "base/debian": "FROM debian:12\n",
    "apps/tool": "FROM registry.example/debian\n",
    "apps/old": "FROM debian:12\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for image, dockerfile in DOCKERFILES.items():
        folder = tmp_path / "images" / image
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text(dockerfile)
    (tmp_path / "images/apps/old/image.json").write_text('{"eol": "2026-01-01"}')
    (tmp_path / "schedules").mkdir()
    return tmp_path


def read(root: Path, **files: str) -> tuple[list[Schedule], list[Finding]]:
    for name, text in files.items():
        (root / "schedules" / f"{name}.yaml").write_text(text)
    tree = WorkingTree(root)
    catalog = Catalog.load(tree, "images", ["registry.example/{name}"])
    timetable = read_timetable(tree, catalog)
    return list(timetable.schedules), list(timetable.findings)


def chosen(root: Path, selection: object) -> list[str]:
    file = {**yaml.safe_load(PATCH_DAY), "selection": selection}
    (schedule,), _ = read(root, one=yaml.safe_dump(file))
    catalog = Catalog.load(WorkingTree(root), "images", ["registry.example/{name}"])
    return list(schedule.images(catalog, TODAY))


def faults(text: str) -> list[str]:
    file, findings = read_model_file(ScheduleFile, text.encode(), "schedules/x.yaml")
    assert (file is None) == bool(findings)
    return [str(finding) for finding in findings]


def test_the_schedules_of_this_repository() -> None:
    tree = WorkingTree(ROOT)
    catalog = Catalog.load(tree, "base_images/docker/public", ["mcr.microsoft.com/azureml/{name}"])
    timetable = read_timetable(tree, catalog)
    assert timetable.findings == ()
    (patch_day,) = [each for each in timetable.schedules if each.file.name == "windows_patch_day"]
    assert list(patch_day.images(catalog, TODAY)) == [
        "base-windows/servercore-ltsc2019",
        "base-windows/servercore-ltsc2022",
    ]
    assert patch_day.file.force
    assert patch_day.file.after_patch_tuesday


@pytest.mark.parametrize(
    ("selection", "images"),
    [
        ({"os": "windows"}, ["base/win"]),
        ({"os": "linux"}, ["apps/tool", "base/debian"]),
        ({"images": ["base/debian"]}, ["apps/tool", "base/debian"]),
        ({"images": ["base/*"], "os": "windows"}, ["base/win"]),
        ({"images": ["*"]}, ["apps/tool", "base/debian", "base/win"]),
        ({"images": ["apps/old"]}, ["apps/old"]),
    ],
)
def test_what_is_chosen(root: Path, selection: object, images: list[str]) -> None:
    assert chosen(root, selection) == images


def test_reasons(root: Path) -> None:
    (schedule,), _ = read(root, one=PATCH_DAY.replace("os: windows", "images: [base/debian]"))
    catalog = Catalog.load(WorkingTree(root), "images", ["registry.example/{name}"])
    assert schedule.images(catalog, TODAY) == {
        "base/debian": ("schedule patch_day",),
        "apps/tool": ("FROM base/debian",),
    }


def test_a_bad_file_takes_no_other_down(root: Path) -> None:
    schedules, findings = read(root, good=PATCH_DAY, bad=PATCH_DAY.replace("cron:", "corn:"))
    assert [schedule.file.name for schedule in schedules] == ["patch_day"]
    assert list(map(str, findings)) == ['schedules/bad.yaml:3: error: unknown key "corn"; did you mean "cron"?']


def test_two_files_with_one_name(root: Path) -> None:
    schedules, findings = read(root, a=PATCH_DAY, b=PATCH_DAY)
    assert [schedule.path for schedule in schedules] == ["schedules/a.yaml"]
    assert [str(f) for f in findings] == [
        "schedules/b.yaml: error: name: 'patch_day' is also the name of schedules/a.yaml"
    ]


def test_an_image_that_is_not_there_stops_no_other(root: Path) -> None:
    schedules, findings = read(root, a=PATCH_DAY.replace("os: windows", "images: [base/win, base/debain]"))
    assert [str(finding) for finding in findings] == [
        "schedules/a.yaml: error: selection.images: no image is named 'base/debain'; did you mean 'base/debian'?"
    ]
    assert len(schedules) == 1


def test_other_files_are_remarked_upon(root: Path) -> None:
    (root / "schedules" / "x.yml").write_text(PATCH_DAY)
    assert [f.message for f in read(root)[1]] == ["only files that end in .yaml are read here"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PATCH_DAY + "release: later\n", "schedules/x.yaml:7: error: release: must be"),
        (
            PATCH_DAY + "release: approval\nrelease: none\n",
            "schedules/x.yaml:8: error: release: the key is there twice",
        ),
        (PATCH_DAY + "force: yes\n", 'schedules/x.yaml:7: error: force: must be true or false, not "yes"'),
        (
            PATCH_DAY.replace("Los_Angeles", "Los_Angles"),
            "x.yaml:4: error: timezone: there is no time zone 'America/",
        ),
        (PATCH_DAY.replace("3#2", "WED"), "x.yaml:3: error: cron: 'WED' is no day of the week"),
        (PATCH_DAY.replace("* * 3#2", "8-14 * 3"), "x.yaml:3: error: cron: cron takes a day of the month or"),
        (PATCH_DAY.replace("  os: windows", "  os: win"), 'x.yaml:6: error: selection.os: must be "linux" or'),
        (PATCH_DAY.replace("  os: windows", "  {}"), 'x.yaml:5: error: selection: say which: "os", "images"'),
        (PATCH_DAY.replace("  os: windows", "  oss: windows"), 'x.yaml:6: error: unknown key "selection.oss"'),
        (PATCH_DAY + "stale_after_days: 35\n", "x.yaml:7: error: stale_after_days: 35 days can pass between"),
        (
            PATCH_DAY.replace("name: patch_day", "name: Patch-Day"),
            "x.yaml:1: error: name: must be small letters, digits",
        ),
        (PATCH_DAY.replace("name: patch_day\n", ""), 'x.yaml:1: error: "name" is missing'),
        ("name: [\n", "x.yaml:2: error: not valid YAML"),
        ("a: &a 1\nb: *a\n", "x.yaml:2: error: not valid YAML: an alias"),
        ("", "x.yaml: error: must be a map"),
        ("- 1\n", "x.yaml:1: error: must be a map"),
        ("a: !!python/object/apply:os.system [echo]\n", "x.yaml:1: error: not valid YAML"),
        ("? [a]\n: 1\n", "x.yaml:1: error: not valid YAML"),
        ("a: !!timestamp 2026-01-01\n", "x.yaml: error: only text, numbers"),
        ("a: !!float .nan\n", "x.yaml: error: only text, numbers"),
        ("[" * 5000, "x.yaml: error: nested too deeply"),
        (
            PATCH_DAY + f"stale_after_days: {'9' * 5000}\n",
            "x.yaml:7: error: stale_after_days: a number of 5,000 digits",
        ),
        (
            PATCH_DAY + "stale_after_days: 1.0e999\n",
            "x.yaml:7: error: stale_after_days: 1.0e999 is not a finite number",
        ),
        (PATCH_DAY.replace("Windows images", '"\\ud800"'), "x.yaml: error: a text has half of a surrogate pair"),
        ("a: 1\n---\nb: 1\n", "x.yaml:2: error: not valid YAML"),
    ],
)
def test_what_is_wrong(text: str, said: str) -> None:
    assert any(said in fault for fault in faults(text)), faults(text)


def test_a_file_of_another_encoding() -> None:
    _, findings = read_model_file(ScheduleFile, b"name: x\ndescription: \xff\n", "x.yaml")
    assert [str(finding) for finding in findings] == ["x.yaml:2: error: not UTF-8 text"]


@pytest.mark.parametrize("word", ["on", "yes", "10:30", "1_000", "0x10", "2026-01-01", "09", "=", "<<"])
def test_words_that_older_yaml_takes_for_something_else(word: str) -> None:
    file, findings = read_model_file(ScheduleFile, PATCH_DAY.replace("Windows images", word).encode(), "x.yaml")
    assert findings == ()
    assert file is not None
    assert file.description == word


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
@example("?")  # a key that is null
def test_any_text_is_read_or_explained(text: str) -> None:
    file, findings = read_model_file(ScheduleFile, text.encode("utf-8", "surrogatepass"), "x.yaml")
    assert file is None
    assert findings


def test_a_day_ends_in_the_time_zone_of_the_schedule(root: Path) -> None:
    (schedule,), _ = read(root, one=PATCH_DAY)
    tick = datetime(2026, 3, 11, 9, tzinfo=ZoneInfo("America/Los_Angeles"))
    assert schedule.release_by(tick).astimezone(UTC) == datetime(2026, 3, 12, 7, tzinfo=UTC)
