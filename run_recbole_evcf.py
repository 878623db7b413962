"""Train a model from a checkout; the same as the installed command ``recbole-evcf run``."""

import sys

from recbole_evcf.commands.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
