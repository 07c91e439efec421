"""Records of what was done to production: numbered, append-only, in a folder and in an object store."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.artifacts import Artifacts, create_atomically
from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import Ledger, ReleaseRecord, TagChange
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path


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
