"""Each wrong value of a config key ends in a sentence that names the key."""

import pytest

from recbole_evcf.model.settings import Settings

GOOD = {
    "mlp_hidden_size": [600],
    "latent_dimension": 200,
    "dropout_prob": 0.5,
    "likelihood": "multinomial",
    "gated": True,
    "n_pseudo_inputs": 1000,
    "pseudo_inputs_init": "normal",
    "pseudo_inputs_mean": 0.05,
    "pseudo_inputs_std": 0.01,
    "anneal_cap": 0.3,
    "total_anneal_steps": None,
    "warmup_epochs": 100,
}


def test_good_values_are_kept():
    settings = Settings.from_config(GOOD)
    assert {key: getattr(settings, key) for key in GOOD} == GOOD


def test_whole_floats_of_a_tuner_become_whole_numbers():
    settings = Settings.from_config({**GOOD, "n_pseudo_inputs": 500.0})
    assert isinstance(settings.n_pseudo_inputs, int)


WRONG = {
    "mlp_hidden_size": ([], 600, [600, 0], ["a"]),
    "latent_dimension": (0, None, 2.5),
    "dropout_prob": (1.0, "half"),
    "likelihood": ("poisson",),
    "gated": ("yes",),
    "n_pseudo_inputs": (-1, True),
    "pseudo_inputs_init": ("random",),
    "pseudo_inputs_mean": (float("nan"),),
    "pseudo_inputs_std": (-0.1,),
    "anneal_cap": (-0.1,),
    "total_anneal_steps": (-5,),
    "warmup_epochs": (1.5,),
}


@pytest.mark.parametrize(("key", "value"), [(k, value) for k in WRONG for value in WRONG[k]])
def test_wrong_values_are_named(key, value):
    with pytest.raises(ValueError, match=key):
        Settings.from_config({**GOOD, key: value})


def test_one_warmup_length_only():
    with pytest.raises(ValueError, match="total_anneal_steps and warmup_epochs are both set"):
        Settings.from_config({**GOOD, "total_anneal_steps": 100})
