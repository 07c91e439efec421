"""What a person does in the Dagster UI: find an image, see its chain, click on Materialize, read what came of it."""

import json
import re

import pytest
from playwright.sync_api import expect

from aml_images_dagster.catalog.reference import Reference
from tests.browser.dagster_ui import LOCATION

pytestmark = [pytest.mark.engine, pytest.mark.browser]

STAGES = ("staged", "tested", "release_config", "import_cfg")
CHECKS = ("digest", "platform", "size", "notices")
MATERIALIZED = """query ($key: [String!]!) { assetOrError(assetKey: {path: $key}) { ... on Asset {
    assetMaterializations(limit: 1) { runId metadataEntries { label
        ... on TextMetadataEntry { value: text } ... on UrlMetadataEntry { value: url } } } } } }"""


LOGGED = """query ($id: ID!) { runOrError(runId: $id) { ... on Run { eventConnection(limit: 1000) {
    events { ... on MessageEvent { message } } } } } }"""


def group(repository, family):
    """Group of a family: its name with what Dagster's names allow."""
    return repository.families[family].replace("-", "_")


def lineage(repository, family):
    return f"/locations/{LOCATION}/asset-groups/{group(repository, family)}/lineage"


def button(page, text):
    return page.get_by_role("button").filter(has_text=re.compile(f"^{text}$"))


def follow_launched_run(page):
    """Follow the message that a run was launched to the run's page."""
    expect(page.get_by_text("Launched run")).to_be_visible()
    page.get_by_role("link", name="View", exact=True).click()


def finished_run(page, ui):
    """On a run's page, wait for the run's success; its id and what the UI knows of it."""
    page.wait_for_url("**/runs/*")
    run_id = page.url.rpartition("/")[2]
    run = ui.finished_run(run_id)
    assert run["status"] == "SUCCESS", run["errors"]
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    return run_id, run


def latest_materialization(ui, image, stage):
    """The latest materialization of one stage of an image; None when there was none."""
    family, name = image.split("/")
    asset = ui.graphql(MATERIALIZED, key=[family, f"{name}.{stage}"])["assetOrError"]
    return next(iter(asset.get("assetMaterializations", ())), None)


def materialized(ui, image, stage):
    """Run and metadata (texts and addresses) of that."""
    latest = latest_materialization(ui, image, stage)
    return latest["runId"], {entry["label"]: entry.get("value") for entry in latest["metadataEntries"]}


def test_families_are_groups(page, repository):
    page.goto("/asset-groups")
    for family in repository.families:
        expect(page.get_by_text(group(repository, family), exact=True).first).to_be_visible()
    expect(page.get_by_text("release", exact=True).first).to_be_visible()


def test_lineage_shows_the_chain_of_an_image_from_left_to_right(page, repository):
    page.goto(lineage(repository, "tools"))
    nodes = [page.get_by_text(f"shell.{stage}", exact=True).first for stage in STAGES]
    for node in nodes:
        expect(node).to_be_visible()
    lefts = [node.bounding_box()["x"] for node in nodes]
    assert lefts == sorted(set(lefts))
    # What follows in other groups is linked: the image FROM this one, and the files of the build.
    for dependent in ("hello.staged", "release.json", "import.cfg"):
        expect(page.get_by_text(dependent, exact=True).first).to_be_visible()


def test_materialize_one_image(page, ui, repository, staging):
    image = repository.image("apps/other")
    page.goto(f"/assets/{image}.staged")
    button(page, "Materialize").click()
    follow_launched_run(page)
    run_id, run = finished_run(page, ui)
    assert [asset["path"] for asset in run["assetSelection"]] == [f"{image}.staged".split("/")]

    built_by, metadata = materialized(ui, image, "staged")
    assert built_by == run_id
    reference = Reference.parse(metadata["reference"])
    assert reference.tag.endswith(run_id[:8])
    assert metadata["digest"].endswith(staging.digest(reference))

    page.goto(f"/assets/{image}.staged")
    for value in (metadata["reference"], metadata["digest"], metadata["commit"], metadata["content_key"]):
        expect(page.get_by_text(value, exact=True).first).to_be_visible()
    expect(page.get_by_text("COPY python /bin/python")).to_be_visible()

    page.goto(f"/assets/{image}.staged?view=checks")
    for check in CHECKS:
        expect(page.get_by_text(check, exact=True).first).to_be_visible()
    expect(page.get_by_text("Succeeded", exact=True)).to_have_count(len(CHECKS))


def test_materialize_the_whole_chain_of_a_family(page, ui, repository):
    image = repository.image("tools/shell")
    page.goto(lineage(repository, "tools"))
    button(page, "Materialize all").click()
    follow_launched_run(page)
    run_id, run = finished_run(page, ui)
    assert {step["status"] for step in run["stepStats"]} == {"SUCCESS"}
    assert {materialized(ui, image, stage)[0] for stage in STAGES} == {run_id}

    page.goto(lineage(repository, "tools"))
    expect(page.get_by_text("Materialized", exact=True)).to_have_count(len(STAGES))
    expect(page.get_by_text(f"{len(CHECKS)} / {len(CHECKS)} Passed")).to_be_visible()
    page.goto(f"/assets/{image}.tested")
    expect(page.get_by_text("runs", exact=True).first).to_be_visible()
    expect(page.get_by_text("passed", exact=True).first).to_be_visible()
    page.goto(f"/assets/{image}.tested?view=checks")
    expect(page.get_by_text("runs", exact=True).first).to_be_visible()
    expect(page.get_by_text("Succeeded", exact=True)).to_have_count(1)


