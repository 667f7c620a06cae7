"""What must hold of every environment of this package, whichever test asks."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env


def assert_same_step(mine: Any, other: Any) -> None:
    """Two results of `step` are equal bit for bit, types and infos included."""
    for a, b in zip(mine[:4], other[:4], strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    assert set(mine[4]) == set(other[4])
    for key in mine[4]:
        np.testing.assert_array_equal(mine[4][key], other[4][key])
        assert mine[4][key].dtype == other[4][key].dtype


def assert_gymnasium_accepts(identifier: str, **settings: Any) -> None:
    """Gymnasium's checker has no complaint, and the id is plain data."""
    env = gymnasium.make(identifier, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Vectors have no bounds, which the checker mentions for Gymnasium's own ants too.
        warnings.filterwarnings("ignore", message=".*A Box observation space m..imum value is -?infinity.*")
        check_env(env.unwrapped)
    assert gymnasium.spec(identifier).to_json()
    env.close()
