"""Mini-batch descent: the reference's steps on the reference's batches, and the promises of every descent."""

import collections
import itertools
import math

import numpy as np
import pytest
from _runs import problem, same_net, same_run
from _strategies import ACTIVATIONS, Case, cases, magnitudes, near_kink
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import featcore as fc
from featcore import reference

sizes = st.one_of(st.integers(1, 12), st.sampled_from((15, 16, 17, 63, 64, 65, 127, 129)))


def batches(run):
    """Yield how often each step of a run, from the first, takes each sample."""
    n, size = run.splits["train"].n, run.settings["batch_size"]
    for epoch in itertools.count():
        order = reference.epoch_order(n, run.settings["batch_key"], epoch)
        for first in range(0, n, size):
            counts = np.zeros(n)
            batch = order[first : first + size]
            counts[batch] = n / len(batch)
            yield counts


# --- the orders


@pytest.mark.parametrize("n", [1, 2, 3, 64, 65, 1000])
def test_an_order_has_every_sample_once(n):
    for key, epoch in ((0, 0), (2**64 - 1, 0), (5, 2**40)):
        assert sorted(reference.epoch_order(n, key, epoch)) == list(range(n))


def test_all_orders_are_equally_likely():
    """χ² with 23 degrees of freedom; seeds 0 to 9, 2400 epochs each."""
    for key in range(10):
        seen = collections.Counter(tuple(reference.epoch_order(4, key, e)) for e in range(2400))
        assert len(seen) == math.factorial(4)
        assert sum((count - 100) ** 2 / 100 for count in seen.values()) < 58  # 1 in 10 000


def test_orders_of_other_seeds_and_epochs_are_others():
    orders = {
        tuple(reference.epoch_order(30, key, epoch)) for key in range(20) for epoch in range(20)
    }
    assert len(orders) == 400


# --- the steps


@settings(max_examples=150)
@given(
    case=cases(n=sizes, d=st.integers(1, 20), m=sizes),
    step_size=st.sampled_from((0.01, 0.1)),
    seed=st.integers(0, 2**40),
    draw=st.data(),
)
def test_every_step_is_that_of_the_reference(case, step_size, seed, draw):
    batch_size = draw.draw(st.integers(1, case.data.n))
    if case.settings["reduction"] == "sum":
        step_size /= case.data.n
    run = fc.descend(
        case.net,
        case.data,
        case.loss,
        step_size=step_size,
        steps=5,
        batch_size=batch_size,
        batch_seed=seed,
        observe=["weights", "head"],
        record=fc.Recording.every(1),
        **case.settings,
    )
    assume(run.outcome.status == "reached_end")
    nets = [
        fc.TwoLayerNet(W, a.astype(W.dtype), case.net.activation)
        for W, a in zip(run.history["weights"].values, run.history["head"].values, strict=True)
    ]
    eps = float(np.finfo(case.net.dtype).eps)
    for (net, after), counts in zip(itertools.pairwise(nets), batches(run), strict=False):
        assume(not near_kink(net, case.data.x, case.data.y, case.loss).any())
        if np.abs(net(case.data.x)).max() > 10:
            break
        expected = reference.step(
            net, case.data, case.loss, step_size=step_size, counts=counts, **case.settings
        )
        scale = np.hypot(np.linalg.norm(net.W), np.linalg.norm(net.a))
        field = magnitudes(Case(net, case.data, case.loss, case.settings))
        scale += step_size * counts.max() * field
        distance = math.hypot(
            np.linalg.norm(after.W - expected.W), np.linalg.norm(after.a - expected.a)
        )
        assert distance <= 50 * eps * scale


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize(("n", "size"), [(70, 16), (70, 70), (70, 1), (64, 32)])
def test_the_whole_loop_is_that_of_the_reference(activation, n, size):
    net, data = problem(n, 6, 20, activation=activation, weighted=True)
    options = {"step_size": 0.05, "steps": 12, "batch_size": size, "batch_seed": 3}
    options |= {"weight_decay": 0.01, "output_penalty": 0.1, "layer_rates": {"a": 0.3}}
    run = fc.descend(net, data, **options)
    expected = reference.descend(net, data, **options)
    np.testing.assert_allclose(run.net.W, expected.W, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(run.net.a, expected.a, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_an_epoch_of_small_steps_is_a_step_on_all(reduction):
    """With n / batch_size batches, each n / batch_size times its samples: at first order in the step."""
    net, data = problem(60, 5, 8, weighted=True)
    eta = 1e-7 if reduction == "mean" else 1e-9
    options = {"reduction": reduction, "output_penalty": 0.2}
    run = fc.descend(net, data, step_size=eta, steps=5, batch_size=12, **options)
    whole = fc.descend(net, data, step_size=5 * eta, steps=1, **options)
    np.testing.assert_allclose(run.net.W - net.W, whole.net.W - net.W, rtol=1e-5, atol=1e-14)
    np.testing.assert_allclose(run.net.a - net.a, whole.net.a - net.a, rtol=1e-5, atol=1e-14)


def test_a_batch_of_all_is_descent_on_all_to_rounding():
    net, data = problem(50, 4, 10)
    run = fc.descend(net, data, step_size=0.5, steps=40, batch_size=50)
    whole = fc.descend(net, data, step_size=0.5, steps=40)
    np.testing.assert_allclose(run.net.W, whole.net.W, rtol=1e-9)


def test_what_is_recorded_is_on_all_samples():
    net, data = problem(40, 4, 10)
    test = problem(30, 4, 10, seed=5)[1]
    observe = ["loss", "accuracy", "weights", "head", "patterns"]
    run = fc.descend(
        net,
        data,
        step_size=0.3,
        steps=20,
        batch_size=7,
        observe=observe,
        evaluate={"test": test},
        record=fc.Recording.every(5),
    )
    assert run.history.step.values.tolist() == [0, 5, 10, 15, 20]
    np.testing.assert_allclose(run.history.time, 0.3 * run.history.step)
    for row in range(5):
        now = run.history.isel(time=row)
        there = fc.TwoLayerNet(now["weights"].values, now["head"].values)
        for name, split in {"train": data, "test": test}.items():
            alone = fc.descend(
                there, split, step_size=1.0, steps=0, observe=["loss", "accuracy", "patterns"]
            ).history.isel(time=0, split=0)
            for what in ("loss", "accuracy", "patterns"):
                assert float(now[what].sel(split=name)) == pytest.approx(
                    float(alone[what]), rel=1e-12
                )


# --- the promises of every descent

OPTIONS = {"step_size": 0.2, "batch_size": 11, "batch_seed": 7, "observe": ["loss", "norms"]}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(90, 4, 50), (300, 2, 700), (40, 300, 30)])
def test_bits_do_not_depend_on_threads(dtype, shape):
    net, data = problem(*shape, dtype=dtype)
    runs = [fc.descend(net, data, steps=30, num_threads=k, **OPTIONS) for k in (1, 2, 3, 5)]
    assert all(same_run(runs[0], run) for run in runs[1:])


