"""GatedHVampLinear: GatedHVamp and EDLAE added up, as validation chooses."""

import numpy as np
import pytest
import scipy.sparse
import torch
from recbole.utils import get_trainer

from build import build
from recbole_evcf import Recommender
from recbole_evcf.app.reasons import ItemWeights
from recbole_evcf.data.histories import Histories
from recbole_evcf.model import linear_path
from recbole_evcf.model.edlae import item_weights
from recbole_evcf.model.linear_path import CANDIDATES, FIRST_SETTINGS, REG_WEIGHTS
from recbole_evcf.trainer.linear_path import LinearPathTrainer, climbed

SPLIT = {"SG": [0.6, 0.2, 0.2]}
SG = {"eval_args": {"split": SPLIT, "order": "RO", "group_by": "user", "mode": "full"}}
KEYS = ("reg_weight", "dropout_prob", "user_exponent", "max_diagonal")
AUTO = {f"linear_{key}": "auto" for key in KEYS}
GIVEN = dict(zip(AUTO, (2.0, 0.3, 0.5, 0.1)))
OWN = {**GIVEN, "epochs": 4, "n_pseudo_inputs": 5}


@pytest.fixture
def settings(tiny):
    return {**tiny, **OWN, **SG, "train_batch_size": 10}


def users(loaders):
    return loaders[1].uid_list[:4]


def test_the_network_is_trained_as_if_it_were_alone(settings):
    given = {**settings, **AUTO, "warmup_epochs": None, "total_anneal_steps": 4000}
    given["implicit_slim_interval"] = 0
    networks = []
    for name in ("GatedHVampLinear", "GatedHVamp"):
        _, loaders, model, trainer = build(name, "tiny", given)
        trainer.fit(*loaders[:2])
        networks.append(model.network)
    model, alone = networks
    for name, value in alone.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_scores_are_the_sum_of_both(settings):
    _, loaders, model, _ = build("GatedHVampLinear", "tiny", {**settings, "linear_weight": 3.0})
    own = dict(zip(KEYS, GIVEN.values()))
    _, _, edlae, _ = build("EDLAE", "tiny", {**settings, **own})
    model.eval()
    batch = {"user_id": users(loaders)}
    network = super(type(model), model).full_sort_predict(batch)
    expected = network + 3.0 * edlae.full_sort_predict(batch)
    scores = model.full_sort_predict(batch)
    torch.testing.assert_close(scores, expected)
    pairs = {"user_id": users(loaders)[[2, 0]], "item_id": torch.tensor([1, 40])}
    torch.testing.assert_close(model.predict(pairs), scores[[2, 0], [1, 40]])


@pytest.mark.parametrize("metric", ["NDCG@10", "AveragePopularity@10"])
def test_validation_chooses_the_best_of_the_neighbours(settings, metric):
    given = {**settings, "metrics": ["NDCG", "AveragePopularity"], "valid_metric": metric}
    _, loaders, model, trainer = build("GatedHVampLinear", "tiny", given)
    assert isinstance(trainer, LinearPathTrainer)
    trainer.eval_collector.data_collect(loaders[0])
    first, *neighbours = model.candidate_weights()
    assert first == 16
    assert sorted(neighbours) == pytest.approx([16 / 2**0.5, 16 * 2**0.5])
    by_weight = {}
    for weight in model.candidate_weights():
        model.linear_weight.fill_(weight)
        by_weight[float(model.linear_weight)] = trainer.evaluate(loaders[1], load_best_model=False)[
            metric.lower()
        ]
    model.linear_weight.fill_(16)
    # The network ranks once for all.
    calls = []
    model.network.decoder.register_forward_hook(lambda *_: calls.append(1))
    score, result = trainer._valid_epoch(loaders[1])
    assert len(calls) == len(loaders[1])
    best = max(by_weight.values()) if trainer.valid_metric_bigger else min(by_weight.values())
    assert score == result[metric.lower()] == best == by_weight[float(model.linear_weight)]


