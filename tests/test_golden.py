"""One update of the paper's released program, number for number."""

from __future__ import annotations

import golden_map
import numpy as np
import pytest

CASES = ["csf", "metra", "metra_discrete", "diayn", "sac"]


@pytest.mark.parametrize("name", CASES)
def test_an_update_is_the_released_programs(name: str) -> None:
    arrays = golden_map.read(name)
    meta = golden_map.meta_of(arrays)
    agent = golden_map.make(meta)
    golden_map.load(agent, arrays)
    golden_map.update(agent, arrays)

    found = golden_map.gradients(agent)
    compared = 0
    for key in (key.removeprefix("grad/") for key in arrays if key.startswith("grad/")):
        if key in found:
            want = arrays[f"grad/{key}"]
            assert np.abs(found[key] - want).max() <= 1e-4 * max(np.abs(want).max(), 1e-6), key
            compared += 1
    assert compared >= 20
    after = golden_map.dump(agent)
    for key, value in after.items():
        want = arrays.get(f"after/{key}", arrays[f"init/{key}"])  # absent: unchanged
        np.testing.assert_allclose(value, want, rtol=0, atol=1e-6, err_msg=key)
    known = {key.removeprefix("after/") for key in arrays if key.startswith("after/")}
    assert known <= set(after), f"changed there, unknown here: {known - set(after)}"


@pytest.mark.parametrize("name", CASES)
def test_its_losses_are_the_released_programs(name: str) -> None:
    arrays = golden_map.read(name)
    agent = golden_map.make(golden_map.meta_of(arrays))
    golden_map.load(agent, arrays)
    (row,) = golden_map.update(agent, arrays)
    log = {key.removeprefix("log/it0/"): float(value.squeeze()) for key, value in arrays.items() if "log/it0" in key}
    assert ("loss/representation" in row) == ("LossTe" in log)
    if "LossTe" in log:
        assert row["loss/representation"] == pytest.approx(log["LossTe"], rel=1e-5)
    assert row["loss/critic"] == pytest.approx(log["LossQf1"] + log["LossQf2"], rel=1e-5)
    assert row["loss/actor"] == pytest.approx(log.get("LossOp", log.get("LossSacp")), rel=1e-4)
    assert row["loss/alpha"] == pytest.approx(log["LossAlpha"], rel=1e-5)


def test_a_wrong_sign_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = golden_map.read("csf")
    agent = golden_map.make(golden_map.meta_of(arrays))
    golden_map.load(agent, arrays)
    draw = agent.objective.sample_skills
    monkeypatch.setattr(agent.objective, "sample_skills", lambda n: -draw(n))
    golden_map.update(agent, arrays)
    key = "traj_encoder._mean_module._layers.0.linear.weight"
    assert np.abs(golden_map.dump(agent)[key] - arrays[f"after/{key}"]).max() > 1e-5
