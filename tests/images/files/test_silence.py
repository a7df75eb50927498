"""Warnings that are silenced by several threads at once."""

import threading
import warnings

from kdad.images.files.silence import silenced_warnings

_PATIENCE = 20.0


def test_filters_are_as_they_were_when_two_threads_overlap():
    inside, leave = threading.Event(), threading.Event()

    def stay():
        with silenced_warnings():
            inside.set()
            leave.wait(_PATIENCE)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        other = threading.Thread(target=stay)
        with silenced_warnings():
            other.start()
            assert inside.wait(_PATIENCE)
        warnings.warn("the other thread is inside still", stacklevel=1)
        leave.set()
        other.join(_PATIENCE)
        assert list(warnings.filters) == before


def test_filters_come_back_after_a_fault():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        try:
            with silenced_warnings():
                warnings.warn("nobody hears this", stacklevel=1)
                raise ValueError
        except ValueError:
            assert list(warnings.filters) == before
