"""A thousand files arrive while the watch is killed again and again: each is predicted once."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from kept_detectors import DETECTOR, read_predictions, train_on_bricks, write_crop

pytestmark = pytest.mark.faults

FILES = 1000
KILLS = 5


@pytest.mark.parametrize("polling", [False, True])
def test_every_file_is_predicted_once(tmp_path, migrated_database, polling):
    project = train_on_bricks(tmp_path / "project", migrated_database)
    camera, output, pool = tmp_path / "camera", tmp_path / "out", tmp_path / "pool"
    camera.mkdir()
    for number in range(20):
        write_crop(pool / f"{number}.png", number)
    contents = [path.read_bytes() for path in sorted(pool.iterdir())]
    wanted = "idle_seconds={idle},settle_seconds=0.3,page_seconds=1,polling=" + str(polling).lower()
    parameters = f"inference.images={camera},inference.detector={project / DETECTOR},inference.output={output}"
    parameters += ",inference.watch=true,inference.watching.page_images=50"
    parameters += "".join(f",inference.watching.{part}" for part in wanted.split(","))

    def start(idle: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "kedro", "run", "--env=test", "--pipelines=inference"]
        command.append(f"--params={parameters.format(idle=idle)}")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "KEDRO_DISABLE_TELEMETRY": "1"}
        return subprocess.Popen(
            command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    generator = random.Random(0)

    def arrive() -> None:
        for number in range(FILES):
            _put(camera / f"{number:04}.png", contents[number % len(contents)], number)
            time.sleep(generator.uniform(0, 0.15))

    arriving = threading.Thread(target=arrive)
    arriving.start()
    for _ in range(KILLS):
        running, before = start("600"), _lines(output)
        _wait(running, lambda before=before: _lines(output) > before + 20)
        time.sleep(generator.uniform(0, 2))
        running.send_signal(signal.SIGKILL)
        running.communicate()
    arriving.join()
    last = start("3")
    said, _ = last.communicate(timeout=900)
    assert last.returncode == 0, said
    expected = {f"{number:04}.png" for number in range(FILES)}
    assert Counter(read_predictions(output).index) == dict.fromkeys(expected, 1)
    entries = [json.loads(line) for line in (output / "journal.jsonl").read_text().splitlines()[1:]]
    assert Counter(entry["row"]["path"] for entry in entries) == dict.fromkeys(expected, 1)
    table = read_predictions(output)
    assert table["score"].notna().all()
    # Equal images have equal scores, whichever process predicted them.
    spread = table.groupby([int(name[:4]) % len(contents) for name in table.index])["score"].agg(
        lambda s: s.max() - s.min()
    )
    assert spread.max() < 1e-4
    assert all((output / place).is_file() for place in [*table["heat_map"], *table["thumbnail"]])


def _put(path: Path, content: bytes, number: int) -> None:
    """Write a file at once, in two parts, or under another name that it then loses."""
    if number % 3 == 0:
        path.write_bytes(content)
    elif number % 3 == 1:
        with path.open("wb", buffering=0) as file:
            file.write(content[: len(content) // 2])
            time.sleep(0.02)
            file.write(content[len(content) // 2 :])
    else:
        path.with_suffix(".tmp").write_bytes(content)
        path.with_suffix(".tmp").rename(path)


def _lines(output: Path) -> int:
    journal = output / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def _wait(running: subprocess.Popen, come: object) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        if come():
            return
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.1)
    raise AssertionError("nothing was predicted")
