"""The trainer of the models: RecBole's, with KL warm-up, named losses and unit-norm Adam."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector
from recbole.evaluator.collector import DataStruct
from recbole.trainer import Trainer
from recbole.utils import set_color
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from recbole_evcf import distributed
from recbole_evcf.data.identity import digest_of_part
from recbole_evcf.trainer.checkpoint import copied, fixed_weights, tested_model_files
from recbole_evcf.trainer.pace import Pace
from recbole_evcf.trainer.resumption import Resumption
from recbole_evcf.trainer.shared_processor import SharedProcessor
from recbole_evcf.trainer.shares import Shares
from recbole_evcf.utils.text import one_line, shortened

# Of a batch, reconstruction and KL before weighting.
LossTerms = Callable[..., tuple[Tensor, Tensor]]
# A KL term so many times the reconstruction, for so many epochs, does not come down by itself.
LOST_KL, LOST_EPOCHS = 10, 3
OTHER_DATA = (
    "Process {rank} of {count} (they count from 0) does not train on the data of the first: the "
    "data set must be the same on all machines."
)


class AdamNormGrad(torch.optim.Adam):
    """Adam on gradients that are first scaled to unit L2 norm, tensor by tensor, as the paper's
    authors trained: ``g / (|g| + 1e-7)``.

    Takes the arguments of ``torch.optim.Adam``. The steps run in torch's fused kernel; each of
    several processes updates a part of every tensor.
    """

    EPSILON = 1e-7

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0):
        super().__init__(params, lr=lr, weight_decay=weight_decay, fused=True)
        # A gradient scaler must unscale first: the fused kernel would do so after our scaling.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> Any:
        """Take a step, as ``torch.optim.Adam.step`` does."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return super().step(closure)
        norms: tuple[Tensor, ...] | None = None
        if distributed.count() > 1:
            # A norm of norms: the rows are the processes'.
            own = torch.stack(torch._foreach_norm(gradients))
            norms = distributed.gather(own).norm(dim=0).unbind()
        if all(g.device.type == "cpu" and g.dtype == torch.float32 for g in gradients):
            return self._step_by_tensor(iter(norms or map(torch.linalg.vector_norm, gradients)))
        norms = norms or tuple(torch._foreach_norm(gradients))
        torch._foreach_add_(norms, self.EPSILON)
        torch._foreach_div_(gradients, norms)
        return super().step(closure)

    def _step_by_tensor(self, norms: Iterator[Tensor]) -> None:
        """The same where memory is slow: the kernel divides, while the gradient is in the caches. A
        GPU would rather start few kernels, and only in single precision does the kernel divide."""
        for group in self.param_groups:
            tensors: list[list[Tensor]] = [[] for _ in range(6)]
            self._init_group(group, *tensors)
            if not tensors[0]:
                continue
            torch._foreach_add_(tensors[-1], 1)
            for parameter, gradient, mean, square, step in zip(*tensors[:4], tensors[-1]):
                norm = next(norms) + self.EPSILON
                torch._fused_adam_(
                    [parameter], [gradient], [mean], [square], [], [step], grad_scale=norm,
                    lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1],
                    weight_decay=group["weight_decay"], eps=group["eps"],
                    amsgrad=False, maximize=False,
                )  # fmt: skip


