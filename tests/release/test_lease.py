"""One at a time, in a folder and in an object store."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from upath import UPath

from aml_images_dagster.builds.artifacts import written_at
from aml_images_dagster.builds.process import named, this_process
from aml_images_dagster.errors import BadInput, ReleaseFailed, Unreachable
from aml_images_dagster.release.lease import Lease, _Holder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["disk", "object store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    return UPath(tmp_path / "lease") if request.param == "disk" else UPath(f"memory://{tmp_path.name}/lease")


def lease(folder: UPath, who: str = "a", **fields: Any) -> Lease:
    return Lease(folder, who, "release of it", **{"wait_seconds": 0, "report": lambda _: None, **fields})


def held_by(folder: UPath, number: int, process: str, seconds: float = 60) -> None:
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    holder = _Holder(who="other", purpose="release of that", process=process, until=until)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number:06}.json").write_bytes(holder.model_dump_json().encode())


def test_a_second_one_waits_and_is_told_why(folder: UPath) -> None:
    told: list[str] = []
    with lease(folder) as first:
        assert first.is_held()
        with pytest.raises(BadInput, match="a has been changing production for too long: release of it"):
            lease(folder, "b", report=told.append).__enter__()
    assert told in ([], ["waiting for a: release of it"])
    with lease(folder, "b") as second:
        assert second.is_held()
        assert not first.is_held()


def test_many_at_once_are_one_after_the_other(folder: UPath) -> None:
    inside, seen = [0], []

    def work() -> None:
        with lease(folder, wait_seconds=60) as mine:
            inside[0] += 1
            seen.append(inside[0])
            mine.check()
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 4


def test_one_that_has_run_out_is_taken_over(folder: UPath) -> None:
    held_by(folder, 7, "elsewhere.example:boot:1:1", seconds=-1)
    with lease(folder) as mine:
        mine.check()
        assert [path.name for path in folder.iterdir()] == ["000008.json"]


def test_that_of_a_process_of_another_machine_is_waited_for(folder: UPath) -> None:
    held_by(folder, 7, "elsewhere.example:boot:1:1")
    with pytest.raises(BadInput, match="other has been changing production"):
        lease(folder).__enter__()


def test_that_of_a_process_that_died_is_taken_over_at_once(folder: UPath) -> None:
    child = subprocess.Popen(["sleep", "60"])
    held_by(folder, 7, named(child.pid))
    with pytest.raises(BadInput):
        lease(folder).__enter__()
    child.kill()
    child.wait()
    with lease(folder) as mine:
        mine.check()


def test_a_holder_that_slept_for_too_long_does_not_go_on(folder: UPath) -> None:
    with lease(folder) as sleeper:
        sleeper.check()
        held_by(folder, sleeper._number, this_process(), seconds=-1)  # nobody has renewed it
        with lease(folder, "b") as other:
            with pytest.raises(ReleaseFailed, match="suspended for so long"):
                sleeper.check()
            other.check()
    # Giving back what it no longer has must not take it from anybody.
    assert lease(folder, "c")._take() is None


def test_it_is_kept_for_as_long_as_it_is_used(folder: UPath) -> None:
    with lease(folder, seconds=2) as mine:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            mine.check()
            time.sleep(0.05)


def written_ago(path: UPath, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    written = datetime.now(UTC) - timedelta(seconds=seconds)
    monkeypatch.setattr(type(path.fs), "modified", lambda self, _: written)


def test_a_store_that_is_away_in_the_end_does_not_hide_how_the_work_has_ended(
    folder: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> list[int]:
        raise Unreachable("the artifacts store does not answer")

    held = lease(folder, seconds=0.5)
    with pytest.raises(ReleaseFailed, match="import failed"), held:
        monkeypatch.setattr(held, "_numbers", away)
        raise ReleaseFailed("import failed")
    time.sleep(0.6)
    with lease(folder, "b"):  # it has expired by itself
        pass


def test_a_file_that_cannot_be_read_is_somebodys(folder: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    held_by(folder, 3, "elsewhere.example:boot:1:1")
    (folder / "000003.json").write_bytes(b"{")
    with pytest.raises(BadInput, match="an unknown holder has been changing production"):
        lease(folder).__enter__()
    written_ago(folder / "000003.json", 50, monkeypatch)
    with pytest.raises(BadInput, match=r"000003\.json cannot be read"):
        lease(folder).__enter__()
    written_ago(folder / "000003.json", 61, monkeypatch)
    with lease(folder) as mine:
        mine.check()


def test_that_of_a_newer_version_is_waited_for(folder: UPath) -> None:
    with lease(folder) as first:
        path = folder / "000001.json"
        document = {**json.loads(path.read_bytes()), "ticket": "x", "process": "elsewhere.example:boot:1:1"}
        path.write_bytes(json.dumps(document).encode())
        with pytest.raises(BadInput, match="a has been changing production for too long: release of it"):
            lease(folder, "b").__enter__()
        assert first.is_held()


def test_when_a_file_was_written_is_known_of_every_store(folder: UPath) -> None:
    held_by(folder, 3, this_process())
    assert abs(written_at(folder / "000003.json") - datetime.now(UTC)) < timedelta(seconds=30)
