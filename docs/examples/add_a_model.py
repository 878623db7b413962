"""A model of your own: two latent levels without a VampPrior, a config key and a loss."""

from recbole_evcf import register_model
from recbole_evcf.model.models import GatedMultiVAE
from recbole_evcf.model.vae import TwoLevelVAE
from recbole_evcf.quick_start import run_recbole


class FreeBitsHVAE(GatedMultiVAE):
    """Two levels, standard normal prior on z2, and some nats of the KL term for nothing.

    The loss is reconstruction + weight max(free_nats, KL), KL the mean of the batch, so that no
    pressure is on a posterior that says little (free bits, Kingma et al. 2016, with one group).

    Config key:
        free_nats: a number of at least 0.
    """

    network_class = TwoLevelVAE

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.free_nats = config["free_nats"]
        if not isinstance(self.free_nats, (int, float)) or self.free_nats < 0:
            raise ValueError(f"free_nats must be a number of at least 0, not {self.free_nats!r}.")

    def loss_terms(self, interaction):
        reconstruction, kl = super().loss_terms(interaction)
        return reconstruction, kl.clamp(min=self.free_nats)


# It extends GatedMultiVAE, and so starts from the defaults of that.
register_model(FreeBitsHVAE, defaults={"free_nats": 4.0})

if __name__ == "__main__":
    small = {"mlp_hidden_size": [100], "latent_dimension": 50, "free_nats": 2.0}
    settings = {**small, "epochs": 20, "learning_rate": 0.005, "warmup_epochs": 5}
    result = run_recbole("FreeBitsHVAE", "ml-100k", ["protocol/strong_generalization"], settings)
    print("NDCG@100 of unseen users:", result["test_result"]["ndcg@100"])
