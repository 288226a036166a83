"""The command line: parses, calls, prints. No logic; every verb has a function of the same name and defaults in Python."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from tacit.cli.classifying import classify
from tacit.cli.comparing import compare
from tacit.cli.deciding import pairs
from tacit.cli.distancing import distance
from tacit.cli.learning import lungs, pretrain, segment
from tacit.cli.locating import locate
from tacit.cli.ordering import audit, prepare
from tacit.cli.retrieving import index, map, query
from tacit.cli.scoring import evaluate
from tacit.cli.small import doctor, info, phantom
from tacit.errors import INTERRUPTED, TacitError, UsageError

VERBS = (segment, locate, index, query, pairs, map, distance, evaluate, compare, pretrain, audit, lungs, prepare, phantom, info, doctor)  # as --help shows them

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Tacit learns from medical images that nobody has labelled. Research use only, not a medical device.",
)
for verb in VERBS:
    app.command()(verb)
app.add_typer(classify, name="classify")


def _print_version(asked: bool) -> None:
    if asked:
        from tacit import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)] = False,
) -> None:
    """What stands before the verb."""


def run() -> NoReturn:
    """The console script: runs a verb, prints one line for an error, returns the exit code of the tree in `errors`."""
    debug = "--debug" in sys.argv
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        sys.stdout = io.StringIO()
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if code == INTERRUPTED:  # typer's own answer to Ctrl-C
            raise KeyboardInterrupt
    except TacitError as error:
        _stop(error, error.exit_code, debug)
    except (KeyboardInterrupt, typer.Abort):
        print(f"tacit: interrupted; {_how_to_go_on(sys.argv[1:])}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except MemoryError as error:
        _stop(error, 1, debug, "out of memory; use smaller images or a machine with more")
    except OSError as error:
        _stop(error, 1, debug)
    except Exception as error:  # noqa: BLE001 - the last door: one line for a person, the traceback with --debug
        if type(error).__module__.startswith(("click", "typer")):
            said = error.format_message() if hasattr(error, "format_message") else str(error)
            _stop(error, UsageError.exit_code, debug, said)
        _stop(error, 1, debug, f"unexpected {type(error).__name__}: {error} (run `tacit --debug …` for the traceback)")
    sys.exit(code if isinstance(code, int) else 0)


def _how_to_go_on(words: list[str]) -> str:
    """What to do after Ctrl-C, by the options that the verb has."""
    command: Any = typer.main.get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    options = {option for parameter in command.params for option in parameter.opts}
    if "--resume" in options:
        return "what was finished is saved, repeat the command with --resume"
    return "repeat the command" + (", with --overwrite where OUT was begun" if "--overwrite" in options else "")


def _stop(error: BaseException, code: int, debug: bool, message: str | None = None) -> NoReturn:
    if debug:
        raise error
    if not getattr(error, "told", False):
        print(f"tacit: {' '.join((message or str(error)).split())}", file=sys.stderr)
    sys.exit(code)
