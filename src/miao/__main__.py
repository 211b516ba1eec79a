"""`python -m miao` is the command `miao`."""

from miao.cli import main

main()
