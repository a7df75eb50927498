"""The server's answers, what it refuses and how, and that it predicts what waits together."""

import asyncio
import gzip
import threading

import httpx2
import numpy as np
import pytest
from starlette.testclient import TestClient

from kdad.parameters.blocks import ServingParameters
from kdad.scoring.threshold import Calibration, quantile_threshold
from kdad.serving import arriving
from kdad.serving.app import create_app
from serving_files import png, split, text


@pytest.fixture
def client(predictor):
    """A client of the predictor's server, with bounds that are easily reached."""
    limits = ServingParameters(body_megabytes=0.05, megapixels=0.01, images=5, queue=4, batch_size=4, seconds=5)
    with TestClient(create_app(predictor, limits), raise_server_exceptions=False) as made:
        yield made


def ask(client, body: bytes, kind: str = "application/json"):
    return client.post("/invocations", content=body, headers={"Content-Type": kind})


def test_invocations_answer_each_row(client):
    answer = ask(client, split(text(51), text(204)))
    assert answer.status_code == 200
    found = answer.json()["predictions"]
    assert [row.pop("score") for row in found] == pytest.approx([0.2, 0.8], rel=1e-6)
    assert found == [{"threshold": 0.5, "decision": 0}, {"threshold": 0.5, "decision": 1}]
    (row,) = ask(client, split(text(51), params={"map": True})).json()["predictions"]
    assert row["map"].startswith("iVBOR")


def test_one_file_by_itself(client):
    answer = client.post("/predict?map=true&pictures=true", content=png(77, 20, 30)).json()
    assert answer["score"] == pytest.approx(77 / 255, rel=1e-5)
    assert answer["percentile"] == 0.5  # of 0.2, 0.3, 0.4, 0.5 two are below
    assert (answer["height"], answer["width"]) == (20, 30)
    assert all(answer[name].startswith("iVBOR") for name in ("map", "picture", "heat"))
    assert set(client.post("/predict", content=png(77)).json()) == {"score", "threshold", "decision", "percentile"}


def test_a_category_decides_by_its_own_threshold(client, predictor):
    for name, scores in (("dim", [0.1, 0.2]), ("bright", [0.7, 0.9])):
        normal = np.array(scores)
        predictor.by_category[name] = Calibration.of(quantile_threshold(normal, 0.6), normal)
    for query, threshold, decision, percentile in (
        ("", 0.5, 1, 1.0),
        ("?category=dim", 0.2, 1, 1.0),
        ("?category=bright", 0.9, 0, 0.5),  # 0.8 lies between 0.7 and 0.9
    ):
        found = client.post(f"/predict{query}", content=png(204)).json()
        assert found.pop("score") == pytest.approx(0.8, rel=1e-6)
        assert found == {"threshold": threshold, "decision": decision, "percentile": percentile}
    rows = ask(client, split(text(26), text(204), params={"category": "dim"})).json()["predictions"]
    assert [(row["threshold"], row["decision"]) for row in rows] == [(0.2, 0), (0.2, 1)]
    assert client.get("/health").json()["categories"] == ["dim", "bright"]
    before = list(predictor.batches)
    answer = ask(client, split(text(204), params={"group": True}))
    assert (answer.status_code, "decides on images alone" in answer.json()["message"]) == (400, True)
    for answer in (
        client.post("/predict?category=brigt", content=png(204)),
        ask(client, split(text(204), params={"category": "brigt"})),
    ):
        assert answer.status_code == 400
        assert "category 'brigt'; did you mean 'bright'?" in answer.json()["message"]
    assert predictor.batches == before  # nothing was predicted


def test_health_says_which_detector(client):
    said = client.get("/health").json()
    assert (said["status"], said["system"], said["threshold"], said["inside"]) == ("ok", "bright", 0.5, 0)
    assert client.get("/ping").status_code == 200


