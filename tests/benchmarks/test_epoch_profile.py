"""Where the time of a step goes: the parts are within the whole, and no operation is left out."""

import pytest

import cases
import epoch_profile


@pytest.mark.parametrize("processes", [1, 2])
def test_parts_and_operations(tiny, processes):
    settings = {**tiny, "topk": [10], "valid_metric": "NDCG@10"}
    files = ["protocol/strong_generalization"]
    case = {"model": "GatedHVamp", "dataset": "tiny", "config_files": files, "settings": settings}
    by_part, by_kind, by_operation = cases.in_processes(
        epoch_profile.profiled, {**case, "epochs": 2}, processes
    ).values()
    exchanged = {"sum of gradients", "gathering of weights"} if processes == 2 else set()
    assert set(by_part) == {"whole", "forward", "optimizer"} | exchanged
    assert 0 < by_part.pop("forward") + by_part.pop("optimizer") < by_part["whole"]
    # All that runs within the whole, each for itself: together the whole, to a rounding.
    assert sum(by_kind.values()) == pytest.approx(by_part["whole"], rel=0.05)
    assert sum(by_operation.values()) < sum(by_kind.values())
    assert by_kind["matrix products"] > 0
    assert ("exchange and waiting" in by_kind) == (processes == 2)


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::addmm_", "matrix products"),
        ("aten::_fused_adam_", "Adam and norms"),
        ("aten::normal_", "random draws"),
        ("aten::linalg_vector_norm", "Adam and norms"),
        ("aten::_embedding_bag_forward_only", "gathers and sums of rows"),
        ("c10d::allgather_", "exchange and waiting"),
        ("_GatherPartsBackward", "exchange and waiting"),
        ("part: forward", "Python between operations, and waiting"),
        ("aten::exp_", "many small operations"),
    ],
)
def test_kinds_of_operations(operation, kind):
    assert epoch_profile.kind_of(operation) == kind
