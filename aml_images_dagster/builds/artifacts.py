"""The artifacts store: a folder per build, on a disk or in a blob store, every file written atomically."""

from __future__ import annotations

import hashlib
import os
import uuid
from datetime import UTC
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError
from upath import UPath

from aml_images_dagster.builds.naming import BUILD_NUMBER, PLAN_NAME
from aml_images_dagster.builds.records import (
    ENDED,
    BuildFailure,
    BuildRecord,
    BuildStatus,
    JobRecord,
    PassedImage,
    Plan,
    Record,
    RunInformation,
    StagedImage,
    TestedImage,
)
from aml_images_dagster.errors import BadInput
from aml_images_dagster.plural import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

R = TypeVar("R", bound=Record)

RELEASE_FILES = ("release.json", "import.cfg", "drop")


def write_atomically(path: UPath, data: bytes) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, never a part.

    On a local disk by rename. Object stores have no folders to make, and put an object whole when they are given it
    in one call: a file that is opened and written may show before it is complete.
    """
    if _is_object(path):
        path.fs.pipe_file(path.path, data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        os.replace(str(temporary), str(path))  # noqa: PTH105 - UPath has no replace
    finally:
        temporary.unlink(missing_ok=True)


def create_atomically(path: UPath, data: bytes) -> None:
    """Write a file that is not there yet, whole; of two that try at once, one succeeds.

    On a local disk by a hard link, which fails where a name is taken; in object stores by a conditional put.

    Raises:
        FileExistsError: It is there.
    """
    if _is_object(path):
        path.fs.pipe_file(path.path, data, mode="create")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        os.link(str(temporary), str(path))
    finally:
        temporary.unlink(missing_ok=True)


def read_whole(path: UPath) -> bytes:
    """Read a file as one of those who wrote it left it, whoever replaces it meanwhile.

    A file of an object store that is opened is asked for its size first, and then for its bytes.

    Raises:
        FileNotFoundError: There is none.
    """
    data: bytes = path.fs.cat_file(path.path) if _is_object(path) else path.read_bytes()
    return data


def _is_object(path: UPath) -> bool:
    return path.protocol not in ("", "file", "local")


class DamagedRecord(BadInput):
    """A record of which nothing can be made, in any version."""


def _read(path: UPath, model: type[R]) -> R | None:
    try:
        data = read_whole(path)
    except FileNotFoundError:
        return None
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        # A newer version has fields and words that this one lacks; what it needs itself it writes.
        newer = all(found["type"] in ("extra_forbidden", "literal_error") for found in error.errors())
        raise (BadInput if newer else DamagedRecord)(
            f"not a record of this version: {counted(error.error_count(), 'fault')}",
            where=str(path),
            mend="The file was changed, or written by another version: use that one, or start a new build.",
        ) from None


def _read_memory(path: UPath) -> PassedImage | None:
    """What only saves work: an image whose entry is damaged, or of another version, is built anew."""
    try:
        return _read(path, PassedImage)
    except BadInput:
        return None


def _write(path: UPath, record: Record) -> None:
    write_atomically(path, _serialized(record))


def _serialized(record: Record) -> bytes:
    return (record.model_dump_json(indent=2) + "\n").encode()


class BuildFolder:
    """The artifacts of one build."""

    def __init__(self, root: UPath, build: str) -> None:
        self.build = build
        self.root = root / build

    def image(self, image: str) -> UPath:
        """Folder of what the build knows of one image."""
        # Not below a name that a repository could have: its own files are kept beside, at their own paths.
        return self.root / ".records" / image

    def read_build(self) -> BuildRecord | None:
        """`build.json`; None before the build has begun."""
        return _read(self.root / "build.json", BuildRecord)

    def write_build(self, record: BuildRecord) -> None:
        """Write `build.json`."""
        _write(self.root / "build.json", record)

    def create_build(self, record: BuildRecord) -> None:
        """Write the first `build.json`.

        Raises:
            FileExistsError: There is one.
        """
        create_atomically(self.root / "build.json", _serialized(record))

    def finish(self, status: BuildStatus, failure: BuildFailure | None = None) -> None:
        """Say in `build.json` how the build ended, and the first time why.

        A build that never began says nothing, and one that has failed or was cancelled never succeeds.
        """
        record = self.read_build()
        if record is not None and (record.status not in ENDED or status in ENDED):
            self.write_build(record.model_copy(update={"status": status, "failure": record.failure or failure}))

    def read_plan(self) -> Plan | None:
        """`plan.json`; None of a build that was not planned before it was started."""
        return _read(self.root / "plan.json", Plan)

    def write_plan(self, plan: Plan) -> None:
        """Write `plan.json`."""
        _write(self.root / "plan.json", plan)

    def images(self) -> list[str]:
        """Images that the build has written something down about, `<family>/<name>`."""
        paths = (self.root / ".records").glob("*/*")
        return sorted(f"{path.parent.name}/{path.name}" for path in paths)

    def claim(self, image: str) -> None:
        """Say that this step stages an image of which several may have need.

        Raises:
            FileExistsError: Another one has said so.
        """
        create_atomically(self.image(image) / "claimed", b"")

    def read_staged(self, image: str) -> StagedImage | None:
        """`staged.json` of an image; None when this build has not staged it."""
        return _read(self.image(image) / "staged.json", StagedImage)

    def write_staged(self, record: StagedImage) -> None:
        """Write `staged.json`."""
        _write(self.image(record.image) / "staged.json", record)

    def read_remote_work(self, image: str) -> str | None:
        """The name of the work elsewhere that builds an image, or did; None when there was none."""
        path = self.image(image) / "remote_work"
        return path.read_text() if path.exists() else None

    def write_remote_work(self, image: str, work: str) -> None:
        """Write down what builds an image elsewhere, so that anybody can end it."""
        write_atomically(self.image(image) / "remote_work", work.encode())

    def read_tested(self, image: str) -> TestedImage | None:
        """`tested.json` of an image; None when it has not passed in this build."""
        return _read(self.image(image) / "tested.json", TestedImage)

    def write_tested(self, record: TestedImage) -> None:
        """Write `tested.json`."""
        _write(self.image(record.image) / "tested.json", record)

    def write_log(self, image: str, name: str, text: str) -> UPath:
        """Keep a log of an image and return where it is."""
        path = self.image(image) / "logs" / name
        write_atomically(path, text.encode("utf-8", "replace"))
        return path

    def jobs(self) -> tuple[JobRecord, ...]:
        """Every remote job of the build, oldest first."""
        folder = self.root / "jobs"
        records = [_read(path, JobRecord) for path in folder.glob("*.json")] if folder.exists() else []
        return tuple(sorted((r for r in records if r), key=lambda r: (r.submitted, r.job)))

    def write_job(self, record: JobRecord) -> None:
        """Write a job down, alone and in `run_information.json`.

        One file per job is the truth, because steps of a build write at the same time; the one file
        that people and the cleanup read is put together from them after each change.
        """
        _write(self.root / "jobs" / f"{record.job}.json", record)
        self.write_run_information()

    def write_run_information(self) -> None:
        """Put `run_information.json` together.

        Another step may have written its job and this file while ours was on its way, and ours would then lack
        that job. So it is put together again until nothing has come since: whoever writes last has seen all.
        """
        jobs = self.jobs()
        while True:
            _write(self.root / "run_information.json", RunInformation(build=self.build, jobs=jobs))
            written, jobs = jobs, self.jobs()
            if jobs == written:
                return

    def remove_release_files(self) -> list[str]:
        """Remove what would make the build look releasable; the names of what was there."""
        removed = []
        for name in RELEASE_FILES:
            path = self.root / name
            if path.is_dir():
                path.rmdir(recursive=True)
                removed.append(name)
            elif path.exists():
                path.unlink()
                removed.append(name)
        return removed


class Artifacts:
    """The artifacts of all builds.

    Args:
        uri: A folder, or what universal-pathlib knows.
        options: What the store behind the URI needs to be told, by its own names.
    """

    def __init__(self, uri: str, options: Mapping[str, Any] | None = None) -> None:
        self.root = UPath(uri, **(options or {}))

    def build(self, build: str) -> BuildFolder:
        """The folder of a build, there or not."""
        return BuildFolder(self.root, build)

    def folders(self) -> list[BuildFolder]:
        """The folder of every build, whatever is in it."""
        paths = self.root.iterdir() if self.root.exists() else ()
        return [self.build(path.name) for path in paths if BUILD_NUMBER.fullmatch(path.name)]

    def unsettled(self) -> list[BuildFolder]:
        """The folder of every build that something may still have to be done with; of thousands the few."""
        folder = self.root / "settled"
        settled = {path.name for path in folder.iterdir()} if folder.exists() else set()
        return [folder for folder in self.folders() if folder.build not in settled]

    def settle(self, build: str) -> None:
        """Remember that nothing has to be done with a build any more."""
        write_atomically(self.root / "settled" / build, b"")

    def unsettle(self, build: str) -> None:
        """Forget that nothing has to be done with a build."""
        (self.root / "settled" / build).unlink(missing_ok=True)

    def builds(self, unreadable: Callable[[BadInput], object] | None = None) -> list[tuple[BuildFolder, BuildRecord]]:
        """Every build that has begun, newest first.

        Args:
            unreadable: Is told of every record that cannot be read; the builds are those without it.

        Raises:
            BadInput: A record cannot be read, and there is nobody to be told.
        """
        begun = []
        for folder in self.folders():
            try:
                if record := folder.read_build():
                    begun.append((folder, record))
            except BadInput as error:
                if unreadable is None:
                    raise
                unreadable(error)
        return sorted(begun, key=lambda pair: (pair[1].created, pair[1].build), reverse=True)

    def write_plan(self, plan: Plan, now: datetime) -> str:
        """Keep a plan for a run that has yet to start.

        Returns:
            Its name: the day, and sha256 of its bytes. The same plan of a day is kept once.
        """
        data = plan.model_dump_json().encode()
        name = f"{now.astimezone(UTC):%Y%m%d}.{hashlib.sha256(data).hexdigest()}"
        write_atomically(self.root / "plans" / f"{name}.json", data)
        return name

    def read_plan(self, name: str) -> Plan | None:
        """A plan by its name; None when it was removed."""
        return _read(self.root / "plans" / f"{name}.json", Plan) if PLAN_NAME.fullmatch(name) else None

    def remove_plans(self, before: datetime) -> None:
        """Remove the plans that were made before a day, whether a run has followed them or not."""
        folder = self.root / "plans"
        for path in list(folder.iterdir()) if folder.exists() else ():
            name = path.name.removesuffix(".json")
            if PLAN_NAME.fullmatch(name) and name < f"{before.astimezone(UTC):%Y%m%d}":
                path.unlink(missing_ok=True)

    def read_passed(self, content_key: str) -> PassedImage | None:
        """The image that passed with this content key; None also when what was remembered cannot be read."""
        return _read_memory(self.root / "passed" / f"{content_key}.json")

    def forget_passed(self, content_key: str, digest: str) -> None:
        """Forget the image that passed with this content key, if it is this one."""
        passed = self.read_passed(content_key)
        if passed is not None and passed.staged.digest == digest:
            (self.root / "passed" / f"{content_key}.json").unlink(missing_ok=True)

    def read_last_passed(self, image: str) -> PassedImage | None:
        """The last image of this name that passed, whatever it was made from."""
        return _read_memory(self.root / "last_passed" / f"{image}.json")

    def write_passed(self, record: PassedImage, *, is_last: bool = True) -> None:
        """Remember an image that may be used again.

        Args:
            record: The image.
            is_last: Whether the next builds are to be compared with it; not for what a pull request makes.
        """
        _write(self.root / "passed" / f"{record.staged.content_key.digest}.json", record)
        if is_last:
            _write(self.root / "last_passed" / f"{record.staged.image}.json", record)
