"""Each worked example of the developer guide, as a user runs it, and what it computes."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.quick_start import run_recbole
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import naive
from build import build
from recbole_evcf import Recommender
from recbole_evcf.model import fold_in

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def example(monkeypatch, capsys):
    """Function from an example's name to its names, once it has run as a script, cut short."""

    def run(name: str, model: str) -> dict:
        monkeypatch.setattr("sys.argv", [name, "--epochs=1", "--show_progress=False"])
        names = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        monkeypatch.setattr("sys.argv", [name])
        assert 0 < names["result"]["test_result"]["ndcg@100"] < 1
        line = f"NDCG@100 of unseen users: {names['result']['test_result']['ndcg@100']}"
        assert line in capsys.readouterr().out
        assert len(list(Path("saved").glob(f"{model}-*.pth"))) == 1
        return names

    yield run
    fold_in.FOLD_IN_MODELS.pop("BPR", None)


def trained(model: str, settings: dict):
    """Test dataloader, network and results of a model on unseen users, and its file."""
    result = run_recbole(model, "tiny", config_dict={**settings, "checkpoint_dir": "tiny_saved"})
    (path,) = Path("tiny_saved").glob(f"{model}-*.pth")
    _config, loaders, network, trainer = build(model, "tiny", settings)
    trainer.eval_collector.data_collect(loaders[0])
    found = trainer.evaluate(loaders[2], model_file=str(path))
    assert found == result["test_result"]
    assert 0 < found["ndcg@10"] < 1
    return loaders[2], network.eval(), str(path)


def recommended(path: str, items: list[str]) -> list[str]:
    """What the saved model recommends to a person with these items, without its data set."""
    return Recommender.load(path).recommend([items], k=5)["item"].tolist()


def test_a_prior(example, sg):
    names = example("add_a_prior", "MixtureVAE")
    _, network, path = trained("MixtureVAE", sg)
    prior = network.network.prior
    assert isinstance(prior, names["MixtureOfGaussians"])
    assert prior.mean.shape == (7, 8)
    assert prior.log_variance.abs().max() > 0
    expected = MixtureSameFamily(
        Categorical(torch.ones(7)),
        Independent(Normal(prior.mean, torch.exp(prior.log_variance / 2)), 1),
    )
    z = torch.randn(15, 8)
    torch.testing.assert_close(prior.log_prob(z, None), expected.log_prob(z), rtol=1e-5, atol=1e-5)
    # Someone without a known item is recommended to from the components' means.
    decoded = network.network.output(network.network.decoder(prior.mean)).softmax(1).mean(0)
    tokens = network.item_catalogue.tokens
    best = [tokens[column] for column in decoded.topk(5).indices]
    assert recommended(path, []) == best


def test_a_layer(example, sg):
    names = example("add_a_layer", "SelfGatedHVamp")
    # No square weights, which the formula below could not tell from their transpose.
    sg["latent_dimension"] = 6
    loader, model, _ = trained("SelfGatedHVamp", sg)
    layers = [m for m in model.modules() if isinstance(m, names["SelfGatedLayer"])]
    assert len(layers) == 4

    def layer(module, *x):
        a = naive.affine(module.linear, torch.cat(x, 1))
        return a / (1 + torch.exp(-a))

    network, users = model.network, loader.uid_list
    with torch.no_grad():
        x = loader._dataset.input_histories.rows(users).dense()
        x = x / x.norm(dim=1, keepdim=True)
        z2 = naive.affine(network.encoder_z2.head.mean, layer(network.encoder_z2.first, x))
        z1 = naive.affine(network.encoder_z1.head.mean, layer(network.encoder_z1.first, x, z2))
        expected = naive.affine(network.output, layer(network.decoder.joint[0], z1, z2))
        scores = model.full_sort_predict({"user_id": users})[:, 1:]
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_a_model(example, sg):
    example("add_a_model", "FreeBitsHVAE")
    sg.update(dropout_prob=0.0, latent_dimension=6)
    loader, model, _ = trained("FreeBitsHVAE", sg)
    users = loader.uid_list
    x = loader._dataset.input_histories.rows(users).dense()

    def terms():
        torch.manual_seed(3)
        return model.loss_terms({"user_id": users})

    torch.manual_seed(3)
    log_likelihood, kl = naive.two_level(model.network, x, True, "multinomial", vamp=False)
    assert model.free_nats == 4.0
    for free_nats in (0.0, 1e6):
        model.free_nats = free_nats
        reconstruction, paid = terms()
        torch.testing.assert_close(reconstruction, -log_likelihood.mean())
        torch.testing.assert_close(paid, kl.mean().clamp(min=free_nats), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="free_nats must be a number of at least 0"):
        build("FreeBitsHVAE", "tiny", {**sg, "free_nats": -1})


def test_a_baseline_adapter(example, sg):
    with pytest.raises(ValueError, match="BPR has no way to score"):
        build("BPR", "tiny", sg)
    example("add_a_baseline_adapter", "BPR")
    loader, model, path = trained("BPR", {**sg, "embedding_size": 8})
    vectors = model.item_embedding.weight.detach().numpy()
    shown = loader._dataset.fold_in.matrix().toarray()[loader.uid_list]
    expected = np.stack([vectors[1:][row > 0].mean(0) @ vectors.T for row in shown])
    found = model.full_sort_predict({"user_id": loader.uid_list}).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    # The saved model, for someone who came later.
    tokens = model.item_catalogue.tokens
    person = vectors[1:][[2, 5]].mean(0) @ vectors[1:].T
    person[[2, 5]] = -np.inf
    assert recommended(path, list(tokens[[2, 5]])) == list(tokens[np.argsort(-person)[:5]])
    # Not a word of the adapter in the weights: RecBole's own splits use the users' vectors.
    plain = {key: value for key, value in sg.items() if key != "eval_args"}
    _, loaders, network, _ = build("BPR", "tiny", {**plain, "embedding_size": 8})
    own = network.user_embedding.weight @ network.item_embedding.weight.T
    torch.testing.assert_close(
        network.full_sort_predict({"user_id": loaders[2].uid_list}).reshape(-1, len(vectors)),
        own[loaders[2].uid_list],
    )
