"""What operators watch: counters and gauges, never a call id, a number or a word of what was said as a label."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from inference.service.events import AlertEvent, Event, UtteranceEvent, VerdictEvent
from inference.service.overload import STEPS

if TYPE_CHECKING:
    from inference.service.bus import EventBus
    from inference.service.watch import Watch


LEG_SECONDS = {"gap_s": "gap", "silence_s": "silence"}
LEG_BYTES = "num_bytes"
SCHEDULED = ("offered", "understood", "held", "failed", "given_up", "shed_late", "shed_full")


class _Snapshot(Collector):
    """Counters that live elsewhere, as they were when they were last looked at."""

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[str, ...], float]] = {}
        self._families: dict[str, tuple[str, list[str]]] = {}

    def add(self, name: str, documentation: str, labels: list[str]) -> None:
        """Announce a family of counters."""
        self._families[name] = (documentation, labels)
        self._values[name] = {}

    def set(self, name: str, labels: tuple[str, ...], value: float) -> None:
        """Note a value. A loss that a late packet makes good is not taken back: a counter never falls."""
        values = self._values[name]
        values[labels] = max(value, values.get(labels, 0))

    def collect(self) -> Iterator[CounterMetricFamily]:
        """For the registry."""
        for name, (documentation, labels) in self._families.items():
            family = CounterMetricFamily(name, documentation, labels=labels)
            for of, value in self._values[name].items():
                family.add_metric(of, value)
            yield family


class Telemetry:
    """One worker's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Gauge("scamtap_calls", "Calls followed now", registry=self.registry)
        self._waiting = Gauge("scamtap_segments_waiting", "Segments waiting for the models", registry=self.registry)
        self._legs = Gauge("scamtap_legs", "Legs registered now", registry=self.registry)
        self._step = Gauge(
            "scamtap_overload_step", "0 normal, 1 long_hop, 2 gate_only, 3 refusing new calls", registry=self.registry
        )
        self._lag = Gauge("scamtap_lag_seconds", "How long new speech waits for the models", registry=self.registry)
        self._waiting_s = Gauge("scamtap_waiting_speech_seconds", "Speech waiting", registry=self.registry)
        self._snapshot = _Snapshot()
        self._snapshot.add("scamtap_scheduled_speech_seconds", "Speech for the models, by what became of it", ["what"])
        self._snapshot.add("scamtap_window_seconds", "What the models heard for it, padding included", [])
        self._snapshot.add("scamtap_batches", "Batches for the models", [])
        self._snapshot.add("scamtap_batch_rows", "Windows in them", [])
        self._snapshot.add("scamtap_step_seconds", "Time at each step of overload", ["step"])
        self._snapshot.add("scamtap_events_missed", "Events that slow followers lost", [])
        self._snapshot.add("scamtap_media", "Datagrams of no leg, by what became of them", ["what"])
        self._snapshot.add("scamtap_leg_packets", "Packets of legs, by what became of them", ["leg", "what"])
        self._snapshot.add("scamtap_leg_bytes", "UDP payload received on legs", ["leg"])
        self._snapshot.add("scamtap_leg_seconds", "Time on legs that no packet brought", ["leg", "what"])
        self.registry.register(self._snapshot)
        self.utterances = Counter("scamtap_utterances", "Utterances understood", ["leg"], registry=self.registry)
        self.speech_s = Counter("scamtap_speech_seconds", "Speech understood", ["leg"], registry=self.registry)
        self.shed_s = Counter(
            "scamtap_shed_speech_seconds", "Speech not understood for lack of capacity", ["why"], registry=self.registry
        )
        self.failures = Counter("scamtap_stage_failures", "Batches a stage failed on", registry=self.registry)
        self.alerts = Counter("scamtap_alerts", "Alerts raised", ["level"], registry=self.registry)
        self.verdicts = Counter("scamtap_verdicts", "Calls ended, by highest level", ["level"], registry=self.registry)
        self.deliveries = Counter(
            "scamtap_alert_deliveries", "Attempts to deliver an alert", ["sink", "outcome"], registry=self.registry
        )
        self.warnings = Counter(
            "scamtap_warnings",
            "Warnings to subscribers, by way and outcome",
            ["ear", "outcome"],
            registry=self.registry,
        )
        self.asked = Counter("scamtap_opinions_asked", "Questions to a language model", registry=self.registry)
        self.opinions = Counter(
            "scamtap_opinions", "Opinions wanted of a language model, by outcome", ["outcome"], registry=self.registry
        )
        self.opinion_changes = Counter(
            "scamtap_opinion_changes", "Levels that an opinion changed", ["to"], registry=self.registry
        )
        self.opinion_s = Histogram(
            "scamtap_opinion_seconds",
            "From a question to a language model to its answer",
            buckets=(0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 30.0),
            registry=self.registry,
        )
        self.delay_s = Histogram(
            "scamtap_understanding_delay_seconds",
            "From the end of an utterance to its words and risk",
            buckets=(0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0),
            registry=self.registry,
        )

    def count(self, event: Event) -> None:
        """Account for one event."""
        match event:
            case UtteranceEvent(utterance=utterance):
                self.utterances.labels(utterance.leg).inc()
                self.speech_s.labels(utterance.leg).inc(utterance.end_s - utterance.start_s)
                self.delay_s.observe(max(0.0, utterance.known_s - utterance.end_s))
            case AlertEvent(alert=alert):
                self.alerts.labels(alert.level).inc()
            case VerdictEvent(level=level):
                self.verdicts.labels(level).inc()

    def observe(self, watch: "Watch", bus: "EventBus") -> None:
        """Read the gauges off the running service."""
        self._calls.set(len(watch.call_ids))
        self._waiting.set(watch.num_waiting)
        self._snapshot.set("scamtap_events_missed", (), bus.num_missed)
        self._observe_load(watch.load())
        media = watch.media_counters()
        self._legs.set(media.pop("legs"))
        for what, value in media.items():
            self._snapshot.set("scamtap_media", (what,), value)
        for leg, counters in watch.leg_counters().items():
            self._observe_leg(leg, counters.to_json())

    def _observe_load(self, load: Mapping[str, Any]) -> None:
        self._step.set(STEPS.index(load["step"]))
        self._lag.set(load["lag_s"])
        self._waiting_s.set(load["waiting_s"])
        for what in SCHEDULED:
            self._snapshot.set("scamtap_scheduled_speech_seconds", (what,), load[f"{what}_s"])
        self._snapshot.set("scamtap_window_seconds", (), load["windows_s"])
        self._snapshot.set("scamtap_batches", (), load["num_batches"])
        self._snapshot.set("scamtap_batch_rows", (), load["num_rows"])
        for step, seconds in load["step_s"].items():
            self._snapshot.set("scamtap_step_seconds", (step,), seconds)

    def _observe_leg(self, leg: str, counters: Mapping[str, Any]) -> None:
        for what, value in counters.items():
            if what in LEG_SECONDS:
                self._snapshot.set("scamtap_leg_seconds", (leg, LEG_SECONDS[what]), value)
            elif what == LEG_BYTES:
                self._snapshot.set("scamtap_leg_bytes", (leg,), value)
            else:
                self._snapshot.set("scamtap_leg_packets", (leg, what), value)
