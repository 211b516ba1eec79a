"""`python -m miao` is the command `miao`."""

from miao.cli.main import main

main()
