"""`python -m gatling`: the command line."""

import gc
import sys

COLLECT_EVERY = 50_000
"""New objects between two collections of garbage.

Modules that are loaded are no garbage, and Python's own number has them searched a hundred times.
"""


def main() -> None:
    """Run the command line and leave with its exit status."""
    gc.set_threshold(COLLECT_EVERY, 10, 10)
    try:
        _leave()
    finally:
        gc.freeze()  # the process ends: its last collection would find nothing to reuse


def _leave() -> None:
    try:
        status = _run(sys.argv[1:])
    except KeyboardInterrupt:  # while modules are being loaded
        sys.stderr.write("Aborted.\n")
        status = 130
    except Exception as error:  # noqa: BLE001 (so are these: a half updated installation, say)
        from gatling import debuglog
        from gatling.ui import failing

        status = failing.report(debuglog.explained(error))
    if status:
        sys.exit(status)


def _run(words: list[str]) -> int:
    # `gatling --version` is asked by scripts and shells' completions: answer without loading click.
    if words == ["--version"]:
        from gatling import __version__

        sys.stdout.write(f"gatling {__version__}\n")
        return 0
    if words[:1] == ["receive"] and len(words) == 2 and words[1][:1] != "-":
        # The hook of a push, which somebody waits for: not through click either.
        from gatling.ssh import pre_receive

        return pre_receive.main(words[1])
    if words[:1] == ["complete"]:
        # Completion when the tab key is pressed: without the command line's own errors.
        from gatling.cli import completing

        return completing.main(words[1:])
    if words[:1] == ["ssh-command"] and len(words) == 2:
        # The forced command of a key (authorized_keys): all that comes over SSH passes it.
        from gatling.ssh import access

        return access.main(words[1])
    from gatling.cli import run_command_line

    return run_command_line()


if __name__ == "__main__":
    main()
