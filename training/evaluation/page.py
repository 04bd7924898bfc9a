"""A report as one HTML file: tables and pictures inside it, no script, nothing fetched. Every value is escaped."""

import base64
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1a1a1a }
table { border-collapse: collapse; margin: .6rem 0 1.4rem; font-size: 13px }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .6rem; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left; white-space: normal }
thead th { border-bottom: 2px solid #888 }
h2 { margin-top: 2.2rem } h3 { margin-bottom: .2rem } img { max-width: 100%; height: auto }
.what { color: #555 } .none { color: #999 }
@media (prefers-color-scheme: dark) {
  body { background: #161616; color: #ddd } th, td { border-color: #333 } .what { color: #aaa } img { background: #fff }
}
"""
_TITLES = {
    "det.png": "Detection error trade-off",
    "reliability.png": "Reliability",
    "earliness.png": "How soon",
    "families.png": "Recall by family",
}
_NONE = '<span class="none">–</span>'
_WRONG = ("id", "label", "topic", "level", "peak_risk")
_LEVELS = ("suspect", "danger")


def page(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The whole page.

    Args:
        report: as report.json has it: ``model``, ``sets``.
        pictures: file name -> PNG.
    """
    body = [
        "<h1>Evaluation</h1>",
        f'<p class="what">{escape("; ".join(map(_of_model, report["models"])))}. An alarm is any alert over the whole '
        "call, at the thresholds the model was shipped with. Intervals are 95 %; bounds are one-sided.</p>",
        *_summary(report["sets"]),
        *(f"<h3>{escape(_TITLES.get(name, name))}</h3>{_image(name, png)}" for name, png in pictures.items()),
        *(part for name, values in report["sets"].items() for part in _of_set(name, values)),
    ]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
    top = f'<!doctype html><html lang="en"><head>{head}<title>Evaluation</title></head>'
    return f"{top}<body>{''.join(body)}</body></html>\n"


def _of_model(model: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in model.items() if value is not None)


def _image(name: str, png: bytes) -> str:
    return f'<img alt="{escape(_TITLES.get(name, name))}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _table(header: list[str], rows: list[list[str]]) -> str:
    """``rows`` hold HTML already."""
    if not rows:
        return ""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _share(value: Mapping[str, Any] | None) -> str:
    if not value or value["share"] is None:
        return _NONE
    low, high = value["ci95"]
    return f"{100 * value['share']:.1f} % ({100 * low:.0f}–{100 * high:.0f}; {value['hits']}/{value['n']})"


def _number(value: Any, digits: int = 3) -> str:
    return _NONE if value is None else f"{value:.{digits}f}" if isinstance(value, float) else escape(str(value))


def _bound(value: Mapping[str, Any] | None, unit: str) -> str:
    if not value or value[unit] is None:
        return _NONE
    return f"{value[unit]:.2f} (at most {value['upper95']:.2f})"


def _summary(sets: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    header = ["calls", "what", "scam", "genuine", "recall", "before the ask", "false alarms", "per 1,000", "AUC", "ECE"]
    rows = []
    for name, values in sets.items():
        early, false = values["earliness"], values["false_alarms_suspect"]
        rows.append(
            [
                f'<a href="#{escape(name)}">{escape(name)}</a>',
                escape(", ".join(values["what"])),
                str(values["num_scam"]),
                str(values["num_genuine"]),
                _share(values["recall_suspect"]),
                _share(early and early["suspect"]["before_ask"]),
                _share(false),
                _bound(false and false["per_1000_calls"], "per_1000"),
                _number(values["auc"]),
                _number(values["calibration"] and values["calibration"]["ece"]),
            ]
        )
    yield "<h2>All sets, any alert</h2>"
    yield _table(header, rows)


def _of_set(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield f'<h2 id="{escape(name)}">{escape(name)}</h2>'
    yield (
        f'<p class="what">{escape(", ".join(values["what"]))}: {values["num_scam"]} scam calls, '
        f"{values['num_genuine']} genuine ones in {values['genuine_hours']:.2f} hours</p>"
    )
    yield from _decisions(values)
    yield from _soon(values)
    if values["topic_pairs"]:
        yield f"<h3>Scam against genuine on one topic; worst: {escape(str(values['worst_topic']))}</h3>"
        yield _table(
            ["topic", "AUC", "scam", "genuine"],
            [
                [escape(topic), _number(pair["auc"]), str(pair["num_scam"]), str(pair["num_genuine"])]
                for topic, pair in values["topic_pairs"].items()
            ],
        )
    for key, slices in values["slices"].items():
        yield f"<h3>By {escape(key)}</h3>"
        yield _table(
            [key, "scam", "genuine", "recall", "danger", "false alarms", "AUC", "median wait, s", "word errors"],
            [_slice(value, of_slice) for value, of_slice in slices.items()],
        )
    if values["wrong"]:
        yield "<h3>What went wrong</h3>"
        yield _table(
            ["call", "label", "topic", "level", "peak risk"],
            [[escape(str(wrong[key])) for key in _WRONG] for wrong in values["wrong"]],
        )


def _decisions(values: Mapping[str, Any]) -> Iterator[str]:
    rows = []
    for level in _LEVELS:
        false = values[f"false_alarms_{level}"]
        rows.append(
            [
                level,
                _share(values[f"recall_{level}"]),
                _share(false),
                _bound(false and false["per_1000_calls"], "per_1000"),
                _bound(false and false["per_talk_hour"], "per_hour"),
            ]
        )
    yield _table(["alarm", "recall", "false alarms", "per 1,000 genuine calls", "per genuine talk-hour"], rows)
    more = {
        "AUC": values["auc"],
        "recall at 1 % false alarms (chosen on these calls)": values["recall_at_1_percent"],
        "recall at 3 %": values["recall_at_3_percent"],
        "ECE": values["calibration"] and values["calibration"]["ece"],
        "word error rate": values.get("word_error_rate"),
        "points of recall lost by rewriting": values["rewriting"] and values["rewriting"]["points_lost"],
    }
    yield _table(["figure", "value"], [[escape(k), _number(v)] for k, v in more.items() if v is not None])


def _soon(values: Mapping[str, Any]) -> Iterator[str]:
    if not values["earliness"]:
        return
    rows = []
    for level in _LEVELS:
        early = values["earliness"][level]
        lived = early["kaplan_meier"] or {}
        rows.append(
            [
                level,
                _number(early["median_far_s"], 1),
                _number(early["p90_far_s"], 1),
                _number(lived.get("median_far_s"), 1),
                _number(early["median_far_s_from_first_act"], 1),
                *(_share(recall) for recall in early["recall_by_far_s"].values()),
                _share(early["5_s_before_ask"]),
                _number(early["erde"]["10_s"]),
                _number(early["latency_f1"]),
            ]
        )
    by = [f"by {seconds} s" for seconds in values["earliness"]["suspect"]["recall_by_far_s"]]
    header = ["alarm", "median", "90 %", "median, missed counted", "from the first act", *by, "≥ 5 s before the ask"]
    yield "<h3>Seconds of far-leg speech until the alarm</h3>"
    yield _table([*header, "ERDE, 10 s", "latency F1"], rows)


def _slice(value: str, of_slice: Mapping[str, Any]) -> list[str]:
    return [
        escape(value),
        str(of_slice["num_scam"]),
        str(of_slice["num_genuine"]),
        _share(of_slice["recall_suspect"]),
        _share(of_slice["recall_danger"]),
        _share(of_slice["false_alarms_suspect"]),
        _number(of_slice["auc"]),
        _number(of_slice["median_far_s"], 1),
        _number(of_slice.get("word_error_rate")),
    ]
