"""What waits together is predicted together; what was given up is not."""

import asyncio
import threading

import numpy as np
import pytest

from kdad.serving.service import Batcher, Threads


def image(value: float) -> np.ndarray:
    return np.full((3, 8, 8), value, np.float32)


def test_the_answers_are_each_ones_own_and_batches_are_bounded(predictor):
    async def ask() -> list[float]:
        batcher = Batcher(predictor, 4, Threads())
        asked = [batcher.predict([image(row / 100), image(row / 100 + 0.5)]) for row in range(10)]
        found = await asyncio.gather(*asked)  # all wait before anything is predicted
        await batcher.stop()
        return [prediction.score for pair in found for prediction in pair]

    scores = asyncio.run(ask())
    expected = [value for row in range(10) for value in (row / 100, row / 100 + 0.5)]
    assert scores == pytest.approx(expected, rel=1e-5)
    assert predictor.batches == [4] * 5


def test_one_that_comes_alone_does_not_wait(predictor):
    async def ask() -> None:
        batcher = Batcher(predictor, 8, Threads())
        for _ in range(3):
            await batcher.predict([image(0.1)])
        await batcher.stop()

    asyncio.run(ask())
    assert predictor.batches == [1, 1, 1]


def test_what_was_given_up_is_left_out(predictor):
    go, original = threading.Event(), predictor.predict_batch

    def slow(images):
        go.wait(10)
        return original(images)

    predictor.predict_batch = slow

    async def ask() -> None:
        batcher = Batcher(predictor, 8, Threads())
        first = asyncio.create_task(batcher.predict([image(0.1)]))
        await asyncio.sleep(0.05)
        given_up = [asyncio.create_task(batcher.predict([image(0.2)] * 3)) for _ in range(2)]
        await asyncio.sleep(0.05)
        given_up[0].cancel()
        await asyncio.sleep(0.05)
        go.set()
        await asyncio.gather(first, *given_up, return_exceptions=True)
        await batcher.stop()

    asyncio.run(ask())
    assert predictor.batches == [1, 3]


def test_a_defect_reaches_those_who_wait_and_the_next_are_predicted(predictor):
    original, broken = predictor.predict_batch, [True]

    def fail_once(images):
        if broken:
            broken.clear()
            raise RuntimeError("no memory")
        return original(images)

    predictor.predict_batch = fail_once

    async def ask() -> float:
        batcher = Batcher(predictor, 8, Threads())
        with pytest.raises(RuntimeError, match="no memory"):
            await batcher.predict([image(0.1), image(0.2)])
        (found,) = await batcher.predict([image(0.25)])
        await batcher.stop()
        return found.score

    assert asyncio.run(ask()) == pytest.approx(0.25)
