"""``recbole-evcf run`` that is stopped: by a signal, by a full disk, by its own numbers."""

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from build import build
from conftest import config_files
from recbole_evcf import cli, results
from recbole_evcf.commands import run
from recbole_evcf.trainer import pace
from recbole_evcf.trainer.trainer import VAETrainer

COMMAND = Path(sys.executable).with_name("recbole-evcf")
LIMIT = 30_000


@pytest.fixture
def words(tiny):
    """Words of a run of a few epochs on the tiny data set."""
    files = config_files({**tiny, "epochs": 6, "warmup_epochs": 3})
    return ["run", "--model=Vamp", "--dataset=tiny", files]


@pytest.fixture
def sent(monkeypatch):
    """Let training get a signal in an epoch, once; the epochs that were started."""
    original, waiting, started = VAETrainer._train_epoch, {}, []

    def _train_epoch(self, data, at, **kwargs):
        started.append(at)
        if at in waiting:
            signal.raise_signal(waiting.pop(at))
        return original(self, data, at, **kwargs)

    def send(number, epoch):
        waiting[epoch] = number
        started.clear()
        return started

    monkeypatch.setattr(VAETrainer, "_train_epoch", _train_epoch)
    return send


def saved(ending):
    return sorted(Path("saved").glob(f"*{ending}"))


def interrupted(capsys):
    """The command of the line that an interrupted run ends with."""
    line = capsys.readouterr().err
    found = re.fullmatch(r"recbole-evcf: interrupted after epoch \d+: resume with (.+)\n", line)
    assert found, line
    return shlex.split(found[1])


def test_ctrl_c_says_how_to_resume_and_that_works(words, capsys):
    more = ["--epochs=60", "--stopping_step=60"]
    assert cli.main([*words, *more, "--checkpoint_dir=whole"]) == 0
    expected = capsys.readouterr().out
    process = subprocess.Popen(
        [COMMAND, *words, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not saved(".pth"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate()
    assert (process.returncode, output) == (130, "")
    command = shlex.split(error.partition(": resume with ")[2])
    assert command == ["recbole-evcf", *words, *more, "--resume"], error
    done = subprocess.run([COMMAND, *command[1:]], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, expected)
    assert len(saved(".pth")) == 1
    assert saved(".resume") == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_signals(words, sent, capsys, number, code):
    before = signal.getsignal(signal.SIGTERM)
    sent(number, epoch=3)
    # On the first start, it trains.
    assert cli.main([*words, "--resume"]) == code
    assert interrupted(capsys) == ["recbole-evcf", *words, "--resume"]
    assert signal.getsignal(signal.SIGTERM) == before


NOTHING = "recbole-evcf: interrupted before there was anything to resume from: the same command "


def test_before_the_first_epoch_has_ended(words, sent, capsys):
    """An old unfinished run is not taken for the present one."""
    sent(signal.SIGINT, epoch=4)
    cli.main(words)
    for path in (*saved(".pth"), *saved(".resume")):
        os.utime(path, (1, 1))
    capsys.readouterr()
    sent(signal.SIGINT, epoch=0)
    assert cli.main(words) == 130
    assert capsys.readouterr().err == f"{NOTHING}starts from scratch.\n"


def test_before_training(words, monkeypatch, capsys):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_evcf.quick_start.planned_run", interrupt)
    assert cli.main(words) == 130
    assert capsys.readouterr().err == "recbole-evcf: interrupted before training started.\n"


def test_other_models_are_interrupted_without_a_state(words, monkeypatch, refused, capsys):
    from recbole.trainer import Trainer

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_train_epoch", interrupt)
    words[1] = "--model=MultiVAE"
    assert cli.main(words) == 130
    assert NOTHING in capsys.readouterr().err
    assert "MultiVAE cannot be resumed" in refused(*words, "--resume")


def test_ways_to_write_it(words, sent, capsys):
    """A named run's files are where they were, not in the present checkpoint_dir."""
    sent(signal.SIGINT, epoch=2)
    assert cli.main([*words, "--checkpoint_dir=elsewhere", "--resume=False"]) == 130
    assert "--resume" in interrupted(capsys)
    (path,) = Path("elsewhere").glob("*.pth")
    more = [*words, f"--resume={path}", "--learning_rate=0.0001"]
    for epoch in (3, 4):
        started = sent(signal.SIGINT, epoch)
        assert cli.main(more) == 130
        assert started[0] > 0
        assert interrupted(capsys) == ["recbole-evcf", *more]
    more[-2] = "--resume=True"
    started = sent(signal.SIGINT, epoch=9)
    assert cli.main([*more, "--checkpoint_dir=elsewhere"]) == 0
    assert started[0] > 0


@pytest.mark.parametrize("more", [[], ["--nproc=2", "--gpu_id="]], ids=["one", "two processes"])
def test_metrics_that_cannot_be_written_do_not_cost_the_run(words, capsys, more):
    folder = Path("results")
    folder.mkdir()
    # The folder goes when the table has been printed.
    original = run.write_json
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run, "write_json", lambda *a: (folder.rmdir(), original(*a)))
        assert cli.main([*words, *more, "--result_file=results/r.json"]) == 2
    output, error = capsys.readouterr()
    assert output.startswith("metric")
    assert "'results/r.json'" in error
    assert ".tmp" not in error
    assert len(saved(".resume")) == 1
    assert cli.main([*words, "--resume", "--result_file=result.json"]) == 0
    assert json.loads(Path("result.json").read_text())["test_result"]
    assert len(os.listdir("saved")) == 1


def limited():
    """No file of this process becomes larger: what a full disk does to a large one."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))


def test_a_full_disk_keeps_the_last_good_files(tiny, words, monkeypatch):
    monkeypatch.setattr(pace, "SHARE", 0)
    settings = {**tiny, "epochs": 6, "warmup_epochs": 3, "resumable": True}
    _, loaders, _, trainer = build("Vamp", "tiny", settings)
    trainer.epochs = 3
    trainer.fit(loaders[0], loaders[1])
    results.release(trainer.saved_model_file)
    before = {path: path.read_bytes() for path in Path("saved").iterdir()}
    assert all(len(content) > LIMIT for content in before.values() if content)
    done = subprocess.run(
        [COMMAND, *words, "--resume"], preexec_fn=limited, capture_output=True, text=True
    )
    assert done.returncode == 2
    (path,) = [path for path in before if f"{path} cannot be written" in done.stderr]
    kept = "; the one written before is whole" if before[path] else ""
    assert done.stderr == (
        f"recbole-evcf: error: {path} cannot be written (File too large): free space on the disk "
        f"or set another checkpoint_dir{kept}.\n"
    )
    assert {path: path.read_bytes() for path in Path("saved").iterdir()} == before
