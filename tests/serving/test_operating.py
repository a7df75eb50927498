"""What an operator sees and changes: health, version, metrics, audit log, reload, rollback, several detectors."""

import asyncio
import hashlib
import json
import logging.handlers
import os
import re
import signal
import threading

import httpx2
import pytest
from starlette.testclient import TestClient

from exported_detectors import coloured_noise
from kdad import detectors
from kdad.errors import InputError
from kdad.parameters.blocks import ServingParameters
from kdad.serving import records
from kdad.serving.app import create_app
from kdad.serving.service import share_frozen
from serving_files import png, sampled, split, text

TOKEN = "a token of this test"
_BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def client(predictor):
    """A client of the predictor's server."""
    with TestClient(create_app(predictor, ServingParameters(queue=4)), raise_server_exceptions=False) as made:
        yield made


def metrics_of(client) -> dict[str, float]:
    """Return what Prometheus' own parser reads in `/metrics`, by name and labels."""
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return sampled(answer.text)


def test_who_is_alive_and_ready_and_of_which_version(client, predictor):
    for path in ("/health/live", "/health/ready"):
        assert client.get(path).json() == {"status": "ok"}
    said = client.get("/version").json()
    assert said["detectors"]["detector"]["threshold"] == 0.5
    for path in ("/", "/health", "/ping", "/health/live", "/health/ready", "/version", "/metrics"):
        assert client.head(path).status_code == 200, path
    assert client.head("/predict").status_code == 405


def test_a_server_whose_places_are_taken_is_not_ready_and_lives(predictor):
    go, original = threading.Event(), predictor.predict_batch
    predictor.predict_batch = lambda images: go.wait(10) and original(images)

    async def run():
        app = create_app(predictor, ServingParameters(queue=1))
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x")
        async with app.router.lifespan_context(app), http:
            asked = asyncio.create_task(http.post("/predict", content=png(1)))
            await asyncio.sleep(0.2)
            busy = [(await http.get(f"/health/{path}")).status_code for path in ("ready", "live")]
            go.set()
            await asked
            return busy, (await http.get("/health/ready")).status_code

    assert asyncio.run(run()) == ([503, 200], 200)


def test_metrics_count_what_clients_count(client):
    for value in (10, 100, 200, 250):
        client.post("/predict", content=png(value))
    client.post("/invocations", content=split(text(51), text(204)))
    client.post("/predict", content=b"no image")
    client.get("/nowhere")
    found = metrics_of(client)
    assert found['kdad_requests_total{path="/predict",status="200"}'] == 4
    assert found['kdad_requests_total{path="/predict",status="400"}'] == 1
    assert found['kdad_requests_total{path="/invocations",status="200"}'] == 1
    assert found['kdad_requests_total{path="other",status="404"}'] == 1
    assert found['kdad_request_seconds_count{path="/predict"}'] == 5
    assert found["kdad_requests_inside"] == 0
    of = 'detector="detector",digest=""'
    assert found['kdad_predictions_total{decision="normal",detector="detector",digest=""}'] == 3
    assert found['kdad_predictions_total{decision="anomalous",detector="detector",digest=""}'] == 3
    assert found[f'kdad_score_bucket{{{of},le="0.5"}}'] == 3
    assert found[f'kdad_score_bucket{{{of},le="+Inf"}}'] == found[f"kdad_score_count{{{of}}}"] == 6
    assert found[f"kdad_score_sum{{{of}}}"] == pytest.approx((10 + 100 + 200 + 250 + 51 + 204) / 255, rel=1e-5)
    assert not [name for name in found if "drift" in name or "created" in name]
    asked = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert asked.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert metrics_of(client)['kdad_requests_total{path="/metrics",status="200"}'] == 2


def test_drift_is_of_the_latest_scores_without_images_that_the_detector_was_made_of(predictor):
    known = png(255)
    predictor.record["seen"] = hashlib.sha256(known).hexdigest()[:16]
    with TestClient(create_app(predictor, ServingParameters())) as client:
        for _ in range(4):
            client.post("/invocations", content=split(*[text(250)] * 25))
            client.post("/predict", content=known)
        found = {name.partition("{")[0]: value for name, value in metrics_of(client).items()}
    assert (found["kdad_drift_changed"], found["kdad_drift_images"], found["kdad_score_count"]) == (1, 100, 104)


