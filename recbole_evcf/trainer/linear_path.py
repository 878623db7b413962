"""The trainer of a network with a linear path, which the validation users choose."""

from collections.abc import Callable, Sequence
from typing import Any

from recbole_evcf import distributed
from recbole_evcf.data.histories import Histories
from recbole_evcf.trainer.trainer import VAETrainer

# Beside so large a weight of the linear path the network's logits are nothing.
ALONE = 1e6


class LinearPathTrainer(VAETrainer):
    """Trains a :class:`~recbole_evcf.model.linear_path.GatedHVampLinear`.

    The first epoch after every ``implicit_slim_interval`` steps begins with ImplicitSLIM, as long
    as the weight of the KL term rises.

    Before the first epoch, EDLAE's settings of which the config says ``auto`` climb from where they
    begin to neighbours that rank better without the network, as long as there are any. Each
    validation also tries the neighbouring weights of the linear path and the first one, and keeps
    the best. It is meant for full ranking: sampled negatives are drawn anew each time, so that the
    choice would follow their noise too.
    """

    _validated_by: Any = None

    def fit(
        self, train_data: Any, valid_data: Any = None, *args: Any, **kwargs: Any
    ) -> tuple[float, dict[str, float] | None]:
        """Train; arguments and result are RecBole's."""
        self._validated_by = valid_data
        return super().fit(train_data, valid_data, *args, **kwargs)

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any
    ) -> dict[str, float]:
        model = self.model
        if self._refines(len(train_data)):
            histories = Histories.from_dataset(train_data._dataset).to(self.device)
            model.refine_item_vectors(histories)
            distributed.copy_from_first(model.network.state_dict().values())
        if epoch_idx == 0 and model.is_linear_path_chosen and model.linear_weight > 0:
            histories = model.linear_histories(Histories.from_dataset(train_data._dataset))
            validates = self._validated_by and self.eval_step > 0
            chosen = self._chosen(model.searched(histories)) if validates else model.first_settings
            model.fit_linear_path(histories, chosen)
            # Rounding may differ between machines.
            distributed.copy_from_first([model.item_weights])
        return super()._train_epoch(train_data, epoch_idx, *args, **kwargs)

    def _refines(self, n_steps: int) -> bool:
        """Whether this epoch, of some steps, begins with ImplicitSLIM: its network does not rank as
        well before it has trained on."""
        interval, warmup = self.model.refinement_interval, self.model.warmup
        if not interval or warmup.is_finished:
            return False
        return int(warmup.step) // interval > max(int(warmup.step) - n_steps, 0) // interval

    def _chosen(self, histories: Histories) -> list[float]:
        """EDLAE's settings, by how it does alone."""
        model, tried = self.model, dict[tuple[float, ...], float]()
        axes, weight = model.candidate_settings, float(model.linear_weight)

        def score(settings: list[float]) -> float:
            if (key := tuple(settings)) not in tried:
                model.fit_linear_path(histories, settings)
                value, _ = super(LinearPathTrainer, self)._valid_epoch(self._validated_by)
                tried[key] = value if self.valid_metric_bigger else -value
            return tried[key]

        model.linear_weight.fill_(ALONE)
        try:
            best = climbed(score, axes, model.first_settings)
        finally:
            model.linear_weight.fill_(weight)
        chosen = ", ".join(f"{key} {value:g}" for key, value in zip(model.SETTINGS, best))
        self.logger.info(
            f"linear path: {chosen}: {self.valid_metric} {abs(tried[tuple(best)]):.4f} alone, the "
            f"best of {len(tried)} settings that validation tried"
        )
        return best

    def _valid_epoch(
        self, valid_data: Any, show_progress: bool = False
    ) -> tuple[float, dict[str, float]]:
        best: tuple[float, dict[str, float]] | None = None
        model, bigger = self.model, self.valid_metric_bigger
        with model.kept_scores():
            for weight in model.candidate_weights():
                before = float(model.linear_weight)
                model.linear_weight.fill_(weight)
                score, result = super()._valid_epoch(valid_data, show_progress=show_progress)
                if best is None or (score > best[0] if bigger else score < best[0]):
                    best = score, result
                else:
                    model.linear_weight.fill_(before)
        assert best is not None
        # What a model file tells of its epoch.
        self._validated = best[1]
        return best


def climbed(
    score: Callable[[list[float]], float], axes: list[Sequence[float]], start: list[float]
) -> list[float]:
    """Go from a point of a grid to better and better neighbours along an axis, until none is."""
    best, before = start, None
    while best != before:
        before = best
        for number, axis in enumerate(axes):
            for step in (1, -1):
                place = axis.index(best[number]) + step
                while 0 <= place < len(axis):
                    neighbour = [*best[:number], axis[place], *best[number + 1 :]]
                    if not score(neighbour) > score(best):
                        break
                    best, place = neighbour, place + step
    return best
