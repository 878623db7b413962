"""That what was made fast changes nothing: ml-100k trained and evaluated with it and without.

Without it, every fast piece is replaced by a few plain operations, all at once. Both runs draw the
same numbers, in double precision, so that nothing but a difference in what is computed could show.
"""

import collections
import math
import multiprocessing
import platform

import pandas
import pytest
import torch
from recbole.data.dataset import Dataset
from recbole.data.dataset import dataset as dataset_module
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector
from recbole.quick_start import run_recbole
from recbole.trainer import Trainer

from allocating import run_and_allocate
from build import RS, SG, SIZES, build
from recbole_evcf import speed_up_recbole
from recbole_evcf.evaluator import ranking
from recbole_evcf.evaluator.ranking import TopItems
from recbole_evcf.hooks import speedups, training
from recbole_evcf.hooks.wrapping import Forward
from recbole_evcf.model import dropout, gaussian, layers, likelihood, vae
from recbole_evcf.model.dropout import item_blocks

NETWORK = {"n_pseudo_inputs": 60, "mlp_hidden_size": [50], "latent_dimension": 20}
TRAINING = {"epochs": 8, "learning_rate": 0.01, "warmup_epochs": 2, "seed": 7}
SHOWN = {"metrics": ["NDCG", "Recall", "MRR"], "topk": [10, 50], "metric_decimal_place": 10}
SETTINGS = {**NETWORK, **TRAINING, **SHOWN, "state": "error", "show_progress": False}


class PlainProducts:
    @staticmethod
    def apply(x, *weights):
        return tuple(x @ weight for weight in weights)


class PlainSparseProduct:
    @staticmethod
    def apply(weight, values, x, dense, sparse):
        joined = x.dense() if dense is None else torch.cat([x.dense(), dense], 1)
        return joined @ weight


class PlainAdam(torch.optim.Adam):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = p.grad / (p.grad.norm() + 1e-7)
        return super().step(closure)


def plain_clamp_and_drop(x, p, shard=None):
    if p == 0.0:
        return x.clamp(0, 1)
    # Drawn in the same pieces, for the same numbers.
    pieces = item_blocks(x.detach(), dropout.BLOCK)
    keeps, scales = zip(*(dropout.keep_mask(block, p) for block in pieces))
    return x.clamp(0, 1) * torch.cat(keeps).T * scales[0]


def plain_multinomial(logits, history):
    return (history.dense() * logits.log_softmax(1)).sum(1)


def plain_mixture(z, components):
    squares = (z[:, None] - components.mean) ** 2 / components.log_variance.exp()
    each = -0.5 * (squares + components.log_variance + math.log(2 * math.pi)).sum(-1)
    return each.logsumexp(1) - math.log(each.shape[1])


def without_what_was_made_fast(patch):
    patch.setattr(layers, "_DenseProducts", PlainProducts)
    patch.setattr(layers, "_SumOfRows", PlainSparseProduct)
    plain = torch.nn.Linear.forward
    patch.setattr(layers.OutputLayer, "forward", plain)
    patch.setattr(layers.OutputLayer, "score", lambda self, h, out: out.copy_(plain(self, h)))
    patch.setattr(vae, "clamp_and_drop", plain_clamp_and_drop)
    patch.setattr(likelihood.Multinomial, "log_prob", staticmethod(plain_multinomial))
    patch.setattr(gaussian, "mixture_log_prob", plain_mixture)
    patch.setattr(training, "AdamNormGrad", PlainAdam)
    evaluated = Trainer._full_sort_batch_eval
    patch.setattr(speedups.RankingTrainer, "_full_sort_batch_eval", evaluated)
    patch.setattr(speedups.HitCollector, "eval_batch_collect", Collector.eval_batch_collect)
    patch.setattr(Interaction, "__getitem__", Interaction.__getitem__.__wrapped__)
    for name in ("split_by_ratio", "_grouped_index"):
        patch.setattr(Dataset, name, getattr(Dataset, name).__wrapped__)
    patch.setattr(dataset_module, "Counter", collections.Counter)
    patch.setattr(dataset_module, "pd", Forward(dataset_module.pd, read_csv=pandas.read_csv))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("model", ["GatedHVamp", "Vamp"])
def test_metrics_on_ml_100k_are_the_same_to_1e_6(model):
    speed_up_recbole()
    fast = run_recbole(model=model, dataset="ml-100k", config_dict=SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        without_what_was_made_fast(patch)
        plain = run_recbole(model=model, dataset="ml-100k", config_dict=SETTINGS)
    assert fast["test_result"]["ndcg@10"] > 0.05
    for phase in ("best_valid_result", "test_result"):
        assert fast[phase] == pytest.approx(plain[phase], abs=1e-6)


@pytest.mark.parametrize("model", ["GatedHVamp", "MultiVAE", "MultiDAE", "RecVAE"])
@pytest.mark.parametrize("split", [RS, SG])
def test_lists_found_in_two_stages_are_those_of_all_scores(model, split, monkeypatch):
    speed_up_recbole()
    # The first asks for the lists themselves.
    asked = {"metrics": ["ItemCoverage", "NDCG"], "topk": [5, 20], "valid_metric": "NDCG@5"}
    settings = {"train_neg_sample_args": None, "eval_args": split, "eval_batch_size": 10**6}
    settings |= {**SIZES.get(model, NETWORK), **asked}
    _, loaders, _, trainer = build(model, "ml-100k", settings)
    certain, lists = [], []
    by_candidates, collector = TopItems._by_candidates, trainer.eval_collector
    collector.data_collect(loaders[0])
    data = collector.get_data_struct

    def noted(*arguments):
        found = by_candidates(*arguments)
        certain.append(found[2])
        return found

    def kept():
        lists.append(data())
        return lists[-1]

    monkeypatch.setattr(TopItems, "_by_candidates", noted)
    monkeypatch.setattr(collector, "get_data_struct", kept)
    for name, value in {"FEW_ITEMS": 1, "GROUP": 4}.items():
        monkeypatch.setattr(ranking, name, value)
    for in_two_stages in (True, False):
        monkeypatch.setattr(ranking, "gains", lambda weight, use=in_two_stages: use)
        trainer.evaluate(loaders[2], load_best_model=False)
    for name in ("rec.items", "rec.topk"):
        assert torch.equal(lists[0].get(name), lists[1].get(name))
    users = torch.cat(certain)
    assert len(users) == len(loaders[2].uid_list)
    assert users.float().mean() > 0.8


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator")
@pytest.mark.parametrize("model", ["MultiVAE", "Vamp"])
def test_after_a_run_glibc_still_keeps_freed_blocks_by_itself(tiny, model):
    settings = {**tiny, "train_neg_sample_args": None, **SIZES.get(model, {})}
    # In a process of its own: what others have allocated there decides too.
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=run_and_allocate, args=(model, settings))
    process.start()
    process.join()
    assert process.exitcode == 0
