"""The command `miao`, which `python -m miao` is, too."""

import signal

from miao.cli import leave


def run() -> None:
    """Runs it. Ctrl-C ends it quietly with 130 from here on, while modules are imported, too."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    from miao.cli import main

    main.run()


if __name__ == "__main__":
    run()
