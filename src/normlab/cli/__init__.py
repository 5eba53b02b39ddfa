"""The command line: parse, call, print."""


def main() -> None:
    """The program `normlab`."""
    from normlab.cli.app import run

    run()
