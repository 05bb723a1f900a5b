"""What the documentation shows of Kubernetes and systemd is what these two accept."""

import re
import shutil
import subprocess
from datetime import timedelta
from inspect import signature
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from turnwise.scheduler import Scheduler

DOCS = Path(__file__).parents[1] / "docs"
MANIFEST = DOCS / "examples" / "kubernetes.yaml"
UNIT = DOCS / "examples" / "turnwise.service"


def test_the_manifest_is_one_that_kubernetes_takes() -> None:
    manifest = yaml.safe_load(MANIFEST.read_text())
    assert kubernetes_validate.validate(manifest, "1.30", strict=True) == "1.30"


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    manifest = yaml.safe_load(MANIFEST.read_text())
    manifest["spec"]["template"]["spec"]["terminationGrace"] = 45
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, "1.30", strict=True)


def test_the_container_of_a_command_is_one_that_kubernetes_takes() -> None:
    page = (DOCS / "kubernetes.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    manifest = yaml.safe_load(MANIFEST.read_text())
    manifest["spec"]["template"]["spec"]["containers"] = yaml.safe_load(block)["containers"]
    assert kubernetes_validate.validate(manifest, "1.30", strict=True) == "1.30"


def test_kubernetes_waits_for_longer_than_the_grace_of_a_scheduler() -> None:
    manifest = yaml.safe_load(MANIFEST.read_text())
    pod = manifest["spec"]["template"]["spec"]
    grace = signature(Scheduler).parameters["grace"].default
    assert timedelta(seconds=pod["terminationGracePeriodSeconds"]) >= 2 * grace


def test_the_unit_is_one_that_systemd_takes() -> None:
    verifier = shutil.which("systemd-analyze")
    if verifier is None:
        pytest.skip("this machine has no systemd-analyze")
    said = subprocess.run([verifier, "verify", UNIT], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


def test_systemd_waits_for_longer_than_the_grace_of_the_command() -> None:
    unit = UNIT.read_text()
    (grace,) = re.findall(r"--grace (\d+)s", unit)
    (patience,) = re.findall(r"TimeoutStopSec=(\d+)", unit)
    assert int(patience) > int(grace)
