"""What people say is good is kept: once, whole, with who said so; and sets a threshold anew."""

import base64
import csv
import errno
import hashlib
import io
import os

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from starlette.testclient import TestClient

from kdad.errors import InputError
from kdad.images.layouts.layout import look_for_images
from kdad.inference.parameters import CalibrationParameters
from kdad.parameters.blocks import ComputeParameters, ServingParameters
from kdad.pipelines.calibration import calibrate
from kdad.serving import records
from kdad.serving.app import create_app
from serving_files import png

TOKEN = "a token of this test"
_BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "taught"


@pytest.fixture
def client(predictor, folder):
    """A client of a server that may be taught."""
    limits = ServingParameters(token=TOKEN, teach=str(folder))
    with TestClient(create_app(predictor, limits), raise_server_exceptions=False) as made:
        yield made


def teach(client, content: bytes, who: str = "Ada", **headers):
    return client.post("/good", params={"who": who}, content=content, headers=_BEARER | headers)


def index_of(folder) -> list[dict[str, str]]:
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def names_in(folder) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_a_good_image_is_kept_once_with_who_when_and_score(client, folder):
    content = png(204)
    digest = hashlib.sha256(content).hexdigest()
    before = client.get("/metrics").text
    said = teach(client, content).json()
    assert said.pop("score") == pytest.approx(0.8, rel=1e-6)
    assert said == {"file": f"{digest}.png", "new": True, "threshold": 0.5, "decision": 1}
    kept = folder / f"{digest}.png"
    assert kept.read_bytes() == content
    for again in (content, base64.encodebytes(content)):  # the same file, however it is sent
        assert teach(client, again, "Bob").json()["new"] is False
    (row,) = index_of(folder)
    assert (row["file"], row["who"], row["threshold"], row["decision"]) == (kept.name, "Ada", "0.5", "1")
    assert float(row["score"]) == pytest.approx(0.8, rel=1e-6)
    assert row["time"].endswith("+00:00") and row["detector"] == "detector"
    assert names_in(folder) == {"index.csv", kept.name}
    counted = [line for line in before.splitlines() if line.startswith("kdad_predictions")]
    assert set(counted) < set(client.get("/metrics").text.splitlines())  # no prediction was answered


def test_files_end_as_their_kinds_do_whatever_they_are_sent_as(client, folder):
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.exe"\r\n\r\n' + png(9, kind="JPEG")
    said = teach(client, form + b"\r\n--x--\r\n", **{"Content-Type": "multipart/form-data; boundary=x"}).json()
    assert said["file"].endswith(".jpeg")
    for kind, suffix in (("TIFF", ".tiff"), ("JPEG2000", ".jp2"), ("BMP", ".bmp"), ("WEBP", ".webp")):
        assert teach(client, png(77, kind=kind)).json()["file"].endswith(suffix)
    assert len(look_for_images(folder).paths) == 5
    assert len(index_of(folder)) == 5


def test_what_is_no_good_image_is_refused_and_nothing_is_kept(client, folder, predictor):
    for answer, status, said in (
        (client.post("/good?who=Ada", content=png(1)), 401, "the token is missing"),
        (teach(client, png(1), Authorization="Bearer wrong"), 403, "the token is wrong"),
        (teach(client, b"no image"), 400, "it is no image"),
        (teach(client, b""), 400, "the body is empty"),
        (teach(client, png(1), "=1+1"), 400, "who: "),  # a spreadsheet would reckon
        (teach(client, png(1), "a\nb"), 400, "who: "),
        (teach(client, png(1), ""), 400, "who: "),
        (client.post("/good", content=png(1), headers=_BEARER), 400, "who: "),
        (client.post("/good?who=O'Neil", content=png(1), headers=_BEARER), 400, "who: 1 to 80 letters, digits, spaces"),
        (client.post("/detectors/none/good?who=Ada", content=png(1), headers=_BEARER), 404, "no detector 'none'"),
    ):
        assert (answer.status_code, said in answer.json()["message"]) == (status, True), answer.text
    predictor.score_and_show = lambda images, outputs=None: (np.full(len(images), np.nan), None)
    assert teach(client, png(1)).status_code == 400
    assert names_in(folder) == set()


def test_it_is_off_unless_asked_for(predictor):
    for limits in (ServingParameters(), ServingParameters(token=TOKEN)):
        with TestClient(create_app(predictor, limits)) as client:
            answer = teach(client, png(1))
            assert (answer.status_code, "set serving.teach" in answer.json()["message"]) == (403, True)
            assert "This one is good" not in client.get("/").text
    with pytest.raises(ValidationError, match=r"teach needs serving\.token"):
        ServingParameters(teach="taught")
    with pytest.raises(InputError, match=r"serving\.teach: .* cannot be written"):
        records.open_folder(records.Path("/proc/none"))


def test_a_full_disk_is_said_and_leaves_neither_file_nor_line(client, folder, monkeypatch):
    assert teach(client, png(10)).json()["new"]
    before = (names_in(folder), (folder / "index.csv").read_bytes())

    def fail(*given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class ShortFile(io.FileIO):
        def write(self, content):
            return super().write(content[:5])

    for place, name, broken in (
        (records.os, "fsync", fail),
        (records, "_append", fail),
        (records.Path, "open", lambda path, mode, **_: (ShortFile if "a" in mode else io.FileIO)(path, mode)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, broken)
            answer = teach(client, png(20))
        assert (answer.status_code, answer.json()["error_code"]) == (507, "INSUFFICIENT_STORAGE")
        assert (names_in(folder), (folder / "index.csv").read_bytes()) == before
    assert teach(client, png(20)).json()["new"]


def test_each_of_several_detectors_has_a_folder(predictor, folder):
    both = {"bright": predictor, "dark": predictor.turned()}
    with TestClient(create_app(both, ServingParameters(token=TOKEN, teach=str(folder)))) as client:
        client.post("/detectors/dark/good?who=Ada", content=png(204), headers=_BEARER)
    (row,) = index_of(folder / "dark")
    assert (row["detector"], row["detector_digest"], names_in(folder)) == ("dark", "d" * 64, {"dark"})
    assert float(row["score"]) == pytest.approx(0.2, rel=1e-5)


def test_a_threshold_is_set_on_the_folder(client, folder, predictor):
    """Beside ordinary normal images: 30 of them, and two bright ones that were false alarms."""
    normal = folder.parent
    for value in range(30):
        Image.new("RGB", (8, 8), (value, value, value)).save(normal / f"{value}.png")
    for value in (140, 150):
        assert teach(client, png(value)).json()["decision"] == 1
    wanted = CalibrationParameters(images=str(normal), value=0.99)
    scores, again, _ = calibrate(predictor, look_for_images(normal), wanted, ComputeParameters())
    assert len(scores) == 32 and again.threshold.normal_images == 32
    assert again.predict(Image.new("RGB", (8, 8), (140, 140, 140))).decision is False
