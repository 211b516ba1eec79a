"""The command line, one file a group of commands."""

import os
from typing import Any


def leave(*_: Any) -> None:
    """Ends the process as Ctrl-C does, where there is nothing to put in order yet; a command that runs raises
    `KeyboardInterrupt`."""
    os._exit(130)
