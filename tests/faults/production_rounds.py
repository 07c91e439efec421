"""Releases, rollbacks, withdrawals and cleanups of real processes at once, killed at random; seen from outside.

Run by hand: `python -m tests.faults.production_rounds --store local --rounds 50 --seed 7`, or `--store blob`. It needs
nothing but `docker-registry` and an engine that answers.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import uuid
from collections import Counter, defaultdict
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self
from unittest import mock

from aml_images_dagster.builds.artifacts import write_atomically
from aml_images_dagster.builds.ledger import LATEST, Ledger
from aml_images_dagster.builds.records import AttachedArtifact
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.identity.credential import shared_credential
from aml_images_dagster.registry.interface import Manifest
from aml_images_dagster.registry.oci import OciRegistry, read_manifest
from aml_images_dagster.release.drop import release_bytes
from aml_images_dagster.release.release_json import ReleaseImage, ReleaseJson, StagedReference
from aml_images_dagster.trust.referrers import Descriptor, attach, walk
from aml_images_dagster.trust.signing import EvidenceSigner, trust_of
from aml_images_dagster.trust.verification import verify_image
from tests.emulators.azure.blob_storage import BlobStorage
from tests.emulators.azure.cloud import EmulatedCloud
from tests.faults.own_registry import OwnRegistry
from tests.faults.production_actors import open_factory
from tests.image_repository import ImageRepository
from tests.records import build_record
from tests.trust.samples import SBOM, statements

if TYPE_CHECKING:
    from aml_images_dagster.builds.ledger import ReleaseRecord

ROOT = Path(__file__).parents[2]
NAMES = ("shell", "other", "third")
PATIENCE_SECONDS = 120.0
LONGEST_LIFE_SECONDS = 0.6
LONGEST_WAIT_SECONDS = 10.0
"""For a first record."""


class Arena(ExitStack):
    """Two registries, an artifacts store, and who changes production.

    Args:
        store: `local` or `blob`.

    Attributes:
        builds: Every build that was made, oldest first.
        tested: Name in production → the digests that it may stand for.
    """

    def __init__(self, store: str) -> None:
        super().__init__()
        self._store = store
        self.builds: list[ReleaseJson] = []
        self.tested: dict[str, set[str]] = defaultdict(set)
        self.processes: dict[int, Path] = {}

    def __enter__(self) -> Self:
        self.enter_context(mock.patch.dict(os.environ))
        folder = Path(self.enter_context(tempfile.TemporaryDirectory(prefix="production-")))
        registries = [self.enter_context(OwnRegistry(folder / name)) for name in ("staging", "production")]
        self.staging, self.production = (OciRegistry(registry.host) for registry in registries)
        self.repository = ImageRepository.create(folder / "repository", *(registry.host for registry in registries))
        for name in [name for name in os.environ if name.startswith(("AML_IMAGES_", "AZURE_", "IDENTITY_", "MSI_"))]:
            del os.environ[name]
        os.environ["AML_IMAGES_RELEASE__WAIT_MINUTES"] = "0.7"
        if self._store == "blob":
            cloud = self.enter_context(EmulatedCloud(folder))
            account = cloud.start(BlobStorage(cloud))
            account.create("factory")
            own = {name: value for name, value in cloud.environment.items() if not name.startswith("AML_IMAGES_")}
            os.environ.update(own)
            # aiohttp reads SSL_CERT_FILE when it is imported, which may have been long ago.
            trusting = ssl.create_default_context()
            self.enter_context(mock.patch("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting))
            shared_credential.cache_clear()
            self.callback(shared_credential.cache_clear)
            os.environ["AML_IMAGES_AZURE__STORAGE_ACCOUNT"] = account.host
            os.environ["AML_IMAGES_ARTIFACTS"] = "az://factory/artifacts"
        self.folder = folder
        self._driver = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.production_actors", str(self.repository.root)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.callback(self._end)
        self.settings, backends = open_factory(self.repository.root)
        self.artifacts = backends.artifacts
        self.ledger = Ledger(self.artifacts)
        self._signer = EvidenceSigner.of(self.settings)
        self._trust = trust_of(self.settings)
        return self

    def _end(self) -> None:
        for pid in self.processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self._driver.stdin is not None
        self._driver.stdin.close()
        self._driver.wait(PATIENCE_SECONDS)

    def start(self, what: str, who: str, *arguments: str) -> int:
        """Begin something; the process that does it."""
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        out = self.folder / f"said-{who}"
        self._driver.stdin.write(json.dumps([what, who, str(out), *arguments]) + "\n")
        self._driver.stdin.flush()
        pid = int(self._driver.stdout.readline())
        self.processes[pid] = out
        return pid

    def wait(self, pid: int, seconds: float = PATIENCE_SECONDS) -> int | None:
        """The exit code of a process; None when it was killed."""
        deadline = time.monotonic() + seconds
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline, f"{self.said(pid)} does not end"
            time.sleep(0.02)
        with suppress(FileNotFoundError):
            return int(Path(f"{self.processes[pid]}.code").read_text())
        return None

    def said(self, pid: int) -> str:
        out = self.processes[pid]
        return f"{out.name.removeprefix('said-')}: {out.read_text() if out.exists() else ''}"

    def do(self, what: str, who: str, *arguments: str) -> tuple[int | None, str]:
        """The same, undisturbed."""
        pid = self.start(what, who, *arguments)
        return self.wait(pid), self.said(pid)

    def build(self, chance: random.Random) -> ReleaseJson:
        """A complete build of some images, some of them as in an earlier build."""
        number, created = len(self.builds) + 1, datetime.now(UTC)
        build = f"{created:%Y%m%d}.{uuid.uuid4().hex[:8]}"
        tag = f"{created:%Y%m%d}.v{number}"
        family = self.repository.families["tools"]
        images = []
        for name in NAMES[: chance.choice((2, 3))]:
            earlier = [i.staging.digest for b in self.builds for i in b.images if i.name == name]
            manifest = push(self.staging, family, f"{name}--{build}")
            if earlier and chance.random() < 0.15 and (old := self._existing(family, chance.choice(earlier))):
                self.staging.put_manifest(family, f"{name}--{build}", old)
                manifest = old
            production = self.settings.production_names.format(family=family, name=name)
            self.tested[f"{production}:{LATEST}"].add(manifest.digest)
            images.append(
                ReleaseImage(
                    name=name,
                    family=family,
                    os="linux",
                    reasons=(),
                    staging=StagedReference(
                        reference=f"{self.staging.host}/{family}:{name}--{build}", digest=manifest.digest
                    ),
                    evidence=self._evidence(Reference(self.staging.host, family, digest=manifest.digest)),
                    destinations=(f"{production}:{tag}", f"{production}:{LATEST}"),
                    content_key="c",
                    bases=(),
                    tests=(),
                    size_bytes=1,
                )
            )
        release = ReleaseJson(
            build=build, commit="c" * 40, source="x", created=created, release_tag=tag, images=tuple(images)
        )
        names = tuple(f"{family}/{image.name}" for image in images)
        record = build_record(
            build, status="succeeded", created=created, release_tag=tag, images=names, commit="c" * 40
        )
        folder = self.artifacts.build(build)
        folder.create_build(record)
        write_atomically(folder.root / "release.json", release_bytes(release))
        self.builds.append(release)
        return release

    def _evidence(self, image: Reference) -> tuple[AttachedArtifact, ...]:
        """What is attached to an image, once it has some."""
        if not any(walk(self.staging, image)):
            target = Descriptor.of(self.staging.existing(image))
            attach(self.staging, image, self._signer.evidence(target, [SBOM], statements(image.digest)))
        return tuple(
            AttachedArtifact(kind=each.artifact_type, digest=each.digest, subject=each.subject)
            for each in walk(self.staging, image)
        )

    def lacks(self, name: str, digest: str) -> str:
        """What production lacks of an image and its evidence; empty if nothing."""
        image = Reference(self.production.host, name.rpartition(":")[0], digest=digest)
        document = read_manifest(self.production.existing(image))
        blobs = (document["config"], *document["layers"])
        missing = [each["digest"] for each in blobs if not self.production.has_blob(image.repository, each["digest"])]
        verified = verify_image(self.production, image, self._trust, self.settings.trust.required, datetime.now(UTC))
        wrong = [f"{check.name}: {check.found}" for check in verified.failed]
        return "; ".join([*missing, *wrong])

    def _existing(self, family: str, digest: str) -> Manifest | None:
        return self.staging.manifest(Reference(self.staging.host, family, digest=digest))

    def served(self, name: str) -> str | None:
        repository, _, tag = name.rpartition(":")
        return self.production.digest(Reference(self.production.host, repository, tag))


def push(registry: OciRegistry, repository: str, tag: str) -> Manifest:
    """An image of one layer that nobody else has."""
    layer = io.BytesIO()
    with gzip.GzipFile(fileobj=layer, mode="wb") as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        content = os.urandom(100_000)
        member = tarfile.TarInfo("file")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    config = json.dumps({"os": "linux", "architecture": "amd64", "comment": str(uuid.uuid4())}).encode()
    described = []
    for body, kind in ((config, "container.image.v1+json"), (layer.getvalue(), "image.rootfs.diff.tar.gzip")):
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        registry.upload_blob(repository, digest, body)
        described.append({"mediaType": f"application/vnd.docker.{kind}", "digest": digest, "size": len(body)})
    media_type = "application/vnd.docker.distribution.manifest.v2+json"
    document = {"schemaVersion": 2, "mediaType": media_type, "config": described[0], "layers": [described[1]]}
    content = json.dumps(document).encode()
    manifest = Manifest(f"sha256:{hashlib.sha256(content).hexdigest()}", media_type, content)
    registry.put_manifest(repository, tag, manifest)
    return manifest


class Witness:
    """Sees from outside what every `:latest` stands for, one after the other, and whether it has all its evidence."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.seen: dict[str, list[str | None]] = defaultdict(list)
        self.looks = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.03):
            for name, tested in list(self._arena.tested.items()):
                try:
                    served = self._arena.served(name)
                except FactoryError:  # this registry refuses to read a tag at the moment in which it is written
                    continue
                if served != (self.seen[name] or [None])[-1]:
                    self.seen[name].append(served)
                    if served not in tested:
                        self.wrong.append(f"{name} was {served}, which nobody has tested")
                    elif served and (lacks := self._arena.lacks(name, served)):
                        self.wrong.append(f"{name} was {served}, which lacks {lacks}")
            self.looks += 1