def test_a_model_file_tells_the_validation_of_its_weight(settings):
    _, loaders, model, trainer = build("GatedHVampLinear", "tiny", {**settings, "resumable": True})
    # The second of three candidates does best.
    model.candidate_weights = lambda: [0.0, 16.0, 1e6]
    scores = iter([0.1, 0.3, 0.2])
    trainer.evaluate = lambda *args, **kwargs: {"mrr@10": next(scores)}
    trainer.eval_collector.data_collect(loaders[0])
    trainer.eval_step, trainer.epochs = 1, 1
    best, _ = trainer.fit(*loaders[:2])
    assert best == 0.3
    kept = torch.load(trainer.saved_model_file, weights_only=True)["training"]["progress"]
    assert kept["best_valid_result"] == {"mrr@10": 0.3}


def test_without_an_epoch_all_items_have_weights(settings, monkeypatch):
    monkeypatch.setattr(linear_path, "SEARCHED", 15)
    model = build("GatedHVampLinear", "tiny", {**settings, **AUTO, "epochs": 0})[2]
    keys = dict(zip(KEYS, FIRST_SETTINGS))
    edlae = build("EDLAE", "tiny", {**settings, **keys})[2]
    assert torch.equal(model.item_weights, edlae.item_weights)


def test_the_search_for_the_weight_stays_in_sight_of_the_network(settings):
    model = build("GatedHVampLinear", "tiny", settings)[2]
    for weight, others in [(256.0, [16, 181.02]), (1.0, [2**0.5, 16]), (64.0, [16, 45.25, 90.51])]:
        model.linear_weight.fill_(weight)
        present, *rest = model.candidate_weights()
        assert present == weight
        assert sorted(rest) == pytest.approx(others, abs=0.01)


def test_an_interrupted_search_leaves_the_weight(settings, monkeypatch):
    _, loaders, model, trainer = build("GatedHVampLinear", "tiny", {**settings, **AUTO})

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("recbole_evcf.trainer.linear_path.climbed", stop)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(*loaders[:2], saved=False)
    assert float(model.linear_weight) == 16
    trainer.fit(*loaders[:2], saved=False)
    assert float(model.linear_weight) <= 256


@pytest.mark.parametrize("nothing", [{"eval_step": 0}, {"linear_weight": 0}])
def test_nothing_is_chosen_that_nobody_would_look_at(settings, nothing):
    _, loaders, model, trainer = build("GatedHVampLinear", "tiny", {**settings, **AUTO, **nothing})
    trainer.fit(*loaders[:2], saved=False)
    assert tuple(model.linear_settings) == FIRST_SETTINGS


def test_a_given_weight_stays(settings):
    _, loaders, model, trainer = build("GatedHVampLinear", "tiny", {**settings, "linear_weight": 5})
    trainer.fit(*loaders[:2])
    assert float(model.linear_weight) == 5


@pytest.mark.parametrize("metric", ["NDCG@10", "AveragePopularity@10"])
def test_validation_chooses_the_settings_by_how_edlae_does_alone(settings, metric):
    given = {**settings, "metrics": ["NDCG", "AveragePopularity"], "valid_metric": metric}
    _, loaders, model, trainer = build("GatedHVampLinear", "tiny", {**given, **AUTO})
    trainer.fit(*loaders[:2])
    sign = 1 if trainer.valid_metric_bigger else -1

    def alone(*values):
        keys = dict(zip(KEYS, values))
        _, loaders, edlae, trainer = build("EDLAE", "tiny", {**given, **keys})
        trainer.eval_collector.data_collect(loaders[0])
        result = trainer.evaluate(loaders[1], load_best_model=False)
        return sign * result[metric.lower()], edlae

    score, edlae = alone(*model.linear_settings)
    assert torch.equal(model.item_weights, edlae.item_weights)
    assert score > alone(*FIRST_SETTINGS)[0]
    for place, axis in enumerate(CANDIDATES):
        at = axis.index(model.linear_settings[place])
        for value in axis[max(at - 1, 0) : at + 2]:
            neighbour = [*model.linear_settings]
            neighbour[place] = value
            assert alone(*neighbour)[0] <= score
    assert float(model.linear_weight) < 1000


