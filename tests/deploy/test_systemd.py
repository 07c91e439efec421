"""deploy/systemd: units that systemd accepts, with the same processes as deploy/compose."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
SERVICES = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text("utf-8"))["services"]
LONG_RUNNING = ("code", "daemon", "webserver", "webserver-read-only", "metrics")


@pytest.mark.services
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    assert shutil.which("systemd-analyze"), "scripts/test installs systemd"
    for unit in UNITS:
        text = unit.read_text("utf-8")
        for program in re.findall(r"^ExecStart=(\S+)", text, re.MULTILINE):
            stand_in = tmp_path / Path(program).relative_to("/")
            stand_in.parent.mkdir(parents=True, exist_ok=True)
            stand_in.write_text("#!/bin/sh\n")
            stand_in.chmod(0o755)
            text = text.replace(f"ExecStart={program}", f"ExecStart={stand_in}")
        (tmp_path / unit.name).write_text(text)
    units = [str(tmp_path / unit.name) for unit in UNITS]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "aml-images" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_service_runs_what_compose_runs(name: str) -> None:
    unit = (DEPLOY / "systemd" / f"aml-images-{name}.service").read_text("utf-8")
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    program, *arguments = shlex.split(command)
    wanted = [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", word) for word in SERVICES[name]["command"]]
    assert [Path(program).name, *arguments] == wanted


def test_every_service_is_restarted_and_confined() -> None:
    for unit in UNITS:
        text = unit.read_text("utf-8")
        if unit.suffix != ".service":
            continue
        for line in ("User=aml-images", "NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes"):
            assert f"\n{line}\n" in text, unit.name
        assert ("Restart=always" in text) is (unit.name != "aml-images-backup.service")
    with_engine = [unit.name for unit in UNITS if "SupplementaryGroups=docker" in unit.read_text("utf-8")]
    assert with_engine == ["aml-images-code.service"]


def test_the_target_starts_units_that_there_are() -> None:
    text = (DEPLOY / "systemd" / "aml-images.target").read_text("utf-8")
    wanted = {name for line in re.findall(r"^Wants=(.*)$", text, re.MULTILINE) for name in line.split()}
    assert wanted <= {unit.name for unit in UNITS}
    assert "aml-images-metrics.service" not in wanted, "metrics are off by default"
