import asyncio
import dataclasses

import pytest
import yaml

from inference.errors import ConfigError
from inference.screening.attempt import CallAttempt
from inference.screening.backend import MemoryBackend
from inference.screening.labels import CATEGORIES, MAX_LABEL_CHARACTERS, SOURCES, Labels, LabelsConfig
from inference.screening.lists import ListEntry, NumberLists
from inference.screening.numbers import parse_number
from inference.screening.passport import NO_PASSPORT
from inference.screening.remembered import WindowStore
from inference.screening.rules import Known, RulesConfig
from inference.screening.screener import Screener
from inference.screening.store import CallerWindow, Preferences

NOW_S = 1_800_000_000.0
KNOWN = Known(
    parse_number("+441212345678", "GB"),
    parse_number("+442079460000", "GB"),
    "national",
    NO_PASSPORT,
    caller_window=CallerWindow(complaints=213.6),
)


def test_a_label_says_what_and_who_says_so():
    label = Labels(LabelsConfig()).label("parcel", "subscribers", KNOWN)
    assert label.text == "Reported as parcel fraud by 214 subscribers; operator security centre"
    assert (label.category, label.source, label.language) == ("parcel", "subscribers", "en")


def test_a_label_is_in_the_callees_language():
    known = dataclasses.replace(KNOWN, wants=Preferences(language="zh"))
    assert Labels(LabelsConfig()).label("parcel", "subscribers", known).text.startswith("214位用户标记为快递包裹诈骗")


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_and_source_has_words_that_fit(language, category):
    labels = Labels(LabelsConfig(language=language))
    for source in SOURCES:
        text = labels.text(category, source, language, 123_456)
        assert "{" not in text
        assert len(text) < MAX_LABEL_CHARACTERS


def test_who_does_not_want_labels_gets_none():
    labels = Labels(LabelsConfig(max_per_day=3))
    for wants, is_shown in (
        (Preferences(prompts=False), False),
        (Preferences(prompts_today=2), True),
        (Preferences(prompts_today=3), False),
    ):
        assert (labels.label("parcel", "listening", dataclasses.replace(KNOWN, wants=wants)) is not None) == is_shown


def test_labels_are_counted_and_capped_by_day():
    clock = {"now_s": NOW_S}
    deny = ListEntry(kind="deny", number="441212345678", category="tax", who="desk", why="reported")
    store = WindowStore(MemoryBackend(clock=lambda: clock["now_s"]))
    made = Screener(
        RulesConfig(spoofed="prompt", own_ranges=("441212",)),
        NumberLists([deny.model_copy(update={"kind": "business"})]),
        store,
        labels=Labels(LabelsConfig(max_per_day=2)),
        clock=lambda: clock["now_s"],
    )
    call = CallAttempt(call_id="c", caller="+441212345678", callee="+442079460000", trunk="international")

    async def go():
        shown = []
        for step_s in (0, 60, 60, 86_400):
            clock["now_s"] += step_s
            shown.append((await made.decide(call)).label is not None)
        await store.prefer("442079460000", Preferences(prompts=False, guardian="447700900001", language="zh"))
        wants = await store.preferences("442079460000", NOW_S)
        shown.append((await made.decide(call)).label is not None)
        return shown, wants

    shown, wants = asyncio.run(go())
    assert shown == [True, True, False, True, False]
    assert (wants.prompts, wants.guardian, wants.language) == (False, "447700900001", "zh")


def texts(folder, **more):
    body = {"categories": dict.fromkeys(CATEGORIES, "x"), "sources": dict.fromkeys(SOURCES, "{category}")} | more
    for language in ("en", "zh"):
        (folder / f"{language}.yaml").write_text(yaml.safe_dump(body))


def test_an_operators_words_take_the_place_of_ours(tmp_path):
    texts(tmp_path, sources=dict.fromkeys(SOURCES, "careful: {category} ({centre})"))
    labels = Labels(LabelsConfig(texts_dir=tmp_path, centre="us"))
    assert labels.text("tax", "list:partner", "en") == "careful: x (us)"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"categories": {"tax": "x"}}, "categories lacks"),
        ({"sources": {"list": "x"}}, "sources lacks"),
        ({"sources": dict.fromkeys(SOURCES, "{phone}")}, "only {category}"),
        ({"colours": {}}, "is not 'categories:'"),
    ],
)
def test_words_that_lack_something_are_refused_in_one_line(tmp_path, more, said):
    texts(tmp_path, **more)
    with pytest.raises(ConfigError, match=r"en\.yaml") as caught:
        Labels(LabelsConfig(texts_dir=tmp_path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_words_at_all_are_said(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        Labels(LabelsConfig(texts_dir=tmp_path))
