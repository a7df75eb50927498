"""What waits together is judged together; what was given up is not."""

import asyncio
import threading

import numpy as np
import pytest

from kdad.serving.batching import Batcher


def image(value: float) -> np.ndarray:
    return np.full((3, 8, 8), value, np.float32)


def test_the_answers_are_each_ones_own_and_batches_are_bounded(judge):
    async def ask() -> list[float]:
        batcher = Batcher(judge, 4)
        asked = [batcher.judge([image(row / 100), image(row / 100 + 0.5)]) for row in range(10)]
        tasks = [asyncio.create_task(one) for one in asked]
        await asyncio.sleep(0)  # all wait before anything is judged
        batcher.start()
        found = await asyncio.gather(*tasks)
        await batcher.stop()
        return [judgement.score for pair in found for judgement in pair]

    scores = asyncio.run(ask())
    expected = [value for row in range(10) for value in (row / 100, row / 100 + 0.5)]
    assert scores == pytest.approx(expected, rel=1e-5)
    assert judge.batches == [4] * 5


def test_one_that_comes_alone_does_not_wait(judge):
    async def ask() -> None:
        batcher = Batcher(judge, 8)
        batcher.start()
        for _ in range(3):
            await batcher.judge([image(0.1)])
        await batcher.stop()

    asyncio.run(ask())
    assert judge.batches == [1, 1, 1]


def test_what_was_given_up_is_left_out(judge):
    go, original = threading.Event(), judge.judge_batch

    def slow(images):
        go.wait(10)
        return original(images)

    judge.judge_batch = slow

    async def ask() -> None:
        batcher = Batcher(judge, 8)
        batcher.start()
        first = asyncio.create_task(batcher.judge([image(0.1)]))
        await asyncio.sleep(0.05)
        given_up = [asyncio.create_task(batcher.judge([image(0.2)] * 3)) for _ in range(2)]
        await asyncio.sleep(0.05)
        given_up[0].cancel()
        await asyncio.sleep(0.05)
        go.set()
        await asyncio.gather(first, *given_up, return_exceptions=True)
        await batcher.stop()

    asyncio.run(ask())
    assert judge.batches == [1, 3]


def test_a_defect_reaches_those_who_wait_and_the_next_are_judged(judge):
    original, broken = judge.judge_batch, [True]

    def fail_once(images):
        if broken:
            broken.clear()
            raise RuntimeError("no memory")
        return original(images)

    judge.judge_batch = fail_once

    async def ask() -> float:
        batcher = Batcher(judge, 8)
        batcher.start()
        with pytest.raises(RuntimeError, match="no memory"):
            await batcher.judge([image(0.1), image(0.2)])
        (found,) = await batcher.judge([image(0.25)])
        await batcher.stop()
        return found.score

    assert asyncio.run(ask()) == pytest.approx(0.25)
