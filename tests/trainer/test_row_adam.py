"""Steps on sparse gradients, and training whose cost does not grow with the catalogue."""

import contextlib

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from build import build
from conftest import write_inter
from recbole_evcf.config.checks import check_processes
from recbole_evcf.trainer import row_adam
from recbole_evcf.trainer.row_adam import RowAdam, RowAdamNormGrad

SAMPLED = {"sampled_softmax": 5}


@pytest.mark.parametrize("optimizer_class", [RowAdam, RowAdamNormGrad])
@pytest.mark.parametrize("shape", [(6, 3), (6,)])
@pytest.mark.parametrize("at_once", [1, 6, 1000])
def test_steps_follow_the_formula_row_by_row(optimizer_class, shape, at_once, monkeypatch):
    monkeypatch.setattr(row_adam, "AT_ONCE", at_once)
    torch.manual_seed(0)
    table, whole = torch.nn.Parameter(torch.randn(shape)), torch.nn.Parameter(torch.ones(2))
    optimizer = optimizer_class([table, whole], lr=0.1)
    start, values = table.detach().clone(), table.detach().clone()
    first, second = torch.zeros(shape), torch.zeros(6)
    for step, rows in enumerate(([0, 4], [4, 1, 4], [0, 1]), start=1):
        each = torch.randn(len(rows), *shape[1:])
        whole.grad = torch.ones(2)
        table.grad = torch.sparse_coo_tensor([rows], each, shape, check_invariants=False)
        g = torch.zeros(shape).index_add(0, torch.tensor(rows), each)
        if optimizer_class is RowAdamNormGrad:
            g /= g.norm() + 1e-7
        for row in set(rows):
            first[row] = 0.9 * first[row] + 0.1 * g[row]
            second[row] = 0.999 * second[row] + 0.001 * (g[row] ** 2).mean()
            root = (second[row] / (1 - 0.999**step)).sqrt() + 1e-8
            values[row] -= 0.1 * first[row] / (1 - 0.9**step) / root
        optimizer.step()
    torch.testing.assert_close(table.detach(), values)
    assert torch.equal(table[[2, 3, 5]], start[[2, 3, 5]])
    # Equal gradients throughout: each of Adam's steps is of the learning rate's size.
    torch.testing.assert_close(whole.detach(), torch.full((2,), 0.7))


class LargestResult(TorchDispatchMode):
    """The most numbers that any operation within the block has put into one new tensor."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if is_strided(t)}
        result = func(*args, **(kwargs or {}))
        for each in filter(is_strided, tree_leaves(result)):
            if each.untyped_storage()._cdata not in given:
                self.size = max(self.size, each.numel())
        return result


def is_strided(value):
    return isinstance(value, torch.Tensor) and value.layout is torch.strided


@pytest.mark.parametrize("model", ["GatedMultiVAE", "GatedHVamp"])
def test_a_step_takes_no_memory_of_items_times_anything(tmp_path, tiny, model):
    rows = [(user, 1000 * user + i, 1) for user in range(50) for i in range(20)]
    write_inter(tmp_path / "data", "tiny", rows)
    sparse = {"sampled_softmax": 50, "pseudo_input_size": 10, "sparse_input_gradient": True}
    _, loaders, network, trainer = build(model, "tiny", {**tiny, **sparse, "train_batch_size": 4})
    scaler, largest = torch.amp.GradScaler(enabled=False), LargestResult()
    for number, batch in enumerate(loaders[0]):
        # The first step makes the moments.
        with largest if number else contextlib.nullcontext():
            trainer._train_batch(batch, network.loss_terms, scaler)
    # Rows, 16 wide, of the batch's items and the sample's or the pseudo-inputs', not of all 1,000.
    assert largest.size <= 16 * (4 * 20 + 7 * 10)


def steps(settings, model="GatedHVamp", n=1):
    """Take some steps; the network's weights."""
    _, loaders, network, trainer = build(model, "tiny", settings)
    network.train()
    for batch, _ in zip(loaders[0], range(n)):
        trainer._train_batch(batch, network.loss_terms, torch.amp.GradScaler(enabled=False))
    return {name: weight.detach() for name, weight in network.network.named_parameters()}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("widths", [[16], [16, 12]])
@pytest.mark.parametrize("changes", [{"sampled_softmax": 40}, {"sparse_input_gradient": True}])
def test_gradients_of_all_items_or_of_all_rows_are_the_usual_ones(tiny, changes, widths):
    tiny |= {"mlp_hidden_size": widths, "pseudo_input_size": 5}
    gradients = []
    for settings in (tiny, {**tiny, **changes}):
        _, loaders, network, _ = build("GatedHVamp", "tiny", settings)
        sum(network.train().loss_terms(next(iter(loaders[0])))).backward()
        gradients.append({name: weight.grad for name, weight in network.named_parameters()})
    whole, ours = gradients
    assert any(gradient.is_sparse for gradient in ours.values())
    for name, gradient in whole.items():
        torch.testing.assert_close(ours[name].to_dense(), gradient, msg=name)


def test_of_the_first_layers_the_rows_of_the_batch_change(tiny):
    settings = {**tiny, "sparse_input_gradient": True, "train_batch_size": 1, "dropout_prob": 0.0}
    before, after = (steps(settings, "GatedMultiVAE", n=n) for n in (0, 1))
    for name in ("encoder.first.linear.weight", "encoder.first.gate.weight"):
        assert 5 <= (before[name] != after[name]).any(1).sum() < 20


def test_of_the_output_layer_the_sampled_rows_change(tiny):
    settings = {**tiny, **SAMPLED, "train_batch_size": 1}
    before, after = (steps(settings, n=n) for n in (0, 1))
    changed = (before["output.weight"] != after["output.weight"]).any(1)
    assert torch.equal(changed, before["output.bias"] != after["output.bias"])
    assert 5 < changed.sum() < 40


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"likelihood": "bernoulli"}, "sampled_softmax is a way to compute likelihood multin"),
        ({"learner": "sgd"}, "learner sgd cannot be used with sampled_softmax"),
        ({"weight_decay": 0.1}, "weight_decay cannot be used with sampled_softmax"),
        ({"learner": "adam", "clip_grad_norm": {"max_norm": 1}}, "clip_grad_norm cannot be used"),
    ],
)
def test_what_does_not_go_with_sparse_gradients(tiny, changes, said):
    with pytest.raises(ValueError, match=said):
        build("Vamp", "tiny", {**tiny, **SAMPLED, **changes})


def test_several_processes_are_refused(tiny):
    config = build("Vamp", "tiny", {**tiny, **SAMPLED})[0]
    with pytest.raises(ValueError, match="sampled_softmax cannot be divided among several"):
        check_processes(config, 2)
