"""`python -m gatling`: the command line."""

import sys


def main() -> None:
    """Run the command line and leave with its exit status."""
    # `gatling --version` is asked by scripts and shells' completions: answer without loading click.
    if sys.argv[1:] == ["--version"]:
        from gatling import __version__

        sys.stdout.write(f"gatling {__version__}\n")
        return
    if sys.argv[1:2] == ["receive"] and len(sys.argv) == 3 and sys.argv[2][:1] != "-":
        # The hook of a push, which somebody waits for: not through click either.
        from gatling.server import receive

        sys.exit(receive.main(sys.argv[2]))
    if sys.argv[1:2] == ["ssh-command"] and len(sys.argv) == 3:
        # The forced command of a key (authorized_keys): all that comes over SSH passes it.
        from gatling.server import access

        sys.exit(access.main(sys.argv[2]))
    from gatling.cli import run_command_line

    sys.exit(run_command_line())


if __name__ == "__main__":
    main()
