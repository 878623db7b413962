"""The trainer of a network with a linear path, whose weight the validation users choose."""

from typing import Any

from recbole_evcf.trainer.trainer import VAETrainer


class LinearPathTrainer(VAETrainer):
    """Trains a :class:`~recbole_evcf.model.linear_path.GatedHVampLinear`.

    Each validation is repeated with the weights of the linear path next to the present one, and
    the best of them stays.
    """

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
        return best
