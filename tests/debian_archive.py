"""An archive of Debian packages on loopback, signed with a key of its own: a test decides which updates there are."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import tempfile
from datetime import UTC, date, datetime
from email.utils import format_datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.emulators.served import Served

SUITES = {"debian": ("bookworm", "bookworm-updates"), "debian-security": ("bookworm-security",)}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class DebianArchive(Served):
    """Debian 12 with the packages of a test; a context manager that serves it.

    Args:
        folder: Keeps its files and its key.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder / "archive"
        self.keyring = folder / "keyring.gpg"
        self._changelogs: dict[str, list[str]] = {}

    def __enter__(self) -> Self:
        self.keyring.parent.mkdir(parents=True, exist_ok=True)
        self._gpg_home = Path(tempfile.mkdtemp(prefix="gpg-"))  # the path of a socket has to be short
        self._gpg("--passphrase", "", "--quick-generate-key", "archive@example.com", "ed25519", "sign")
        self._gpg("--export", "--output", self.keyring)
        for archive, suites in SUITES.items():
            for suite in suites:
                self._index(archive, suite)
        handler = partial(_Quiet, directory=str(self._root))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        subprocess.run(["gpgconf", "--homedir", self._gpg_home, "--kill", "all"], check=True, timeout=60)
        shutil.rmtree(self._gpg_home)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def mirrors(self) -> dict[str, str]:
        """As the setting `vulnerabilities.apt_mirrors` has them."""
        return {archive: f"{self.url}/{archive}" for archive in SUITES}

    @property
    def sources(self) -> str:
        """Lines of sources.list for all of it, for images, which do not have its key."""
        return "".join(
            f"deb [trusted=yes] {self.url}/{archive} {suite} main\n"
            for archive, suites in SUITES.items()
            for suite in suites
        )

    def publish(
        self, package: str, version: str, change: str, day: date, *, security: bool = False, epoch: str = ""
    ) -> None:
        """Publish a version, as a security update or as part of the release.

        Args:
            package: Its name.
            version: Newer than those before.
            change: What its changelog says.
            day: The day of that.
            security: Whether it goes into the security archive.
            epoch: What the package's version has in front of that of its source.
        """
        archive, suite = ("debian-security", "bookworm-security") if security else ("debian", "bookworm")
        moment = format_datetime(datetime(day.year, day.month, day.day, 12, tzinfo=UTC))
        entry = f"{package} ({version}) {suite}; urgency=high\n\n  * {change}\n\n -- A <a@example.com>  {moment}\n\n"
        self._changelogs.setdefault(package, []).insert(0, entry)
        tree = self._root.parent / "tree" / f"{package}_{version}"
        documents = tree / "usr/share/doc" / package
        documents.mkdir(parents=True)
        (documents / "changelog.Debian.gz").write_bytes(gzip.compress("".join(self._changelogs[package]).encode()))
        (tree / "DEBIAN").mkdir()
        (tree / "DEBIAN" / "control").write_text(
            f"Package: {package}\nVersion: {epoch}{version}\nArchitecture: amd64\nMaintainer: A <a@example.com>\n"
            "Description: a package of a test\n"
        )
        pool = self._root / archive / "pool"
        pool.mkdir(exist_ok=True)
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, pool], check=True, capture_output=True)
        self._index(archive, suite)

    def _index(self, archive: str, suite: str) -> None:
        """Write and sign the lists of a suite, which has all packages of its archive."""
        root = self._root / archive
        stanzas = []
        for deb in sorted((root / "pool").glob("*.deb")):
            control = subprocess.run(["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True).stdout
            content = deb.read_bytes()
            stanzas.append(f"{control}Filename: pool/{deb.name}\nSize: {len(content)}\nSHA256: {_sha256(content)}\n")
        packages = "\n".join(stanzas).encode()
        folder = root / "dists" / suite
        (folder / "main/binary-amd64").mkdir(parents=True, exist_ok=True)
        (folder / "main/binary-amd64/Packages").write_bytes(packages)
        (folder / "Release").write_text(
            f"Origin: Debian\nLabel: Debian\nSuite: {suite}\nCodename: {suite}\nArchitectures: amd64\n"
            f"Components: main\nDate: {format_datetime(datetime.now(UTC)).replace('+0000', 'UTC')}\n"
            f"SHA256:\n {_sha256(packages)} {len(packages)} main/binary-amd64/Packages\n"
        )
        self._gpg("--clearsign", "--output", folder / "InRelease", folder / "Release")

    def _gpg(self, *arguments: str | Path) -> None:
        command = ["gpg", "--homedir", self._gpg_home, "--batch", "--yes", "--pinentry-mode", "loopback", *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
