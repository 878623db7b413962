"""Training: early stopping, the optimizer, what is logged, RecBole's switches."""

import glob
import logging
import math
import os
import sys
from unittest.mock import Mock

import pytest
import torch
from recbole.trainer import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from build import build
from recbole_evcf.trainer.trainer import AdamNormGrad, VAETrainer


def fit(model, settings, scores=None, trainer_class=None, **kwargs):
    """Train; with ``scores``, validation yields these one after the other."""
    config, loaders, network, trainer = build(model, "tiny", settings)
    if trainer_class is not None:
        trainer = trainer_class(config, network)
    if scores is not None:
        given = iter(scores)
        trainer.evaluate = lambda *args, **kwargs: {"mrr@10": next(given)}
    seen = []
    result = trainer.fit(
        loaders[0], loaders[1], callback_fn=lambda epoch, score: seen.append(epoch), **kwargs
    )
    return trainer, network, result, seen


FALLING = [1.0] + [0.5] * 49


@pytest.mark.parametrize("trainer_class", [VAETrainer, Trainer])
@pytest.mark.parametrize(
    ("settings", "scores", "best", "last"),
    [
        # Epochs 0 to 9 warm up; 10 to 13 are the more than 3 that bring nothing better.
        ({"stopping_step": 3, "warmup_epochs": 10}, FALLING, 1.0, 13),
        # 60 users in batches of 16 are 4 steps an epoch; 0.3 * 40 = 12 steps are 3 epochs.
        ({"stopping_step": 2, "total_anneal_steps": 40}, FALLING, 1.0, 5),
        ({"stopping_step": 3, "warmup_epochs": 0}, [1.0, 2.0] + [0.5] * 48, 2.0, 5),
    ],
    ids=["epochs", "steps", "no warm-up"],
)
def test_epochs_before_the_end_of_warmup_do_not_count(
    tiny, trainer_class, settings, scores, best, last
):
    settings = {**tiny, "epochs": 50, **settings}
    trainer, _, result, seen = fit("Vamp", settings, scores, trainer_class)
    assert (result[0], seen[-1]) == (best, last)
    best_epoch = torch.load(trainer.saved_model_file, weights_only=True)["epoch"]
    assert best_epoch == scores.index(best)


@pytest.mark.parametrize("learner", ["adam_norm_grad", "adam"])
@pytest.mark.parametrize("length", [{"warmup_epochs": 3}, {"total_anneal_steps": 40}])
def test_recboles_own_trainer_trains_our_models_as_ours_does(tiny, learner, length):
    settings = {**tiny, "epochs": 5, "learner": learner, "weight_decay": 0.01, **length}
    ours = fit("GatedHVamp", settings)
    theirs = fit("GatedHVamp", settings, trainer_class=Trainer)
    assert type(theirs[0].optimizer) is type(ours[0].optimizer)
    for key, value in ours[1].state_dict().items():
        torch.testing.assert_close(theirs[1].state_dict()[key], value, msg=key)
    assert theirs[2] == ours[2]


def test_the_kl_weight_follows_the_epochs_whoever_trains(tiny):
    settings = {**tiny, "anneal_cap": 0.3, "warmup_epochs": 3}
    _, (train, _, _), network, _ = build("Vamp", "tiny", settings)
    weights = []
    network.train()
    for _ in range(5):
        for batch in train:
            reconstruction, weighted = network.calculate_loss(batch)
            (reconstruction + weighted).backward()
            weights.append(weighted.item())
        # A loss that is only looked at is not trained on.
        network.eval()
        network.calculate_loss(batch)
        network.train()
    # 4 batches an epoch.
    assert weights[:4] == [0.0] * 4
    assert all(weight > 0 for weight in weights[4:])
    assert float(network.warmup.weight) == pytest.approx(0.3)
    assert [int(network.warmup.epoch), int(network.warmup.step)] == [5, 20]