def test_materialize_all_leaves_out_what_is_past_its_end_of_life_and_releases_nothing(page, ui, repository):
    """Every asset that the lineage shows, also those in production and the cleanup."""
    old = repository.image("apps/other").replace("/other", "/old")
    page.goto("/asset-groups")
    button(page, r"Materialize all \(\d+\)").click()
    follow_launched_run(page)
    run_id, run = finished_run(page, ui)
    assert f"{old}.staged".split("/") in [asset["path"] for asset in run["assetSelection"]]
    events = ui.graphql(LOGGED, id=run_id)["runOrError"]["eventConnection"]["events"]  # a page has what is in sight
    logged = "\n".join(event["message"] for event in events)
    assert f"{old} is left out: it is past its end of life (2026-01-01)" in logged
    assert "nothing is released: this run is a build" in logged
    (folder,) = [path for path in repository.artifacts.iterdir() if path.name.endswith(run_id[:8])]
    assert len(json.loads((folder / "release.json").read_text())["images"]) == 3
    assert latest_materialization(ui, old, "staged") is None


def open_launchpad_of_build(page):
    """Two clicks from the page of all jobs."""
    page.goto("/jobs")
    page.locator('a[href$="/jobs/build"]').first.click()
    page.get_by_role("tab").filter(has_text="Launchpad").click()
    expect(page.get_by_text("No errors")).to_be_visible()


def launch_build(page, ui):
    """Launch what stands in the launchpad, and follow the link to the run of the build; its id, once it succeeds."""
    button(page, "Launch Run").click()
    finished_run(page, ui)
    link = page.locator('a[href^="/runs/"]').filter(has_text=re.compile("^[0-9a-f]{8}-[0-9a-f-]{27}$")).first
    run_id = link.inner_text()
    link.click()
    page.wait_for_url(f"**/runs/{run_id}")
    finished_run(page, ui)
    return run_id


def test_launchpad_shows_one_block_of_options(page):
    open_launchpad_of_build(page)
    editor = page.locator(".CodeMirror-code").first
    for field in (
        "images",
        "all_images",
        "base",
        "head",
        "dry_run",
        "force",
        "keep_failed",
        "release_num",
        "release_tag",
    ):
        expect(editor).to_contain_text(f"{field}:")
    written = editor.inner_text()
    assert written.count("config:") == 1
    assert "resources:" not in written
    expect(button(page, "Launch Run")).to_be_enabled()


def test_a_release_number_given_in_the_launchpad_reaches_the_release(page, ui, repository):
    open_launchpad_of_build(page)
    page.locator(".CodeMirror-line").filter(has_text="release_num:").locator(".cm-number").dblclick()
    page.keyboard.type("7")
    expect(page.get_by_text("No errors")).to_be_visible()
    run_id = launch_build(page, ui)

    (folder,) = [path for path in repository.artifacts.iterdir() if path.name.endswith(run_id[:8])]
    release = json.loads((folder / "release.json").read_text())
    assert release["release_tag"].endswith(".v7")
    assert len(release["images"]) == 3
    page.goto("/assets/release/drop")
    expect(page.get_by_text(release["release_tag"], exact=True).first).to_be_visible()
    expect(page.get_by_text("SHA256SUMS", exact=True).first).to_be_visible()


def test_the_page_of_runs_shows_images_and_trigger_and_no_process(page, ui, repository):
    open_launchpad_of_build(page)
    launch_build(page, ui)
    page.goto("/runs")
    for shown in ("aml-images/images: 3 images", "aml-images/trigger: Dagster UI"):
        expect(page.get_by_text(shown, exact=True).first).to_be_visible()
    assert "/process" not in page.locator("body").inner_text()


def test_a_build_is_released_from_click_to_released(page, ui, repository, production):
    """By the job `build` and the links of what it made: a dry run, the release, the launchpad of a rollback."""
    image = repository.image("tools/shell")
    open_launchpad_of_build(page)
    launch_build(page, ui)

    editor = page.locator(".CodeMirror-code").first
    page.goto("/assets/release/release.json")
    page.get_by_role("link", name="Dry run").click()
    expect(editor).to_contain_text("dry_run: true")
    button(page, "Launch Run").click()
    finished_run(page, ui)
    latest = Reference(production.host, f"public{repository.families['tools'].removeprefix('tools')}/shell", "latest")
    assert production.digest(latest) is None

    page.goto(f"/assets/{image}.released?view=events")
    page.get_by_role("link", name="Release", exact=True).click()
    expect(editor).to_contain_text("outside_window:")
    button(page, "Launch Run").click()
    finished_run(page, ui)
    assert production.digest(latest) is not None

    page.goto(f"/assets/{image}.released")
    page.get_by_role("link", name="Roll back").click()
    expect(editor).to_contain_text(f"image: {image}")
    expect(page.get_by_text("No errors")).to_be_visible()