def test_the_page_is_whole(client):
    page = client.get("/")
    assert "lamps / lit" in page.text
    assert "http" not in page.text.replace("http://www.w3.org", "")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"", "application/json", 400, "empty"),
        (split(text(1))[:-9], "application/json", 400, "no JSON"),
        (split("%%"), "application/json", 400, "row 0: it is not base64"),
        (split(text(1), "/etc/passwd"), "application/json", 400, "row 1: it is not base64 text; a path"),
        (split(text(1)[:40]), "application/json", 400, "row 0: "),
        (split([[[float("nan")] * 3]]), "application/json", 400, "row 0: the array has values that are NaN"),
        (split(*[text(1)] * 6), "application/json", 413, "6 images, and at most 5"),
        (split(text(np.zeros((101, 100, 3), np.uint8))), "application/json", 413, "row 0: it is 101 x 100"),
        (b"x" * 50_001, "application/json", 413, "at most 0.05 MB"),
        (split(text(1)), "text/csv", 415, "'text/csv'; send application/json"),
        (split(text(1)), "application/json; charset=utf-8", 200, ""),
    ],
)
def test_what_is_refused_says_why(client, predictor, body, kind, status, said):
    answer = ask(client, body, kind)
    assert answer.status_code == status
    if status != 200:
        assert said in answer.json()["message"]
        assert predictor.batches == []
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/none", 404),
        ("GET", "/invocations", 405),
        ("POST", "/predict?map=7", 400),
        ("POST", "/predict?mpa=true", 400),
        ("GET", "/health?map=1", 400),
        ("GET", "/redoc", 404),
        ("GET", "/docs-files/none.js", 404),
    ],
)
def test_other_paths_and_words_are_json_too(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error_code", "message"}


def test_a_body_without_a_length_is_bounded_too(client):
    answer = client.post("/predict", content=(b"x" * 10_000 for _ in range(50)))
    assert answer.status_code == 413


def test_a_defect_is_no_trace_to_clients(client, predictor):
    def fail(images):
        raise RuntimeError("secret place")

    predictor.predict_batch = fail
    answer = client.post("/predict", content=png(1))
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "by a defect of the server" in answer.json()["message"]


def test_a_score_that_is_not_finite_is_refused(client, predictor):
    predictor.score_and_show = lambda images, outputs=None: (np.full(len(images), np.nan), None)
    answer = ask(client, split(text(1), text(2)))
    assert answer.status_code == 400
    assert "row 0: the score of the image is not finite" in answer.json()["message"]


@pytest.fixture
def gate(predictor):
    """An event that the predictor waits for."""
    found, original = threading.Event(), predictor.predict_batch

    def wait(images):
        found.wait(20)
        return original(images)

    predictor.predict_batch = wait
    return found


def _together(app, count: int, act) -> list:
    """Ask `count` times at once; `act` is called when all have been sent."""

    async def run() -> list:
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://x") as http,
        ):
            tasks = [asyncio.create_task(http.post("/predict", content=png(row))) for row in range(count)]
            await asyncio.sleep(0.3)
            act()
            return await asyncio.gather(*tasks)

    return asyncio.run(run())


def test_more_than_the_queue_takes_are_told_to_come_again(predictor, gate):
    app = create_app(predictor, ServingParameters(queue=3, batch_size=8))
    answers = _together(app, 7, gate.set)
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [503] * 4
    refused = [answer for answer in answers if answer.status_code == 503]
    assert all(answer.headers["Retry-After"] == "1" for answer in refused)
    assert "try again" in refused[0].json()["message"]
    assert sum(predictor.batches) == 3


def test_what_waits_together_is_one_batch_and_each_gets_its_own(predictor, gate):
    app = create_app(predictor, ServingParameters(queue=64, batch_size=8))
    answers = _together(app, 12, gate.set)
    assert [answer.json()["score"] for answer in answers] == pytest.approx([row / 255 for row in range(12)], rel=1e-5)
    assert (sum(predictor.batches), len(predictor.batches) <= 3, max(predictor.batches) <= 8) == (12, True, True)


