"""Records as builds and releases write them: a test names only what it is about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aml_images_dagster.builds.ledger import Ledger, ReleaseRecord, TagChange
from aml_images_dagster.builds.records import BuildRecord, ScenarioRecord, StagedImage
from aml_images_dagster.catalog.content_key import ContentKey

if TYPE_CHECKING:
    from aml_images_dagster.builds.artifacts import Artifacts

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEY = ContentKey(dockerfile="0", files={}, build_args={}, platform="linux/amd64", bases={})
DIGEST = f"sha256:{'1' * 64}"


def build_record(build: str, **fields: Any) -> BuildRecord:
    """A build that runs."""
    usual = {
        "run_id": "aaaaaaaa",
        "status": "running",
        "commit": "abc",
        "source": "https://git.example/images",
        "created": NOW,
        "release_tag": "20261123.v1",
        "images": (),
    }
    return BuildRecord.model_validate({"build": build, **usual, **fields})


def staged_image(image: str, build: str, **fields: Any) -> StagedImage:
    """An image that a build has staged, and built itself."""
    family, _, name = image.partition("/")
    usual = {
        "reference": f"staging.example/{family}:{name}--{build}",
        "digest": DIGEST,
        "os": "linux",
        "architecture": "amd64",
        "size_bytes": 1,
        "layers": 1,
        "seconds": 1,
        "reasons": (),
        "content_key": KEY,
        "bases": (),
        "built_in": build,
        "dockerfile": "",
        "notices": {},
    }
    return StagedImage.model_validate({"image": image, **usual, **fields})


def passed_scenario(scenario: str, tested_in: str, **fields: Any) -> ScenarioRecord:
    """A scenario that has passed."""
    usual = {"key": "k", "job": "j", "status": "passed", "seconds": 1, "reason": "", "url": ""}
    return ScenarioRecord.model_validate({"scenario": scenario, "tested_in": tested_in, **usual, **fields})


def begun_release(build: str, **fields: Any) -> ReleaseRecord:
    """A release that has begun, as it goes into the ledger."""
    usual = {
        "number": 0,
        "action": "release",
        "begun": None,
        "who": "somebody",
        "when": NOW,
        "commit": "abc",
        "built": NOW,
        "release_tag": "20261123.v1",
        "changes": (),
    }
    return ReleaseRecord.model_validate({"build": build, **usual, **fields})


def write_withdrawal(artifacts: Artifacts, image: str, digest: str, *, repository: str = "", tag: str = "v1") -> None:
    """Write into the ledger that an image was released under a tag, and withdrawn. Its `:latest` never moved."""
    ledger, place = Ledger(artifacts), repository or f"public/{image}"
    released = TagChange(image=image, repository=place, tag=tag, before=None, after=digest)
    release = ledger.append(begun_release("20261122.cccccccc", release_tag=tag, changes=(released,)))
    ledger.complete(release, "somebody")
    gone = released.model_copy(update={"before": digest, "after": None})
    ledger.complete(ledger.begin("withdrawal", release, (gone,), "somebody", "a hole"), "somebody")
