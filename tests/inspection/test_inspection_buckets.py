"""Buckets of equal weight."""

import numpy as np
import pytest

from recbole_evcf.inspection.buckets import equal_frequency, mean_and_error


def test_distinct_values_fill_equal_buckets():
    values = np.random.default_rng(0).permutation(100)
    bucket = equal_frequency(values, 5)
    assert np.bincount(bucket).tolist() == [20] * 5
    assert (bucket == values // 20).all()


def test_equal_values_share_a_bucket():
    values = np.array([1] * 90 + [2] * 5 + [3] * 5)
    bucket = equal_frequency(values, 5)
    assert np.unique(bucket).tolist() == list(range(bucket.max() + 1))
    assert all(len(np.unique(bucket[values == value])) == 1 for value in (1, 2, 3))


def test_weights_are_shared_out():
    values, weights = np.arange(1000), np.arange(1000)
    bucket = equal_frequency(values, 4, weights)
    shares = np.bincount(bucket, weights) / weights.sum()
    np.testing.assert_allclose(shares, 0.25, atol=0.002)
    assert (np.diff(bucket) >= 0).all()


def test_one_value_is_one_bucket():
    assert equal_frequency(np.full(7, 3), 5).tolist() == [0] * 7


def test_standard_error():
    mean, error = mean_and_error(np.array([1.0, 2.0, 4.0]))
    assert mean == pytest.approx(7 / 3)
    assert error == pytest.approx(np.std([1, 2, 4], ddof=1) / 3**0.5)
    assert np.isnan(mean_and_error(np.array([1.0]))[1])
