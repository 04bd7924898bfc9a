"""Figures of a set of calls: recall and false alarms at the shipped thresholds, how surely, how soon, by slice.

An alarm is any alert over the whole call. Thresholds are the model's own, set on development calls: nothing here
chooses one, but where a figure's name says so (``recall_at_3_percent``).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from training import metrics
from training.evaluation.outcome import ALARM_LEVELS, AlarmLevel, Outcome
from training.evaluation.texts import REWRITTEN

BY_S = (5, 10, 20, 30, 60)
LEAD_S = 5.0
"""A warning so long before the ask can be heard and understood."""

ERDE_S = (10.0, 30.0)
HALF_LIFE_S = 30.0
"""Far-leg speech after which a warning is worth half, in the latency-weighted F1: pretext and pressure take as long."""

MIN_PAIR = 5
"""Calls of a kind below which a topic's AUC says nothing."""

NO_CALL = "no calls"


def figures(outcomes: Sequence[Outcome], prior: float) -> dict[str, Any]:
    """All figures of one set of calls.

    Args:
        outcomes: of the set.
        prior: share of scams among all calls that the risk is stated at.
    """
    scam, genuine = _sides(outcomes)
    out: dict[str, Any] = {
        "what": sorted({o.what for o in outcomes}),
        "num_scam": len(scam),
        "num_genuine": len(genuine),
        "genuine_hours": round(sum(o.talk_s for o in genuine) / 3600, 3),
    }
    for level in ALARM_LEVELS:
        alarmed = sum(level in o.alarms for o in genuine)
        out[f"recall_{level}"] = metrics.share(_hits(scam, level), len(scam)) if scam else None
        out[f"false_alarms_{level}"] = _false_alarms(alarmed, genuine) if genuine else None
    positive, negative = [o.risk for o in scam], [o.risk for o in genuine]
    out["auc"] = _rounded(metrics.auc(positive, negative))
    for percent in (1, 3):
        out[f"recall_at_{percent}_percent"] = _rounded(metrics.recall_at(positive, negative, percent / 100))
    out["earliness"] = {level: earliness(scam, genuine, level) for level in ALARM_LEVELS} if scam else None
    reliable = metrics.reliability([o.risk for o in outcomes], [o.is_scam for o in outcomes], prior)
    out["calibration"] = (
        None
        if reliable is None
        else {"prior": prior, "ece": reliable.ece, "brier": reliable.brier, "bins": reliable.bins}
    )
    named = [o for o in scam if o.family_named is not None and o.family is not None]
    out["family_right"] = metrics.share(sum(o.family_named == o.family for o in named), len(named)) if named else None
    if num_words := sum(o.num_words for o in outcomes):
        out["word_error_rate"] = round(sum(o.num_errors for o in outcomes) / num_words, 4)
    return out


