"""Fitting: a run that was killed goes on as if it was not, two processes learn what one does, and it learns at all."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from inference.errors import ConfigError  # noqa: E402
from inference.intent.context import WindowTokenizer  # noqa: E402
from training.intent.checkpoint import load_checkpoint  # noqa: E402
from training.intent.data import Call, Piece  # noqa: E402
from training.intent.encoders import Encoder, scratch_encoder  # noqa: E402
from training.intent.fit import FitConfig, fit, rate_at  # noqa: E402
from training.intent.journal import Journal  # noqa: E402
from training.intent.losses import LOSSES, encode, run  # noqa: E402
from training.intent.network import IntentNetwork  # noqa: E402
from training.intent.prepare import Prepared, prepare  # noqa: E402
from training.intent.version import window_tokenizer  # noqa: E402

CONFIG = FitConfig(
    epochs=2, is_whole=True, dropout=0.0, pieces_per_batch=12, layer_rate=2e-3, save_every=3, head_epochs=2
)


def calls() -> list[Call]:
    """Calls that differ by one act alone."""
    out = []
    for number in range(16):
        is_scam = number % 2 == 0
        ask = "read me the code now" if is_scam else "we never ask for codes"
        pieces = (
            Piece("far", f"hello this is the bank number {number}", 0, ("contact",), ("claims_authority",)),
            Piece("near", "who is this please", 1, (), ("doubts",)),
            Piece("far", ask, 2, ("ask",) if is_scam else ("reassure",), ("credential",) if is_scam else ()),
        )
        family = "card_otp" if is_scam else None
        out.append(Call(f"c{number}", "scripts", is_scam, family, "bank", f"c{number}", "train", pieces))
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, list[Prepared]]:
    encoder = scratch_encoder(calls(), tmp_path_factory.mktemp("encoder"), seed=0)
    tokenizer: WindowTokenizer = window_tokenizer(encoder.tokenizer)
    return encoder, prepare(calls(), [1.0] * 16, None, tokenizer, lambda _: None)


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAMTAP_FLOAT32", "1")
    torch.set_num_threads(1)  # waiting threads spin: on a busy machine two are slower than one


def train(made: tuple[Encoder, list[Prepared]], config: FitConfig, checkpoint: Path | None = None) -> IntentNetwork:
    encoder, prepared = made
    return fit(encoder.tensors, encoder.shape, lambda _: prepared, config, lambda _text, _done: None, checkpoint)


def test_it_learns_to_tell_the_calls_apart_and_the_acts(made: tuple[Encoder, list[Prepared]]) -> None:
    config = FitConfig(epochs=12, is_whole=True, dropout=0.0, pieces_per_batch=24, layer_rate=2e-3)
    network = train(made, config)
    with torch.no_grad():
        out = run(network, made[1])
    last = [i for i, piece in enumerate(p for item in made[1] for p in item.pieces) if piece.turn == 2]
    llr = out.llr[last].numpy()
    assert llr[::2].min() > llr[1::2].max()
    credential = out.acts[last].numpy()[:, 2]
    assert credential[::2].min() > credential[1::2].max()


def test_what_is_shipped_is_gone_on_from(made: tuple[Encoder, list[Prepared]]) -> None:
    encoder, prepared = made
    network = train(made, CONFIG)
    again = IntentNetwork({**encoder.tensors, **network.shipped()}, encoder.shape, 0, is_whole=True).eval()
    with torch.no_grad():
        again.standardise(*encode(again, prepared))
        again.go_on_from(network.shipped())
        before, after = run(network, prepared), run(again, prepared)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)  # shipped in float16


class KilledError(Exception):
    """Stands for a kill: nothing after it runs."""


@pytest.mark.parametrize(("save_every", "at", "left"), [(3, 5, 4), (3, 6, 1), (4, 4, 3), (7, 7, 0)])
def test_a_run_that_was_killed_goes_on_where_it_was(
    made: tuple[Encoder, list[Prepared]], tmp_path: Path, save_every: int, at: int, left: int
) -> None:
    """In the first pass of four batches, in the second, which has other calls and three, between them, at the end."""
    encoder, prepared = made
    config = replace(CONFIG, dropout=0.1, save_every=save_every, head_epochs=1)

    def passes(number: int) -> list[Prepared]:
        return prepared[4:] if number else prepared

    whole = fit(encoder.tensors, encoder.shape, passes, config, lambda _text, _done: None).state_dict()
    path = tmp_path / "run.safetensors"
    steps = 0

    def die(_text: str, _done: float) -> None:
        nonlocal steps
        steps += 1
        if steps == at:
            raise KilledError

    with pytest.raises(KilledError):
        fit(encoder.tensors, encoder.shape, passes, config, die, path)
    seen: list[str] = []
    resumed = fit(encoder.tensors, encoder.shape, passes, config, lambda text, _done: seen.append(text), path)
    assert len([text for text in seen if not text.startswith("heads")]) == left
    for name, value in resumed.state_dict().items():
        torch.testing.assert_close(value, whole[name], rtol=0, atol=0)


@pytest.mark.parametrize("what", ["calls", "recipe"])
def test_a_run_of_other_calls_or_another_recipe_is_not_gone_on_from(
    made: tuple[Encoder, list[Prepared]], tmp_path: Path, what: str
) -> None:
    encoder, prepared = made
    path = tmp_path / "run.safetensors"
    fit(encoder.tensors, encoder.shape, lambda _: prepared, CONFIG, lambda _text, _done: None, path)
    calls = prepared[1:] if what == "calls" else prepared
    config = replace(CONFIG, layer_rate=1e-3) if what == "recipe" else CONFIG
    with pytest.raises(ConfigError, match="remove it to begin anew"):
        fit(encoder.tensors, encoder.shape, lambda _: calls, config, lambda _text, _done: None, path)


def test_no_pass_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="want 1 or more"):
        FitConfig(epochs=0)


def test_the_learning_rate_rises_for_a_tenth_of_the_run_and_falls_to_its_end() -> None:
    rates = [rate_at(share / 100) for share in range(100)]
    assert rates.index(max(rates)) == 10
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.02)


def test_a_checkpoint_of_another_network_is_refused(made: tuple[Encoder, list[Prepared]], tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"not safetensors")
    network = IntentNetwork(made[0].tensors, made[0].shape, 0, is_whole=True)
    optimizer = torch.optim.AdamW(network.parameters())
    with pytest.raises(ConfigError, match="remove it"):
        load_checkpoint(path, network, optimizer)


RANK = """
import sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import test_fit as t
from dataclasses import replace
folder = Path(sys.argv[2])
encoder = t.scratch_encoder(t.calls(), folder / f"rank{sys.argv[3]}", seed=0)
prepared = t.prepare(t.calls(), [1.0] * 16, None, t.window_tokenizer(encoder.tokenizer), lambda _: None)
config = replace(t.CONFIG, pieces_per_batch=int(sys.argv[4]))
network = t.fit(encoder.tensors, encoder.shape, lambda _: prepared, config, lambda *_: None)
np.savez(folder / f"rank{sys.argv[3]}.npz", **{k: v.numpy() for k, v in network.state_dict().items()})
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    """Batches of 6 utterances per process and two processes are the batches of 12 of one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    common = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    here = str(Path(__file__).parent)

    def start(name: str, pieces: int, **extra: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", RANK, here, str(tmp_path), name, str(pieces)]
        return subprocess.Popen(command, env=common | extra)

    one = start("one", 12)
    two = [start(str(rank), 6, WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank)) for rank in (0, 1)]
    assert [process.wait(110) for process in (one, *two)] == [0, 0, 0]
    single, first, second = (np.load(tmp_path / f"rank{name}.npz") for name in ("one", "0", "1"))
    for name in single.files:
        np.testing.assert_array_equal(first[name], second[name])
        # Half of one step at the rate of the run: Adam makes full steps of rounding where gradients nearly vanish.
        np.testing.assert_allclose(first[name], single[name], atol=1e-3)


def test_every_step_is_written_down_for_tensorboard(made: tuple[Encoder, list[Prepared]], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    encoder, prepared = made
    with Journal(tmp_path / "runs" / "one") as journal:
        config = FitConfig(epochs=12, is_whole=True, dropout=0.0, pieces_per_batch=24, layer_rate=2e-3)
        fit(encoder.tensors, encoder.shape, lambda _: prepared, config, lambda _text, _done: None, journal=journal)
        journal.conclude({"log_loss": 0.5})
    events = EventAccumulator(str(tmp_path / "runs" / "one"))
    events.Reload()
    scalars = events.Tags()["scalars"]
    assert {f"loss/{name}" for name in LOSSES} <= set(scalars)
    evidence = [event.value for event in events.Scalars("loss/evidence")]
    assert [event.step for event in events.Scalars("loss/evidence")] == list(range(1, len(evidence) + 1))
    assert evidence[-1] < evidence[0]
    assert events.Scalars("dev/log_loss")[0].value == 0.5


def test_a_journal_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file, no folder")
    with pytest.raises(ConfigError, match="--no-log"):
        Journal(tmp_path / "runs" / "one")
