"""Windows bases and the hosts that they need."""

from __future__ import annotations

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.catalog.windows import check_host, host_build, is_windows
from aml_images_dagster.errors import BadInput


@pytest.mark.parametrize(
    ("base", "build"),
    [
        ("mcr.microsoft.com/windows/servercore:ltsc2019", "10.0.17763"),
        ("mcr.microsoft.com/windows/servercore:1809", "10.0.17763"),
        ("mcr.microsoft.com/windows/nanoserver:ltsc2022", "10.0.20348"),
        ("mcr.microsoft.com/windows/server:ltsc2025", "10.0.26100"),
        ("mcr.microsoft.com/windows/servercore:ltsc2022-KB5030216", "10.0.20348"),
        ("mcr.microsoft.com/windows/servercore:10.0.20348.1970-amd64", "10.0.20348"),
        ("mcr.microsoft.com/windows:1909", "10.0.18363"),
        ("mcr.microsoft.com/dotnet/framework/runtime:3.5-windowsservercore-ltsc2019", "10.0.17763"),
        ("mcr.microsoft.com/dotnet/framework/sdk:4.8.1", None),
        ("python:3.11-windowsservercore-ltsc2022", "10.0.20348"),
        ("mcr.microsoft.com/powershell:lts-nanoserver-1809", "10.0.17763"),
        ("mcr.microsoft.com/windows/servercore:ltsc2099", None),
        ("mcr.microsoft.com/windows/servercore", None),
    ],
)
def test_windows_bases(base, build):
    reference = Reference.parse(base)
    assert is_windows(reference)
    assert host_build(reference) == build


@pytest.mark.parametrize(
    "base", ["debian:12", "mcr.microsoft.com/azureml/base:1809", "windows/x:ltsc2019", "a:windows"]
)
def test_other_bases(base):
    assert not is_windows(Reference.parse(base))


@pytest.fixture
def windows_image(git_repository):
    git_repository.image("base-windows/x", "FROM mcr.microsoft.com/windows/servercore:ltsc2019\n")
    return git_repository.catalog().get("x")


def test_the_host_must_have_the_same_build(windows_image):
    check_host(windows_image, "10.0.17763.6054")
    for other in ("10.0.20348.2031", "10.0.1776", "10.0.177630.1", "", "17763"):
        with pytest.raises(BadInput, match=r"needs a Windows host of build 10\.0\.17763 \(ltsc2019 or 1809\)"):
            check_host(windows_image, other)


def test_a_base_that_tells_nothing(git_repository):
    git_repository.image("base-windows/x", "FROM mcr.microsoft.com/windows/servercore:new\n")
    with pytest.raises(BadInput, match="it is not known which Windows"):
        check_host(git_repository.catalog().get("x"), "10.0.17763.6054")