def test_losses_are_named_wherever_they_are_logged(tiny, caplog, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", fake := Mock(run=Mock(summary={})))
    settings = {**tiny, "warmup_epochs": 2, "state": "info", "log_wandb": True}
    states = []
    for shown in (True, False):
        with caplog.at_level(logging.INFO):
            trainer, network, _, _ = fit("GatedHVamp", settings, show_progress=shown)
        states.append(network.state_dict())
        assert ("Train" in capsys.readouterr().err) == shown
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    trainer.tensorboard.flush()
    events = EventAccumulator(trainer.tensorboard.log_dir).Reload()
    tags = events.Tags()["scalars"]
    assert {"Loss/reconstruction", "Loss/kl", "Loss/kl_weight", "Vaild_score"} <= set(tags)
    # Without a log file, runs of the same second share a folder.
    weights = [event.value for event in events.Scalars("Loss/kl_weight")]
    assert weights[-2:] == pytest.approx([0, 0.15])
    values = [e.value for e in events.Scalars("Loss/reconstruction")]
    assert all(math.isfinite(value) and value > 0 for value in values)
    assert "reconstruction" in caplog.text
    assert "kl weight" in caplog.text
    logged = [call.args[0] for call in fake.log.call_args_list]
    training = [entry for entry in logged if "train/train_loss" in entry][:2]
    assert [entry["train_step"] for entry in training] == [0, 1]
    assert {"reconstruction", "kl", "kl_weight"} == training[0]["train/train_loss"].keys()


def test_logged_losses_are_means_over_users(tiny):
    _, loaders, network, trainer = build("Vamp", "tiny", tiny)
    sizes = []

    def terms(interaction):
        sizes.append(len(interaction))
        zero = sum(p.sum() for p in network.parameters()) * 0
        return zero + len(interaction), zero + 1.0

    losses = trainer._train_epoch(loaders[0], 0, loss_func=terms)
    assert len(set(sizes)) == 2  # the last batch is smaller
    assert losses["reconstruction"] == pytest.approx(sum(s * s for s in sizes) / sum(sizes))
    assert losses["kl"] == pytest.approx(1)


def saved_weights():
    """Of every file that is not empty."""
    for path in filter(os.path.getsize, glob.glob("saved/*")):
        yield from torch.load(path, weights_only=True)["state_dict"].values()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("device", ["cpu", "as on a GPU"])
def test_a_broken_loss_leaves_the_last_good_model(tiny, device, value):
    settings = {**tiny, "epochs": 9, "learning_rate": 0.01, "resumable": True}
    _, loaders, network, trainer = build("Vamp", "tiny", settings)
    original, steps = network.loss_terms, []

    def terms(interaction):
        steps.append(1)
        # 4 steps an epoch: the third one of epoch 2.
        return [term * (value if len(steps) == 11 else 1) for term in original(interaction)]

    network.loss_terms = terms
    if device != "cpu":
        # There the losses are looked at once an epoch: the fifth time here.
        looks, look = [], trainer._check_losses
        trainer._check_losses = lambda *args: (
            look(*args) if len(looks) % 5 == 4 else None,
            looks.append(1),
        )
    with pytest.raises(ValueError, match="loss is") as caught:
        trainer.fit(loaders[0], loaders[1])
    path = trainer.saved_model_file
    assert str(caught.value).partition(" in ")[2] == (
        "epoch 2, step 2, with learning_rate 0.01: try a smaller one. "
        f"The model of epoch {trainer.best_epoch} is kept in {path}, and resume={path} resumes "
        "from the last state."
    )
    assert all(value.isfinite().all() for value in saved_weights())


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"learner": "adam"}, "a smaller one or clip_grad_norm={'max_norm': 1}."),
        (
            {"learner": "sgd", "clip_grad_norm": {"max_norm": 9}, "enable_amp": True},
            "a smaller one or a smaller max_norm or enable_amp=False.",
        ),
    ],
)
def test_the_advice_when_training_diverges_is_one_that_works(tiny, settings, advice):
    trainer = build("Vamp", "tiny", {**tiny, **settings})[3]
    trainer.best_epoch = -1
    assert str(trainer._diverged("Loss")).endswith(f"try {advice}")


def test_weights_broken_by_the_last_step_are_not_saved(tiny):
    _, loaders, network, trainer = build("Vamp", "tiny", {**tiny, "resumable": True})
    step, steps = trainer.optimizer.step, []

    def last_step_breaks(closure=None):
        step(closure)
        steps.append(1)
        if len(steps) == 8:
            with torch.no_grad():
                network.network.output.bias[3] = math.nan

    trainer.optimizer.step = last_step_breaks
    with pytest.raises(ValueError, match=r"Weights are not finite after epoch 1, .*learning_rate"):
        trainer.fit(loaders[0], loaders[1])
    assert torch.load(trainer.saved_model_file, weights_only=True)["epoch"] == 0
    assert all(value.isfinite().all() for value in saved_weights())


@pytest.mark.parametrize("learner", ["adam_norm_grad", "adam", "sgd", "adamw"])
def test_learners(tiny, learner):
    changes = {"learner": learner}
    if learner == "sgd":
        changes["clip_grad_norm"] = {"max_norm": 1e-3}
    _, loaders, network, trainer = build("Vamp", "tiny", {**tiny, **changes})
    assert isinstance(trainer.optimizer, AdamNormGrad) == (learner == "adam_norm_grad")
    assert bool(trainer.optimizer.defaults.get("fused")) == (learner in ("adam", "adam_norm_grad"))
    losses = trainer._train_epoch(loaders[0], 0)
    assert math.isfinite(losses["reconstruction"])
    if learner == "sgd":
        norm = torch.stack([p.grad.norm() for p in network.parameters()]).norm()
        assert norm <= 1.01e-3


