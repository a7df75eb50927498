"""Load on a server: ``python benchmarks/load_server.py DETECTOR --seconds=300``.

Clients ask at once and without pause; a share of their bodies is malformed. Every answer is compared with predicting in
this process. Ends with 1 when an answer was wrong, a malformed body was not refused, or memory grew by more than 10 %.
"""

import argparse
import base64
import http.client
import io
import json
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from skimage import data

from kdad import detectors

_IMAGES = 64
_TOLERANCE = 1e-4  # of the range of the images' scores
_GROWTH = 1.1
_STEADY = 10.0  # seconds until memory is looked at first


@dataclass
class Tally:
    """What the clients have met."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    seconds: list[float] = field(default_factory=list)
    statuses: Counter = field(default_factory=Counter)
    images: int = 0
    worst: float = 0.0
    wrong: list[str] = field(default_factory=list)


def make_images() -> list[bytes]:
    """Return files of crops of a photograph, of several sizes, a third of them with a spot."""
    generator, files = np.random.default_rng(0), []
    for row in range(_IMAGES):
        side = int(generator.integers(100, 400))
        top, left = generator.integers(0, 512 - side, 2)
        crop = data.brick()[top : top + side, left : left + side].copy()
        if row % 3 == 0:
            spot = crop[side // 3 : side // 2, side // 3 : side // 2]
            spot[:] = 255 - spot
        content = io.BytesIO()
        Image.fromarray(crop).convert("RGB").save(content, "JPEG" if row % 2 else "PNG")
        files.append(content.getvalue())
    return files


def malformed(files: list[bytes], chosen: random.Random) -> tuple[str, bytes]:
    """Return the path and the body of a request that has to be refused."""
    text = base64.b64encode(chosen.choice(files)).decode()
    split = {"dataframe_split": {"columns": ["image"], "data": [[text]]}}
    return chosen.choice(
        [
            ("/invocations", json.dumps(split).encode()[: -chosen.randint(1, 200)]),
            ("/invocations", json.dumps({"inputs": [text[: len(text) // 3]]}).encode()),
            ("/invocations", json.dumps({"inputs": ["/etc/passwd"]}).encode()),
            ("/invocations", json.dumps({"inputs": [[[[float("nan")] * 3]]]}).encode()),
            ("/invocations", json.dumps({"inputs": []}).encode()),
            ("/invocations", json.dumps({"dataframe_records": [{"picture": text}]}).encode()),
            ("/invocations", chosen.randbytes(1000)),
            ("/predict", b""),
            ("/predict", chosen.choice(files)[: chosen.randint(1, 600)]),
            ("/predict", bomb()),
        ]
    )


@cache
def bomb() -> bytes:
    """Return a small file of an image of 400 million pixels."""
    content = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(content, "PNG")
    return content.getvalue()


def ask(port: int, files: list[bytes], scores: np.ndarray, share: float, until: float, seed: int, tally: Tally) -> None:
    """Ask until the time is over."""
    chosen, connection = random.Random(seed), http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    spread = float(np.ptp(scores))
    while time.monotonic() < until:
        broken = chosen.random() < share
        rows = [chosen.randrange(len(files)) for _ in range(chosen.choice([1, 1, 1, 4]))]
        if broken:
            path, body = malformed(files, chosen)
        elif len(rows) == 1 and chosen.random() < 0.5:
            path, body = "/predict", files[rows[0]]
        else:
            table = {"columns": ["image"], "data": [[base64.b64encode(files[row]).decode()] for row in rows]}
            path, body = "/invocations", json.dumps({"dataframe_split": table}).encode()
        began = time.perf_counter()
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            with tally.lock:
                tally.wrong.append(f"{path}: {type(error).__name__}: {error}")
            connection.close()
            continue
        took = time.perf_counter() - began
        with tally.lock:
            tally.statuses["malformed" if broken else "well-formed", answer.status] += 1
            if broken:
                if not (400 <= answer.status < 500 and said.get("message")):
                    tally.wrong.append(f"a malformed body was answered {answer.status}: {str(said)[:200]}")
            elif answer.status == 200:
                found = said["predictions"] if path == "/invocations" else [said]
                off = max(abs(one["score"] - scores[row]) for one, row in zip(found, rows, strict=True)) / spread
                tally.seconds.append(took)
                tally.images += len(rows)
                tally.worst = max(tally.worst, off)
                if off > _TOLERANCE or any(one["decision"] != int(one["score"] > one["threshold"]) for one in found):
                    tally.wrong.append(f"{path} {rows}: off by {off:.2e} of the scores' range")
            elif answer.status != 503:
                tally.wrong.append(f"a well-formed body was answered {answer.status}: {str(said)[:200]}")


def main() -> int:
    """Start a server, load it, and print what came of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("detector", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--malformed", type=float, default=0.05, help="share of the bodies")
    chosen = parser.parse_args()
    files, _ = make_images(), bomb()
    predictor = detectors.load(chosen.detector)
    scores = np.array([predictor.predict(np.asarray(Image.open(io.BytesIO(one)))).score for one in files])
    command = [sys.executable, "-m", "kdad.serving", str(chosen.detector), "--port=0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r":(\d+)$", server.stdout.readline().strip())[1])
        tally, began = Tally(), time.monotonic()
        until = began + chosen.seconds
        clients = [
            threading.Thread(target=ask, args=(port, files, scores, chosen.malformed, until, seed, tally))
            for seed in range(chosen.clients)
        ]
        for client in clients:
            client.start()
        memory, process = [], psutil.Process(server.pid)
        while time.monotonic() < until:
            time.sleep(1)
            if time.monotonic() > began + min(_STEADY, chosen.seconds / 2):
                memory.append(process.memory_info().rss / 1e6)
        for client in clients:
            client.join()
        seconds = time.monotonic() - began
    finally:
        server.terminate()
        server.wait(60)
    p50, p99 = np.quantile(tally.seconds, [0.5, 0.99])
    said = {
        "seconds": round(seconds, 1),
        "clients": chosen.clients,
        "answers": {f"{kind} {status}": count for (kind, status), count in sorted(tally.statuses.items())},
        "images_a_second": round(tally.images / seconds, 1),
        "p50_ms": round(1000 * p50),
        "p99_ms": round(1000 * p99),
        "largest_difference_of_range": float(f"{tally.worst:.2g}"),
        "memory_mb": {"first": round(memory[0]), "last": round(memory[-1]), "most": round(max(memory))},
        "wrong": len(tally.wrong),
        "first_wrong": tally.wrong[:5],
        "exit": server.returncode,
    }
    print(json.dumps(said, indent=1))
    return 1 if tally.wrong or memory[-1] > _GROWTH * memory[0] else 0


if __name__ == "__main__":
    sys.exit(main())
