"""`python -m pipeline`: the same as the command `frameledger`."""

from pipeline.cli import main

main()
