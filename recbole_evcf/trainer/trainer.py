"""The trainer of the models: RecBole's, with KL warm-up, named losses and unit-norm Adam."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from time import time
from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector
from recbole.evaluator.collector import DataStruct
from recbole.trainer import Trainer
from recbole.utils import dict2str, early_stopping, set_color
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_evcf import distributed
from recbole_evcf.data.histories import BatchShard
from recbole_evcf.data.identity import digest_of_part
from recbole_evcf.trainer.checkpoint import load_checkpoint, note_tested
from recbole_evcf.trainer.resumption import Resumption
from recbole_evcf.trainer.state_files import state_of

__all__ = ["VAETrainer"]

# Of a batch, reconstruction and KL before weighting.
LossTerms = Callable[..., tuple[Tensor, Tensor]]
CLIPPING = "clip_grad_norm={'max_norm': 1}"
OTHER_DATA = (
    "Process {rank} of {count} (they count from 0) does not train on the data of the first: the "
    "data set must be the same on all machines."
)


class VAETrainer(Trainer):
    """Trains a :class:`~recbole_evcf.model.recommender.VAERecommender`.

    It is RecBole's ``Trainer``, but the losses shown and logged are means over users and carry
    their names. With ``resumable`` or ``resume`` the state of training is kept on the disk, and
    restored with ``resume``.

    With several processes, each computes a part of every batch, for training and for full ranking.
    Gradients are summed before the optimiser sees them, and what is to be ranked is gathered before
    the metrics are computed: all but rounding is as with one process.

    Attributes:
        resumption: keeps that state; None where it is not kept.
    """

    # What RecBole's trainer sets.
    best_valid_score: float
    best_valid_result: dict[str, float] | None
    cur_step: int
    saved_model_file: str
    # Progress that a state holds. Weights, optimiser and warm-up are in every model file.
    PROGRESS = (
        "best_epoch",
        "best_valid_score",
        "best_valid_result",
        "cur_step",
        "train_loss_dict",
    )
    resumption: Resumption | None = None

    def __init__(self, config: Config, model: nn.Module):
        super().__init__(config, model)
        self._check_same_shapes()
        distributed.copy_from_first(self.model.state_dict().values())
        # Each has drawn a name of its own.
        self.saved_model_file = distributed.from_first(self.saved_model_file)
        if distributed.count() > 1:
            self.eval_collector = _GatheringCollector(config)

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], Any] | None = None,
    ) -> tuple[float, dict[str, float] | None]:
        """Train until ``epochs`` or early stopping; arguments and result are RecBole's."""
        self.best_epoch = self.start_epoch - 1
        log: Callable[[str], None] = self.logger.info if verbose else lambda message: None
        try:
            resumed = self._resume((train_data, valid_data), saved)
            if saved and not resumed and self.start_epoch >= self.epochs:
                self._save_checkpoint(-1, verbose=verbose)
            self.eval_collector.data_collect(train_data)
            self._check_same_data(train_data)
            for epoch in range(self.start_epoch, self.epochs):
                start = time()
                losses = self._train_epoch(train_data, epoch, show_progress=show_progress)
                log(self._describe_losses(epoch, time() - start, losses))
                self._log_losses(epoch, losses)
                if self.eval_step <= 0 or not valid_data:
                    self.best_epoch = epoch
                    if saved:
                        self._save_checkpoint(epoch, verbose=verbose)
                elif (epoch + 1) % self.eval_step == 0:
                    score, stop = self._validate(epoch, valid_data, show_progress, log)
                    if saved and self.best_epoch == epoch:
                        self._save_checkpoint(epoch, verbose=verbose)
                    if callback_fn:
                        callback_fn(epoch, score)
                    if stop:
                        log(f"Finished training, best eval result in epoch {self.best_epoch}")
                        break
                # Not of the epoch that stops: from its state one more would be trained.
                if self.resumption:
                    self.resumption.after_epoch(epoch)
        except BaseException:
            # Whatever stopped it, another process may resume the run.
            if self.resumption:
                self.resumption.leave()
            raise
        self._add_hparam_to_tensorboard(self.best_valid_score)
        if self.resumption:
            self.resumption.trained = True
        return self.best_valid_score, self.best_valid_result

    def _resume(self, loaders: tuple[Any, Any], saved: bool) -> bool:
        """Prepare to keep the state of training, and resume from one if that is asked for."""
        self.resumption = None
        if not (self.config["resume"] or self.config["resumable"]):
            return False
        if not saved:
            raise ValueError("resume and resumable need model files: leave out saved=False.")
        self.resumption = Resumption(self, loaders)
        return self.resumption.start()

    def training_state(self) -> dict[str, Any]:
        """Return what a model file holds, beside RecBole's keys, of a run that can be resumed."""
        return {"training": self.resumption.state()} if self.resumption else {}

    def _validate(
        self, epoch: int, valid_data: Any, show_progress: bool, log: Callable[[str], None]
    ) -> tuple[float, bool]:
        """Note whether the epoch is the best so far; return its score and whether to stop."""
        start = time()
        score, result = self._valid_epoch(valid_data, show_progress=show_progress)
        title = set_color(f"epoch {epoch} evaluating", "green")
        parts = _named("time", f"{time() - start:.2f}s"), _named("valid_score", f"{score:f}")
        log(f"{title} [{', '.join(parts)}]")
        log(set_color("valid result", "blue") + ": \n" + dict2str(result))
        # RecBole's own tag, spelt as it spells it, so that its runs and ours share a chart.
        self.tensorboard.add_scalar("Vaild_score", score, epoch)
        step = (epoch + 1) // self.eval_step - 1
        self.wandblogger.log_metrics({**result, "valid_step": step}, head="valid")
        self.best_valid_score, self.cur_step, stop, better = early_stopping(
            *(score, self.best_valid_score, self.cur_step),
            max_step=self.stopping_step,
            bigger=self.valid_metric_bigger,
        )
        if better:
            self.best_epoch, self.best_valid_result = epoch, result
        return score, stop

    def _train_epoch(
        self,
        train_data: Any,
        epoch_idx: int,
        loss_func: LossTerms | None = None,
        show_progress: bool = False,
    ) -> dict[str, float]:
        """Train for an epoch.

        Arguments are RecBole's; ``loss_func`` returns reconstruction and KL before weighting.

        Returns:
            ``reconstruction`` and ``kl``, means over the users, and ``kl_weight``.
        """
        self.model.train()
        self.model.warmup.begin_epoch()
        loss_func = loss_func or self.model.loss_terms
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.enable_scaler)
        # Summed up on the device: reading a loss each batch would stall a GPU.
        totals, users = torch.zeros(2, device=self.device), 0
        finite_steps = torch.zeros((), dtype=torch.long, device=self.device)
        title = set_color(f"Train {epoch_idx:>5}", "pink")
        for interaction in tqdm(train_data, title, ncols=100, disable=not show_progress):
            # The ids stay on the host, where the histories look them up.
            terms = self._train_batch(interaction, loss_func, scaler)
            totals += torch.stack(terms) * len(interaction)
            users += len(interaction)
            finite_steps += totals.isfinite().all()
            if self.device.type == "cpu":
                self._check_losses(totals, epoch_idx, finite_steps)
        self._check_losses(totals, epoch_idx, finite_steps)
        self._check_weights(epoch_idx)
        weight = float(self.model.warmup.weight)
        self.model.warmup.epoch += 1
        reconstruction, kl = (totals / users).tolist()
        self.train_loss_dict[epoch_idx] = reconstruction + weight * kl
        return {"reconstruction": reconstruction, "kl": kl, "kl_weight": weight}

    def _train_batch(
        self, interaction: Interaction, loss_func: LossTerms, scaler: torch.amp.GradScaler
    ) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad()
        self.model.warmup.step += 1
        part = distributed.part(len(interaction))
        arguments = (interaction,) if part is None else (interaction, part)
        with torch.autocast(self.device.type, enabled=self.enable_amp):
            reconstruction, kl = loss_func(*arguments)
        loss = reconstruction + self.model.warmup.weight * kl
        scaler.scale(loss).backward()
        terms = reconstruction.detach(), kl.detach()
        # The losses too: a number that is not finite ends all processes at once.
        gradients = (weight.grad for weight in self.model.parameters())
        distributed.sum_up([*terms, *(each for each in gradients if each is not None)])
        if self.clip_grad_norm:
            scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
        scaler.step(self.optimizer)
        scaler.update()
        return terms

    def _full_sort_batch_eval(self, batched_data: tuple) -> tuple:
        part = distributed.part(len(batched_data[0]))
        if part is not None:
            self.eval_collector.gathers = True
            batched_data = _rows_of_batch(batched_data, part)
        return super()._full_sort_batch_eval(batched_data)

    def _neg_sample_batch_eval(self, batched_data: tuple) -> tuple:
        # Candidates are drawn user by user: each process draws and ranks them all.
        self.eval_collector.gathers = False
        return super()._neg_sample_batch_eval(batched_data)

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> dict[str, float] | None:
        """Evaluate on a dataloader; arguments and result are RecBole's."""
        if distributed.count() > 1 and eval_data and load_best_model:
            self._load_from_first(model_file or self.saved_model_file)
            load_best_model = False
        result = super().evaluate(eval_data, load_best_model, model_file, show_progress)
        if self.resumption:
            self.resumption.after_evaluation(eval_data)
        return distributed.from_first(result)

    def _load_from_first(self, path: str) -> None:
        """Load a model file that only the first process need have."""
        note_tested(path)
        if distributed.is_first():
            checkpoint = load_checkpoint(path, self.device)
            self.model.load_state_dict(checkpoint["state_dict"])
            self.model.load_other_parameter(checkpoint.get("other_parameter"))
            self.logger.info(f"Loading model structure and parameters from {path}")
        distributed.copy_from_first(self.model.state_dict().values())

    def _check_same_shapes(self) -> None:
        """Check shapes: other data may have other items, and gloo aborts on what is too large."""
        weights = self.model.state_dict().items()
        distributed.agree([[name, list(weight.shape)] for name, weight in weights], OTHER_DATA)

    def _check_same_data(self, train_data: Any) -> None:
        if distributed.count() > 1:
            digest = digest_of_part(train_data._dataset, self.model._histories)
            distributed.agree(digest, OTHER_DATA)

    def _check_losses(self, totals: Tensor, epoch: int, finite_steps: Tensor) -> None:
        loss = totals.sum().item()
        if not math.isfinite(loss):
            raise self._diverged(f"Training loss is {loss} in epoch {epoch}, step {finite_steps}")

    def _check_weights(self, epoch: int) -> None:
        """Check the weights, which the step after the last loss may have broken."""
        largest = torch.stack(torch._foreach_norm(list(self.model.parameters()), math.inf))
        if not largest.isfinite().all():
            raise self._diverged(f"Weights are not finite after epoch {epoch}")

    def _diverged(self, what: str) -> ValueError:
        advice = ["try a smaller one"]
        # That one scales gradients to unit norm whatever they are.
        if self.learner.lower() != "adam_norm_grad":
            advice.append("a smaller max_norm" if self.clip_grad_norm else CLIPPING)
        if self.enable_amp:
            advice.append("enable_amp=False")
        return ValueError(
            f"{what}, with learning_rate {self.learning_rate}: {' or '.join(advice)}"
            f"{self._what_is_kept()}."
        )

    def _what_is_kept(self) -> str:
        path = self.saved_model_file
        if self.best_epoch < 0 or not os.path.exists(path):
            return ""
        kept = f". The model of epoch {self.best_epoch} is kept in {path}"
        state = state_of(path) if self.resumption else None
        if state is None:
            return kept
        if state.epoch == self.best_epoch:
            return f"{kept}, and resume={path} resumes from there"
        return (
            f"{kept}, and resume={path} resumes after epoch {state.epoch}, or from there once "
            f"{state.file} is removed"
        )

    def _describe_losses(self, epoch: int, seconds: float, losses: dict[str, float]) -> str:
        places = self.config["loss_decimal_place"] or 4
        parts = [_named("time", f"{seconds:.2f}s")]
        parts += [_named(k.replace("_", " "), f"{v:.{places}f}") for k, v in losses.items()]
        return set_color(f"epoch {epoch} training", "green") + f" [{', '.join(parts)}]"

    def _log_losses(self, epoch: int, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            self.tensorboard.add_scalar(f"Loss/{name}", value, epoch)
        self.wandblogger.log_metrics({"epoch": epoch, **losses, "train_step": epoch}, head="train")


class _GatheringCollector(Collector):
    """RecBole's collector where each process ranks for a part of every batch.

    Attributes:
        gathers: whether the batches that come are such parts, or whole.
    """

    gathers = True
    data_struct: DataStruct

    def eval_batch_collect(self, scores_tensor: Tensor, *of_users: Any) -> None:
        """Collect as RecBole does, then gather what was collected of all users of the batch."""
        collected, self.data_struct = self.data_struct, DataStruct()
        users = len(scores_tensor)
        # RecBole cannot average the ranks of no users.
        scores = scores_tensor if users else scores_tensor.new_zeros(1, scores_tensor.shape[1])
        super().eval_batch_collect(scores, *of_users)
        batch, self.data_struct = self.data_struct, collected
        for name, rows in batch._data_dict.items():
            rows = distributed.gather_rows(rows[:users]) if self.gathers else rows
            self.data_struct.update_tensor(name, rows)


def _rows_of_batch(batched_data: tuple, part: BatchShard) -> tuple:
    """Take some users of a batch: (users, seen items, positives' rows, positive items)."""
    interaction, history, positive_u, positive_i = batched_data

    def own(rows: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        kept = (rows >= part.start) & (rows < part.stop)
        return rows[kept] - part.start, items[kept]

    history = own(*history) if history is not None else None
    return interaction[part.rows], history, *own(positive_u, positive_i)


def _named(name: str, value: str) -> str:
    return f"{set_color(name, 'blue')}: {value}"
