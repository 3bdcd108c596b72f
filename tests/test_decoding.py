"""Values of types, made by several threads at once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import gatling

SOURCES = Path(gatling.__file__).parent
TOGETHER = """
import sys, threading
from gatling import decoding
from gatling.project.settings import Settings

sys.setswitchinterval(1e-6)
tables = {name: {} for name in Settings.__struct_fields__}
barrier = threading.Barrier(8)
found = []

def convert():
    barrier.wait()
    found.append(decoding.convert(tables, Settings))

threads = [threading.Thread(target=convert) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert found == [Settings()] * 8, found
"""


def test_threads_use_a_type_for_the_first_time_at_once() -> None:
    """With msgspec alone, 24 of 25 such processes ended with a segmentation fault."""
    for _ in range(3):
        argv = [sys.executable, "-I", "-c", TOGETHER]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.returncode, done.stderr)


def test_nothing_gives_msgspec_a_type_by_itself() -> None:
    direct = re.compile(r"msgspec\.convert\(|msgspec\.\w+\.(?:Decoder\(|decode\([^)\n]*type=)")
    found = [
        str(file.relative_to(SOURCES))
        for file in SOURCES.rglob("*.py")
        if direct.search(file.read_text())
    ]
    assert found == ["decoding.py"]
