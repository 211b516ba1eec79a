"""The command that opens the page: `miao serve`."""

from typing import Annotated

import typer

from miao.cli.terminal import say
from miao.errors import needs

EVERYWHERE = ("0.0.0.0", "::")


def serve(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; only this machine hears 127.0.0.1.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0 takes a free one.")] = 8000,
    name: Annotated[
        list[str] | None, typer.Option("--name", metavar="HOST", help="A name that others reach the server by.")
    ] = None,
    sessions: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="Most pages at one time.")] = 32,
    jobs: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Exports at one time.")] = 2,
    polyphony: Annotated[int, typer.Option(min=1, max=1024, metavar="N", help="Most notes at one time.")] = 1024,
    bank: Annotated[str, typer.Option("--bank", metavar="NAME", help="The voices: a name, or a folder.")] = "gm",
    is_opened: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Open the page: songs, a keyboard, learning and matching in the browser.

    \b
    miao serve
    miao serve --open
    miao serve --host 0.0.0.0 --name music.local --port 80

    Only this machine reaches it unless --host says otherwise. Ctrl-C ends it.
    """
    needs("web")
    from miao.synth.synthesizer import Synthesizer
    from miao.web.app import serve as run
    from miao.web.guard import LOOPBACK
    from miao.web.limits import Limits

    is_own = host in LOOPBACK
    limits = Limits(sessions=sessions, running_jobs=jobs, polyphony=polyphony, keeps_voices=is_own)
    hosts = None if host in EVERYWHERE and not name else (*LOOPBACK, host, *(name or ()))

    def tell(address: str) -> None:
        say(f"{address} (Ctrl-C ends it)")
        if is_opened:
            import webbrowser

            webbrowser.open(address)

    run(Synthesizer.from_pretrained(bank), host, port, limits, hosts, tell)
