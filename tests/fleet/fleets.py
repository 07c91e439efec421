"""Fleets as they may be: a small one that has one of each kind, and one of any size."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from aml_images_dagster.builds.compliance.patches import PatchStatus
from aml_images_dagster.fleet.fleet import BaseState, Fleet, FleetImage, LastBuild, Served
from aml_images_dagster.vulnerabilities.vulnerability import Vulnerability

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = datetime(2026, 11, 26, 10, 41, tzinfo=UTC)
WITHIN = 30


def served(days: int = 14, **fields: Any) -> Served:
    """What was built some days ago and released on the next day."""
    built = NOW - timedelta(days=days)
    usual: dict[str, Any] = {
        "digest": f"sha256:{days:064x}",
        "tag": f"{built:%Y%m%d}.v1",
        "build": f"{built:%Y%m%d}.4f2a9c1e",
        "since": built + timedelta(hours=min(20, 24 * days)),
        "built": built.date(),
        "sizes": (812_000_000, 815_500_000, 815_500_000, 831_000_000),
        "passed": 3,
        "signed_by": "CN=image factory,O=Contoso",
    }
    return Served(**usual | fields)


def vulnerability(package: str, days: int, identifier: str = "CVE-2026-10231") -> Vulnerability:
    """One whose fix is available since some days."""
    return Vulnerability(
        id=identifier,
        package=package,
        type="deb",
        installed="3.0.15-1~deb12u1",
        fixed_in="3.0.15-1~deb12u2",
        severity="high",
        source="updates",
        fixed_since=(NOW - timedelta(days=days)).date(),
        is_security_update=True,
    )


def patches(days: int | None = None, found: dict[Any, int] | None = None, **fields: Any) -> PatchStatus:
    """What the sources say of an image.

    Args:
        days: Since when the oldest missing fix is available; None for no missing fix.
        found: What was found, by severity.
        fields: What else is known.
    """
    left = None if days is None else WITHIN - days
    state = "patched" if left is None else "overdue" if left < 0 else "due soon" if left <= 10 else "missing"
    usual: dict[str, Any] = {
        "state": state,
        "missing": () if days is None else (vulnerability("openssl", days),),
        "days_left": left,
        "asked": NOW - timedelta(hours=4),
        "found": found or {},
    }
    return PatchStatus(**usual | fields)


def last_build(days: int = 0, status: str = "succeeded", **fields: Any) -> LastBuild:
    """A build that was started some days ago."""
    when = NOW - timedelta(days=days, hours=3)
    usual: dict[str, Any] = {
        "build": f"{when:%Y%m%d}.81b0c7d2",
        "status": status,
        "when": when,
        "why": "passed in build 20261112.4f2a9c1e; schedule nightly",
    }
    return LastBuild(**usual | fields)


def image(name: str, **fields: Any) -> FleetImage:
    """An image that is all right."""
    usual: dict[str, Any] = {
        "image": name,
        "repository": f"public/azureml/{name.partition('/')[2]}",
        "served": served(),
        "patches": patches(found={"medium": 4, "low": 31}),
        "looked": ("updates", "trivy"),
        "base": BaseState("current"),
        "last_build": last_build(),
        "owners": ("team:base-images",),
        "must_be_signed": True,
    }
    return FleetImage(**usual | fields)


def fleet(images: Iterable[FleetImage]) -> Fleet:
    """A fleet of images."""
    return Fleet.of(images, NOW, WITHIN)


def of_each_kind() -> list[FleetImage]:
    """Twelve images, each in another state."""
    base = "base docker.io/library/debian:12 is now sha256:5f9a1c0b7e2d, it was sha256:0d4b7a1e9c33"
    failure = "framework/pytorch-2.9: the scenario ddp-two-nodes failed: NCCL WARN Connect to 10.0.0.5<45123> failed"
    return [
        image(
            "base/openmpi4.1-debian12",
            served=served(47),
            patches=patches(36, {"critical": 1, "high": 3, "medium": 12, "low": 40}),
            last_build=last_build(2, why=f"{base}; upstream bases"),
        ),
        image(
            "framework/pytorch-2.9",
            served=served(21, sizes=(5_830_000_000, 5_870_000_000, 6_410_000_000, 6_120_000_000)),
            patches=patches(9, {"high": 2, "medium": 18}),
            last_build=last_build(0, "failed", why="modified: requirements.txt", failure=failure, failed_here=True),
            owners=("ada@contoso.com", "team:frameworks"),
        ),
        image(
            "base-gpu/openmpi5-cuda13-ubuntu24.04",
            served=served(26, sizes=(3_020_000_000, 3_110_000_000, 3_120_000_000), is_test_key=True),
            patches=patches(25, {"high": 1, "medium": 7, "low": 22}),
            base=BaseState("behind", "docker.io/nvidia/cuda:13.0-devel-ubuntu24.04"),
            eol=date(2027, 4, 30),
        ),
        image(
            "framework/tensorflow-2.21",
            served=served(1, sizes=(2_100_000_000, 2_140_000_000, 2_090_000_000)),
            patches=PatchStatus("unknown"),
            looked=(),
            last_build=last_build(1, why="modified: Dockerfile; command line"),
        ),
        image(
            "framework/scikit-learn",
            patches=patches(found={}, state="unknown", not_looked={"trivy": "there is no trivy on PATH"}),
            looked=("updates",),
            last_build=last_build(13, why="its base base/openmpi4.1-debian12 is rebuilt; upstream bases"),
            owners=("grace@contoso.com",),
        ),
        image("base/intelmpi2021-debian12", served=served(58), eol=date(2026, 12, 15), base=BaseState("pinned")),
        image("framework/lightgbm", patches=patches(), served=served(3, passed=0)),
        image("framework/onnxruntime", patches=patches(2, {"medium": 1}), owners=("grace@contoso.com",)),
        image("tools/shell", served=served(0, sizes=(4_200_000,)), patches=patches(), base=BaseState("none")),
        image("windows/servercore-ltsc2025", served=served(8, sizes=(2_630_000_000,)), base=BaseState("current")),
        image("framework/jax", served=None, patches=PatchStatus("unknown"), looked=(), last_build=last_build(1)),
        image("base/minimal-debian12", patches=patches(found={"low": 3})),
    ]


def of_size(number: int) -> list[FleetImage]:
    """A fleet of any size, the same each time; most of it is all right."""
    random = Random(number)
    families = ("base", "base-gpu", "framework", "inference", "tools", "windows")
    stems = ("openmpi4.1-debian12", "pytorch-2.9", "cuda13-ubuntu24.04", "scikit-learn", "tensorflow-2.21", "triton")
    owners = ("team:base-images", "ada@contoso.com", "grace@contoso.com", "team:frameworks")
    images = []
    for index in range(number):
        size = random.randint(80, 9000) * 1_000_000
        sizes = tuple(int(size * random.uniform(0.96, 1.05)) for _ in range(random.randint(1, 12)))
        late = random.choices(
            (None, random.randint(0, 19), random.randint(20, 29), random.randint(31, 60)), (70, 24, 4, 2)
        )[0]
        found = {
            "critical": int(late is not None and random.random() < 0.2),
            "high": random.choice((0, 0, 0, 1, 3)) if late is not None else 0,
            "medium": random.randint(0, 18),
            "low": random.randint(0, 60),
        }
        failed, behind = random.random() < 0.01, random.random() < 0.02
        images.append(
            image(
                f"{random.choice(families)}/{random.choice(stems)}-{index:04}",
                served=served(random.randint(1, 60), sizes=sizes, passed=random.randint(0, 5)),
                patches=patches(late, found) if random.random() < 0.98 else PatchStatus("unknown"),
                base=BaseState("behind", "docker.io/library/debian:12") if behind else BaseState("current"),
                last_build=last_build(random.randint(0, 9), "failed" if failed else "succeeded", failed_here=failed),
                owners=(random.choice(owners),),
                eol=date(2027, 1 + index % 12, 28) if index % 4 == 0 else None,
            )
        )
    return images
