"""Shapes by their distances."""

import numpy as np

from kdad.images.synthetic.defect_shapes import blob_distance, nearest_points, soft_step


def test_the_step_is_one_half_at_the_outline_and_ends_half_a_width_off():
    np.testing.assert_allclose(soft_step(np.array([-1.0, -0.5, 0.0, 0.5, 1.0]), 2.0), [0, 0.15625, 0.5, 0.84375, 1])


def test_a_blob_lies_about_the_centre_that_is_given():
    inside = np.argwhere(blob_distance((60, 80), 12.0, np.random.default_rng(0), np.array([20.0, 50.0])) < 0)
    assert np.abs(inside.mean(axis=0) - [20, 50]).max() < 2
    assert 0.5 < len(inside) / (np.pi * 6**2) < 2


def test_distances_to_points_and_which_is_nearest():
    distance, nearest = nearest_points((3, 5), np.array([[0.0, 0.0], [0.0, 4.0]]))
    assert distance[0].tolist() == [0, 1, 2, 1, 0]
    assert distance[2, 0] == 2
    assert nearest[1].tolist()[0] == 0
    assert nearest[1].tolist()[4] == 1