class Judge:
    """What must hold once everybody is dead or done, from the ledger, production and what the witness saw."""

    def __init__(self, arena: Arena, witness: Witness) -> None:
        self._arena = arena
        self._witness = witness
        self._tags: dict[str, str] = {}
        self._checked: dict[str, int] = defaultdict(int)
        self.phases: Counter[str] = Counter()

    def look(self) -> list[str]:
        """What is wrong now."""
        records = self._arena.ledger.records()
        wrong = [f"record {r.number} is the {n}th" for n, r in enumerate(records, 1) if r.number != n]
        withdrawn = {c.name for r in records if r.action == "withdrawal" for c in r.changes}
        digests = self._digests(records)
        for name, digest in digests.items():
            served = self._arena.served(name)
            if served not in (None, digest) or (served is None and name in self._tags and name not in withdrawn):
                wrong.append(f"release tag {name} is {served}, and was {digest}")
            if served is not None:
                self._tags[name] = served
        for record in records:
            for change in record.changes if record.done and record.action == "release" else ():
                if change.tag != LATEST and change.name not in withdrawn and change.name not in self._tags:
                    wrong.append(f"record {record.number} says that {change.name} is there")
        for name in self._arena.tested:
            wrong += self._look_at(name, records, withdrawn, digests)
        return wrong

    def _digests(self, records: tuple[ReleaseRecord, ...]) -> dict[str, str]:
        released = {r.build for r in records if r.action == "release"}
        return {
            image.destinations[0]: image.staging.digest
            for build in self._arena.builds
            if build.build in released
            for image in build.images
        }

    def _look_at(
        self, name: str, records: tuple[ReleaseRecord, ...], withdrawn: set[str], digests: dict[str, str]
    ) -> list[str]:
        served = self._arena.served(name)
        repository = name.rpartition(":")[0]
        tags = [tag for tag, digest in digests.items() if digest == served and tag.rpartition(":")[0] == repository]
        wrong = [f"{name} is {served}, which is withdrawn" for tag in tags if tag in withdrawn]
        if served is not None and not any(self._arena.served(tag) == served for tag in tags):
            wrong.append(f"{name} is {served}, which has no release tag")
        if served is not None and (lacks := self._arena.lacks(name, served)):
            wrong.append(f"{name} is {served}, which lacks {lacks}")
        created: dict[str | None, datetime] = {}
        for build in self._arena.builds:
            for image in build.images:
                if image.destinations[1] == name:
                    created[image.staging.digest] = build.created
        back = {c.after for r in records if r.action == "rollback" for c in r.changes if c.name == name}
        seen = self._witness.seen[name]
        for before, after in zip(seen[self._checked[name] :], seen[self._checked[name] + 1 :], strict=False):
            if before is not None and created[after] < created[before] and after not in back:
                wrong.append(f"{name} went back from {before} to {after}, and nobody wanted that")
        self._checked[name] = max(0, len(seen) - 1)
        return wrong

    def count_kill(self, what: str, who: str) -> None:
        """In which phase somebody was killed."""
        ours = [r for r in self._arena.ledger.records() if r.who == who]
        begun = next((r for r in ours if not r.done), None)
        if what == "sweep":
            phase = "while it cleaned up"
        elif any(r.done for r in ours):
            phase = "after its last record"
        elif begun is None:
            phase = "before its first record"
        else:
            moved = [c.after == self._arena.served(c.name) for c in begun.changes if c.tag == LATEST]
            phase = "between" if any(moved) and not all(moved) else "after" if moved and all(moved) else "before"
            phase = f"in the middle, {phase} :latest" if moved else "in the middle"
        self.phases[f"{what} {phase}"] += 1


