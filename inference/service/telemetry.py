"""What operators watch: counters and gauges, never a call id, a number or a word of what was said as a label."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from inference.service.events import AlertEvent, Event, UtteranceEvent, VerdictEvent

if TYPE_CHECKING:
    from inference.service.bus import EventBus
    from inference.service.watch import Watch


class Telemetry:
    """One worker's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Gauge("scamtap_calls", "Calls followed now", registry=self.registry)
        self._waiting = Gauge("scamtap_segments_waiting", "Segments waiting for the models", registry=self.registry)
        self._missed = Gauge("scamtap_events_missed_total", "Events that slow followers lost", registry=self.registry)
        self._media = Gauge(
            "scamtap_media_total", "Packets and samples, by what became of them", ["what"], registry=self.registry
        )
        self.utterances = Counter("scamtap_utterances", "Utterances understood", ["leg"], registry=self.registry)
        self.speech_s = Counter("scamtap_speech_seconds", "Speech understood", ["leg"], registry=self.registry)
        self.shed_s = Counter(
            "scamtap_shed_speech_seconds", "Speech not understood for lack of capacity", registry=self.registry
        )
        self.failures = Counter("scamtap_stage_failures", "Batches a stage failed on", registry=self.registry)
        self.alerts = Counter("scamtap_alerts", "Alerts raised", ["level"], registry=self.registry)
        self.verdicts = Counter("scamtap_verdicts", "Calls ended, by highest level", ["level"], registry=self.registry)
        self.deliveries = Counter(
            "scamtap_alert_deliveries", "Attempts to deliver an alert", ["channel", "outcome"], registry=self.registry
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
        self._missed.set(bus.num_missed)
        self._calls.set(len(watch.call_ids))
        self._waiting.set(watch.num_waiting)
        for what, value in watch.media_counters().items():
            self._media.labels(what).set(value)