def test_paths_are_described(client):
    said = client.get("/openapi.json").json()
    assert {"/predict", "/invocations", "/metrics", "/reload", "/detectors/{name}/predict"} <= said["paths"].keys()
    for path, its in said["paths"].items():
        (operation,) = its.values()
        declared = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))
    assert "multipart/form-data" in said["paths"]["/predict"]["post"]["requestBody"]["content"]


def test_the_docs_ask_this_server_alone(client):
    page = client.get("/docs")
    assert not re.findall(r"""["'(](?:https?:)?//""", page.text)
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    for path in re.findall(r'(?:src|href)="(docs-files/[^"]+)"', page.text):
        assert client.get(f"/{path}").status_code == 200
    said = client.get("/openapi.json").json()
    assert said["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert [path for path, its in said["paths"].items() if "security" in its.get("post", {})] == [
        f"{before}/{name}" for name in ("reload", "rollback", "good") for before in ("", "/detectors/{name}")
    ]


def test_pages_elsewhere_may_ask_where_they_are_named(predictor):
    for origins, allowed in (([], None), (["https://shop.example"], "https://shop.example")):
        with TestClient(create_app(predictor, ServingParameters(origins=origins))) as client:
            answer = client.post("/predict", content=png(1), headers={"Origin": "https://shop.example"})
            assert answer.headers.get("Access-Control-Allow-Origin") == allowed


