"""A model whose process is killed; a plugin, since Ray's workers must know it."""

import os
import signal
from pathlib import Path

from recbole_evcf import register_model
from recbole_evcf.model.models import Vamp


class Mortal(Vamp):
    """In the third epoch of two batches its process gets kill -9, ``deaths`` times in all.

    ``mortal-DEATHS`` beside the data set has a letter for each batch, and a line for each death.
    """

    batches = 0

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.deaths = config["deaths"]
        self.file = Path(f"{config['data_path']}/../mortal-{self.deaths}")

    def loss_terms(self, interaction):
        self.batches += 1
        with self.file.open("a") as file:
            file.write(".")
        if self.batches == 5 and self.file.read_text().count("\n") < self.deaths:
            with self.file.open("a") as file:
                file.write("\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss_terms(interaction)


register_model(Mortal, defaults={"deaths": 1})
