"""`python -m mtad` is `mtad`."""

from mtad.cli import main

main()