def test_the_audit_log_has_a_line_an_image_and_rotates(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_BYTES", 600)
    records.open_audit(tmp_path / "logs/audit.jsonl")
    predictor.digest = "a" * 64
    try:
        with TestClient(create_app(predictor, ServingParameters(audit="x")), raise_server_exceptions=False) as client:
            client.post("/predict", content=png(200))
            client.post("/invocations", content=split(text(10), text(20)))
            client.post("/predict", content=b"no image")
            (tmp_path / "logs/audit.jsonl").rename(tmp_path / "first.jsonl")
            monkeypatch.setattr(logging.handlers.RotatingFileHandler, "shouldRollover", _fail)
            assert client.post("/predict", content=png(1)).status_code == 500  # what is not in the log is not answered
    finally:
        records.close_audit()
    files = [tmp_path / "logs/audit.jsonl.1", tmp_path / "first.jsonl"]
    lines = [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]
    assert len(lines) == 3 and files[0].exists()
    first = lines[0]
    assert (first["image_digest"], first["decision"]) == (hashlib.sha256(png(200)).hexdigest(), 1)
    assert (first["threshold"], first["detector"], first["detector_digest"]) == (0.5, "detector", "a" * 64)
    assert first["score"] == pytest.approx(200 / 255, rel=1e-5)
    assert first["time"].endswith("+00:00")
    with pytest.raises(InputError, match=r"serving\.audit: .* cannot be written"):
        records.open_audit("/proc/none/audit.jsonl")


def _fail(handler, record):
    raise OSError("the disk is full")


def test_several_detectors_answer_by_name_and_the_first_without(predictor):
    with TestClient(create_app({"bright": predictor, "dark": predictor.turned()}, ServingParameters())) as client:
        for path, score in (
            ("/predict", 0.2),
            ("/detectors/bright/predict", 0.2),
            ("/detectors/dark/predict", 0.8),
        ):
            assert client.post(path, content=png(51)).json()["score"] == pytest.approx(score, rel=1e-5)
        rows = client.post("/detectors/dark/invocations", content=split(text(51))).json()["predictions"]
        assert rows[0]["score"] == pytest.approx(0.8, rel=1e-5)
        assert client.get("/detectors/dark/health").json()["threshold"] == 0.25
        assert client.get("/detectors/dark/").status_code == 200
        answer = client.post("/detectors/darc/predict", content=png(1))
        assert (answer.status_code, "no detector 'darc'; did you mean 'dark'?" in answer.text) == (404, True)
        assert client.get("/version").json()["detectors"].keys() == {"bright", "dark"}


def test_reload_and_rollback_take_a_token_and_say_what_changed(predictor):
    found = [predictor.turned()]

    def reopen(name):
        if not found:
            raise InputError("'there' is incomplete: it has no learnt.safetensors")
        return found.pop()

    limits = ServingParameters(token=TOKEN)
    with TestClient(create_app(predictor, limits, reopen)) as client:
        answer = client.post("/reload")
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        for given in ("Bearer wrong", TOKEN):
            assert client.post("/reload", headers={"Authorization": given}).status_code == 403
        assert client.post("/rollback", headers=_BEARER).status_code == 409
        said = client.post("/reload", headers=_BEARER).json()
        assert (said["before"]["threshold"], said["after"]["threshold"]) == (0.5, 0.25)
        assert said["before"]["score"] == pytest.approx(1 - said["after"]["score"], rel=1e-5)
        assert client.post("/predict", content=png(51)).json()["score"] == pytest.approx(0.8, rel=1e-5)
        answer = client.post("/reload", headers=_BEARER)
        assert answer.status_code == 409
        assert "the one before goes on: 'there' is incomplete" in answer.json()["message"]
        assert client.post("/predict", content=png(51)).json()["threshold"] == 0.25
        assert client.post("/rollback", headers=_BEARER).json()["after"]["threshold"] == 0.5
        assert client.post("/predict", content=png(51)).json()["score"] == pytest.approx(0.2, rel=1e-5)
        assert client.post("/detectors/none/reload", headers=_BEARER).status_code == 404
    with TestClient(create_app(predictor, ServingParameters(), reopen)) as client:
        assert "set serving.token" in client.post("/reload", headers=_BEARER).json()["message"]


def test_fifty_reloads_under_twenty_clients_lose_nothing_and_mix_nothing(predictor):
    both = [predictor, predictor.turned()]
    turn = iter(range(1, 1000))
    app = create_app(predictor, ServingParameters(token=TOKEN, batch_size=4), lambda name: both[next(turn) % 2])
    body, answers, done = split(text(51), text(102), text(153)), [], False

    async def ask(http):
        while not done:
            answers.append(await http.post("/invocations", content=body))

    async def run():
        nonlocal done
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x", timeout=60)
        async with app.router.lifespan_context(app), http:
            clients = [asyncio.create_task(ask(http)) for _ in range(20)]
            for number in range(50):
                path = "/rollback" if number % 5 == 4 else "/reload"
                assert (await http.post(path, headers=_BEARER)).status_code == 200
            done = True
            await asyncio.gather(*clients)

    asyncio.run(run())
    assert len(answers) > 50
    said = {tuple((round(row["score"], 4), row["threshold"]) for row in one.json()["predictions"]) for one in answers}
    assert said == {((0.2, 0.5), (0.4, 0.5), (0.6, 0.5)), ((0.8, 0.25), (0.6, 0.25), (0.4, 0.25))}


def test_a_hangup_loads_all_anew(predictor):
    asked = []

    def reopen(name):
        asked.append(name)
        if name == "b":
            raise InputError("damaged")
        return predictor.turned()

    async def run():
        app = create_app({"a": predictor, "b": predictor}, ServingParameters(), reopen)
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x")
        async with app.router.lifespan_context(app), http:
            os.kill(os.getpid(), signal.SIGHUP)
            for _ in range(100):
                await asyncio.sleep(0.02)
                said = (await http.get("/version")).json()["detectors"]
                if len(asked) == 2 and said["a"]["threshold"] == 0.25:
                    return said["b"]["threshold"]
        return None

    assert asyncio.run(run()) == 0.5


def test_frozen_networks_that_are_the_same_are_in_memory_once(detector_folder):
    first, second = detectors.load(detector_folder), detectors.load(detector_folder)
    picture = coloured_noise(40, 50)
    before = second.predict(picture).score
    share_frozen([second, first])
    assert second.frozen["source"] is first.frozen["source"]
    assert second.predict(picture).score == before