@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize(("least", "number"), [(15, 20), (25, 25)])
def test_of_many_items_the_popular_choose(settings, monkeypatch, validated, least, number):
    monkeypatch.setattr(linear_path, "SEARCHED", least)
    _, loaders, model, trainer = build("GatedHVampLinear", "tiny", {**settings, **AUTO})
    all_histories = Histories.from_dataset(loaders[0]._dataset)
    counts = np.bincount(all_histories.columns, minlength=len(model.item_weights))
    fitted = []
    original = linear_path.item_weights

    def watched(histories, *how, **where):
        result = original(histories, *how, **where)
        fitted.append((histories, result))
        return result

    monkeypatch.setattr(linear_path, "item_weights", watched)
    trainer.fit(loaders[0], loaders[1] if validated else None, saved=False)
    *parts, (whole, last) = fitted
    assert bool(parts) == validated
    for part, weights in parts:
        kept = np.bincount(part.columns, minlength=len(counts))
        assert (kept > 0).sum() == number
        assert np.array_equal(kept[kept > 0], counts[kept > 0])
        assert counts[kept > 0].min() >= counts[kept == 0].max()
        assert not weights[kept == 0].any()
        assert weights[kept > 0].any()
    # The network is added to the weights of all items.
    assert torch.equal(whole.columns, all_histories.columns)
    assert torch.equal(model.item_weights, last)
    keys = dict(zip(KEYS, model.linear_settings))
    assert torch.equal(last, build("EDLAE", "tiny", {**settings, **keys})[2].item_weights)


def test_only_the_popular_have_weights(settings):
    given = {**settings, "linear_n_items": 15, "linear_weight": 3.0}
    _, loaders, model, trainer = build("GatedHVampLinear", "tiny", given)
    trainer.fit(*loaders[:2])
    matrix = loaders[0]._dataset.inter_matrix().toarray()[:, 1:]
    popular = np.argsort(-matrix.sum(0), kind="stable")[:15]
    assert sorted(popular) == model.linear_items.tolist()
    expected = np.zeros((40, 40), dtype=np.float32)
    alone = Histories(scipy.sparse.csr_matrix(matrix[:, np.sort(popular)]))
    kept = np.ix_(np.sort(popular), np.sort(popular))
    expected[kept] = item_weights(alone, *GIVEN.values())
    model.eval()
    batch = {"user_id": users(loaders)}
    history = loaders[0]._dataset.input_histories.matrix().toarray()[users(loaders)]
    network = super(type(model), model).full_sort_predict(batch)[:, 1:]
    sums = network + 3 * torch.from_numpy(history @ expected)
    torch.testing.assert_close(model.full_sort_predict(batch)[:, 1:], sums)
    # A model file says which they are.
    loaded = Recommender.load(trainer.saved_model_file).model
    assert torch.equal(loaded.linear_items, model.linear_items)
    all_items = np.arange(40)
    between = ItemWeights(loaded).between(all_items, all_items)
    np.testing.assert_allclose(between, 3 * expected, rtol=1e-6)


@pytest.mark.parametrize("n_items", [None, 40, 1000])
def test_of_fewer_items_all_have_weights(settings, n_items):
    model = build("GatedHVampLinear", "tiny", {**settings, "linear_n_items": n_items})[2]
    assert model.linear_items is None
    assert "linear_items" not in model.state_dict()
    assert model.item_weights.shape == (40, 40)


