"""Settings for all tests of scoring."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Keep torch to one core: the tensors are small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