class VAETrainer(Trainer):
    """RecBole's ``Trainer`` for a :class:`~recbole_evcf.model.recommender.VAERecommender`: losses
    are means over users and carry their names, and the state of training may be kept on the disk.

    With several processes, each computes a part of every batch, for training and for full ranking,
    encodes a part of the pseudo-inputs and updates a part of the weights
    (:mod:`~recbole_evcf.trainer.shares`). What is to be ranked is gathered before the metrics are
    computed: all but rounding is as with one process.

    A best model that comes too soon after the last file was written waits in memory: for its turn,
    for a better one, or for the end of training, by whatever it ends.

    Attributes:
        resumption: keeps that state; None where it is not kept.
    """

    # What RecBole's trainer sets.
    best_valid_result: dict[str, float] | None
    cur_step: int
    saved_model_file: str
    # Progress that a state holds. Weights, optimiser and warm-up are in every model file.
    PROGRESS: tuple[str, ...] = ("best_epoch", "best_valid_score", "best_valid_result")
    PROGRESS += ("cur_step", "train_loss_dict")
    resumption: Resumption | None = None
    _validated: dict[str, float] | None = None
    # How many epochs in a row the KL term has been far too large.
    _lost_epochs = 0
    # While it trains; and the checkpoint of the best model, if it has yet to be written.
    _pace: Pace | None = None
    _waiting: dict[str, Any] | None = None
    _shares: Shares | None = None
    _processor: SharedProcessor | None = None

    def __init__(self, config: Config, model: nn.Module):
        # Other data may have other items, and gloo aborts on what is too large.
        shapes = [[name, list(weight.shape)] for name, weight in model.state_dict().items()]
        distributed.agree(shapes, OTHER_DATA)
        distributed.copy_from_first(model.state_dict().values())
        if distributed.count() > 1:
            self._shares = Shares(model)
        super().__init__(config, model)
        if config["compile"]:
            _compile(self.model)
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

        def after_validation(epoch: int, score: float) -> None:
            if callback_fn:
                callback_fn(epoch, score)
            # Not of the epoch that stops: from its state one more would be trained.
            if saved and self.cur_step > self.stopping_step:
                # RecBole's reckoning of the best epoch leaves out the warm-up.
                self.cur_step = (epoch - self.best_epoch) // self.eval_step
            else:
                self._keep_state(epoch)

        self.best_epoch, self.resumption = self.start_epoch - 1, None
        alone = self.device.type == "cpu" and distributed.count() == 1
        self._processor = SharedProcessor() if alone else None
        if self.config["resume"] or self.config["resumable"]:
            if not saved:
                raise ValueError("resume and resumable need model files: leave out saved=False.")
            self.resumption = Resumption(self, (train_data, valid_data))
        with self.resumption or contextlib.nullcontext():
            # Of a complete run RecBole would save the last epoch in place of the best.
            if self.resumption and self.resumption.start() and self.start_epoch >= self.epochs:
                saved = False
            if distributed.count() > 1:
                digest = digest_of_part(train_data._dataset, self.model._histories)
                distributed.agree(digest, OTHER_DATA)
            arguments = (train_data, valid_data, verbose, saved, show_progress)
            self._pace = Pace()
            try:
                return super().fit(*arguments, after_validation)
            finally:
                self._write_waiting()
                self._pace = None

    def _build_optimizer(self, **kwargs: Any) -> torch.optim.Optimizer:
        if self._shares is None:
            return super()._build_optimizer(**kwargs)
        optimizer = super()._build_optimizer(**{"params": self._shares.weights, **kwargs})
        self._shares.keep_state_whole(optimizer)
        return optimizer

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> tuple[float, dict[str, float]]:
        score, self._validated = super()._valid_epoch(*args, **kwargs)
        return score, self._validated

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        if not kwargs:
            # RecBole saves the best epoch, before it notes its result.
            self.best_epoch, self.best_valid_result = epoch, self._validated
        if not distributed.is_first():
            # Its state is gathered for the process that writes it.
            self.optimizer.state_dict()
        super()._save_checkpoint(epoch, verbose, **kwargs)

    def _write_checkpoint(self, state: dict[str, Any], path: str, verbose: bool) -> None:
        # A better one replaces it, before the copy is made; a state comes after it was written.
        self._waiting = None
        if path == self.saved_model_file and self._pace and not self._pace.is_due():
            fixed, weights = fixed_weights(self.model), state.pop("state_dict")
            kept = {name: w if name in fixed else copied(w) for name, w in weights.items()}
            self._waiting = {**copied(state), "state_dict": kept}
            return
        with self._pace.writing() if self._pace else contextlib.nullcontext():
            super()._write_checkpoint(state, path, verbose)

    def _write_waiting(self) -> None:
        state, self._waiting, pace = self._waiting, None, self._pace
        if state is not None and pace:
            with pace.writing():
                super()._write_checkpoint(state, self.saved_model_file, verbose=True)

    def _keep_state(self, epoch: int) -> None:
        """Write what is to be kept of an epoch, unless that would take too much of the time."""
        if self._pace and distributed.from_first(self._pace.is_due()):
            self._write_waiting()
            if self.resumption:
                self.resumption.after_epoch(epoch)

    def _train_epoch(
        self,
        train_data: Any,
        epoch_idx: int,
        loss_func: LossTerms | None = None,
        show_progress: bool = False,
    ) -> dict[str, float]:
        """Train for an epoch; arguments are RecBole's, ``loss_func`` as the model's ``loss_terms``.

        Returns ``reconstruction`` and ``kl``, means over the users, and ``kl_weight``.
        """
        self.model.train()
        self.model.warmup.begin_epoch()
        loss_func = loss_func or self.model.loss_terms
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.enable_scaler)
        # Summed up on the device: reading a loss each batch would stall a GPU.
        totals, users = torch.zeros(2, device=self.device), 0
        finite_steps = torch.zeros((), dtype=torch.long, device=self.device)
        title = set_color(f"Train {epoch_idx:>5}", "pink")
        with self._shares.training() if self._shares else contextlib.nullcontext():
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
        if self._processor and (advice := self._processor.advice()):
            self.logger.warning(advice)
            self._processor = None
        weight = float(self.model.warmup.weight)
        self.model.warmup.epoch += 1
        reconstruction, kl = (totals / users).tolist()
        self._watch_kl(reconstruction, kl, weight)
        return {"reconstruction": reconstruction, "kl": kl, "kl_weight": weight}

    def _watch_kl(self, reconstruction: float, kl: float, weight: float) -> None:
        """Warn, once, of a prior that stays far from all posteriors."""
        is_lost = weight > 0 and kl > LOST_KL * reconstruction > 0
        self._lost_epochs = self._lost_epochs + 1 if is_lost else 0
        if self._lost_epochs != LOST_EPOCHS:
            return
        advice = "try another seed or a smaller learning_rate"
        if self.model.warmup.steps is None:
            advice = "set total_anneal_steps instead of warmup_epochs (~), so that it rises at once"
        self.logger.warning(
            f"The KL term, {kl:,.0f}, is {kl / reconstruction:.0f} times the reconstruction: with "
            "little or no KL weight the posteriors have left the prior, and may never come back. "
            f"The model would then rank badly: {advice}."
        )

    def _train_batch(
        self, interaction: Interaction, loss_func: LossTerms, scaler: torch.amp.GradScaler
    ) -> tuple[Tensor, Tensor]:
        self.optimizer.zero_grad()
        self.model.warmup.step += 1
        part = distributed.part(len(interaction))
        arguments = (interaction,) if part is None else (interaction, part)
        with torch.autocast(self.device.type, self._half_precision, enabled=self.enable_amp):
            reconstruction, kl = loss_func(*arguments)
        loss = reconstruction + self.model.warmup.weight * kl
        scaler.scale(loss).backward()
        terms = reconstruction.detach(), kl.detach()
        # A number that is not finite ends all processes at once.
        distributed.sum_up(terms)
        if self._shares:
            self._shares.sum_gradients(scaler.is_enabled())
        if self.clip_grad_norm:
            scaler.unscale_(self.optimizer)
            if self._shares:
                self._shares.clip(**self.clip_grad_norm)
            else:
                clip_grad_norm_(self.model.parameters(), **self.clip_grad_norm)
        scaler.step(self.optimizer)
        scaler.update()
        if self._shares:
            self._shares.gather_weights()
        return terms

    @cached_property
    def _half_precision(self) -> torch.dtype:
        # Gated layers of pseudo-inputs leave the range of fp16, a GPU's default: that is for who
        # asks for a gradient scaler, and for GPUs that have nothing else.
        is_gpu = self.device.type == "cuda"
        has_bf16 = not is_gpu or torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.float16 if self.enable_scaler or not has_bf16 else torch.bfloat16

    def _full_sort_batch_eval(self, batched_data: tuple) -> tuple:
        interaction, history, *positives = batched_data
        part = distributed.part(len(interaction))
        if part is not None:
            self.eval_collector.gathers = True

            def own(users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
                kept = (users >= part.start) & (users < part.stop)
                return users[kept] - part.start, items[kept]

            seen = history if history is None else own(*history)
            batched_data = interaction[part.rows], seen, *own(*positives)
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
        if load_best_model:
            best = model_file or self.saved_model_file
            tested_model_files.append(str(best))
            if eval_data:
                self._load(best)
        result = super().evaluate(eval_data, False, show_progress=show_progress)
        if self.resumption:
            self.resumption.after_evaluation(eval_data)
        return distributed.from_first(result)

    def _load(self, model_file: str) -> None:
        # Of several processes only the first need have the file.
        with distributed.file_of_first(model_file) as path:
            self.logger.info(f"Loading model structure and parameters from {path}")
            # Mapped: what is not read takes no memory, as the optimizer's moments.
            state = torch.load(path, "cpu", weights_only=True, mmap=True)
            self.model.load_state_dict(state["state_dict"])
            self.model.load_other_parameter(state.get("other_parameter"))

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
            clips = self.clip_grad_norm
            advice.append("a smaller max_norm" if clips else "clip_grad_norm={'max_norm': 1}")
        if self.enable_amp:
            advice.append("enable_amp=False")
        text = f"{what}, with learning_rate {self.learning_rate}: {' or '.join(advice)}"
        path = self.saved_model_file
        if self.best_epoch >= 0 and os.path.exists(path):
            text += f". The model of epoch {self.best_epoch} is kept in {path}"
            if self.resumption:
                text += f", and resume={path} resumes from the last state"
        return ValueError(f"{text}.")

    def _generate_train_loss_output(
        self, epoch_idx: int, s_time: float, e_time: float, losses: dict[str, float]
    ) -> str:
        places = self.config["loss_decimal_place"] or 4
        parts = {"time": f"{e_time - s_time:.2f}s"}
        parts |= {name.replace("_", " "): f"{v:.{places}f}" for name, v in losses.items()}
        named = ", ".join(f"{set_color(name, 'blue')}: {value}" for name, value in parts.items())
        return set_color(f"epoch {epoch_idx} training", "green") + f" [{named}]"

    def _add_train_loss_to_tensorboard(
        self, epoch_idx: int, losses: dict[str, float], tag: str = "Loss"
    ) -> None:
        # RecBole notes what an epoch returns.
        loss = losses["reconstruction"] + losses["kl_weight"] * losses["kl"]
        self.train_loss_dict[epoch_idx] = loss
        for name, value in losses.items():
            self.tensorboard.add_scalar(f"{tag}/{name}", value, epoch_idx)
        # Where no validation follows.
        if self.eval_step > 0 and (epoch_idx + 1) % self.eval_step:
            self._keep_state(epoch_idx)


def _compile(model: nn.Module) -> None:
    """Let torch compile the dense layers; others are functions with gradients of their own."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(2, device=next(model.parameters()).device))
    # Whatever is missing, torch names it.
    except Exception as error:
        raise ValueError(
            f"compile: True cannot be done here ({shortened(one_line(error), 120)}): install what "
            "is missing, such as the C++ compiler g++, or leave out compile."
        ) from error
    for module in model.modules():
        if isinstance(module, nn.Sequential):
            module.compile()


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
