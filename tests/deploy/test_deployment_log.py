"""Files about deployments, which are kept for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatling.deploy import deployment_log
from gatling.deploy.evidence.prober import Proof, Sample
from gatling.platform.embedded.home import EmbeddedPaths

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_requests_of_the_prober_are_kept_beside_the_output(tmp_path: Path) -> None:
    paths = EmbeddedPaths(tmp_path, "shop")
    paths.logs.mkdir(parents=True)
    samples = (Sample(0.0, 1.5, failed=False), Sample(11.5, 30.0, failed=True),
               Sample(12.0, 80.0, failed=False, held=True))  # fmt: skip
    deployment_log.keep_samples(paths, 7, Proof(2, 1, 30.0, samples=samples))
    assert deployment_log.samples_of(paths, 7) == list(samples)
    paths.deployment_probe(7).write_text("[[0.0, 1.5, false]]")  # of an older version
    assert deployment_log.samples_of(paths, 7) == [samples[0]]
    deployment_log.keep_samples(paths, 8, Proof(0, 0, 0.0))
    deployment_log.keep_samples(paths, 9, None)
    paths.deployment_probe(10).write_text("[[1")
    for ident in (8, 9, 10):
        assert deployment_log.samples_of(paths, ident) == []


def test_the_files_of_the_last_deployments_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment_log, "KEPT", 2)
    paths = EmbeddedPaths(tmp_path, "shop")
    paths.logs.mkdir(parents=True)
    for ident in (8, 9, 10):
        paths.deployment_log(ident).touch()
        paths.deployment_probe(ident).touch()
    other = paths.logs / "job-report.log"
    other.touch()
    deployment_log.remove_old(paths)
    kept = {file.name for file in paths.logs.iterdir()}
    assert kept == {"deployment-9.log", "deployment-9.probe", "deployment-10.log",
                    "deployment-10.probe", "job-report.log"}  # fmt: skip
