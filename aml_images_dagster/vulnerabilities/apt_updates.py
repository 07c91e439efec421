"""Security updates of Debian and Ubuntu that an image lacks, asked of apt from outside of the image.

Nothing of the image is run and nothing of this machine is changed: apt gets folders of its own. Its suites are those of
the distribution with its security updates, not those in the image, which may lack them. Fixes are known by their
changelogs, with CVE identifiers and days; vulnerabilities that nobody has fixed yet are not known to this source.
Versions are compared by apt and dpkg themselves.

Sources: https://manpages.debian.org/apt-cache (policy), https://wiki.debian.org/SourcesList.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from itertools import islice, takewhile
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from aml_images_dagster.errors import Unreachable
from aml_images_dagster.vulnerabilities.changelog import read_changelog
from aml_images_dagster.vulnerabilities.vulnerability import Scan, Vulnerability

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from aml_images_dagster.trust.packages import Package

SOURCE = "updates"
_ETC = Path("/etc/apt")
_FRESH_SECONDS = 6 * 3600
_TIMEOUT_SECONDS = 600
_LONGEST_CHANGELOG = 16 * 2**20
_MOST_ENTRIES = 200
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~:_-]{0,254}")
_PORTS = "ubuntu-ports"
"""Where Ubuntu has the architectures that are not in its main archive."""
_APT_URI = re.compile(r"https?://[^\s\"\]]*/(debian-security|debian|ubuntu-ports|ubuntu)/?(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Distribution:
    """What an image's os-release says.

    Attributes:
        id: debian or ubuntu.
        codename: Such as bookworm.
        architecture: As the distribution names it: amd64, arm64.
    """

    id: str
    codename: str
    architecture: str = "amd64"


@dataclass(frozen=True, slots=True)
class _Archive:
    keyring: str
    package_of_keyring: str
    suites: Mapping[str, tuple[str, ...]]
    mirrors: Mapping[str, str]
    components: str


_ARCHIVES = {
    "debian": _Archive(
        "debian-archive-keyring.gpg",
        "debian-archive-keyring",
        {"debian": ("{}", "{}-updates"), "debian-security": ("{}-security",)},
        {"debian": "http://deb.debian.org/debian", "debian-security": "http://deb.debian.org/debian-security"},
        "main",
    ),
    "ubuntu": _Archive(
        "ubuntu-archive-keyring.gpg",
        "ubuntu-keyring",
        {"ubuntu": ("{}", "{}-updates", "{}-security")},
        {"ubuntu": "http://archive.ubuntu.com/ubuntu", _PORTS: "http://ports.ubuntu.com/ubuntu-ports"},
        "main restricted universe multiverse",
    ),
}


@dataclass(frozen=True, slots=True)
class _Update:
    package: Package
    version: str
    is_security: bool


@dataclass(frozen=True, slots=True)
class _Fix:
    identifier: str
    version: str
    day: date | None


class AptUpdates:
    """Asks apt.

    Args:
        folder: Keeps apt's lists and what changelogs say.
        mirrors: Where to fetch from, by archive: debian, debian-security, ubuntu, ubuntu-ports; the mirrors of this
            machine's apt, else the public ones, for those that are not named.
        keyring: What has signed what they serve; None for the keyring of the distribution.
    """

    def __init__(self, folder: Path, mirrors: Mapping[str, str], keyring: Path | None = None) -> None:
        self._folder = folder
        self._keyring = keyring
        self._mirrors = {**_mirrors_of_this_machine(), **mirrors}

    def scan(self, distribution: Distribution | None, packages: Iterable[Package]) -> Scan:
        """Which updates an image lacks.

        Returns:
            What was found. A scan that has not looked, with the reason, where apt does not know: an image of another
            distribution, no apt on this machine, or no answer of a mirror.
        """
        archive = _ARCHIVES.get(distribution.id) if distribution else None
        if distribution is None or archive is None:
            name = distribution.id if distribution else "an image without os-release"
            return Scan(SOURCE, None, f"it knows Debian and Ubuntu, not {name}")
        if not all(map(_WORD.fullmatch, (distribution.codename, distribution.architecture))):
            return Scan(SOURCE, None, "os-release names no version of the distribution")
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            return Scan(SOURCE, None, "this machine has no apt")
        keyring = self._keyring or Path("/usr/share/keyrings") / archive.keyring
        if not keyring.exists():
            hint = f"apt-get install {archive.package_of_keyring}" if self._keyring is None else f"no file {keyring}"
            return Scan(SOURCE, None, f"the keys of the archive are missing: {hint}")
        try:
            found = self._found(distribution, archive, keyring, tuple(packages))
        except Unreachable as error:
            return Scan(SOURCE, None, error.what, failed=True)
        return Scan(SOURCE, found, "it knows fixes that the distribution has published, and no others")

    def _found(
        self, distribution: Distribution, archive: _Archive, keyring: Path, packages: Sequence[Package]
    ) -> tuple[Vulnerability, ...]:
        folder = self._folder / f"{distribution.id}-{distribution.codename}-{distribution.architecture}"
        folder.mkdir(parents=True, exist_ok=True)
        with _exclusively(folder):
            apt = _Apt(folder, distribution)
            apt.write_sources(self._sources(distribution, archive, keyring))
            apt.refresh()
            updates = apt.updates(packages)
            by_source: dict[tuple[str, str], list[_Update]] = defaultdict(list)
            for update in updates:
                if update.is_security:
                    by_source[_source(update.package), _source_version(update.package)].append(update)
            return tuple(
                vulnerability
                for several in by_source.values()
                for vulnerability in _vulnerabilities(several, apt.fixes(several))
            )

    def _sources(self, distribution: Distribution, archive: _Archive, keyring: Path) -> str:
        in_ports = distribution.id == "ubuntu" and distribution.architecture not in ("amd64", "i386")
        mirrors = {name: _PORTS if in_ports else name for name in archive.suites}
        return "".join(
            f"deb [signed-by={keyring}] {self._mirrors.get(mirrors[name]) or archive.mirrors[mirrors[name]]} "
            f"{suite.format(distribution.codename)} {archive.components}\n"
            for name, suites in archive.suites.items()
            for suite in suites
        )


class _Apt:
    """apt with folders of its own.

    Args:
        folder: Keeps what belongs to this release of a distribution, for one architecture.
        distribution: That release.
    """

    def __init__(self, folder: Path, distribution: Distribution) -> None:
        self._folder = folder
        self._codename = distribution.codename
        self._sources = folder / "sources.list"
        self._status = folder / "status"
        for name in ("lists/partial", "cache/archives/partial", "changelogs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        options = {
            "APT::Architecture": distribution.architecture,
            "APT::Architectures::": distribution.architecture,
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::SourceList": self._sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State": folder,
            "Dir::State::Lists": folder / "lists",
            "Dir::State::Status": self._status,
        }
        self._options = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]

    def write_sources(self, sources: str) -> None:
        """Say where to fetch from; lists of another place are not fresh."""
        if not self._sources.exists() or self._sources.read_text() != sources:
            self._stamp.unlink(missing_ok=True)
            self._sources.write_text(sources)

    def refresh(self) -> None:
        """Fetch the lists of packages, unless they are fresh.

        Raises:
            Unreachable: A mirror does not answer, or what it serves is not signed as it has to be.
        """
        if self._stamp.exists() and time.time() - self._stamp.stat().st_mtime < _FRESH_SECONDS:
            return
        self._status.write_text("")
        self._run("apt-get", "update", "-o", "APT::Update::Error-Mode=any")
        self._stamp.touch()

    @property
    def _stamp(self) -> Path:
        return self._folder / "fresh"

    def updates(self, packages: Sequence[Package]) -> list[_Update]:
        """Packages of which a newer version is offered."""
        known = {
            each.name: each
            for each in packages
            if each.type == "deb" and _WORD.fullmatch(each.name) and _WORD.fullmatch(each.version)
        }
        self._status.write_text("".join(map(_stanza, known.values())))
        if not known:
            return []
        found = []
        for name, versions in _policy(self._run("apt-cache", "policy", *sorted(known))):
            if installed := known.get(name.partition(":")[0]):
                newer = _before(versions, installed.version)
                if newer:
                    is_security = any(version.is_security for version in newer)
                    found.append(_Update(installed, newer[0].version, is_security))
        return found

    def fixes(self, updates: Sequence[_Update]) -> list[_Fix]:
        """What the changelog of one source package says of the versions after the installed one."""
        update = updates[0]
        kept = self._folder / "changelogs" / f"{_source(update.package)}_{update.version}.json"
        if kept.exists():
            entries = json.loads(kept.read_text())
        else:
            entries = self._changelog(updates)
            partial = kept.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(entries))
            partial.replace(kept)
        return _fixes(entries, _source_version(update.package), self._codename)

    def _changelog(self, updates: Sequence[_Update]) -> list[dict[str, str]]:
        """The changelog of the first package that brings one: some have a link to that of another package."""
        for update in updates:
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                self._run("apt-get", "download", f"{update.package.name}={update.version}", cwd=folder)
                for archive in Path(folder).glob("*.deb"):
                    if entries := _entries_of(archive):
                        return entries
        return []

    def _run(self, program: str, *arguments: str, cwd: str | None = None) -> str:
        environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        try:
            done = subprocess.run(
                [program, *self._options, *arguments],
                cwd=cwd or self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unreachable(f"{program} did not end within {_TIMEOUT_SECONDS // 60} minutes") from None
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))] or [done.stderr.strip()]
            raise Unreachable(f"{program} failed: {said[0]}")
        return done.stdout


@dataclass(frozen=True, slots=True)
class _KnownVersion:
    version: str
    is_security: bool


def _policy(text: str) -> Iterator[tuple[str, list[_KnownVersion]]]:
    """The versions that `apt-cache policy` knows of each package, the newest first: offered or installed."""
    name, versions, places = "", [], []  # type: tuple[str, list[tuple[str, list[str]]], list[str]]
    for line in [*text.splitlines(), "end:"]:
        if not line.startswith(" "):
            if name:
                yield name, [_KnownVersion(v, any("-security/" in place for place in p)) for v, p in versions]
            name, versions = line.removesuffix(":"), []
        elif start := re.match(r"(?: \*\*\*|    ) (\S+) -?\d+$", line):
            places = []
            versions.append((start[1], places))
        elif (place := re.match(r" {8,}-?\d+ (.*)$", line)) and versions and "/status" not in place[1]:
            places.append(place[1])


def _before(versions: Iterable[_KnownVersion], installed: str) -> list[_KnownVersion]:
    """The versions in front of the installed one. apt may know that one twice: as it is offered, and as it is."""
    return list(takewhile(lambda version: version.version != installed, versions))


def _is_newer(one: str, other: str) -> bool:
    command = ["dpkg", "--compare-versions", one, "gt", other]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _source(package: Package) -> str:
    return package.source or package.name


def _source_version(package: Package) -> str:
    """The version that changelogs have; that of a package may have another epoch."""
    return package.source_version or _without_rebuild(package.version)


def _without_rebuild(version: str) -> str:
    """A version without the number of a rebuild from the same source (`+b1`)."""
    return re.sub(r"\+b\d+$", "", version)


def _stanza(package: Package) -> str:
    return (
        f"Package: {package.name}\nStatus: install ok installed\nVersion: {package.version}\n"
        f"Architecture: {package.architecture or 'all'}\nMaintainer: -\nDescription: -\n\n"
    )


def _vulnerabilities(updates: Sequence[_Update], fixes: Sequence[_Fix]) -> Iterator[Vulnerability]:
    """One for each package and fix; the update itself where its changelog names no CVE."""
    for update in updates:
        package = update.package
        for fix in fixes or [_Fix("", update.version, None)]:
            yield Vulnerability(
                id=fix.identifier or f"{_source(package)} {fix.version}",
                package=package.name,
                type="deb",
                installed=package.version,
                fixed_in=fix.version,
                severity="unknown",
                source=SOURCE,
                fixed_since=fix.day,
                is_security_update=True,
                title=f"security update of {_source(package)}",
            )


def _entries_of(archive: Path) -> list[dict[str, str]]:
    """The entries of the changelog in a package: version, day and CVE identifiers, the newest first."""
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", archive],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            content = _changelog_in(cast("IO[bytes]", process.stdout))
        finally:
            process.kill()
    return _entries(content) if content else []


def _changelog_in(stream: IO[bytes]) -> bytes:
    with tarfile.open(fileobj=stream, mode="r|") as files:
        for member in files:
            if re.fullmatch(r"\./usr/share/doc/[^/]+/changelog(\.Debian)?\.gz", member.name) and member.isreg():
                packed = files.extractfile(member)
                with gzip.open(cast("IO[bytes]", packed)) as unpacked:
                    content = unpacked.read(_LONGEST_CHANGELOG)
                if b"; urgency=" in content[:10_000]:  # upstream's own changelog has the same name
                    return content
    return b""


def _entries(content: bytes) -> list[dict[str, str]]:
    entries = islice(read_changelog(content.decode("utf-8", "replace")), _MOST_ENTRIES)
    return [
        {
            "version": entry.version,
            "suite": " ".join(entry.suites),
            "day": entry.day.isoformat() if entry.day else "",
            "fixes": " ".join(entry.cves),
        }
        for entry in entries
    ]


def _fixes(entries: Sequence[Mapping[str, str]], installed: str, codename: str) -> list[_Fix]:
    """What was fixed after a version, by CVE; the newest version where no entry names one.

    An entry of another release of the distribution became available with the next one of this release.
    """
    fixes: dict[str, _Fix] = {}
    available = None
    for entry in takewhile(lambda entry: _is_newer(entry["version"], installed), entries):
        if available is None or entry["suite"].startswith(codename):
            available = entry
        for identifier in entry["fixes"].split():
            fixes[identifier] = _Fix(identifier, available["version"], _date(available["day"]))
    if not fixes and available is not None:
        return [_Fix("", entries[0]["version"], _date(entries[0]["day"]))]
    return list(fixes.values())


def _date(day: str) -> date | None:
    return date.fromisoformat(day) if day else None


def _mirrors_of_this_machine() -> dict[str, str]:
    """The first mirror of each archive that this machine's apt names."""
    found: dict[str, str] = {}
    parts = _ETC / "sources.list.d"
    for path in (_ETC / "sources.list", *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))):
        with suppress(OSError):
            for line in path.read_text(errors="replace").splitlines():
                if not line.lstrip().startswith("#") and (uri := _APT_URI.search(line)):
                    found.setdefault(uri[1], uri[0].rstrip("/"))
    return found


@contextmanager
def _exclusively(folder: Path) -> Iterator[None]:
    """Apt's folders are for one process at a time."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
