"""Labelled recordings -> what our own recogniser makes of them, turn by turn: ``scamtap-train recognise``.

The recordings go through the segmenter and the recogniser of live calls, by the same replay that ``scamtap replay``
uses, so a model trained on the result has read what it will read in service.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inference.audio import LEGS
from inference.errors import ConfigError, MediaError
from inference.gateway.recording import open_recording
from inference.service.call import CallParts
from inference.service.events import UtteranceEvent
from inference.service.replay import replay
from inference.service.stages import Stages
from training.intent.heard import HeardCall, HeardUtterance, overlapping, read_heard
from training.recordings import labelled
from training.voice.voices import the_synthesiser
from training.wer import word_errors


def recognise(path: Path, labels: dict[str, Any], parts: CallParts, stages: Stages) -> HeardCall:
    """Replay one recording as fast as the machine goes and say which turns each utterance is of.

    Raises:
        MediaError: the labels lack something: they are not of ``scamtap-train voice``.
    """
    (recorded,) = open_recording(path)
    try:
        turns = labels["turns"]
        times = {leg: [(t["start_s"], t["end_s"]) if t["leg"] == leg else (0.0, 0.0) for t in turns] for leg in LEGS}
        heard = [
            event.utterance
            for event in replay(recorded, parts, stages, language=labels["lang"])
            if isinstance(event, UtteranceEvent)
        ]
        errors = []
        for leg in LEGS:
            said = " ".join(turn["text"] for turn in turns if turn["leg"] == leg)
            own = sorted((u.start_s, u.text) for u in heard if u.leg == leg)
            errors.append(word_errors(said, " ".join(text for _, text in own)))
        return HeardCall(
            id=labels["id"],
            synthesiser=the_synthesiser(labels["voices"]),
            preset=labels["recipe"]["preset"],
            seed=labels["seed"],
            key=labels["key"],
            script_sha256=labels["script_sha256"],
            num_errors=sum(wrong for wrong, _ in errors),
            num_words=sum(words for _, words in errors),
            utterances=tuple(
                HeardUtterance(leg=u.leg, turns=tuple(overlapping(u.start_s, u.end_s, times[u.leg])), text=u.text)
                for u in heard
            ),
        )
    except (KeyError, TypeError) as error:
        raise MediaError(
            f"{path.with_suffix('.json')}: not labels of scamtap-train voice; voice the call again"
        ) from error


def recognise_all(
    folders: Sequence[Path],
    out: Path,
    parts: CallParts,
    stages: Stages,
    on_call: Callable[[HeardCall | None, int], None] = lambda _call, _total: None,
) -> list[HeardCall]:
    """:func:`recognise` for every recording of ``folders`` that ``out`` does not hold yet, appended call by call.

    Args:
        folders: of recordings.
        out: JSON Lines; an interrupted run goes on where it stopped, a line cut short is made again.
        parts: as a live call has them.
        stages: likewise.
        on_call: told each call and the number of all; None in place of one that was there already.

    Returns:
        every call of ``out``.

    Raises:
        ConfigError: ``out`` cannot be written or holds something else.
        MediaError: a recording or its labels cannot be read.
    """
    recordings = list(labelled(folders))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("ab+") as file:
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
            done = list(read_heard(out))
            keys = {call.key for call in done}
            for path, labels in recordings:
                if labels.get("key") in keys:
                    on_call(None, len(recordings))
                    continue
                call = recognise(path, labels, parts, stages)
                file.write(call.model_dump_json().encode() + b"\n")
                file.flush()
                done.append(call)
                on_call(call, len(recordings))
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror}); give another file with --out") from error
    return done