@pytest.mark.parametrize("first", [0, 1, 8, 9, 10, 29])
def test_a_run_goes_on_from_any_step_to_the_same_bits(first, tmp_path):
    net, data = problem(90, 4, 20)
    whole = fc.descend(net, data, steps=30, **OPTIONS)
    part = fc.descend(net, data, steps=first, **OPTIONS)
    assert same_net(part.continue_(30 - first).net, whole.net)
    part.save(tmp_path / "run.nc")
    assert same_net(fc.load(tmp_path / "run.nc").continue_(30 - first, data=data).net, whole.net)


def test_members_of_an_ensemble_have_the_bits_of_runs():
    nets = [problem(90, 4, 20, seed=k)[0] for k in range(3)]
    data = problem(90, 4, 20)[1]
    options = {**OPTIONS, "batch_seed": [1, 2, np.random.SeedSequence(3)]}
    together = fc.ensemble(nets, data, steps=20, **options)
    for k, (net, run) in enumerate(zip(nets, together, strict=True)):
        alone = fc.descend(
            net, data, steps=20, **{**options, "batch_seed": options["batch_seed"][k]}
        )
        assert same_run(run, alone)
    shared = fc.ensemble(nets, data, steps=20, **OPTIONS)
    assert same_run(shared[1], fc.descend(nets[1], data, steps=20, **OPTIONS))


def test_seeds_make_other_batches():
    net, data = problem(90, 4, 20)
    one, other = (
        fc.descend(net, data, steps=9, **{**OPTIONS, "batch_seed": seed}).net for seed in (0, 1)
    )
    assert not np.allclose(one.W, other.W, rtol=1e-6)


def test_a_loss_target_is_looked_at_where_an_epoch_begins():
    net, data = problem(90, 4, 20)
    run = fc.descend(net, data, steps=3000, loss_target=0.5, **OPTIONS)
    assert run.outcome.status == "loss_target"
    assert run.state.step % 9 == 0
    every = fc.descend(net, data, steps=run.state.step, **OPTIONS, record=fc.Recording.every(9))
    losses = every.history.loss.sel(split="train").values
    assert losses[-1] <= 0.5 < losses[:-1].min()


def test_a_step_that_overflows_is_dropped():
    net, data = problem(90, 4, 20, loss="squared")
    run = fc.descend(net, data, "squared", step_size=1e200, steps=30, batch_size=11)
    assert run.outcome.status == "non_finite"
    assert np.isfinite(run.net.W).all()
    assert np.isfinite(run.net.a).all()


@pytest.mark.parametrize("size", [0, -1, 91, 2.5, "8", True])
def test_batch_sizes_are_whole_numbers_of_samples(size):
    net, data = problem(90, 4, 20)
    with pytest.raises((TypeError, ValueError), match="batch_size"):
        fc.descend(net, data, step_size=0.1, steps=3, batch_size=size)


@pytest.mark.parametrize("seed", [-1, 1.5, "x", None])
def test_batch_seeds_are_seeds(seed):
    net, data = problem(90, 4, 20)
    with pytest.raises((TypeError, ValueError), match="seed"):
        fc.descend(net, data, step_size=0.1, steps=3, batch_size=5, batch_seed=seed)


def test_what_batches_do_not_go_with():
    net, data = problem(90, 4, 20)
    options = {"step_size": 0.1, "steps": 3, "batch_size": 5}
    for form in ("gram", "projected"):
        with pytest.raises(ValueError, match=f"form='{form}'.*'primal'"):
            fc.descend(net, data, **options, form=form)
    with pytest.raises(ValueError, match=r"gradient_target=.*loss_target"):
        fc.descend(net, data, **options, gradient_target=1e-3)
    run = fc.descend(net, data, **options)
    assert run.outcome.form == "primal"
    with pytest.raises(ValueError, match=r"gradient_target=.*loss_target"):
        run.continue_(3, gradient_target=1e-3)
    with pytest.raises(TypeError, match="batch_size="):
        run.continue_(3, batch_size=6)