def play(arena: Arena, witness: Witness, judge: Judge, number: int, chance: random.Random) -> list[str]:
    """One round: several at once, some of them killed; then one undisturbed after the other."""
    family = arena.repository.families["tools"]
    for _ in range(2 if number == 1 else 1):
        arena.build(chance)
    late = arena.builds[-4:]
    image = f"{family}/{chance.choice(NAMES[:2])}"
    old = chance.choice(arena.builds)
    acts: list[tuple[str, tuple[str, ...]]] = [
        ("release", (late[-1].build,)),
        ("release", (chance.choice(late).build,)),
        ("rollback", (image, chance.choice(("", "", old.release_tag)))),
        ("sweep", ((old.created + timedelta(days=arena.settings.keep_staged_days, seconds=0.001)).isoformat(),)),
    ]
    if chance.random() < 0.3:
        acts.append(("withdraw", (image, old.release_tag)))
    chance.shuffle(acts)
    running = []
    for index, (what, arguments) in enumerate(acts):
        who = f"{number}-{index}-{what}"
        running.append((what, who, arena.start(what, who, *arguments)))
        time.sleep(chance.uniform(0, 0.06))
    kill(arena, judge, [one for one in running if chance.random() < 0.75], chance)
    wrong = []
    for _, _, pid in running:
        if arena.wait(pid) == 99:
            wrong.append(arena.said(pid))
    wrong += judge.look()
    return [f"round {number}: {what}" for what in wrong + still_works(arena, judge, number, chance)]


