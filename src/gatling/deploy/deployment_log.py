"""The output of deployments: followed while they are under way elsewhere, and kept for a while."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import msgspec

from gatling import decoding, files
from gatling.state import deployments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gatling.deploy.evidence.prober import Proof, Sample
    from gatling.paths import AppPaths
    from gatling.platform.open import Gatling
    from gatling.state.deployments import Deployment

POLL_SECONDS = 0.2
KEPT = 200
"""Deployments of an app whose output is kept."""
_NAME = re.compile(r"deployment-([1-9][0-9]*)\.(?:log|probe)\Z", re.ASCII)


def follow(gatling: Gatling, app: str, ident: int, write: Callable[[str], None]) -> Deployment:
    """Hand on a deployment's output, what it has printed before as well, until its end.

    One whose process was killed is recovered, and has ended then; raises the error that kept it
    from being recovered.
    """
    from gatling.deploy import recovery  # a push loads it beside its build

    log = gatling.home.app(app).deployment_log(ident)
    offset = 0
    while True:
        deployment = deployments.get(gatling.db, ident, app)
        offset = _hand_on(log, offset, write)
        if deployment.outcome != "running":
            return deployment
        for recovered in recovery.recover_unfinished(gatling, app):
            if recovered.error is not None:
                raise recovered.error
        time.sleep(POLL_SECONDS)


def remove_old(paths: AppPaths) -> None:
    """Remove the output of deployments that are not among the last ones; their records stay."""
    found = [(int(m[1]), file) for file in paths.logs.iterdir() if (m := _NAME.match(file.name))]
    kept = sorted({ident for ident, _ in found})[-KEPT:]
    for ident, file in found:
        if ident not in kept:
            file.unlink(missing_ok=True)


def keep_samples(paths: AppPaths, ident: int, proof: Proof | None) -> None:
    """Write the requests of the prober beside the output."""
    if proof is not None and proof.samples:
        files.write(paths.deployment_probe(ident), msgspec.json.encode(proof.samples).decode())


def samples_of(paths: AppPaths, ident: int) -> list[Sample]:
    """The requests of the prober during a deployment; none where they are not kept."""
    from gatling.deploy.evidence.prober import Sample  # loads http.client: not before a build

    try:
        raw = paths.deployment_probe(ident).read_bytes()
        return decoding.from_json(raw, list[Sample])
    except (FileNotFoundError, msgspec.DecodeError):
        return []


def _hand_on(log: Path, offset: int, write: Callable[[str], None]) -> int:
    """Write the whole lines that a log has after `offset`; where they end."""
    try:
        with log.open("rb") as file:
            file.seek(offset)
            text, newline, _ = file.read().rpartition(b"\n")
    except FileNotFoundError:
        return offset
    if newline:
        write((text + newline).decode("utf-8", "replace"))
    return offset + len(text) + len(newline)
