"""`metrics`: what a scrape of the running command gets."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import requests
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    import subprocess

    from tests.image_repository import ImageRepository


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def scrape(port: int, process: subprocess.Popen[str]) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
        except requests.RequestException:
            time.sleep(0.2)
    raise AssertionError(process.communicate(timeout=10))


def test_a_scrape_gets_metrics_of_both_sources(repository: ImageRepository) -> None:
    port = free_port()
    process = repository.start("metrics", "--listen", f"127.0.0.1:{port}")
    try:
        families = {family.name: family for family in text_string_to_metric_families(scrape(port, process))}
        states = {s.labels["source"]: s.value for s in families["aml_images_metrics_refresh_failed"].samples}
        assert states == {"artifacts": 0, "dagster": 0}
        assert [s.value for s in families["aml_images_builds_not_clean"].samples] == [0]
        assert {s.labels["state"] for s in families["aml_images_builds_now"].samples} == {"queued", "running"}
        taken = repository.start("metrics", "--listen", f"127.0.0.1:{port}")
        _, message = taken.communicate(timeout=120)
        assert taken.returncode == 2
        assert "the address cannot be had" in message
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_a_file_is_written_once(repository: ImageRepository) -> None:
    file = repository.root / "aml_images.prom"
    process = repository.start("metrics", "--textfile", str(file))
    assert process.communicate(timeout=120) == ("", "")
    families = {family.name for family in text_string_to_metric_families(file.read_text())}
    assert {"aml_images_builds_not_clean", "aml_images_daemon_healthy"} <= families


def test_misuse_is_one_message(repository: ImageRepository) -> None:
    for arguments, said in (
        ((), "aml-images: metrics: give --listen or --textfile"),
        (("--listen", "127.0.0.1:1", "--textfile", "x"), "give --listen or --textfile"),
        (("--listen", "9464"), "is no address"),
        (("--listen", "127.0.0.1:99999"), "is no address"),
        (("--listen", "1:2:3"), "is no address"),
        (("--textfile", "nowhere/x.prom"), "--textfile nowhere: there is no such folder"),
    ):
        done = repository.run("metrics", *arguments)
        assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
