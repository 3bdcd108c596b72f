"""Becomes the program of a slot: `python -I -S launch.py DIRECTORY`.

The supervisor's configuration names this command once and for all; what to run, with which
environment, stands in the directory's instance.json (mode 0600). So secrets are in no command
line and no supervisor configuration, and a crashed instance is restarted as the release that is
recorded there now. Only the standard library, and a file of the package that needs no other one,
since it runs without site-packages.
"""

import json
import os
import resource
import shutil
import signal
import sys

MAX_FILES = 65536
"""Open files that a program gets where the host allows it: the BEAM reserves memory for each."""


MARK = "GATLING_MARK"
"""The variable that names what a process was started for, as proc.py has it."""


def mark(directory: str) -> str:
    """Return the mark on every OS process that a slot's program started, in any session."""
    return f"slot:{directory}"


def boot() -> str:
    """Return the ID of this boot of the machine: a later boot gives the same pids to others."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def end_rest(directory: str) -> None:
    """End what the program that ran here before has left, when it was killed itself.

    Workers of a killed nginx, for example, go on and keep its port. The supervisor gives each
    program a process group of its own; what has left that still bears the mark.
    """
    try:
        with open(os.path.join(directory, "pid"), encoding="utf-8") as file:
            words = file.read().split()
        before = int(words[0])
    except (OSError, ValueError, IndexError):
        return
    if os.path.exists(f"/proc/{before}"):  # it runs, or the number is another's
        return
    if words[3:] == [boot()]:  # then the group's number is its own
        try:  # noqa: SIM105 (contextlib is slow to load)
            os.killpg(before, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    end_marked(mark(directory))


def end_marked(wanted: str) -> None:
    """SIGKILL every process that bears a mark, as proc.py does, which is loaded if it is needed."""
    import runpy

    place = os.path.join(os.path.dirname(__file__), "..", "..", "proc.py")
    runpy.run_path(place)["end_marked"](wanted)


def main(directory: str) -> None:
    """Replace this process by the program described in `directory`."""
    with open(os.path.join(directory, "instance.json"), encoding="utf-8") as file:
        instance = json.load(file)
    end_rest(directory)
    temporary = os.path.join(directory, "tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    os.makedirs(temporary, mode=0o700)
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        started = file.read().rpartition(")")[2].split()[19]
    pid_file = os.path.join(directory, "pid")
    with open(pid_file + ".new", "w", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {started} {instance.get('release', 0)} {boot()}\n")
    os.replace(pid_file + ".new", pid_file)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < MAX_FILES:
        # each socket is an open file; distributions give users 1024
        wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    os.chdir(instance["cwd"])
    os.nice(instance.get("nice", 0))
    argv = instance["argv"]
    environment = {**instance["env"], MARK: mark(directory)}
    os.execve(argv[0], argv, environment)  # noqa: S606 (an argv list is the point)


if __name__ == "__main__":
    main(sys.argv[1])
