"""The artifacts store: a folder per build, on a disk or in a blob store, every file written atomically."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import uuid
from contextlib import contextmanager, suppress
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import ValidationError
from upath import UPath

from aml_images_dagster.builds.naming import BUILD_NUMBER, PLAN_NAME, split_staging_tag
from aml_images_dagster.builds.process import is_dead, this_process
from aml_images_dagster.builds.records import (
    ENDED,
    BaseImage,
    BuildFailure,
    BuildOutcome,
    BuildRecord,
    BuildStatus,
    EvidenceRecord,
    FinalStatus,
    InstalledComponents,
    JobRecord,
    PassedImage,
    Plan,
    Record,
    RunInformation,
    StagedImage,
    TestedImage,
    is_newer,
    written_by_newer,
)
from aml_images_dagster.catalog.reference import Reference, is_digest
from aml_images_dagster.errors import BadInput
from aml_images_dagster.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from aml_images_dagster.builds.records import EndStatus
    from aml_images_dagster.catalog.content_key import ContentKey

R = TypeVar("R", bound=Record)

RELEASE_FILES = ("release.json", "import.cfg", "drop")


_ON_DISK = ("", "file", "local")
_IN_ONE_PROCESS = ("memory",)
"""For tests: no other process sees such a store."""
ATOMIC_STORES = ("az", "abfs", "abfss")
"""Protocols of object stores whose file system creates an object only where there is none, in one request.

fsspec's own way, which most others have (sftp, smb, webdav, dbfs …), looks first and then writes: two could both
begin a build, hold the lease of releases, or write one number of the ledger.
"""


def write_atomically(path: UPath, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, never a part.

    On a local disk by rename. Object stores have no folders to make, and put an object whole when they are given it
    in one call: a file that is opened and written may show before it is complete.

    Args:
        path: The file.
        data: Its bytes.
        durable: Whether it has to survive a power loss right after this call; logs and sources need not.
    """
    if _is_object(path):
        path.fs.pipe_file(path.path, data)
        return
    with _written_beside(path, data, durable=durable) as temporary:
        temporary.replace(str(path))


def create_atomically(path: UPath, data: bytes) -> None:
    """Write a file that is not there yet, whole; of two that try at once, one succeeds. It survives a power loss.

    On a local disk by a hard link, which fails where a name is taken; in object stores by a conditional put.

    Raises:
        FileExistsError: It is there.
        BadInput: The file system of the store has no hard links.
    """
    if _is_object(path):
        path.fs.pipe_file(path.path, data, mode="create")
        return
    with _written_beside(path, data, durable=True) as temporary:
        try:
            os.link(temporary, str(path))
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            raise BadInput(
                f"the file system has no hard links ({error.strerror}), so two processes could write one record",
                where=str(path.parent),
                hint="Put the artifacts on another file system (exFAT, FAT and some network shares have no hard "
                "links), or into Azure Blob: az://CONTAINER/PREFIX.",
            ) from None


