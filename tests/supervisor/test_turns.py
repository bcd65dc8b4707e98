"""Who may have nodes, and when: the rules by themselves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rechain.supervisor.turns import Ticket, decide, line

pytestmark = pytest.mark.fast

PROCESS = {"pid": 1, "start": 1}


def ticket(name: str, uid: int = 1, **fields: Any) -> Ticket:
    document = {
        "pool": "p", "run_id": name, "nodes": 1, "max_nodes": 2, "priority": "dedicated",
        "submitted": 0.0, "visible": [], "wants_gpus": 0, "boot": "", "guard": PROCESS,
        "supervisor": PROCESS, "running": False, "since": 0.0, "turn": 0, "cores": [], "gpus": [],
    }  # fmt: skip
    return Ticket(name, uid, {**document, **fields})


def names(tickets: list[Ticket]) -> list[str]:
    return [found.name for found in tickets]


def test_users_take_turns_and_each_one_s_runs_start_as_they_were_submitted() -> None:
    waiting = [ticket(f"{uid}{n}", uid, submitted=n) for uid in (1, 2, 3) for n in (1, 2)]
    assert names(list(line(waiting, {}))) == ["11", "21", "31", "12", "22", "32"]


def test_who_has_had_no_turn_goes_before_who_has() -> None:
    waiting = [ticket("a", 1), ticket("b", 2), ticket("c", 3)]
    assert names(list(line(waiting, {1: 7, 2: 5}))) == ["c", "b", "a"]


def test_dedicated_runs_go_before_lowpriority_ones() -> None:
    waiting = [ticket("low", 1, priority="lowpriority"), ticket("high", 2, submitted=9)]
    assert names(list(line(waiting, {2: 1}))) == ["high", "low"]


def test_as_many_start_as_there_are_nodes() -> None:
    found = decide([ticket(name, submitted=ord(name)) for name in "abcd"], {}, "p")
    assert names(found.going) == ["a", "b"]
    assert found.blocked is not None
    assert found.blocked.name == "c"


def test_nobody_overtakes_a_run_that_waits_for_more_nodes() -> None:
    everyone = [
        ticket("running", running=True),
        ticket("wide", nodes=2, submitted=1),
        ticket("narrow", submitted=2),
    ]
    found = decide(everyone, {}, "p")
    assert found.going == []
    assert found.blocked.name == "wide"


def test_another_pool_is_another_queue() -> None:
    everyone = [ticket("a", running=True, nodes=2), ticket("b", pool="q")]
    assert names(decide(everyone, {}, "q").going) == ["b"]
    assert decide(everyone, {}, "p").going == []


def test_of_two_sizes_under_one_name_the_smaller_counts_while_its_runs_are_under_way() -> None:
    small = ticket("small", running=True, max_nodes=1)
    large = ticket("large", 2, max_nodes=4)
    assert decide([small, large], {}, "p").going == []
    assert names(decide([large], {}, "p").going) == ["large"]
    waiting = ticket("small", max_nodes=1)
    assert decide([ticket("l", 2, max_nodes=4, running=True), waiting], {}, "p").going == []


def test_lowpriority_runs_give_way_the_newest_first_and_no_more_than_needed() -> None:
    everyone = [
        ticket("old", running=True, priority="lowpriority", since=1),
        ticket("new", running=True, priority="lowpriority", since=2),
        ticket("high"),
    ]
    found = decide(everyone, {}, "p")
    assert names(found.giving_way) == ["new"]
    assert found.going == []
    assert found.blocked.name == "high"


def test_all_who_are_in_the_way_give_way_at_once() -> None:
    everyone = [
        ticket("old", running=True, priority="lowpriority", since=1),
        ticket("new", running=True, priority="lowpriority", since=2),
        ticket("one", submitted=1),
        ticket("two", submitted=2),
    ]
    assert names(decide(everyone, {}, "p").giving_way) == ["new", "old"]


def test_nobody_gives_way_in_vain() -> None:
    everyone = [
        ticket("high", running=True),
        ticket("low", running=True, priority="lowpriority"),
        ticket("wide", nodes=2),
    ]
    found = decide(everyone, {}, "p")
    assert found.giving_way == []
    assert found.blocked.name == "wide"


def test_lowpriority_does_not_make_lowpriority_give_way() -> None:
    everyone = [
        ticket("a", running=True, nodes=2, priority="lowpriority"),
        ticket("b", priority="lowpriority"),
    ]
    assert decide(everyone, {}, "p").giving_way == []


def test_a_run_waits_for_the_gpus_that_another_pool_s_run_has() -> None:
    everyone = [
        ticket("a", pool="q", running=True, gpus=["GPU-1"]),
        ticket("b", visible=["GPU-1", "GPU-2"], wants_gpus=2),
    ]
    assert decide(everyone, {}, "p").going == []
    assert names(decide(everyone[1:], {}, "p").going) == ["b"]


tickets = st.lists(
    st.builds(
        dict,
        uid=st.integers(1, 3),
        nodes=st.integers(1, 3),
        max_nodes=st.integers(3, 5),
        submitted=st.integers(0, 5),
        priority=st.sampled_from(["dedicated", "lowpriority"]),
    ),
    max_size=12,
)


@given(tickets, st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_whatever_is_asked_for_all_run_and_never_too_many(wanted, random) -> None:
    """A whole day of a pool: runs come and end in any order."""
    coming = [ticket(str(n), **fields) for n, fields in enumerate(wanted)]
    everyone: list[Ticket] = []
    turns: dict[int, int] = {}
    ended: list[str] = []
    clock = 0
    while coming or everyone:
        if coming and random.random() < 0.5:
            everyone.append(coming.pop())
        decision = decide(everyone, turns, "p")
        assert not set(names(decision.going)) & set(names(decision.giving_way))
        assert all(t.running and t.priority == "lowpriority" for t in decision.giving_way)
        for chosen in decision.going:
            clock += 1
            turns[chosen.uid] = clock
            chosen.document.update(running=True, since=clock)
        running = [t for t in everyone if t.running]
        assert sum(t.nodes for t in running) <= min((t.max_nodes for t in running), default=0)
        for stopped in decision.giving_way:
            stopped.document["running"] = False  # requeued
        if everyone and not coming:
            assert running or decision.giving_way, "nobody runs, and nobody may start"
        if running and random.random() < 0.7:
            done = random.choice(running)
            everyone.remove(done)
            ended.append(done.name)
    assert len(ended) == len(wanted)


@given(
    st.lists(st.integers(1, 4), max_size=30), st.dictionaries(st.integers(1, 4), st.integers(1))
)
def test_between_two_turns_of_a_user_everybody_who_waits_has_one(uids, turns) -> None:
    waiting = [ticket(str(n), uid, submitted=n) for n, uid in enumerate(uids)]
    order = [found.uid for found in line(waiting, turns)]
    for n, uid in enumerate(order):
        if uid in order[n + 1 :]:
            again = order.index(uid, n + 1)
            assert set(order[n + 1 : again]) == set(order[n + 1 :]) - {uid}


@pytest.mark.parametrize(
    "wrong",
    [
        {"nodes": "many"},
        {"guard": {}},
        {"supervisor": {"start": 1}},
        {"cores": ["a"]},
        {"gpus": [[]]},
        {"visible": [{}]},
    ],
)
def test_what_would_trip_others_is_no_ticket(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        ticket("a", **wrong)


def test_a_list_is_no_ticket() -> None:
    with pytest.raises(ValueError, match="no object"):
        Ticket("a", 1, [])  # type: ignore[arg-type]
