"""Records of what was done to production, in a folder and in an object store; and free release numbers."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.artifacts import Artifacts, create_atomically, write_atomically
from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import Ledger, ReleaseRecord, TagChange, next_release_num
from aml_images_dagster.builds.records import BuildRecord
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DAY = date(2026, 11, 23)


@pytest.fixture(params=["disk", "object store"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return Ledger(Artifacts(str(tmp_path) if request.param == "disk" else f"memory://{tmp_path.name}"))


def record(**fields: Any) -> ReleaseRecord:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    change = TagChange(image="base/a", repository="public/a", tag="latest", before=None, after="sha256:1")
    return ReleaseRecord.model_validate(
        {
            "number": 0,
            "action": "release",
            "begun": None,
            "who": "somebody",
            "when": now,
            "build": "20261123.4f2a9c1e",
            "commit": "abc",
            "built": now,
            "release_tag": "20261123.v1",
            "changes": (change,),
            **fields,
        }
    )


def test_nothing_was_done_yet(ledger: Ledger) -> None:
    assert ledger.records() == ()
    assert ledger.released_builds() == frozenset()


def test_a_release_begins_and_is_completed(ledger: Ledger) -> None:
    begun = ledger.append(record())
    assert (begun.number, begun.done) == (1, False)
    assert History(ledger.records()).unfinished() == [begun]
    done = ledger.complete(begun, "somebody else")
    assert (done.number, done.begun, done.done, done.who) == (2, 1, True, "somebody else")
    assert ledger.records() == (begun, done)
    assert History(ledger.records()).unfinished() == []
    assert ledger.released_builds() == {begun.build}


def test_records_written_at_once_all_stay(ledger: Ledger) -> None:
    threads = [threading.Thread(target=ledger.append, args=(record(who=str(n)),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.number for r in ledger.records()] == list(range(1, 9))
    assert {r.who for r in ledger.records()} == set(map(str, range(8)))


def test_a_record_is_never_written_over(ledger: Ledger) -> None:
    ledger.append(record())
    with pytest.raises(FileExistsError):
        create_atomically(ledger.folder / "000001.json", b"{}")
    assert [path.name for path in ledger.folder.iterdir()] == ["000001.json"]


def test_a_damaged_record_is_told(ledger: Ledger) -> None:
    ledger.append(record())
    (ledger.folder / "000001.json").write_bytes(b"{")
    with pytest.raises(BadInput, match="not a release record"):
        ledger.records()


def test_a_roll_back_is_about_what_a_release_was_about(ledger: Ledger) -> None:
    release = ledger.complete(ledger.append(record(outside_window="it burns")), "somebody")
    rollback = ledger.begin("rollback", release, release.changes, "another", "it is broken")
    assert (rollback.action, rollback.begun, rollback.outside_window) == ("rollback", None, "")
    assert (rollback.build, rollback.release_tag, rollback.reason) == (release.build, "20261123.v1", "it is broken")


def test_a_record_is_read_once_by_a_process(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.append(record())
    before = ledger.records()
    read: list[str] = []
    cat = type(ledger.folder.fs).cat
    monkeypatch.setattr(
        type(ledger.folder.fs), "cat", lambda fs, paths, **rest: read.extend(paths) or cat(fs, paths, **rest)
    )
    assert ledger.records() == before
    assert read == []
    done = ledger.complete(before[0], "somebody")
    assert ledger.records() == (*before, done)
    assert [path.rpartition("/")[2] for path in read] == ["000002.json"]


def test_an_empty_record_names_its_file_and_what_to_do(ledger: Ledger) -> None:
    ledger.append(record())
    (ledger.folder / "000001.json").write_bytes(b"")
    with pytest.raises(BadInput, match="it is empty") as refused:
        ledger.records()
    assert refused.value.where.endswith("releases/000001.json")
    assert "backup" in refused.value.hint


def test_a_record_of_a_newer_version_is_not_damaged(ledger: Ledger) -> None:
    ledger.append(record())
    path = ledger.folder / "000001.json"
    path.write_bytes(path.read_bytes().replace(b"{", b'{"novelty": 1, ', 1))
    with pytest.raises(BadInput) as refused:
        ledger.records()
    assert refused.value.what.startswith("a newer version has written it, and this one does not understand: ")


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(str(tmp_path))


def number_of(artifacts: Artifacts, *images: str, promised: Iterable[int] = ()) -> int:
    """The next number of a day on which every record can be read."""
    errors: list[BadInput] = []
    number = next_release_num(DAY, images or ["base/a"], artifacts, promised, unreadable=errors.append)
    assert errors == []
    return number


def build(
    artifacts: Artifacts,
    number: str,
    tag: str,
    status: str = "succeeded",
    image: str = "base/a",
    commit: str = "1234567",
) -> None:
    about = {"build": number, "run_id": "", "commit": commit, "source": "", "images": (image,), "status": status}
    created = datetime.fromisoformat(f"{number[:8]}T12:00:00Z")
    artifacts.build(number).write_build(BuildRecord.model_validate(about | {"created": created, "release_tag": tag}))


def released(artifacts: Artifacts, tag: str, image: str = "base/a") -> None:
    change = TagChange(image=image, repository="public/a", tag=tag, before=None, after="sha256:1")
    Ledger(artifacts).append(record(changes=(change,), release_tag=tag))


def test_the_first_of_a_day(artifacts: Artifacts) -> None:
    build(artifacts, "20261122.00000001", "20261122.v4")
    released(artifacts, "20261122.v4")
    assert number_of(artifacts) == 1


@pytest.mark.parametrize(
    ("status", "number"),
    [("running", 3), ("succeeded", 3), ("expired", 3), ("failed", 1), ("canceled", 1), ("partial", 1)],
)
def test_builds_that_may_be_released_count(artifacts: Artifacts, status: str, number: int) -> None:
    build(artifacts, "20261123.00000001", "20261123.v2", status)
    assert number_of(artifacts, "base/a", "base/b") == number


@pytest.mark.parametrize("commit", ["", "1234567-dirty"])
def test_builds_of_no_commit_do_not_count(artifacts: Artifacts, commit: str) -> None:
    build(artifacts, "20261123.00000001", "20261123.v2", commit=commit)
    assert number_of(artifacts) == 1


def test_releases_count(artifacts: Artifacts) -> None:
    """Also those whose build is of another place, and those that were withdrawn since."""
    released(artifacts, "20261123.v11")
    assert number_of(artifacts) == 12


def test_other_images_and_other_tags_do_not_count(artifacts: Artifacts) -> None:
    build(artifacts, "20261123.00000001", "20261123.v2", image="base/b")
    build(artifacts, "20261123.00000002", "nightly")
    build(artifacts, "20261123.00000003", "20261123.v9-test")
    released(artifacts, "20261123.v3", "base/b")
    assert number_of(artifacts) == 1


def test_promised_numbers_count(artifacts: Artifacts) -> None:
    build(artifacts, "20261123.00000001", "20261123.v2")
    assert number_of(artifacts, promised=[1, 5]) == 6


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 3),
        ("{", 3),
        ('{"build": "20261123.00000009", "release_tag": "20261123.v7", "ima', 8),
        ('{"release_tag": "nightly", "of_a_newer_version": 1}', 3),
        (b"\xff\xfe", 3),
    ],
    ids=["empty", "damaged", "cut off", "newer", "no text"],
)
def test_a_record_that_cannot_be_read_hides_no_other_number(
    artifacts: Artifacts, text: str | bytes, number: int
) -> None:
    build(artifacts, "20261123.00000001", "20261123.v1")
    released(artifacts, "20261123.v2")
    content = text if isinstance(text, bytes) else text.encode()
    write_atomically(artifacts.build("20261123.00000009").root / "build.json", content)
    errors: list[BadInput] = []
    assert next_release_num(DAY, ["base/a"], artifacts, unreadable=errors.append) == number
    assert ["20261123.00000009" in error.where for error in errors] == [True]


def test_a_release_record_that_cannot_be_read_hides_no_build(artifacts: Artifacts) -> None:
    build(artifacts, "20261123.00000001", "20261123.v4")
    write_atomically(Ledger(artifacts).folder / "000001.json", b"{")
    errors: list[BadInput] = []
    assert next_release_num(DAY, ["base/a"], artifacts, unreadable=errors.append) == 5
    assert len(errors) == 1
