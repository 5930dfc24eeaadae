"""`python -m mtad` is `mtad`."""

from mtad.cli import main

if __name__ == "__main__":  # the demo's helper processes import this module, too
    main()