def kill(arena: Arena, judge: Judge, victims: list[tuple[str, str, int]], chance: random.Random) -> None:
    """Kill each at some time: half of them counted from their start, half from their first record."""
    begun = time.monotonic()
    at = {pid: begun + chance.uniform(0.05, LONGEST_LIFE_SECONDS) for _, _, pid in victims}
    once_begun = {who: chance.uniform(0, 0.06) for what, who, _ in victims if what != "sweep" and chance.random() < 0.5}
    end = dict.fromkeys(once_begun, begun + LONGEST_WAIT_SECONDS)
    alive = victims
    while alive:
        recorded = {record.who for record in arena.ledger.records()} if once_begun else set()
        for who in once_begun.keys() & recorded:
            end[who] = time.monotonic() + once_begun.pop(who)
        for what, who, pid in alive:
            if time.monotonic() >= end.get(who, at[pid]) and not Path(f"{arena.processes[pid]}.code").exists():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    arena.wait(pid)
                    judge.count_kill(what, who)
        alive = [one for one in alive if Path(f"/proc/{one[2]}").exists()]
        time.sleep(0.01)


def still_works(arena: Arena, judge: Judge, number: int, chance: random.Random) -> list[str]:
    """A new build is released, whatever has happened, and is taken back to what was served before."""
    build = arena.build(chance)
    before = {image.destinations[1]: arena.served(image.destinations[1]) for image in build.images}
    withdrawn = {c.name: c.image for r in arena.ledger.records() if r.action == "withdrawal" for c in r.changes}
    gone = {i.staging.digest for b in arena.builds for i in b.images if i.destinations[0] in withdrawn}
    begun = time.monotonic()
    code, said = arena.do("release", f"{number}-last", build.build)
    if any(image.staging.digest in gone for image in build.images):
        return [] if code == 2 else [f"released what was withdrawn: {said}"]
    if code != 0:
        return [f"a new build cannot be released: {said}"]
    if time.monotonic() - begun > PATIENCE_SECONDS / 4:
        return [f"a release waited for the dead for {time.monotonic() - begun:.0f} s"]
    wrong = [
        f"{name} is not {image.staging.digest}"
        for image in build.images
        for name in image.destinations
        if arena.served(name) != image.staging.digest
    ]
    image = chance.choice(build.images)
    name = image.destinations[1]
    code, said = arena.do("rollback", f"{number}-back", f"{image.family}/{image.name}", "")
    if before[name] not in (None, image.staging.digest, *gone) and (code != 0 or arena.served(name) != before[name]):
        wrong.append(f"{name} was {before[name]}, and goes back to {arena.served(name)}: {said}")
    return wrong + judge.look()


def rounds(store: str, count: int, seed: int, report: bool = True) -> tuple[list[str], str]:
    """Play; what is wrong, and the figures."""
    chance = random.Random(seed)
    begun = time.monotonic()
    with Arena(store) as arena, Witness(arena) as witness:
        judge = Judge(arena, witness)
        wrong: list[str] = []
        for number in range(1, count + 1):
            found = play(arena, witness, judge, number, chance)
            wrong += found
            if report:
                print(f"{store} {number}/{count}: {'; '.join(found) or 'well'}", flush=True)
        records = arena.ledger.records()
        wrong += witness.wrong
        moves = sum(map(len, witness.seen.values()))
    kills = ", ".join(f"{phase} {n}" for phase, n in sorted(judge.phases.items()))
    figures = (
        f"{store}: {count} rounds with seed {seed} in {time.monotonic() - begun:.0f} s, {len(records)} records, "
        f"{moves} moves of :latest seen in {witness.looks} looks, {judge.phases.total()} killed ({kills}); "
        f"wrong: {len(wrong)}"
    )
    return wrong, figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("local", "blob"), default="local")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    wrong, figures = rounds(options.store, options.rounds, options.seed)
    print("\n".join([figures, *wrong]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
