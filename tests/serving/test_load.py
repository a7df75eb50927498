"""Under real uvicorn: counts are the clients' own, and clients that send headers slowly harm nobody."""

import contextlib
import http.client
import itertools
import socket
import threading
import time
from collections import Counter

import pytest

from kdad.parameters.blocks import ServingParameters
from kdad.serving import arriving
from kdad.serving.app import create_app
from serving_files import png, sampled, split, text
from serving_process import served_here


@pytest.mark.parametrize("seconds", [0.3, pytest.param(60.0, marks=pytest.mark.long)])
def test_metrics_are_the_clients_own_counts(predictor, seconds):
    """Six clients ask for good and bad images, and for what is refused; each counts what it gets."""
    requests = [
        ("/predict", png(51)),
        ("/predict", png(204)),
        ("/invocations", split(text(10), text(250))),
        ("/detectors/dark/predict", png(51)),
        ("/predict", b"no image"),
        ("/invocations", b"no JSON"),
    ]
    statuses, decisions, scrapes = Counter(), Counter(), []
    app = create_app({"bright": predictor, "dark": predictor.turned()}, ServingParameters())
    until = time.monotonic() + seconds

    def ask(address: tuple[str, int], first: int) -> None:
        connection = http.client.HTTPConnection(*address, timeout=30)
        for number in itertools.count(first):
            if number >= first + len(requests) and time.monotonic() > until:
                break
            path, body = requests[number % len(requests)]
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
            statuses[path.replace("/dark", "/{name}"), answer.status] += 1
            if answer.status == 200:
                name = "dark" if "dark" in path else "bright"
                for word, digit in (("normal", b"0"), ("anomalous", b"1")):
                    decisions[name, word] += said.count(b'"decision":' + digit)
        connection.close()

    def scrape(address: tuple[str, int]) -> dict[str, float]:
        connection = http.client.HTTPConnection(*address, timeout=30)
        connection.request("GET", "/metrics")
        with contextlib.closing(connection):
            return sampled(connection.getresponse().read().decode())

    with served_here(app) as address:
        clients = [threading.Thread(target=ask, args=(address, first)) for first in range(6)]
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            scrapes.append(scrape(address))
            time.sleep(seconds / 10)
        found = scrape(address)
    for (path, status), count in statuses.items():
        assert found[f'kdad_requests_total{{path="{path}",status="{status}"}}'] == count
    for path in {path for path, _ in statuses}:
        ours = sum(count for (of, _), count in statuses.items() if of == path)
        assert found[f'kdad_request_seconds_count{{path="{path}"}}'] == ours
    for (name, word), count in decisions.items():
        digest = "d" * 12 if name == "dark" else ""
        assert found[f'kdad_predictions_total{{decision="{word}",detector="{name}",digest="{digest}"}}'] == count
    assert sum(decisions.values()) == sum(value for name, value in found.items() if "kdad_score_count" in name)
    assert found["kdad_requests_inside"] == 0
    for before, after in zip(scrapes, [*scrapes[1:], found], strict=True):  # a counter never falls
        assert all(after[name] >= value for name, value in before.items() if name.endswith(("_total", "_count")))
    assert sum(count > 0 for count in decisions.values()) == 3 and {status for _, status in statuses} == {200, 400}


def test_clients_that_send_headers_slowly_are_closed_and_honest_ones_answered(predictor, monkeypatch):
    """Thirty send headers a byte at a time or not at all; connections that are kept between requests go on."""
    monkeypatch.setattr(arriving, "_HEAD_SECONDS", 0.3)
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Long: "
    with served_here(create_app(predictor, ServingParameters())) as address:
        slow = [socket.create_connection(address, timeout=10) for _ in range(30)]
        honest = http.client.HTTPConnection(*address, timeout=10)
        took = []
        for number in range(8):
            for one in slow[:25]:  # the rest send nothing
                with contextlib.suppress(OSError):  # closed
                    one.sendall(head if number == 0 else b"x")
            began = time.monotonic()
            honest.request("POST", "/predict", png(51))
            assert honest.getresponse().read().startswith(b'{"score":0.2')
            took.append(time.monotonic() - began)
            time.sleep(0.05)
        assert honest.sock is not None and max(took) < 0.5
        answers = [one.recv(200) for one in slow]
        assert all(one.startswith(b"HTTP/1.1 408 ") and b"Connection: close" in one for one in answers)
        assert [one.recv(1) for one in slow] == [b""] * 30
        for one in slow:
            one.close()
        time.sleep(0.35)  # idle between two requests is not slow
        honest.request("GET", "/health/live")
        assert honest.getresponse().status == 200
        honest.close()
        with socket.create_connection(address, timeout=10) as endless:
            with contextlib.suppress(OSError):
                for _ in range(100):
                    endless.sendall(b"X-More: " + b"x" * 1000 + b"\r\n" if _ else head + b"\r\n")
            assert endless.recv(200).startswith(b"HTTP/1.1 431 ")


def test_who_is_refused_before_the_body_is_there_has_one_answer_and_keeps_the_connection(predictor, monkeypatch):
    """The rest of a body that nobody reads is no header; once it is late, the connection is closed in silence."""
    monkeypatch.setattr(arriving, "_HEAD_SECONDS", 0.3)
    head, live = (
        b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: x",
    )
    with (
        served_here(create_app(predictor, ServingParameters())) as address,
        socket.create_connection(address, timeout=10) as client,
    ):
        client.sendall(head % 1_000_000)
        assert client.recv(1000).startswith(b"HTTP/1.1 404 ")
        client.sendall(b"x" * 1_000_000)
        client.sendall(live + b"\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        client.sendall(head % 10)
        assert client.recv(1000).startswith(b"HTTP/1.1 404 ")
        client.sendall(b"x" * 10)
        client.sendall(live)  # a header that never ends is refused here too
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")
        with socket.create_connection(address, timeout=10) as late:
            late.sendall(head % 10)
            assert late.recv(1000).startswith(b"HTTP/1.1 404 ")
            late.sendall(b"x")
            assert late.recv(1000) == b""
