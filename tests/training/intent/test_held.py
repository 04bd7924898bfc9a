"""Going on with training: what is new is learnt, and known calls are judged as before."""

from copy import deepcopy
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from inference.intent.acts import ACTS  # noqa: E402
from inference.intent.scores import FAMILIES, STAGES  # noqa: E402
from training.intent.data import Call, Piece  # noqa: E402
from training.intent.encoders import Encoder, scratch_encoder  # noqa: E402
from training.intent.fit import FitConfig, fit  # noqa: E402
from training.intent.held import Teacher  # noqa: E402
from training.intent.losses import LOSSES, Network, losses_of, run  # noqa: E402
from training.intent.network import Outputs  # noqa: E402
from training.intent.prepare import Prepared, prepare  # noqa: E402
from training.intent.version import window_tokenizer  # noqa: E402

SIZES = [(len(names),) for names in (FAMILIES, STAGES, ACTS)]
CONFIG = FitConfig(epochs=12, is_whole=True, dropout=0.0, pieces_per_batch=8, layer_rate=1e-3)


def call(number: int, source: str, ask: str, *, is_scam: bool) -> Call:
    pieces = (
        Piece("far", f"hello this is the bank number {number}", 0, ("contact",), ("claims_authority",)),
        Piece("far", ask, 1, ("ask",) if is_scam else ("reassure",), ("credential",) if is_scam else ()),
    )
    family = "card_otp" if is_scam else None
    return Call(f"{source}{number}", source, is_scam, family, "bank", f"{source}{number}", "train", pieces)


def scams_and_genuine(source: str, scam: str, genuine: str) -> list[Call]:
    return [call(n, source, genuine if n % 2 else scam, is_scam=n % 2 == 0) for n in range(4)]


KNOWN = scams_and_genuine("scripts", "read me the code now", "we never ask for codes")
NEW = scams_and_genuine("new", "pay the water meter deposit", "the water meter is free")


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAMTAP_FLOAT32", "1")
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return scratch_encoder([*KNOWN, *NEW], tmp_path_factory.mktemp("encoder"), seed=0)


def prepared(encoder: Encoder, calls: list[Call]) -> list[Prepared]:
    return prepare(calls, [1.0] * len(calls), None, window_tokenizer(encoder.tokenizer), lambda _: None)


def evidence(network: Network, items: list[Prepared]) -> torch.Tensor:
    with torch.no_grad():
        return run(network, items).llr.reshape(len(items), -1).sum(1)


def go_on(encoder: Encoder, champion: Network, *, holds: bool) -> Network:
    """From a champion that knows the known calls, on known and new ones."""
    tensors = {**encoder.tensors, **champion.shipped()}
    both = prepared(encoder, [*KNOWN, *NEW])
    config = replace(CONFIG, seed=2)
    is_known = (lambda its: its.source == "scripts") if holds else None
    return fit(tensors, encoder.shape, lambda _: both, config, lambda _text, _done: None, holds=is_known)


def test_known_calls_stay_where_they_were_and_new_ones_are_learnt(encoder: Encoder) -> None:
    known, new = prepared(encoder, KNOWN), prepared(encoder, NEW)
    champion = fit(encoder.tensors, encoder.shape, lambda _: known, CONFIG, lambda _text, _done: None)
    was = evidence(champion, known)
    free, held = (go_on(encoder, champion, holds=holds) for holds in (False, True))
    moved_free, moved_held = ((evidence(network, known) - was).abs().mean() for network in (free, held))
    assert moved_held < 0.5 * moved_free
    before, after = (evidence(network, new) for network in (champion, held))
    assert before[::2].min() - before[1::2].max() < 1
    assert after[::2].min() - after[1::2].max() > 1


def test_a_network_that_has_not_moved_is_not_moved(encoder: Encoder) -> None:
    """Known calls alone, and dropout that would differ every time: there is nothing to learn."""
    known = prepared(encoder, KNOWN)
    config = replace(CONFIG, dropout=0.3)
    champion = fit(encoder.tensors, encoder.shape, lambda _: known, config, lambda _text, _done: None)
    teacher = Teacher(champion, lambda its: its.source == "scripts")
    learner = deepcopy(champion).train()
    loss, num_calls = teacher.losses(learner, known, config.smoothing)[0]
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert num_calls == len(known)
    assert learner.training


def test_new_calls_are_learnt_by_their_labels(encoder: Encoder) -> None:
    known, new = prepared(encoder, KNOWN[:2]), prepared(encoder, NEW[:2])
    champion = fit(encoder.tensors, encoder.shape, lambda _: known, CONFIG, lambda _text, _done: None)
    teacher = Teacher(champion, lambda its: its.source == "scripts")
    told = losses_of(champion, new, CONFIG.smoothing)
    for batch in (new, [new[0], *known, new[1]]):
        loss, _ = teacher.losses(champion, batch, CONFIG.smoothing)[0]
        assert float(loss.detach()) == pytest.approx(float(told[0][0].detach()), abs=1e-5)
    assert [count for _, count in teacher.losses(champion, [], CONFIG.smoothing)] == [0.0] * len(LOSSES)


@pytest.mark.parametrize("is_held", [True, False])
def test_what_is_said_of_a_held_call_stays_whatever_its_labels(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, is_held: bool
) -> None:
    """Where the network still says what it said, no loss pulls at a held call, and every loss at another."""
    batch = prepared(encoder, KNOWN[:1])
    starts = torch.Generator().manual_seed(1)
    said = Outputs(*(torch.randn(2, *size, generator=starts) for size in ((), *SIZES)))
    out = Outputs(*(value.clone().requires_grad_() for value in said))
    monkeypatch.setattr("training.intent.losses.run", lambda *_: out)
    sums = losses_of(torch.nn.Module(), batch, 0.03, taught=said if is_held else None)
    for name, (loss, _), value in zip(LOSSES, sums, out, strict=True):
        loss.backward()
        pull = value.grad.reshape(2, -1).abs().amax(1)
        assert (pull < 1e-6).all() if is_held else (pull > 0.01).all(), name


def test_there_is_no_teacher_for_a_file_that_holds_no_head(encoder: Encoder) -> None:
    """A start from nothing has nobody to learn from; asking for it is a fault of ours, said at once."""
    with pytest.raises(ValueError, match="no head"):
        fit(encoder.tensors, encoder.shape, lambda _: [], CONFIG, lambda _text, _done: None, holds=lambda _: True)
