"""Pictures of a report, as PNG: detection error trade-off, reliability, how soon, recall by family."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import stats

SIZE_INCHES = (7.2, 4.6)
DOTS_PER_INCH = 110
MAX_SETS = 8
"""Curves that an eye can tell apart; the largest sets are drawn."""

DET_TICKS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6)


def plots(sets: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
    """File name -> PNG of every picture that the figures suffice for.

    Args:
        sets: name -> :func:`training.evaluation.figures.of_set`.
    """
    drawn: dict[str, Callable[[Axes, Mapping[str, Mapping[str, Any]]], bool]] = {
        "det.png": _det,
        "reliability.png": _reliability,
        "earliness.png": _earliness,
        "families.png": _families,
    }
    largest = sorted(sets, key=lambda name: -(sets[name]["num_scam"] + sets[name]["num_genuine"]))[:MAX_SETS]
    chosen = {name: sets[name] for name in sets if name in largest}
    pictures = {}
    for name, draw in drawn.items():
        figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
        FigureCanvasAgg(figure)
        if draw(figure.subplots(), chosen):
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", metadata={"Software": None})  # the same figures, the same bytes
            pictures[name] = buffer.getvalue()
    return pictures


def _label(name: str, values: Mapping[str, Any]) -> str:
    return f"{name} ({values['num_scam']} scam, {values['num_genuine']} genuine)"


def _finish(axes: Axes, x: str, y: str, title: str) -> bool:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10)
    axes.grid(visible=True, alpha=0.3)
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(fontsize=7)
    return True


def _det(axes: Axes, sets: Mapping[str, Mapping[str, Any]]) -> bool:
    """Normal deviate axes, as Martin et al. 1997 drew them: equal variances give straight lines."""
    found = {name: values for name, values in sets.items() if values["det"]}
    for name, values in found.items():
        points = np.clip(np.array(values["det"])[:, :2], DET_TICKS[0] / 2, DET_TICKS[-1] * 1.4)
        axes.plot(*stats.norm.ppf(points).T, label=_label(name, values), linewidth=1.2)
    ticks = stats.norm.ppf(DET_TICKS)
    texts = [f"{100 * tick:g} %" for tick in DET_TICKS]
    axes.set_xticks(ticks, texts, fontsize=7)
    axes.set_yticks(ticks, texts, fontsize=7)
    return bool(found) and _finish(axes, "genuine calls alarmed of", "scam calls missed", "Detection error trade-off")


def _reliability(axes: Axes, sets: Mapping[str, Mapping[str, Any]]) -> bool:
    found = {name: values for name, values in sets.items() if values["calibration"]}
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle="--")
    for name, values in found.items():
        bins = np.array(values["calibration"]["bins"])
        axes.plot(bins[:, 0], bins[:, 1], marker="o", markersize=3, linewidth=1, label=f"{name}, ECE {_ece(values)}")
    prior = next((values["calibration"]["prior"] for values in found.values()), None)
    title = f"Reliability of the highest risk, calls weighted to a prior of {prior}"
    return bool(found) and _finish(axes, "risk", "share of scams", title)


def _ece(values: Mapping[str, Any]) -> str:
    return f"{values['calibration']['ece']:.3f}"


def _earliness(axes: Axes, sets: Mapping[str, Mapping[str, Any]]) -> bool:
    is_drawn = False
    for name, values in sets.items():
        lived = values["earliness"] and values["earliness"]["suspect"]["kaplan_meier"]
        if lived and lived["curve"]:
            times, left = zip(*lived["curve"], strict=True)
            axes.step([0, *times], [1, *left], where="post", label=_label(name, values), linewidth=1.2)
            is_drawn = True
    axes.set_xlim(0, 90)
    axes.set_ylim(0, 1)
    title = "Scam calls not yet warned of (Kaplan-Meier; missed calls censored)"
    return is_drawn and _finish(axes, "far-leg speech heard, seconds", "share", title)


def _families(axes: Axes, sets: Mapping[str, Mapping[str, Any]]) -> bool:
    name = max(sets, key=lambda name: len(sets[name]["slices"].get("family", {})), default=None)
    families = {} if name is None else sets[name]["slices"].get("family", {})
    rows = [(family, values["recall_suspect"]) for family, values in families.items() if values["recall_suspect"]]
    for at, (_, recall) in enumerate(rows):
        low, high = recall["ci95"]
        axes.plot([low, high], [at, at], color="0.5", linewidth=1)
        axes.plot(recall["share"], at, marker="o", color="C0", markersize=4)
    axes.set_yticks(range(len(rows)), [f"{family} ({recall['n']})" for family, recall in rows], fontsize=7)
    axes.set_xlim(0, 1)
    return bool(rows) and _finish(axes, "recall, with 95 % interval", "", f"Recall by family: {name}")
