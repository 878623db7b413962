"""Model files: damaged bytes, parts exchanged, and files that are made to mislead."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import ANY_VALUES, cases, command_ends_well, damaged, ends_well, file_ends_well
from recbole_evcf import Recommender
from recbole_evcf.quick_start import load_data_and_model
from recbole_evcf.trainer.checkpoint import load_checkpoint

MODELS = ("Vamp", "HVamp", "EASE", "MultiVAE", "BPR")
HISTORIES = [["i1", "i5", "no such item"], [], ["i7"]]
CONFIG_KEYS = "mlp_hidden_size latent_dimension n_pseudo_inputs likelihood gated dropout_prob"
CONFIG_KEYS += " USER_ID_FIELD ITEM_ID_FIELD model dataset seed gpu_id device eval_args metrics"
CONFIG_KEYS += " topk n_cate data_path load_col no_such_key"
TARGETS = {"recommend": "out/recs.csv", "inspect": "out/page", "export": "out/model.onnx"}
SIZES = st.sampled_from([0, 1, 2, 5, 39, 41, 10**6, 10**9, 10**12, 2**63 - 1, 2**63, -1])


def load(content: bytes, reader: str) -> None:
    """Recommend by a model file, as the command does: one that is read is a model that works."""
    Path("out").mkdir(exist_ok=True)
    path = "out/model.pth"
    Path(path).write_bytes(content)

    def recommendations():
        recommender = Recommender.load(path, "cpu")
        known = recommender.histories(HISTORIES)
        return next(recommender.recommend_in_batches(known, min(3, len(recommender.item_tokens))))

    names = [path, "the model's scores are not numbers"]
    frame = ends_well(reader, recommendations, names, "out").result
    if frame is not None:
        assert np.isfinite(frame["score"]).all()
        assert frame.groupby("user").size().max() <= 3
        assert not frame.duplicated(["user", "item"]).any()
        assert not ((frame["user"] == 0) & frame["item"].isin(["i1", "i5"])).any()
    assert not os.path.exists("made")


@cases(150)
@given(data=st.data(), model=st.sampled_from(MODELS))
def test_damaged_bytes(trained, data, model):
    sound = Path(trained.models[model]).read_bytes()
    load(data.draw(damaged(sound)), "model files, bytes damaged")


@cases(120)
@given(data=st.data(), model=st.sampled_from(["Vamp", "EASE"]), bit=st.integers(0, 7))
def test_a_single_flipped_bit_never_passes_for_other_weights(trained, data, model, bit):
    """A model that is read is the one that was saved, to the last bit."""
    sound = torch.load(trained.models[model], weights_only=True)
    content = bytearray(Path(trained.models[model]).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << bit
    ending = file_ends_well("model files, one bit flipped", "x.pth", content, load_checkpoint)
    assert ending.refusal or dumped(ending.result) == dumped(sound)


def members_of(file) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def packed(members, compression=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


@cases(100)
@given(data=st.data(), model=st.sampled_from(MODELS))
def test_members_of_the_archive_exchanged(trained, data, model):
    members = members_of(trained.models[model])
    for _ in range(data.draw(st.integers(1, 2))):
        one, other = (data.draw(st.integers(0, len(members) - 1)) for _ in range(2))
        kind = data.draw(st.sampled_from(["drop", "swap", "double", "damage", "name"]))
        name, content = members[one]
        if kind == "drop" and len(members) > 1:
            del members[one]
        elif kind == "swap":
            members[one], members[other] = (name, members[other][1]), (members[other][0], content)
        elif kind == "double":
            members.append((name, members[other][1]))
        elif kind == "damage":
            members[one] = name, data.draw(damaged(content))
        elif kind == "name":
            members[one] = data.draw(st.sampled_from(["../x", "/x", "x", name.upper()])), content
    compression = data.draw(st.sampled_from([zipfile.ZIP_STORED] * 3 + [zipfile.ZIP_DEFLATED]))
    load(packed(members, compression), "model files, archive members exchanged")


# A weights-only file cannot hold dates.
ANYTHING = ANY_VALUES.filter(lambda value: "datetime" not in repr(value))


@st.composite
def tensors(draw) -> torch.Tensor:
    """Plain and sparse ones, and one of many numbers of which the file holds one."""
    kinds = [torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16, torch.complex64]
    shape = draw(st.lists(st.integers(0, 6), max_size=3))
    tensor = torch.ones(shape, dtype=draw(st.sampled_from(kinds)))
    view = torch.ones(1).expand(draw(SIZES.filter(lambda n: 0 < n < 2**62)))
    return draw(st.sampled_from([tensor, torch.ones(shape).to_sparse(), view]))


def mutate(draw, state: dict, place: str) -> None:
    """Exchange a part of a model file's content."""
    if place == "config":
        state["config"][draw(st.sampled_from(CONFIG_KEYS.split()))] = draw(ANYTHING | SIZES)
    elif place == "weights":
        mutate_weights(draw, state["state_dict"])
    elif place == "catalogue":
        catalogue = state.get("item_catalogue") or {"tokens": "[]", "counts": torch.ones(0)}
        names = json.loads(catalogue["tokens"])
        lists = [names[:-1], names[::-1], [*names[1:], "i1"], [names], list(range(40))]
        odd = [[None] * 40, [[1]] * 40, ["\ud800", *names[1:]], ["\x1b[31m", *names[1:]], {}, None]
        tokens = draw(st.sampled_from([*lists, *odd]))
        text = draw(st.sampled_from([json.dumps(tokens), "[" * 99_999, "", "NaN"]))
        counts = draw(st.just(catalogue["counts"]) | tensors() | ANYTHING)
        whole = [{"tokens": text, "counts": counts}, {"tokens": tokens, "counts": counts}, {}, None]
        state["item_catalogue"] = draw(st.sampled_from(whole))
    elif place == "n_users":
        state["n_users"] = draw(SIZES | ANYTHING)
    elif place == "other_parameter":
        state[place] = draw(st.sampled_from(tagged()) | ANYTHING)
    else:
        state[draw(st.sampled_from([place, "config", "state_dict"]))] = draw(ANYTHING)


