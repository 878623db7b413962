"""Kim & Suh's VAEs for collaborative filtering (RecSys 2019) as a RecBole plugin.

Importing the package is all: RecBole then knows the models, and runs on today's packages.
"""

import functools
import os
import sys

from recbole_evcf.version import __version__

__all__ = ["__version__", "activate"]


@functools.cache
def activate() -> None:
    """Repair RecBole for today's packages, and make it know the models; a second call does nothing.

    Importing the package does it. Only the command ``recbole-evcf`` calls it later, when it has
    read its words.
    """
    from recbole_evcf.hooks import fixes

    # Before anything of RecBole is imported: some of the faults are in its imports.
    fixes.repair()

    from recbole_evcf.hooks import register

    register.register()


def _is_command() -> bool:
    """Whether this process is the command itself, and none that it has started."""
    # As it was started: processes that it starts inherit sys.argv.
    words = sys.orig_argv[1:3]
    names = ("recbole-evcf", "recbole-evcf.exe", "run_recbole_evcf.py")
    return words == ["-m", "recbole_evcf"] or os.path.basename(next(iter(words), "")) in names


if not _is_command():
    activate()