def _sides(outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    return [o for o in outcomes if o.is_scam], [o for o in outcomes if not o.is_scam]


def _hits(outcomes: Sequence[Outcome], level: AlarmLevel) -> int:
    return sum(level in o.alarms for o in outcomes)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _false_alarms(alarmed: int, genuine: Sequence[Outcome]) -> dict[str, Any]:
    return {
        **metrics.share(alarmed, len(genuine)),
        "per_1000_calls": metrics.per_thousand(alarmed, len(genuine)),
        "per_talk_hour": metrics.per_hour(alarmed, sum(o.talk_s for o in genuine) / 3600),
    }


def earliness(scam: Sequence[Outcome], genuine: Sequence[Outcome], level: AlarmLevel) -> dict[str, Any]:
    """How soon scam calls are warned of, in seconds of far-leg speech; a missed call is late in every one."""
    alarms = [o.alarms.get(level) for o in scam]
    waits = [None if alarm is None else alarm.far_s for alarm in alarms]
    acts = [(wait, o.act_far_s) for wait, o in zip(waits, scam, strict=True) if o.act_far_s is not None]
    asked = [o for o in scam if o.ask_s is not None]
    leads = [o.lead_s(level) for o in asked]
    false = sum(level in o.alarms for o in genuine)
    known = [wait for wait in waits if wait is not None]
    lived = metrics.survival(waits, [o.far_s for o in scam])
    return {
        "median_far_s": metrics.quantile(known, 0.5),
        "p90_far_s": metrics.quantile(known, 0.9),
        "kaplan_meier": None
        if lived is None
        else {
            "median_far_s": lived.median,
            "p90_far_s": lived.p90,
            "warned": lived.warned,
            "censored": lived.censored,
            "curve": lived.curve,
        },
        "median_far_s_from_first_act": metrics.quantile([max(0.0, w - a) for w, a in acts if w is not None], 0.5),
        "recall_by_far_s": {
            str(by_s): metrics.share(sum(w is not None and w <= by_s for w in waits), len(waits)) for by_s in BY_S
        },
        "before_ask": metrics.share(sum(s is not None and s > 0 for s in leads), len(leads)) if leads else None,
        "5_s_before_ask": metrics.share(sum(s is not None and s >= LEAD_S for s in leads), len(leads))
        if leads
        else None,
        "median_lead_s": metrics.quantile([s for s in leads if s is not None], 0.5),
        "erde": {
            f"{deadline:g}_s": metrics.erde(waits, false, len(scam) + len(genuine), deadline) for deadline in ERDE_S
        },
        **metrics.latency_f1(waits, false, HALF_LIFE_S),
    }


def topic_pairs(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Per topic that holds both kinds (scam bank against real bank): AUC and counts, the worst first."""
    topics: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        topics[outcome.topic].append(outcome)
    pairs: dict[str, dict[str, Any]] = {}
    for topic, its in topics.items():
        scam, genuine = _sides(its)
        if min(len(scam), len(genuine)) >= MIN_PAIR:
            pairs[topic] = {
                "auc": _rounded(metrics.auc([o.risk for o in scam], [o.risk for o in genuine])),
                "num_scam": len(scam),
                "num_genuine": len(genuine),
            }
    return dict(sorted(pairs.items(), key=lambda item: item[1]["auc"]))


KEYS: Mapping[str, Callable[[Outcome], str | None]] = {
    "language": lambda o: o.lang,
    "family": lambda o: o.family,
    "topic": lambda o: o.topic,
    "source": lambda o: o.source,
    "what": lambda o: o.what,
}


def by_slice(outcomes: Sequence[Outcome], prior: float) -> dict[str, dict[str, Any]]:
    """Short figures per value of everything that calls are told apart by; a key with one value for all is left out."""
    named: dict[str, dict[str, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        for key, value_of in KEYS.items():
            if (value := value_of(outcome)) is not None:
                named[key][value].append(outcome)
        for key, value in outcome.slices.items():
            named[key][value].append(outcome)
    return {
        key: {value: short(figures(its, prior)) for value, its in sorted(values.items())}
        for key, values in named.items()
        if len(values) > 1 or key not in KEYS
    }


SHORT = ("num_scam", "num_genuine", "recall_suspect", "recall_danger", "false_alarms_suspect", "false_alarms_danger")


def short(full: Mapping[str, Any]) -> dict[str, Any]:
    """What of :func:`figures` a slice is given: counts, recall, false alarms, AUC, the median wait, word errors."""
    out: dict[str, Any] = {key: full[key] for key in SHORT}
    out["auc"] = full["auc"]
    early = full["earliness"]
    out["median_far_s"] = None if early is None else early["suspect"]["median_far_s"]
    out["before_ask"] = None if early is None else early["suspect"]["before_ask"]
    if "word_error_rate" in full:
        out["word_error_rate"] = full["word_error_rate"]
    return out


def rewriting_loss(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """Points of recall lost where the same scam is told in other words, in all and per way; None without a pair."""
    originals = {o.id: o for o in outcomes if "rewritten" not in o.slices}
    ways: dict[str, list[tuple[Outcome, Outcome]]] = defaultdict(list)
    for told in (o for o in outcomes if o.is_scam and "rewritten" in o.slices):
        if (original := originals.get(told.id.partition(REWRITTEN)[0])) is not None:
            ways[told.slices["rewritten"]].append((original, told))
    if not ways:
        return None
    of_way = {way: _lost(pairs) for way, pairs in sorted(ways.items())}
    return {**_lost([pair for pairs in ways.values() for pair in pairs]), "ways": of_way}


def _lost(pairs: Sequence[tuple[Outcome, Outcome]]) -> dict[str, Any]:
    before, after = (sum("suspect" in pair[side].alarms for pair in pairs) for side in (0, 1))
    lost = round(100 * (before - after) / len(pairs), 1)
    return {"pairs": len(pairs), "warned": before, "warned_rewritten": after, "points_lost": lost}


def worst_calls(outcomes: Sequence[Outcome], limit: int = 12) -> list[dict[str, Any]]:
    """Ids of what went wrong, worst first: genuine calls alarmed of, scam calls missed. No text."""
    alarmed = sorted((o for o in outcomes if not o.is_scam and o.alarms), key=lambda o: -o.risk)
    missed = sorted((o for o in outcomes if o.is_scam and not o.alarms), key=lambda o: o.risk)
    return [
        {
            "id": o.id,
            "label": "scam" if o.is_scam else "genuine",
            "topic": o.topic,
            "level": o.level,
            "peak_risk": round(o.risk, 3),
        }
        for o in [*alarmed[:limit], *missed[:limit]]
    ]


def of_set(outcomes: Sequence[Outcome], prior: float) -> dict[str, Any]:
    """Everything a report says of one set of calls: figures, slices, topic pairs, curves, what went wrong."""
    scam, genuine = _sides(outcomes)
    pairs = topic_pairs(outcomes)
    return {
        **figures(outcomes, prior),
        "slices": by_slice(outcomes, prior),
        "topic_pairs": pairs,
        "worst_topic": next(iter(pairs), None),
        "rewriting": rewriting_loss(outcomes),
        "det": metrics.det([o.risk for o in scam], [o.risk for o in genuine]),
        "wrong": worst_calls(outcomes),
    }


def line(name: str, values: Mapping[str, Any]) -> str:
    """One printed line of a set: what, how many, recall, earliness, false alarms, AUC."""
    parts = [f"{name} ({', '.join(values['what']) or NO_CALL}): {values['num_scam']} scam"]
    parts.append(f"{values['num_genuine']} genuine in {values['genuine_hours']:.1f} h")
    early = values["earliness"]
    for level in ALARM_LEVELS:
        if recall := values[f"recall_{level}"]:
            text = f"{level}: recall {recall['hits']}/{recall['n']}"
            if before := early[level]["before_ask"]:
                text += f", before the ask {before['hits']}/{before['n']}"
            if (median := early[level]["median_far_s"]) is not None:
                text += f", median {median:g} s of far speech"
            parts.append(text)
        if false := values[f"false_alarms_{level}"]:
            upper = false["per_1000_calls"]["upper95"]
            parts.append(f"false {level} {false['hits']}/{false['n']} (95 %: at most {upper:.0f} per 1,000)")
    if values["auc"] is not None:
        parts.append(f"AUC {values['auc']:.3f}")
    if values.get("worst_topic"):
        parts.append(f"worst topic {values['worst_topic']} {values['topic_pairs'][values['worst_topic']]['auc']:.3f}")
    if told := values.get("rewriting"):
        ways = ", ".join(f"{way} {its['points_lost']:+g} of {its['pairs']}" for way, its in told["ways"].items())
        parts.append(f"points lost by rewriting {told['points_lost']:+g} of {told['pairs']} pairs ({ways})")
    return "; ".join(parts)
