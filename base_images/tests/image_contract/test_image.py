"""What every Linux image promises to those who run jobs in it. Runs inside a container of the image."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

STANDARD_FOLDERS = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}


@pytest.mark.parametrize("name", ["LICENSE.txt", "ThirdPartyNotices.txt"])
def test_legal_texts_are_at_the_root(name: str) -> None:
    """Licence and notices travel with the image."""
    text = (Path("/") / name).read_text(encoding="utf-8")
    assert text.strip(), f"/{name} is empty"


def test_it_starts_as_root() -> None:
    """Jobs install packages and start sshd."""
    assert os.geteuid() == 0, f"the image starts as user {os.geteuid()}"


def test_python_and_python3_are_the_same() -> None:
    """It does not matter which of the two names a job uses."""
    python, python3 = shutil.which("python"), shutil.which("python3")
    assert python, "python is not on the PATH"
    assert python3, "python3 is not on the PATH"
    versions = {
        subprocess.run(
            [program, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True
        ).stdout
        for program in (python, python3)
    }
    assert len(versions) == 1, f"{python} and {python3} are different: {versions}"


def test_pip_installs_into_this_python() -> None:
    """`pip` on the PATH is that of `python` on the PATH."""
    assert shutil.which("pip"), f"pip is not on the PATH {os.environ['PATH']}"
    said = {
        subprocess.run([*pip, "--version"], capture_output=True, text=True, check=True).stdout
        for pip in (["pip"], ["python", "-m", "pip"])
    }
    assert len(said) == 1, f"pip and python -m pip are different: {said}"


def test_python_is_supported() -> None:
    """Python is a version that still gets security fixes."""
    assert sys.version_info >= (3, 10), f"Python {sys.version} gets no fixes any more"


def test_packages_fit_together() -> None:
    """Every requirement of every installed package is met."""
    # The tests' own packages are on PYTHONPATH, and pip would judge them too.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        ["python", "-m", "pip", "check"], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stdout or result.stderr


@pytest.mark.parametrize("tool", ["bash", "ssh", "ssh-keygen", "mpirun"])
def test_tool_is_on_the_path(tool: str) -> None:
    """What Azure ML needs to start jobs, MPI jobs included."""
    assert shutil.which(tool), f"{tool} is not on the PATH {os.environ['PATH']}"


def test_sshd_accepts_a_configuration(tmp_path: Path) -> None:
    """MPI jobs reach the nodes through sshd: it is there and would start."""
    sshd = shutil.which("sshd")
    assert sshd, "sshd is not on the PATH"
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    result = subprocess.run([sshd, "-t", "-h", key], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_no_ssh_keys_in_the_image() -> None:
    """A key that ships with an image is known to everybody."""
    keys = [*Path("/etc/ssh").glob("ssh_host_*"), *(Path.home() / ".ssh").glob("id_*")]
    assert keys == []


def test_path_is_unsurprising() -> None:
    """PATH has the standard folders and no relative ones."""
    folders = os.environ["PATH"].split(":")
    assert all(folder.startswith("/") for folder in folders), "PATH has an empty or a relative entry"
    missing = STANDARD_FOLDERS - set(folders)
    assert not missing, f"PATH lacks {missing}"


def test_a_login_shell_finds_the_same_python() -> None:
    """What a job finds, somebody who looks into its container by `bash -l` finds as well."""
    found = subprocess.run(["bash", "-lc", "command -v python"], capture_output=True, text=True, check=True).stdout
    # What the shell's profile prints comes before.
    assert found.splitlines()[-1] == shutil.which("python")


def test_nobody_else_may_write_to_folders_of_the_path() -> None:
    """Nobody but the owner can place a program on the PATH."""
    open_folders = [
        folder
        for folder in os.environ["PATH"].split(":")
        if Path(folder).is_dir() and Path(folder).stat().st_mode & 0o002
    ]
    assert open_folders == []


def test_certificates_are_there() -> None:
    """Python can check the certificates of servers."""
    assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 0, "Python finds no CA certificates"


def test_text_is_utf_8() -> None:
    """File names are UTF-8."""
    assert sys.getfilesystemencoding() == "utf-8"
