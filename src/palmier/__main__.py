"""`python -m palmier` is the command `palmier`."""

from palmier.cli.app import main

main()
