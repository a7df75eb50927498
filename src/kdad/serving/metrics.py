"""What a server counts, in the text format that Prometheus reads (exposition format 0.0.4)."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from threading import Lock
from time import perf_counter

import numpy as np
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kdad.detectors.predictor import Prediction, Predictor
from kdad.scoring.drift import NormalReference, latest_look
from kdad.scoring.parameters import DriftParameters

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

Labels = tuple[tuple[str, str], ...]
_LEFT = 499  # no status was sent: the client had left


class Histogram:
    """Counts of values at most as large as each of some bounds, ascending, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[int(np.searchsorted(self.bounds, value))] += 1
        self.sum += value

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        """Yield its lines: cumulated counts, their sum and their number."""
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            yield _line(f"{name}_bucket", (*labels, ("le", "+Inf" if bound == float("inf") else repr(bound))), total)
        yield _line(f"{name}_sum", labels, self.sum)
        yield _line(f"{name}_count", labels, total)


class ScoreCounts:
    """The decisions and scores of one detector, and whether its latest scores have drifted; safe among threads.

    Scores of images that the detector was made of count as decisions, and not for drift.
    """

    def __init__(self, predictor: Predictor) -> None:
        normal, threshold = predictor.validation_scores, predictor.threshold
        quantiles = np.quantile(normal, [0, 0.25, 0.5, 0.75, 0.9, 1]) if normal.size else []
        self.scores = Histogram(tuple(sorted({*map(float, quantiles), threshold.value})))
        self.decisions: Counter[int] = Counter()
        self._reference, self._drift = NormalReference(threshold, normal), DriftParameters()
        self._latest: deque[float] = deque(maxlen=self._drift.window + self._drift.window // 2)
        self._compared, self._lock = 0, Lock()

    def add(self, prediction: Prediction, is_new: bool) -> None:
        """Count a prediction that is answered."""
        with self._lock:
            self.decisions[int(prediction.decision)] += 1
            self.scores.add(prediction.score)
            if is_new:
                self._latest.append(prediction.score)
                self._compared += 1

    def lines(self, labels: Labels) -> Iterator[str]:
        """Yield its lines; the first look at drift takes a second."""
        with self._lock:
            latest, compared = np.array(self._latest), self._compared
            for decision in (0, 1):
                word = "anomalous" if decision else "normal"
                yield _line("kdad_predictions_total", (*labels, ("decision", word)), self.decisions[decision])
            yield from self.scores.lines("kdad_score", labels)
        yield _line("kdad_threshold", labels, self._reference.threshold.value)
        drift = latest_look(latest, compared, self._reference, self._drift)
        for name, value in {} if drift is None else drift.numbers().items():
            yield _line(f"kdad_drift_{name}", labels, float(value))


class RequestCounts:
    """Answers by path and status, and how long they took."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.seconds: dict[str, Histogram] = {}

    def add(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self.answers[path, status] += 1
        self.seconds.setdefault(path, Histogram(_SECONDS)).add(seconds)

    def lines(self) -> Iterator[str]:
        """Yield its lines."""
        for (path, status), count in sorted(self.answers.items()):
            yield _line("kdad_requests_total", (("path", path), ("status", str(status))), count)
        for path, seconds in sorted(self.seconds.items()):
            yield from seconds.lines("kdad_request_seconds", (("path", path),))


class CountRequests:
    """An ASGI app around another that counts its answers."""

    def __init__(self, app: ASGIApp, counts: RequestCounts) -> None:
        self._app, self._counts = app, counts

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
            self._counts.add(path, status or _LEFT, perf_counter() - began)


_KINDS = {
    "kdad_requests_total": ("counter", "answers by path and status; 499: the client had left"),
    "kdad_request_seconds": ("histogram", "from the first byte of a request's head to the end of its answer"),
    "kdad_requests_inside": ("gauge", "requests that are being answered, their bodies being there"),
    "kdad_predictions_total": ("counter", "images by decision"),
    "kdad_score": ("histogram", "scores; bounds are quantiles of the normal validation scores, and the threshold"),
    "kdad_threshold": ("gauge", "above it an image is anomalous"),
    "kdad_drift_": ("gauge", "of the latest look at new scores; changed: 1 when they have left normal ones"),
}


def gauge(name: str, value: float) -> str:
    """Return the line of a number without labels."""
    return _line(name, (), value)


def exposition(lines: Iterable[str]) -> str:
    """Return lines as one text, those of a metric together below what it is."""
    families: dict[str, list[str]] = {}
    for line in lines:
        family = line.partition("{")[0].partition(" ")[0]
        for suffix in ("_bucket", "_sum", "_count"):
            if family.removesuffix(suffix) in _KINDS:
                family = family.removesuffix(suffix)
        families.setdefault(family, []).append(line)
    text = ""
    for family, its in families.items():
        kind, says = _KINDS.get(family) or _KINDS["kdad_drift_"]
        text += f"# HELP {family} {says}\n# TYPE {family} {kind}\n" + "\n".join(its) + "\n"
    return text


def _line(name: str, labels: Labels, value: float) -> str:
    said = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
    return f"{name}{{{said}}} {value!r}" if said else f"{name} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
