"""Convert models between formats, or export them for other runtimes."""

from checkpoint.convert import ConvertOptions, run_convert
from checkpoint.export.command import ExportOptions, run_export
from common.errors import report_user_errors
from common.parser import parse_command

COMMANDS = {"convert": (ConvertOptions, run_convert), "export": (ExportOptions, run_export)}


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    classes = {name: options_class for name, (options_class, _) in COMMANDS.items()}
    name, options = parse_command(classes, "python -m checkpoint", __doc__, arguments)
    COMMANDS[name][1](options)


if __name__ == "__main__":
    main()
