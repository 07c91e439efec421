"""The Dagster UI on a small repository of images, and a page of a real browser on it."""

import hashlib
import os
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

from aml_images_dagster.catalog.reference import Reference
from tests.browser.dagster_ui import DagsterUi
from tests.image_repository import ImageRepository

# Chromium's own sandbox refuses root, which is what a container runs as.
CHROMIUM_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
PATIENCE_MS = 60_000


def _empty(registry, repositories):
    for repository in repositories:
        for tag in registry.tags(repository):
            registry.delete(Reference(registry.host, repository, tag))


@pytest.fixture(scope="module")
def repository(request, tmp_path_factory, staging, production):
    """Three images: tools/shell, apps/hello FROM it, apps/other beside them; and apps/old, past its end of life."""
    # The same in every run, because registries list a repository for ever.
    unique = hashlib.sha256(f"{request.config.rootpath} {request.node.nodeid}".encode()).hexdigest()[:8]
    root = tmp_path_factory.mktemp("ui") / "repository"
    repository = ImageRepository.create(root, staging.host, production.host, f"-{unique}")
    old = root / "images" / repository.families["apps"] / "old"
    repository.write(old / "Dockerfile", "FROM busybox:latest\n")
    repository.write(old / "image.json", '{"eol": "2026-01-01"}\n')
    repository.commit("an image past its end of life")
    released = [f"public-{unique}/{name}" for name in ("shell", "hello", "other")]
    _empty(staging, repository.families.values())
    _empty(production, released)
    yield repository
    _empty(staging, repository.families.values())
    _empty(production, released)


@pytest.fixture(scope="module")
def ui(repository, tmp_path_factory):
    with DagsterUi(repository.root, tmp_path_factory.mktemp("ui") / "dagster") as ui:
        yield ui


@pytest.fixture(scope="module")  # its event loop would be in the way of tests after it
def chromium():
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if executable is None:
        pytest.fail("this test needs a browser: install chromium, or name one in CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, ui, tmp_path):  # tmp_path is for the picture of a failure
    context = chromium.new_context(base_url=ui.url, viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    yield context.new_page()
    context.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure says what the browser showed."""
    report = yield
    page = item.funcargs.get("page")
    if call.when == "call" and report.failed and page is not None:
        picture = item.funcargs["tmp_path"] / "page.png"
        page.screenshot(path=picture)
        log = item.funcargs["ui"].log
        report.sections.append(("Browser", f"page: {page.url}\nscreenshot: {picture}\nlog of dagster dev: {log}"))
    return report
