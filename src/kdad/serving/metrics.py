"""What a server counts, for Prometheus."""

from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from time import perf_counter

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kdad.detectors.predictor import Prediction, Predictor
from kdad.scoring.drift import Drift, NormalReference, latest_look
from kdad.scoring.parameters import DriftParameters

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LEFT = 499  # no status was sent: the client had left
_LABELS = ("detector", "digest")


class ScoreCounts:
    """The decisions and scores of one detector, and whether its latest scores have drifted; safe among threads.

    Scores of images that the detector was made of count as decisions, and not for drift.
    """

    def __init__(self, predictor: Predictor, name: str) -> None:
        normal, threshold = predictor.validation_scores, predictor.threshold
        #: What tells its metrics from those of the detector before it.
        self.labels = (name, predictor.digest[:12])
        quantiles = np.quantile(normal, [0, 0.25, 0.5, 0.75, 0.9, 1]) if normal.size else []
        self._bounds = [*sorted({*map(float, quantiles), threshold.value}), float("inf")]
        self._counts, self._sum = np.zeros(len(self._bounds), int), 0.0
        self._decisions: Tally[int] = Tally()
        self.reference, self._drift = NormalReference(threshold, normal), DriftParameters()
        self._latest: deque[float] = deque(maxlen=self._drift.window + self._drift.window // 2)
        self._compared, self._lock = 0, Lock()

    def add(self, prediction: Prediction, is_new: bool) -> None:
        """Count a prediction that is answered."""
        with self._lock:
            self._decisions[int(prediction.decision)] += 1
            self._counts[np.searchsorted(self._bounds, prediction.score)] += 1
            self._sum += prediction.score
            if is_new:
                self._latest.append(prediction.score)
                self._compared += 1

    def add_to(self, predictions: CounterMetricFamily, scores: HistogramMetricFamily) -> Drift | None:
        """Add what was counted to metrics; return the latest look at drift, of which the first takes a second."""
        with self._lock:
            latest, compared = np.array(self._latest), self._compared
            for decision, word in enumerate(("normal", "anomalous")):
                predictions.add_metric((*self.labels, word), self._decisions[decision])
            bounds = ["+Inf" if bound == float("inf") else repr(bound) for bound in self._bounds]
            cumulated = list(zip(bounds, np.cumsum(self._counts).tolist(), strict=True))
            scores.add_metric(self.labels, cumulated, self._sum)
        return latest_look(latest, compared, self.reference, self._drift)


class ServerMetrics(Collector):
    """The metrics of one server: its answers, how many requests are `inside`, and `served`, its detectors' scores."""

    def __init__(self, inside: Callable[[], float], served: Callable[[], Iterable[ScoreCounts]]) -> None:
        disable_created_metrics()
        self._registry, self._served = CollectorRegistry(), served
        says = "answers by path and status; 499: the client had left"
        self._answers = Counter("kdad_requests", says, ("path", "status"), registry=self._registry)
        says = "from the first byte of a request's head to the end of its answer"
        self._seconds = Histogram("kdad_request_seconds", says, ("path",), buckets=_SECONDS, registry=self._registry)
        says = "requests that are being answered, their bodies being there"
        Gauge("kdad_requests_inside", says, registry=self._registry).set_function(inside)
        self._registry.register(self)

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._answers.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of detectors: those of one that is loaded anew begin at zero, by another digest."""
        predictions = CounterMetricFamily("kdad_predictions", "images by decision", labels=(*_LABELS, "decision"))
        says = "scores; bounds are quantiles of the normal validation scores, and the threshold"
        scores = HistogramMetricFamily("kdad_score", says, labels=_LABELS)
        thresholds = GaugeMetricFamily("kdad_threshold", "above it an image is anomalous", labels=_LABELS)
        drifts: dict[str, GaugeMetricFamily] = {}
        says = "of the latest look at new scores; changed: 1 when they have left normal ones"
        for one in self._served():
            thresholds.add_metric(one.labels, one.reference.threshold.value)
            drift = one.add_to(predictions, scores)
            for name, value in {} if drift is None else drift.numbers().items():
                family = drifts.setdefault(name, GaugeMetricFamily(f"kdad_drift_{name}", says, labels=_LABELS))
                family.add_metric(one.labels, value)
        yield from (predictions, scores, thresholds, *drifts.values())

    def written(self, accepted: str) -> tuple[bytes, str]:
        """Return all as text in the format that an Accept header asks for, and its type."""
        encode, kind = choose_encoder(accepted)
        return encode(self._registry), kind


class CountRequests:
    """An ASGI app around another that counts its answers."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request by the app inside."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = perf_counter(), None

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            status = status or 500  # which is answered outside of this
            raise
        finally:
            path = getattr(scope.get("route"), "path", "other")  # as it is declared: few, whatever clients ask for
            self._metrics.count(path, status or _LEFT, perf_counter() - began)
