"""The command. It reads and prints; what it does is the library's.

Sound and listings go to stdout, everything said about them to stderr. Exit codes: 2 for what the user can mend (one
line says how), 130 after Ctrl-C, 141 when the program that reads our output has gone.
"""

import atexit
import gc
import logging
import os
import signal
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from miao.cli import data as cli_data
from miao.cli import evaluate as cli_evaluate
from miao.cli import express as cli_express
from miao.cli import learn as cli_learn
from miao.cli import leave
from miao.cli import live as cli_live
from miao.cli import match as cli_match
from miao.cli import reproduce as cli_reproduce
from miao.cli import room as cli_room
from miao.cli import serve as cli_serve
from miao.cli import song as cli_song
from miao.cli import train as cli_train
from miao.cli.terminal import as_options, say
from miao.errors import MiaoError, missing
from miao.files import reason

_OTHERS = {"multiprocessing", "joblib", "distributed"}  # what starts processes that are to be told of the end


class _Commands(TyperGroup):
    """Turns what can go wrong into a line and an exit code, the same for all commands."""

    def invoke(self, ctx: Any) -> Any:
        try:
            if signal.getsignal(signal.SIGINT) is leave:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except MiaoError as error:
            if isinstance(error.__cause__, BrokenPipeError):
                raise typer.Exit(141) from error
            say(f"miao: {as_options(str(error))}")
            raise typer.Exit(2) from error
        except ModuleNotFoundError as error:
            name = (error.name or "").partition(".")[0]
            if name == "miao":
                raise
            say(f"miao: {missing(name)}")
            raise typer.Exit(2) from error
        except BrokenPipeError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at exit
            raise typer.Exit(141) from error
        except OSError as error:  # of the machine, where no file of ours has words for it
            say(f"miao: {error.filename}: {reason(error)}" if error.filename else f"miao: {reason(error)}")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.command()(cli_song.render)
app.command()(cli_song.info)
app.command()(cli_song.plot)
app.command()(cli_live.live)
app.command()(cli_live.play)
app.command()(cli_serve.serve)

data = typer.Typer(no_args_is_help=True, help="Make data to train on, and look after data sets.", rich_markup_mode=None)
app.add_typer(data, name="data")


data.command()(cli_train.soundfont)
data.command()(cli_train.pairs)
data.command()(cli_evaluate.benchmark)
data.command("list")(cli_data.list_datasets)
data.command()(cli_data.info)
data.command()(cli_data.verify)
data.command()(cli_data.download)
data.command()(cli_data.unpack)
data.command()(cli_data.prepare)
app.command()(cli_express.express)
app.command()(cli_match.match)
app.command()(cli_match.search)
app.command()(cli_train.train)
app.command()(cli_train.export)
app.command()(cli_train.finish)
app.command()(cli_evaluate.evaluate)
app.command()(cli_learn.learn)
app.add_typer(cli_learn.voices_app, name="voices")
app.add_typer(cli_room.room_app, name="room")
app.command()(cli_evaluate.measure)
app.add_typer(cli_reproduce.app, name="reproduce")


@app.command()
def version() -> None:
    """Print the version."""
    from miao import __version__

    print(f"miao {__version__}")


def _version_option(is_asked: bool) -> None:
    if is_asked:
        version()
        raise typer.Exit


@app.callback()
def miao(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version_option, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A neural multi-instrument synthesizer: MIDI files to music.

    \b
    miao render song.mid
    """


def main() -> None:
    """The command `miao`."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # our threads share the cores; BLAS's own would wait by spinning
    logging.basicConfig(format="miao: %(message)s")
    gc.set_threshold(20_000, 20, 50)  # notes and chunks come and go by the thousand, and few of them in circles
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files go then, too
    _leave_out_all_but(sys.argv[1:2])
    app(prog_name="miao")


def _leave_out_all_but(words: list[str]) -> None:
    """The commands that are not asked for need not be built: there are forty."""
    asked = [one for one in app.registered_commands if [one.name or getattr(one.callback, "__name__", "")] == words]
    if asked:
        app.registered_commands, app.registered_groups = asked, []


def run() -> None:
    """`main` as a process of its own. A rendering ends it without taking apart all that it holds, which takes half as
    long as to load the bank; where there are other processes, and for all other commands, it ends as usual."""
    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    if sys.argv[1:2] != ["render"] or _OTHERS & sys.modules.keys() or not (code is None or isinstance(code, int)):
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads on, or it was closed
            stream.flush()
    os._exit(code or 0)
