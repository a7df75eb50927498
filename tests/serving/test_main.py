"""The command: what it serves, what it refuses with one message, and how it ends."""

import json
import socket
import threading
import time
import urllib.request

import numpy as np
import pytest
from click.testing import CliRunner

from kdad import detectors
from kdad.serving.__main__ import main
from projects import PROJECT
from serving_files import png
from serving_process import ServingProcess

CONF = f"--conf-source={PROJECT / 'conf'}"


def _get(address: str) -> dict:
    return json.loads(urllib.request.urlopen(address, timeout=30).read())


def test_it_answers_as_in_process_and_ends_when_all_is_answered(detector_folder):
    server = ServingProcess(detector_folder, "--set=queue=40", "--set=batch_size=3")
    said = _get(f"{server.address}/health")
    assert (said["system"], said["image_size"], said["folder"]) == ("mkd", [32, 48], str(detector_folder))
    assert server.address.startswith("http://127.0.0.1:")

    pictures = np.random.default_rng(0).integers(0, 256, (12, 900, 900, 3), np.uint8)
    answers: list[dict | None] = [None] * len(pictures)

    def ask(row: int) -> None:
        request = urllib.request.Request(f"{server.address}/predict", data=png(pictures[row]))
        answers[row] = json.loads(urllib.request.urlopen(request, timeout=60).read())

    threads = [threading.Thread(target=ask, args=(row,)) for row in range(len(pictures))]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 30
    while sum(answer is None for answer in answers) > _get(f"{server.address}/health")["inside"]:
        assert time.monotonic() < until
    code, rest = server.end()
    for thread in threads:
        thread.join(60)
    assert (code, rest) == (-15, "")
    here = detectors.load(detector_folder)
    expected = [here.predict(picture).score for picture in pictures]
    assert [answer["score"] for answer in answers] == pytest.approx(expected, rel=1e-4)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["/no/such/detector"], 4, "'/no/such/detector' is no detector"),
        (["runs:/../x"], 4, "is no ID of an MLflow run"),
        (["models:/brick"], 4, "is no model of MLflow; give models:/NAME@champion"),
        ([".", "--set=queues=3"], 3, "did you mean 'queue'"),
        ([".", "--set=queue=0"], 3, "serving.queue: Input should be greater than or equal to 1"),
        ([".", "--set=queue"], 2, "--set takes NAME=VALUE, and not 'queue'"),
        ([".", "--port=70000"], 3, "serving.port"),
    ],
)
def test_what_cannot_be_served_is_one_message(arguments, code, said):
    found = CliRunner().invoke(main, [*arguments, CONF])
    assert found.exit_code == code
    assert said in found.output
    assert "Traceback" not in found.output


def test_a_damaged_detector_is_one_message(tmp_path, detector_folder):
    (tmp_path / "detector.json").write_text((detector_folder / "detector.json").read_text())
    found = CliRunner().invoke(main, [str(tmp_path), CONF])
    assert (found.exit_code, "has no learnt.safetensors" in found.output) == (4, True)


def test_a_port_that_is_taken_is_one_message(detector_folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = CliRunner().invoke(main, [str(detector_folder), CONF, f"--port={port}"])
    assert found.exit_code == 4
    assert f"cannot listen at 127.0.0.1:{port}" in found.output


def test_a_package_that_is_missing_is_named(detector_folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    found = CliRunner().invoke(main, [str(detector_folder), CONF])
    assert (found.exit_code, 'pip install "kdad[serve]"' in found.output) == (4, True)