def test_what_takes_too_long_is_told_so_and_the_place_is_free_again(predictor, gate):
    limits = ServingParameters(queue=1, seconds=0.2)
    with TestClient(create_app(predictor, limits)) as client:
        answer = client.post("/predict", content=png(1))
        assert answer.status_code == 504
        assert "not done within 0.2 s" in answer.json()["message"]
        gate.set()
        assert client.post("/predict", content=png(1)).status_code == 200
        assert client.get("/health").json()["inside"] == 0


def test_unknown_and_repeated_parameters_are_named(client):
    for query, said in (
        ("mpa=true", "unknown parameter 'mpa'; did you mean 'map'?"),
        ("map=true&map=false", "the parameter 'map' is given 2 times"),
        ("map=true&x=", "unknown parameter 'x'"),
    ):
        answer = client.post(f"/predict?{query}", content=png(1))
        assert (answer.status_code, said in answer.json()["message"]) == (400, True), answer.text
    assert client.post("/invocations?map=true", content=split(text(1))).status_code == 400


def test_what_comes_in_a_wrong_encoding_is_named(client):
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + png(1) + b"\r\n"
    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    for content, headers, said in (
        (form + form + b"--x--\r\n", multipart, "has 2 files; send one"),
        (form, multipart, "is cut short"),
        (form + b"--x--", {"Content-Type": "multipart/form-data"}, "names no boundary"),
        (form + b"--x--", {}, "a multipart form, whose Content-Type must say so"),
        (gzip.compress(png(1)), {}, "it looks like gzip"),
        (png(1), {"Content-Encoding": "gzip"}, "the body is compressed by 'gzip'"),
        (split(text(1)), {}, "it looks like JSON, which /invocations takes"),
    ):
        answer = client.post("/predict", content=content, headers=headers)
        assert (answer.status_code in (400, 415), said in answer.json()["message"]) == (True, True), answer.text
    fields = b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    assert client.post("/predict", content=fields + form + b"--x--\r\n", headers=multipart).status_code == 200


def test_texts_that_are_no_base64_are_named(client):
    for value, said in (
        ("data:image/svg+xml,%3Csvg", "a data URI of 'image/svg+xml', which is not in base64"),
        (text(1).replace("+", "-").replace("/", "_")[:-1] + "_", "base64's form for URLs"),
    ):
        assert said in ask(client, split(value)).json()["message"]


async def _drip(pause: float, count: int = 1000):
    for _ in range(count):
        yield b"x"
        await asyncio.sleep(pause)


def test_slow_clients_take_no_place_from_honest_ones(predictor, monkeypatch):
    monkeypatch.setattr(arriving, "_GRACE_SECONDS", 0.3)
    app = create_app(predictor, ServingParameters(queue=2, arriving=40))

    async def run() -> tuple[list, list, list]:
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://x") as http,
        ):
            slow = [asyncio.create_task(http.post("/predict", content=_drip(0.05))) for _ in range(39)]
            await asyncio.sleep(0.1)
            honest = [await http.post("/predict", content=png(row)) for row in range(5)]
            over = [asyncio.create_task(http.post("/predict", content=_drip(0.05))) for _ in range(2)]
            return honest, await asyncio.gather(*slow), await asyncio.gather(*over)

    honest, slow, over = asyncio.run(run())
    assert [answer.status_code for answer in honest] == [200] * 5
    assert {answer.status_code for answer in slow} == {408}
    assert "at least 8 kB a second" in slow[0].json()["message"]
    assert sorted(answer.status_code for answer in over) == [408, 429]
    assert "of one address" in max(over, key=lambda answer: answer.status_code).json()["message"]


def test_a_body_that_comes_in_parts_and_fast_enough_is_taken(predictor, monkeypatch):
    monkeypatch.setattr(arriving, "_GRACE_SECONDS", 0.05)
    content = png(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))

    async def parts():
        for start in range(0, len(content), 500):
            yield content[start : start + 500]
            await asyncio.sleep(0.02)

    async def run():
        app = create_app(predictor, ServingParameters())
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://x") as http,
        ):
            return await http.post("/predict", content=parts())

    assert asyncio.run(run()).status_code == 200
