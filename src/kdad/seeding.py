"""Random generators: each consumer derives its own from the one seed, by name."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np

#: Held by who seeds torch's or NumPy's own generator, until all is drawn: they are one for all threads of a process.
COMMON_GENERATOR = threading.RLock()


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a seed in [0, 2^63) for the consumer of these names; other names give unrelated streams."""
    key = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return the consumer's own NumPy generator."""
    return np.random.default_rng(derive_seed(seed, *names))


def torch_seed(seed: int, *names: str | int) -> AbstractContextManager[None]:
    """Run the block on the consumer's own torch stream and restore the one around it."""
    return torch_stream(derive_seed(seed, *names))


@contextmanager
def torch_stream(seed: int) -> Iterator[None]:
    """Run the block on torch's stream of just this seed and restore the one around it."""
    import torch  # here, since what splits images or draws them is imported long before any network

    with COMMON_GENERATOR, torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
