from __future__ import annotations

import pytest

from go1_sweep.space import Choice, Dimension, Range, draw, parents_first


class Scripted:
    """Answers with the named value where there is one, else with the first or lowest; keeps what it was asked."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []

    def _answer(self, name, lowest):
        self.asked.append(name)
        return self.answers.get(name, lowest)

    def suggest_categorical(self, name, choices):
        return self._answer(name, choices[0])

    def suggest_float(self, name, low, high, *, log):
        return self._answer(name, low)

    def suggest_int(self, name, low, high, *, log):
        assert type(low) is int
        assert type(high) is int
        return self._answer(name, low)


SCHEDULE = Dimension(Choice(("adaptive", "fixed")), {})
NESTED = {  # children stand before their parents
    "learning_rate": Dimension(Range(1e-4, 1e-2, log=True), {"schedule": ("fixed",)}),
    "gamma": Dimension(Range(0.9, 0.99), {"epochs": (4, 8), "schedule": ("adaptive",)}),
    "epochs": Dimension(Choice((2, 4, 8)), {"schedule": ("adaptive",)}),
    "schedule": SCHEDULE,
    "num_envs": Dimension(Range(16, 64, log=True, whole=True), {}),
}


@pytest.mark.parametrize(
    ("answers", "active"),
    [
        ({"schedule": "fixed"}, ["learning_rate", "schedule", "num_envs"]),
        ({"schedule": "adaptive", "epochs": 2}, ["epochs", "schedule", "num_envs"]),
        ({"schedule": "adaptive", "epochs": 8}, ["gamma", "epochs", "schedule", "num_envs"]),
    ],
)
def test_only_parameters_whose_condition_holds_are_drawn_and_in_the_order_of_the_space(answers, active):
    suggester = Scripted(**answers)
    assert list(draw(NESTED, suggester)) == active
    assert sorted(suggester.asked) == sorted(active)


def test_a_parameter_below_an_inactive_one_is_inactive():
    space = {
        "a": Dimension(Choice((1, 2)), {}),
        "b": Dimension(Choice((1, 2)), {"a": (2,)}),
        "c": Dimension(Choice((1, 2)), {"b": (1,)}),
    }
    assert draw(space, Scripted(a=1)) == {"a": 1}
    assert draw(space, Scripted(a=2)) == {"a": 2, "b": 1, "c": 1}


def test_what_is_drawn_depends_on_the_space_alone():
    first, second = Scripted(schedule="adaptive", epochs=4), Scripted(schedule="adaptive", epochs=4)
    draw(NESTED, first)
    draw(dict(NESTED), second)
    assert first.asked == second.asked


@pytest.mark.parametrize(
    ("distribution", "value", "extremes"),
    [
        (Range(16, 64, whole=True), 16, (16, 64)),
        (Range(16.0, 64.0, log=True, whole=True), 16, (16, 64)),
        (Range(0.5, 1.0), 0.5, (0.5, 1.0)),
        (Choice(("x", True, 3)), "x", ("x", True, 3)),
    ],
)
def test_whole_ranges_give_ints_also_where_they_are_checked_against_a_task(distribution, value, extremes):
    drawn = draw({"p": Dimension(distribution, {})}, Scripted())["p"]
    assert (drawn, type(drawn)) == (value, type(value))
    assert list(map(repr, distribution.extremes())) == list(map(repr, extremes))


def test_parents_come_first():
    assert parents_first(NESTED).index("schedule") < parents_first(NESTED).index("epochs")
    assert sorted(parents_first(NESTED)) == sorted(NESTED)


def test_a_long_chain_of_conditions_is_ordered_at_once():
    names = [str(i) for i in range(3000)]
    space = {n: Dimension(Choice((1,)), {p: (1,)} if p else {}) for n, p in zip(names, [*names[1:], None], strict=True)}
    assert parents_first(space) == names[::-1]


def test_a_circle_is_named():
    space = {
        "a": Dimension(Choice((1,)), {"b": (1,)}),
        "b": Dimension(Choice((1,)), {"c": (1,)}),
        "c": Dimension(Choice((1,)), {"b": (1,)}),
    }
    with pytest.raises(ValueError, match=r"^conditions go round in a circle: b -> c -> b$"):
        parents_first(space)
