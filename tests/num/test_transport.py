from __future__ import annotations

import numpy as np
import pytest

from bloomery.num.transport import potentials, soft_minimum, squared


def problem(n: int, m: int, seed: int):
    draw = np.random.default_rng(seed)
    masses = [one / one.sum() for one in (draw.uniform(0.5, 1.5, n), draw.uniform(0.5, 1.5, m))]
    return squared(draw.normal(size=(n, 3)), draw.normal(size=(m, 3)) + 1), *masses


def plan_of(cost, a, b, epsilon):
    f, g = potentials(cost, a, b, epsilon, tolerance=1e-9, most=5000)
    return np.exp((f[:, None] + g - cost) / epsilon) * a[:, None] * b, f, g


@pytest.mark.parametrize("epsilon", [0.05, 1.0, 20.0])
def test_exact_the_plan_has_the_masses_and_the_dual_the_cost(epsilon):
    cost, a, b = problem(12, 9, 1)
    plan, f, g = plan_of(cost, a, b, epsilon)
    assert plan.sum(1) == pytest.approx(a, abs=1e-7) and plan.sum(0) == pytest.approx(b, abs=1e-7)
    entropy = (plan * np.log(np.maximum(plan, 1e-300) / (a[:, None] * b))).sum()
    assert a @ f + b @ g == pytest.approx((plan * cost).sum() + epsilon * entropy, rel=1e-6)
    assert f == pytest.approx(soft_minimum(cost, g, np.log(b), epsilon))


def test_exact_a_small_epsilon_is_the_linear_program():
    from scipy.optimize import linprog

    cost, a, b = problem(7, 5, 2)
    rows = [np.repeat(np.eye(7), 5, axis=1), np.tile(np.eye(5), 7)]
    best = linprog(cost.ravel(), A_eq=np.concatenate(rows), b_eq=np.concatenate([a, b])).fun
    plan, f, g = plan_of(cost, a, b, 0.01)
    assert (plan * cost).sum() == pytest.approx(best, rel=0.01) and a @ f + b @ g == pytest.approx(best, rel=0.02)


def test_property_the_potential_is_the_slope_of_the_cost():
    """Some mass moved from one source to another changes the cost by the difference of their potentials."""
    cost, a, b = problem(8, 6, 3)
    _, f, _ = plan_of(cost, a, b, 0.5)
    moved = a + 1e-4 * (np.eye(8)[2] - np.eye(8)[5])
    before, after = (mass @ plan_of(cost, mass, b, 0.5)[1] + b @ plan_of(cost, mass, b, 0.5)[2] for mass in (a, moved))
    assert (after - before) / 1e-4 == pytest.approx(f[2] - f[5], rel=0.02)


def test_squared_distances():
    x, y = np.array([[0.0, 0], [3, 4]]), np.array([[0.0, 0], [0, 4], [3, 4]])
    assert squared(x, y) == pytest.approx(np.array([[0, 16, 25], [25, 9, 0]]))