def test_amp_trains_in_bfloat16(tiny, monkeypatch):
    kinds = set()
    original = torch.nn.functional.linear

    def linear(x, *args):
        result = original(x, *args)
        kinds.add(result.dtype)
        return result

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    _, network, _, _ = fit("GatedHVamp", {**tiny, "enable_amp": True})
    assert torch.bfloat16 in kinds
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"warmup_epochs": 9}, "set total_anneal_steps instead of warmup_epochs (~), so that"),
        ({"warmup_epochs": None, "total_anneal_steps": 99}, "try another seed or a smaller"),
    ],
)
def test_a_prior_that_loses_the_posteriors_is_told_of_once(tiny, settings, advice):
    trainer = build("Vamp", "tiny", {**tiny, **settings})[3]
    trainer.logger = Mock()
    # What an untrained prior may cost in the first epochs is no reason to worry.
    for kl, weight in [(9e6, 0.0), (9e6, 0.1), (9e4, 0.2), (100.0, 0.3), (2001.0, 0.4)]:
        trainer._watch_kl(200.0, kl, weight)
    trainer._watch_kl(200.0, 3000.0, 0.5)
    assert not trainer.logger.warning.called
    for kl in (5000.0, 6000.0, 7000.0):
        trainer._watch_kl(200.0, kl, 0.6)
    (call,) = trainer.logger.warning.call_args_list
    assert call.args[0].startswith("The KL term, 5,000, is 25 times the reconstruction: ")
    assert advice in call.args[0]


@pytest.mark.parametrize(
    ("scaler", "has_bf16", "expected"),
    [
        (False, True, torch.bfloat16),
        (True, True, torch.float16),
        # Turing and older.
        (False, False, torch.float16),
    ],
)
def test_half_precision_on_a_gpu(tiny, monkeypatch, scaler, has_bf16, expected):
    trainer = build("GatedVamp", "tiny", tiny)[3]
    trainer.device, trainer.enable_scaler = torch.device("cuda"), scaler
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    used = Mock(side_effect=RuntimeError)
    monkeypatch.setattr(torch, "autocast", used)
    with pytest.raises(RuntimeError):
        trainer._train_batch([0], Mock(), Mock())
    assert used.call_args.args == ("cuda", expected)


def test_without_validation_the_last_epoch_is_saved(tiny):
    _, loaders, _, trainer = build("Vamp", "tiny", tiny)
    trainer.fit(loaders[0])
    assert torch.load(trainer.saved_model_file, weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_steps_follow_the_formula(weight_decay):
    torch.manual_seed(0)
    start = [torch.randn(3, 4), torch.randn(5)]
    parameters = [torch.nn.Parameter(t.clone()) for t in start]
    optimizer = AdamNormGrad(parameters, lr=0.01, weight_decay=weight_decay)
    values = [t.clone().double() for t in start]
    first = [torch.zeros_like(v) for v in values]
    second = [torch.zeros_like(v) for v in values]
    for step in range(1, 6):
        for index, parameter in enumerate(parameters):
            gradient = torch.randn_like(parameter) * 10**index
            parameter.grad = gradient.clone()
            g = gradient.double() / (gradient.double().norm() + 1e-7)
            g = g + weight_decay * values[index]
            first[index] = 0.9 * first[index] + 0.1 * g
            second[index] = 0.999 * second[index] + 0.001 * g**2
            corrected = second[index] / (1 - 0.999**step)
            update = first[index] / (1 - 0.9**step) / (corrected.sqrt() + 1e-8)
            values[index] = values[index] - 0.01 * update
        optimizer.step()
    for parameter, value in zip(parameters, values):
        torch.testing.assert_close(parameter.detach().double(), value, rtol=1e-4, atol=1e-6)


def test_parameters_without_a_gradient_or_with_zeros_stay():
    first, *others, last = parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
    first.grad = torch.zeros(2)
    AdamNormGrad([{"params": [first, *others]}, {"params": [last]}], lr=1.0).step()
    assert [each.tolist() for each in parameters] == [[1, 1]] * 3


def test_compiled_layers_give_the_same_losses(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    settings = {**tiny, "epochs": 2, "eval_step": 0, "mlp_hidden_size": [8, 8]}
    losses = []
    for compiles in (False, True):
        with torch.random.fork_rng():
            trainer, network, *_ = fit("GatedHVamp", {**settings, "compile": compiles})
        losses.append([*trainer.train_loss_dict.values()])
        found = [name for name, module in network.named_modules() if module._compiled_call_impl]
        assert ("network.decoder.joint" in found) == compiles
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_without_a_compiler_it_is_said_at_once(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    message = r"^compile: True cannot be done here \(InvalidCxxCompiler.*install what is missing"
    with pytest.raises(ValueError, match=message):
        build("Vamp", "tiny", {**tiny, "compile": True})
