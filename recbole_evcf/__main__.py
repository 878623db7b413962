"""``python -m recbole_evcf``, the same as the installed command ``recbole-evcf``."""

import sys

from recbole_evcf.cli import main

sys.exit(main())