def test_the_popular_are_chosen_by_as_well(settings):
    _, loaders, model, trainer = build(
        "GatedHVampLinear", "tiny", {**settings, **AUTO, "linear_n_items": 15}
    )
    trainer.fit(*loaders[:2], saved=False)
    assert model.item_weights.shape == (15, 15)
    own = model.linear_histories(Histories.from_dataset(loaders[0]._dataset))
    assert torch.equal(model.item_weights.data, item_weights(own, *model.linear_settings))


def test_a_number_that_is_given_stays(settings):
    given = {**settings, "linear_reg_weight": "auto", "linear_dropout_prob": 0.25}
    _, loaders, model, trainer = build("GatedHVampLinear", "tiny", given)
    trainer.fit(*loaders[:2])
    assert model.linear_settings[0] in REG_WEIGHTS
    assert model.linear_settings[1] == 0.25


def test_without_validation_nothing_is_chosen(settings):
    _, loaders, model, trainer = build("GatedHVampLinear", "tiny", {**settings, **AUTO})
    before = model.item_weights.clone()
    trainer.fit(loaders[0], saved=False)
    assert tuple(model.linear_settings) == FIRST_SETTINGS
    assert torch.equal(model.item_weights, before)


def test_a_resumed_run_keeps_what_was_chosen(settings, tmp_path):
    given = {**settings, **AUTO, "resumable": True, "checkpoint_dir": str(tmp_path)}
    _, loaders, model, trainer = build("GatedHVampLinear", "tiny", given)

    def stop(epoch, score):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(
            *loaders[:2], callback_fn=lambda epoch, score: epoch == 1 and stop(epoch, score)
        )
    chosen = model.item_weights.clone()
    _, loaders, model, trainer = build("GatedHVampLinear", "tiny", {**given, "resume": True})
    trainer._chosen = stop
    trainer.fit(*loaders[:2])
    assert torch.equal(model.item_weights, chosen)


@pytest.mark.parametrize("start", [[0, 0], [4, 3], [2, 1]])
def test_climbing_ends_where_no_neighbour_is_better(start):
    asked = []

    def score(point):
        asked.append(point)
        return -abs(point[0] - 3) - abs(point[1] - 2)

    assert climbed(score, [range(5), range(4)], start) == [3, 2]
    assert all(0 <= x < 5 and 0 <= y < 4 for x, y in asked)
    assert climbed(lambda point: 0.0, [range(5), range(4)], start) == start


def test_a_model_file_holds_all_of_it(settings):
    _, loaders, model, trainer = build("GatedHVampLinear", "tiny", settings)
    trainer.fit(*loaders[:2])
    trainer.evaluate(loaders[2])
    recommender = Recommender.load(trainer.saved_model_file)
    assert torch.equal(recommender.model.linear_weight, model.linear_weight)
    chosen = users(loaders)
    histories = loaders[0]._dataset.input_histories.matrix()[chosen.numpy()]
    frame = recommender.recommend(histories, k=3, exclude_seen=False)
    expected = model.eval().full_sort_predict({"user_id": chosen})[:, 1:].topk(3).values
    torch.testing.assert_close(
        torch.tensor(frame["score"].to_numpy()).reshape(-1, 3), expected, check_dtype=False
    )


def test_held_out_users_have_no_share_in_the_weights(settings):
    _, (train, *_), model, _ = build("GatedHVampLinear", "tiny", settings)
    matrix = train._dataset.inter_matrix().tocsr()[:, 1:]
    expected = item_weights(type(model._histories)(matrix), *GIVEN.values())
    assert torch.equal(model.item_weights.data, expected)


def test_the_batch_follows_the_number_of_users(settings):
    config, (train, *_), _, _ = build(
        "GatedHVampLinear", "tiny", {**settings, "train_batch_size": "auto"}
    )
    assert train.batch_size == config["train_batch_size"] == 100
    assert get_trainer(None, "GatedHVampLinear") is LinearPathTrainer
