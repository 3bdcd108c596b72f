"""Load the later steps of a deployment while mix works.

A push waits for each module that is loaded before its build begins. The modules of the later steps
take as long to load as Python itself takes to start.
"""

from __future__ import annotations

import contextlib
import importlib
import threading

LATER = (
    "gatling.deploy.go_live",
    "gatling.deploy.recovery",
    "gatling.deploy.cutover.hot",
    "gatling.platform.embedded.rpc",
    "gatling.runtime.notifying",
)


def start() -> None:
    """Load them in a thread. A step whose module is not loaded yet loads it itself."""
    threading.Thread(target=_load, daemon=True).start()


def _load() -> None:
    for module in LATER:
        with contextlib.suppress(ImportError):  # the step that needs it raises it
            importlib.import_module(module)