def mutate_weights(draw, state: dict) -> None:
    name = draw(st.sampled_from(sorted(state, key=str)))
    weights = state[name]
    # What an earlier mutation has put there.
    if not isinstance(weights, torch.Tensor):
        return
    kind = draw(st.sampled_from(["drop", "nan", "other", "dtype", "value", "add", "turn"]))
    if kind == "drop":
        del state[name]
    elif kind == "nan" and weights.is_floating_point() and weights.numel():
        worst = draw(st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e38]))
        weights.view(-1)[draw(st.integers(0, weights.numel() - 1))] = worst
    elif kind == "dtype":
        others = [torch.float64, torch.int8, torch.bool, torch.float16]
        state[name] = weights.to(draw(st.sampled_from(others)))
    elif kind == "turn":
        state[name] = weights.T.contiguous() if weights.dim() == 2 else weights[None]
    else:
        state["no.such.weight" if kind == "add" else name] = draw(tensors() | ANYTHING)


TRIPLET = ("row", "column", "data")


def tagged() -> list:
    """Values that stand for arrays, some of which cannot be."""
    key, ones = "__recbole_evcf__", torch.ones(2, dtype=torch.int64)
    sparse = {key: "sparse", "format": "csr", "array": False} | dict.fromkeys(TRIPLET, ones)
    return [
        {key: "array"},
        {key: "no such kind"},
        {key: ["array"]},
        {key: "array", "items": [1, "a"], "dtype": "<f8"},
        {key: "array", "items": [], "dtype": "no such type"},
        {key: "matrix", "tensor": torch.ones(2, 2, 2)},
        {**sparse, "shape": [10**12, 10**12]},
        {**sparse, "shape": [1, 1]},
        {"item_similarity": {**sparse, "shape": [2**40, 3]}},
    ]


def dumped(value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


PLACES = ("config", "weights", "catalogue", "n_users", "other_parameter", "epoch", "optimizer")


def mutated(trained, data, most: int = 1) -> bytes:
    """A model file with parts of its content exchanged."""
    state = torch.load(trained.models[data.draw(st.sampled_from(MODELS))], weights_only=True)
    places = st.lists(st.sampled_from(PLACES), min_size=1, max_size=most, unique=True)
    for place in data.draw(places):
        if isinstance(state["config"], dict) and isinstance(state["state_dict"], dict):
            mutate(data.draw, state, place)
    return dumped(state)


@cases(80)
@given(data=st.data())
def test_parts_of_the_content_exchanged(trained, data):
    load(mutated(trained, data, most=2), "model files, content exchanged")


@pytest.mark.parametrize("size", [4, 50, 2**12, 2**20, 2**31 - 1])
def test_a_tensor_that_says_it_is_larger_than_what_is_stored(size):
    """Memory of the process that is none of the file's is never taken for weights."""
    three = {"config": {}, "state_dict": {"x": torch.zeros(3, dtype=torch.uint8)}}
    members = dict(members_of(io.BytesIO(dumped(three))))
    pickled = next(name for name in members if name.endswith("data.pkl"))
    # BININT1 3: the number of bytes, and the length of the tensor.
    assert members[pickled].count(b"K\x03") == 2, members[pickled]
    members[pickled] = members[pickled].replace(b"K\x03", b"J" + size.to_bytes(4, "little"))
    members[pickled.replace("data.pkl", "data/0")] = b"abc"
    content = packed(members.items())
    ending = file_ends_well("model files, sizes", "x.pth", content, load_checkpoint)
    assert (ending.refusal is None) == (size < len(content) - content.index(b"abc"))
    if ending.refusal is None:
        assert ending.result["state_dict"]["x"].numpy().tobytes() in content


@cases(60)
@given(data=st.data())
def test_load_data_and_model(trained, data):
    file_ends_well("load_data_and_model", "model.pth", mutated(trained, data), load_data_and_model)


@cases(30)
@given(data=st.data(), command=st.sampled_from(["recommend", *TARGETS]))
def test_commands(trained, data, command):
    """`recommend` to the users of the data set, `inspect` and `export`."""
    content = mutated(trained, data)
    Path("model.pth").write_bytes(data.draw(st.just(content) | damaged(content)))
    Path("out").mkdir(exist_ok=True)
    words = [command, "--model_file=model.pth", f"--output={TARGETS[command]}"]
    names = ["model.pth", "cannot be exported"]
    command_ends_well(f"the command {command}, model files", words, names, "out")