@contextmanager
def _written_beside(path: UPath, data: bytes, *, durable: bool) -> Iterator[Path]:
    """A new file in the folder of `path`, for the caller to give it that name.

    A name that survives a power loss needs its bytes on the disk before it, and its folder, with all that had to be
    made for it, after it.
    """
    folder = Path(str(path.parent))
    changed = _make_folder(folder)
    temporary = folder / f".{uuid.uuid4().hex}"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        yield temporary
        if durable:
            for each in changed:
                _sync_folder(each)
    finally:
        temporary.unlink(missing_ok=True)


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it that are missing; all that have a new name in them once a file is written there.

    Raises:
        NotADirectoryError: One of these is a file.
    """
    if folder.is_dir():
        return [folder]
    above = _make_folder(folder.parent) if folder.parent != folder else []
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():  # "exists" would be taken for the record that another process was faster to create
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
    return [folder, *above]


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some network shares, and Windows, have no such thing
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_whole(path: UPath) -> bytes:
    """Read a consistent version of a file, although it may be replaced meanwhile.

    A file of an object store that is opened is asked for its size first, and then for its bytes.

    Raises:
        FileNotFoundError: There is none.
    """
    data: bytes = path.fs.cat_file(path.path) if _is_object(path) else path.read_bytes()
    return data


def written_at(path: UPath) -> datetime:
    """When a file was last written, by the clock of its store.

    Raises:
        FileNotFoundError: There is none.
    """
    path.fs.invalidate_cache(path.parent.path)
    written: datetime = path.fs.modified(path.path)
    return written if written.tzinfo else written.replace(tzinfo=UTC)


def _is_object(path: UPath) -> bool:
    return path.protocol not in _ON_DISK


_DANGEROUS = re.compile(r'[%\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]|[. ]+$')


def below(folder: UPath, path: str) -> UPath:
    """The place of a path that strangers may have chosen; always below the folder, another one for each path.

    Characters with a special meaning to a store or a system are percent-encoded: separators of Windows, drives, dots or
    spaces at the end of a name, and so the names `.` and `..`. Any other name stays as it is.

    Args:
        folder: A folder in which nothing else is kept.
        path: A path as git has it, with `/` between its parts.
    """
    return folder.joinpath(*(_DANGEROUS.sub(_encoded, part) or "%" for part in path.split("/")))


def _encoded(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


class DamagedRecord(BadInput):
    """A record that no version can read."""


def _read(path: UPath, model: type[R], is_ours: Callable[[R], bool] = lambda _: True) -> R | None:
    """A record; None when there is none.

    Raises:
        DamagedRecord: It is not a record, or it belongs to another folder.
        BadInput: A newer version has written it.
    """
    try:
        data = read_whole(path)
    except FileNotFoundError:
        return None
    try:
        record = model.model_validate_json(data)
    except ValidationError as error:
        if is_newer(error):
            hint = "Use that version, here and on every other machine, or start a new build."
            raise BadInput(written_by_newer(error), where=str(path), hint=hint) from None
        raise DamagedRecord(
            f"not a record of this version: {counted(error.error_count(), 'fault')}",
            where=str(path),
            hint="The file was changed, or written by another version: use that one, or start a new build.",
        ) from None
    if not is_ours(record):
        raise DamagedRecord(
            "not a record of this version: it belongs to another folder",
            where=str(path),
            hint="The file was changed or copied: restore it, or start a new build.",
        )
    return record


def _read_memory(path: UPath) -> PassedImage | None:
    """A record that only saves work: if it is damaged, or of another version, the image is built again."""
    try:
        return _read(path, PassedImage)
    except BadInput:
        return None


def _write(path: UPath, record: Record) -> None:
    write_atomically(path, _serialized(record))


def _serialized(record: Record) -> bytes:
    return (record.model_dump_json(indent=2) + "\n").encode()


def _sha256(record: Record) -> str:
    return hashlib.sha256(record.model_dump_json().encode()).hexdigest()


class BuildFolder:
    """The artifacts of one build."""

    def __init__(self, root: UPath, build: str) -> None:
        self.build = build
        self.root = root / build
        self._folders: dict[str, UPath] = {}

    def image(self, image: str) -> UPath:
        """Folder of what the build knows of one image."""
        known = self._folders.get(image)  # a path is slow to put together, and each record of an image needs it
        return known or self._folders.setdefault(image, below(self.root / ".records", image))

    def keep_sources(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Keep files of the repository, for people who inspect the build.

        A pull request chooses their paths. So they have a separate folder, and no path leads out of it: beside it
        are the records that decide what is released and deleted.
        """
        for path, content in files:
            write_atomically(below(self.root / "sources", path), content, durable=False)

    def read_build(self) -> BuildRecord | None:
        """`build.json`, with the final status of the build if it has one; None before the build has started.

        Raises:
            DamagedRecord: It is not a record, or it is one of another build.
            BadInput: A newer version has written it.
        """
        record = self._begun()
        outcome = self.read_outcome() if record else None
        if record is None or outcome is None or outcome.status == "released":
            return record
        failure = outcome.failure or record.failure or _read(self.root / "failure.json", BuildFailure)
        return record.model_copy(update={"status": outcome.status, "failure": failure})

    def _begun(self) -> BuildRecord | None:
        return _read(self.root / "build.json", BuildRecord, lambda record: record.build == self.build)

    def read_outcome(self) -> BuildOutcome | None:
        """`outcome.json`: the final result of the build; None while it has none.

        Raises:
            BadInput: It cannot be read. No other record has its content, so it is not replaced.
        """
        try:
            return _read(self.root / "outcome.json", BuildOutcome, lambda outcome: outcome.build == self.build)
        except DamagedRecord as error:
            raise BadInput(
                error.what, where=error.where, hint="Restore it from a backup, or remove the build's folder."
            ) from None

    def claimed_at(self) -> datetime | None:
        """When a release claimed the build (`decide`), by the clock of the store; None unless one has.

        Raises:
            BadInput: `outcome.json` cannot be read.
        """
        outcome = self.read_outcome()
        if outcome is None or outcome.status != "released":
            return None
        return written_at(self.root / "outcome.json")

    def write_build(self, record: BuildRecord) -> None:
        """Write `build.json`. How the build ended is said by `finish`."""
        _write(self.root / "build.json", record)

    def create_build(self, record: BuildRecord) -> None:
        """Write the first `build.json`.

        Raises:
            FileExistsError: There is one.
        """
        create_atomically(self.root / "build.json", _serialized(record))

    def begin_checks(self) -> bool:
        """Whether this is the first call: of the steps of a build one makes its preflight checks."""
        try:
            create_atomically(self.root / "checked", b"")
        except FileExistsError:
            return False
        return True

    def decide(self, status: FinalStatus, failure: BuildFailure | None = None) -> BuildOutcome:
        """Decide the final result of the build, unless it is decided already; return the decision.

        Cleanups, the expiry and releases all call this before they change anything, and the first call decides.
        """
        outcome = BuildOutcome(build=self.build, status=status, failure=failure)
        try:
            create_atomically(self.root / "outcome.json", _serialized(outcome))
        except FileExistsError:
            return self.read_outcome() or outcome
        return outcome

    def overrule(self, status: FinalStatus) -> None:
        """Replace the final result of the build, because a person wants it."""
        _write(self.root / "outcome.json", BuildOutcome(build=self.build, status=status))

    def finish(self, status: BuildStatus, failure: BuildFailure | None = None) -> None:
        """Say how the build ended, and the first time why.

        A build that never began says nothing. One that has failed or was canceled never succeeds, and one that is
        released never fails.
        """
        record = self._begun()
        if record is None:
            return
        if status in ENDED:
            ended = record.status if record.status in ENDED else status
            outcome = self.decide(cast("EndStatus", ended), record.failure or failure)
            if outcome.status == "released":
                return
            if failure is not None and outcome.failure is None:
                with suppress(FileExistsError):
                    create_atomically(self.root / "failure.json", _serialized(failure))
        elif record.status not in ENDED:
            self.write_build(record.model_copy(update={"status": status, "failure": record.failure or failure}))
        # For those who open the file. It decides nothing: it is read and then written, while others do the same.
        said, decided = self._begun(), self.read_build()
        if decided is not None and decided.status in ENDED and decided != said:
            self.write_build(decided)

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
        """Claim an image that several steps may need, so that only this step stages it.

        Raises:
            FileExistsError: Another step has claimed it.
        """
        create_atomically(self.image(image) / "claimed", this_process().encode())

    def claimed_by(self, image: str) -> str:
        """The process that stages an image which several may have need of; see `builds.process`."""
        return read_whole(self.image(image) / "claimed").decode("utf-8", "replace")

    def read_staged(self, image: str) -> StagedImage | None:
        """`staged.json` of an image; None when this build has not staged it."""
        return _read(
            self.image(image) / "staged.json",
            StagedImage,
            lambda record: record.image == image and self._is_own_tag(record.reference, image),
        )

    def _is_own_tag(self, reference: str, image: str) -> bool:
        """Whether a reference is the staging tag of an image in this build."""
        tagged = Reference.parse(reference)
        family, _, name = image.partition("/")
        return (tagged.repository, split_staging_tag(tagged.tag)) == (family, (name, self.build))

    def write_staged(self, record: StagedImage) -> None:
        """Write `staged.json`."""
        _write(self.image(record.image) / "staged.json", record)

    def read_parent(self, image: str) -> BaseImage | None:
        """A parent that the build uses without making it, under the build's own tag; None if it is none."""
        return _read(
            self.image(image) / "parent.json", BaseImage, lambda record: self._is_own_tag(record.reference, image)
        )

    def write_parent(self, image: str, record: BaseImage) -> None:
        """Write `parent.json`."""
        _write(self.image(image) / "parent.json", record)

    def read_remote_work(self, image: str) -> str | None:
        """The name of the work elsewhere that builds an image, or did; None when there was none."""
        try:
            return read_whole(self.image(image) / "remote_work").decode("utf-8", "replace")
        except FileNotFoundError:
            return None

    def write_remote_work(self, image: str, work: str) -> None:
        """Record the remote work that builds an image, so that any process can cancel it."""
        write_atomically(self.image(image) / "remote_work", work.encode())

    def untagged(self, image: str) -> list[str]:
        """Digests that staging may hold without a tag: images of an index, and what is attached to an image."""
        folder = self.image(image) / "untagged"
        names = (path.name.replace("-", ":", 1) for path in folder.iterdir()) if folder.exists() else ()
        return sorted(filter(is_digest, names))

    def write_untagged(self, image: str, digest: str) -> None:
        """Record such a digest before it is pushed, or what leads to it is deleted: any process can remove it then."""
        write_atomically(self.image(image) / "untagged" / digest.replace(":", "-", 1), b"")

    def read_tested(self, image: str) -> TestedImage | None:
        """`tested.json` of an image; None when it has not passed in this build."""
        return _read(self.image(image) / "tested.json", TestedImage, lambda record: record.image == image)

    def write_tested(self, record: TestedImage) -> None:
        """Write `tested.json`."""
        _write(self.image(record.image) / "tested.json", record)

    def read_evidence(self, image: str) -> EvidenceRecord | None:
        """`evidence.json` of an image; None when nothing is attached to it."""
        return _read(self.image(image) / "evidence.json", EvidenceRecord, lambda record: record.image == image)

    def write_evidence(self, record: EvidenceRecord) -> None:
        """Write `evidence.json`."""
        _write(self.image(record.image) / "evidence.json", record)

    def read_components(self, image: str) -> InstalledComponents | None:
        """`components.json` of an image; None when its folder kept no lock."""
        return _read(self.image(image) / "components.json", InstalledComponents, lambda record: record.image == image)

    def write_components(self, record: InstalledComponents) -> None:
        """Write `components.json`."""
        _write(self.image(record.image) / "components.json", record)

    def write_log(self, image: str, name: str, text: str) -> UPath:
        """Keep a log of an image and return where it is."""
        path = below(self.image(image) / "logs", name)
        write_atomically(path, text.encode("utf-8", "replace"), durable=False)
        return path

    def read_logs(self, image: str) -> list[tuple[str, str]]:
        """The logs of an image that are kept, by name."""
        folder = self.image(image) / "logs"
        paths = sorted(folder.iterdir(), key=lambda path: path.name) if folder.exists() else ()
        return [(path.name, read_whole(path).decode("utf-8", "replace")) for path in paths if path.name[:1] != "."]

    def jobs(self) -> tuple[JobRecord, ...]:
        """Every remote job of the build, oldest first. Other files in the folder are ignored.

        Builds of earlier versions kept the files of a repository that has a folder `jobs` there.
        """
        folder = self.root / "jobs"
        records = []
        for path in folder.glob("*.json") if folder.exists() else ():
            with suppress(BadInput):
                records.append(
                    _read(path, JobRecord, lambda job, name=path.stem: (job.build, job.job) == (self.build, name))  # type: ignore[misc]
                )
        return tuple(sorted((r for r in records if r), key=lambda r: (r.submitted, r.job)))

    def write_job(self, record: JobRecord) -> None:
        """Record a job, in its own file and in `run_information.json`.

        The file per job is authoritative, because steps of a build write at the same time; the one file
        that people and the cleanup read is put together from them after each change.
        """
        _write(self.root / "jobs" / f"{record.job}.json", record)
        self.write_run_information()

    def write_run_information(self) -> None:
        """Put `run_information.json` together.

        Another step may have written its job and this file while ours was on its way, and ours would then lack
        that job. So it is put together again until there is no newer job: the last writer has seen all.
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
        uri: A folder, or the URI of a store in which of two that create a file at once one succeeds.
        options: Options of the file system behind the URI, by its own names.

    Raises:
        BadInput: It is another store, or names no container.
    """

    def __init__(self, uri: str, options: Mapping[str, Any] | None = None) -> None:
        protocol = uri.partition("://")[0] if "://" in uri else ""
        if protocol not in (*_ON_DISK, *_IN_ONE_PROCESS, *ATOMIC_STORES):
            raise BadInput(
                f"a {protocol}:// store lets two processes write one record",
                where=f"artifacts: {uri}",
                hint="Name a folder, or Azure Blob: az://CONTAINER/PREFIX (also abfs://, abfss://).",
            )
        if protocol in ATOMIC_STORES and not uri.partition("://")[2].strip("/"):
            raise BadInput(
                "no container is named", where=f"artifacts: {uri}", hint=f"Write {protocol}://CONTAINER/PREFIX."
            )
        self.root = UPath(uri, **(options or {}))
        self.of_no_pull_request: set[str] = set()
        """Builds whose record says so; of what a build is never changes, and 1,000 images are from a few builds."""
        self.known_made: dict[tuple[str, str, str], ContentKey] = {}
        """What builds were seen to have made: of a build, an image and a digest, the content key."""
        self._passed_folders: dict[bool, UPath] = {
            False: self.root / "passed",
            True: self.root / "passed_by_pull_requests",
        }

    @property
    def on_disk(self) -> bool:
        """Whether they are in a folder, which is read without a connection to a service."""
        return not _is_object(self.root)

    def build(self, build: str) -> BuildFolder:
        """The folder of a build, there or not."""
        return BuildFolder(self.root, build)

    def folders(self) -> list[BuildFolder]:
        """The folder of every build, whatever is in it."""
        paths = self.root.iterdir() if self.root.exists() else ()
        return [self.build(path.name) for path in paths if BUILD_NUMBER.fullmatch(path.name)]

    def unsettled(self) -> list[BuildFolder]:
        """The folder of every build that is not settled; of thousands the few."""
        folder = self.root / "settled"
        settled = {path.name for path in folder.iterdir()} if folder.exists() else set()
        return [folder for folder in self.folders() if folder.build not in settled]

    def settle(self, build: str) -> None:
        """Mark a build as settled: nothing has to be done with it any more."""
        write_atomically(self.root / "settled" / build, b"", durable=False)

    def unsettle(self, build: str) -> None:
        """Remove the mark that a build is settled."""
        (self.root / "settled" / build).unlink(missing_ok=True)

    def builds(self, unreadable: Callable[[BadInput], object] | None = None) -> list[tuple[BuildFolder, BuildRecord]]:
        """Every build that has started, newest first.

        Args:
            unreadable: Called with every record that cannot be read; its build is left out.

        Raises:
            BadInput: A record cannot be read, and `unreadable` is not given.
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
            Its name: the day, and sha256 of what it says. The same plan of a day is kept once.
        """
        name = f"{now.astimezone(UTC):%Y%m%d}.{_sha256(plan)}"
        _write(self.root / "plans" / f"{name}.json", plan)
        return name

    def read_plan(self, name: str, build: str = "") -> Plan | None:
        """A plan by its name; None when it was removed.

        Args:
            name: The name.
            build: The build that follows it, which has it in its own folder once it has started.

        Raises:
            BadInput: Its content does not match its name.
        """
        if not PLAN_NAME.fullmatch(name):
            return None
        kept = self.root / "plans" / f"{name}.json"
        for path in [*([self.root / build / "plan.json"] if build else []), kept]:
            plan = _read(path, Plan, lambda plan: name.endswith(f".{_sha256(plan)}"))
            if plan is not None:
                return plan
        return None

    def remove_plans(self, before: datetime) -> None:
        """Remove the plans that were made before a day, whether a run has followed them or not."""
        folder = self.root / "plans"
        for path in list(folder.iterdir()) if folder.exists() else ():
            name = path.name.removesuffix(".json")
            if PLAN_NAME.fullmatch(name) and name < f"{before.astimezone(UTC):%Y%m%d}":
                with suppress(OSError):  # one that cannot be removed keeps nothing else from being cleaned up
                    path.unlink(missing_ok=True)

    def read_passed(self, content_key: str, image: str, *, by_pull_requests: bool = False) -> PassedImage | None:
        """The image of this name that passed with this content key; None also if its record cannot be read.

        Args:
            content_key: The key. Images with the same content have the same.
            image: `<family>/<name>`.
            by_pull_requests: Whether builds of pull requests made it, or all others.
        """
        passed = _read_memory(self._passed(content_key, image, by_pull_requests))
        if passed is not None:
            return passed
        earlier = _read_memory(self._passed_earlier(content_key, by_pull_requests))
        return earlier if earlier is not None and earlier.staged.image == image else None

    def forget_passed(self, content_key: str, digest: str) -> None:
        """Remove the records of images that passed with this content key and have this digest."""
        for by_pull_requests in (False, True):
            records = (self._passed_folders[by_pull_requests] / content_key).glob("*/*.json")
            for path in (self._passed_earlier(content_key, by_pull_requests), *records):
                passed = _read_memory(path)
                if passed is not None and passed.staged.digest == digest:
                    path.unlink(missing_ok=True)

    @contextmanager
    def deletion(self, *digests: str) -> Iterator[None]:
        """Say that images are looked up and perhaps deleted in staging; another build may push them meanwhile.

        Args:
            digests: Of the images, and of indexes. Those of several images differ, because labels name the image.
        """
        marks = [below(self.root / "deletions", f"{digest}.{uuid.uuid4().hex}") for digest in digests]
        try:
            for mark in marks:
                write_atomically(mark, this_process().encode(), durable=False)
            yield
        finally:
            for mark in marks:
                mark.unlink(missing_ok=True)

    def is_being_deleted(self, *digests: str) -> bool:
        """Whether a process that may still run has said so of any of these (`deletion`)."""
        folder = self.root / "deletions"
        prefixes = tuple(f"{below(folder, digest).name}." for digest in digests)
        try:
            marks = list(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):  # object stores have no empty folders
            return False
        for mark in marks:
            if mark.name.startswith(prefixes):
                with suppress(FileNotFoundError):  # it is done
                    if not is_dead(read_whole(mark).decode("utf-8", "replace")):
                        return True
                    mark.unlink(missing_ok=True)
        return False

    def read_last_passed(self, image: str) -> PassedImage | None:
        """The last image of this name that passed, whatever it was made from."""
        return _read_memory(below(self.root / "last_passed", f"{image}.json"))

    def last_passed_at(self, image: str) -> datetime | None:
        """When an image of this name passed last, built or reused, by the clock of the store; None if none has."""
        try:
            return written_at(below(self.root / "last_passed", f"{image}.json"))
        except FileNotFoundError:
            return None

    def write_passed(self, record: PassedImage, *, by_pull_request: bool = False) -> None:
        """Record an image that may be reused.

        Args:
            record: The image.
            by_pull_request: Whether a build of a pull request made it, which no other build uses, or is compared with.
        """
        staged = record.staged
        _write(self._passed(staged.content_key.digest, staged.image, by_pull_request), record)
        if not by_pull_request:
            _write(below(self.root / "last_passed", f"{staged.image}.json"), record)

    def _passed(self, content_key: str, image: str, by_pull_requests: bool) -> UPath:
        return below(self._passed_folders[by_pull_requests], f"{content_key}/{image}.json")

    def _passed_earlier(self, content_key: str, by_pull_requests: bool) -> UPath:
        """The one record for all images with the same content, as earlier versions wrote it."""
        return self._passed_folders[by_pull_requests] / f"{content_key}.json"
