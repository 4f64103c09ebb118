"""Convert models between formats, or export them for other runtimes."""

from checkpoint.convert import add_convert_command
from checkpoint.export.command import add_export_command
from common.errors import report_user_errors
from common.options import ArgumentParser


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="checkpoint", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add_convert_command(commands)
    add_export_command(commands)
    return parser


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    args = build_parser().parse_args(arguments)
    args.run(args)


if __name__ == "__main__":
    main()
