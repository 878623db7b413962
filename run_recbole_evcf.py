"""Train a model from a checkout; the same as the installed command ``recbole-evcf run``."""

import sys

from recbole_evcf.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
