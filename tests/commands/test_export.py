"""``recbole-evcf export`` by exit code, output and file."""

from pathlib import Path

import pytest

from build import build
from recbole_evcf import cli


@pytest.fixture
def model_file(tiny):
    _, loaders, _, trainer = build("GatedHVamp", "tiny", tiny)
    trainer.fit(loaders[0], loaders[1])
    return trainer.saved_model_file


def test_a_model_is_exported(model_file, capfd):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    command = ["export", f"--model_file={model_file}", "--format=onnx", "--output=model.onnx"]
    assert cli.main(command) == 0
    output = capfd.readouterr()
    assert output.out.startswith("model.onnx: float32 history (users, 40 items) -> scores, ")
    # PyTorch's exporter talks much; nothing of that is the user's business.
    assert output.err == ""
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    (history,) = session.get_inputs()
    assert history.shape[1] == 40
    # As the line says.
    assert history.type == "tensor(float)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model_file=none.pth"], "There is no model file none.pth"),
        (["--output=no/model.onnx"], "there is no folder"),
    ],
)
def test_a_mistake_is_one_line_and_no_file(model_file, arguments, message, capsys):
    capsys.readouterr()
    before = set(Path().iterdir())
    command = ["export", f"--model_file={model_file}", "--output=model.onnx", *arguments]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert set(Path().iterdir()) == before
