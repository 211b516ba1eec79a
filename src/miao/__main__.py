"""`python -m miao` is the command `miao`."""

from miao.cli.main import run

run()
