"""Kim & Suh's VAEs for collaborative filtering (RecSys 2019) as a RecBole plugin.

Importing the package is all: RecBole then knows the models, and runs on today's packages.
"""

from recbole_evcf import compat

# Before anything of RecBole is imported: some of the faults are in its imports.
compat.repair()

from recbole_evcf import register  # noqa: E402
from recbole_evcf.version import __version__  # noqa: E402

register.register()

__all__ = ["__version__"]
