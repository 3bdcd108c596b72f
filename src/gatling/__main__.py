"""`python -m gatling`: the command line."""

import sys


def main() -> None:
    """Run the command line and leave with its exit status."""
    # `gatling --version` is asked by scripts and shells' completions: answer without loading click.
    if sys.argv[1:] == ["--version"]:
        from gatling import __version__

        sys.stdout.write(f"gatling {__version__}\n")
        return
    from gatling.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
