"""What is declared, and what counts as drift."""

from __future__ import annotations

import pytest

from scheduler.jetstream.topology import differences, impossible, queue_consumer, topology
from scheduler.wire.names import Names


def test_everything_of_the_contract_is_declared() -> None:
    """Six streams, six buckets and three consumers, named after the namespace."""
    declared = topology(Names("team-1"))
    assert {stream.name for stream in declared.streams} == {
        *(f"TEAM_1_{word}" for word in ("TIMELINE", "TASKS", "REPORTS", "EVENTS", "LOGS", "ADVISORIES")),
        *(f"KV_team-1-{word}" for word in ("schedules", "executions", "status", "control", "calendars", "workers")),
    }
    assert {(each.stream, each.name) for each in declared.consumers} == {
        ("TEAM_1_TIMELINE", "dispatcher"),
        ("TEAM_1_REPORTS", "tracker"),
        ("TEAM_1_ADVISORIES", "tracker"),
    }


def test_two_namespaces_share_no_subject() -> None:
    """Nothing of one namespace would be stored by a stream of another whose name begins alike."""
    one, other = topology(Names("a")), topology(Names("a-b"))
    subjects = {subject for stream in one.streams for subject in stream.owned["subjects"]}
    assert not subjects & {subject for stream in other.streams for subject in stream.owned["subjects"]}


@pytest.mark.parametrize("replicas", [1, 3, 5])
def test_replicas_are_one_setting(replicas: int) -> None:
    """Every stream gets the same number of replicas."""
    assert {stream.config(replicas)["num_replicas"] for stream in topology(Names()).streams} == {replicas}


def test_what_a_queue_gets() -> None:
    """The consumer has the queue's name and its tasks, tells of every ack, and carries the numbers given."""
    config = queue_consumer(Names(), "EMAIL", ack_wait_s=1.5, max_deliver=7, max_ack_pending=3).config()
    assert config["durable_name"] == "EMAIL"
    assert config["filter_subject"] == "schedd.task.EMAIL.>"
    assert config["sample_freq"] == "100"
    assert (config["ack_wait"], config["max_deliver"], config["max_ack_pending"]) == (1_500_000_000, 7, 3)


def test_no_difference() -> None:
    """What is as declared, or left out by the server because it is the zero value, is no drift."""
    owned = {"subjects": ["a"], "allow_msg_ttl": False, "max_age": 0, "discard": "new"}
    assert differences(owned, {"subjects": ["a"], "discard": "new", "description": "mine"}) == {}


def test_drift_is_told() -> None:
    """A changed setting is written back, and only that."""
    owned = {"discard": "new", "max_age": 0, "allow_msg_ttl": True}
    assert differences(owned, {"discard": "old", "max_age": 5, "allow_msg_ttl": True}) == {
        "discard": "new",
        "max_age": 0,
    }
    assert differences(owned, {"discard": "new"}) == {"allow_msg_ttl": True}


def test_subjects_are_added_never_taken_away() -> None:
    """Somebody's further subject stays, a missing one of ours comes back."""
    assert differences({"subjects": ["a", "b"]}, {"subjects": ["b", "theirs"]}) == {"subjects": ["b", "theirs", "a"]}
    assert differences({"subjects": ["a"]}, {"subjects": ["theirs", "a"]}) == {}


@pytest.mark.parametrize(("has", "repaired"), [(5, False), (-1, False), (1, False)])
def test_history_is_never_cut(has: int, repaired: bool) -> None:
    """A bucket with more history than declared keeps it: repairing would throw data away."""
    assert bool(differences({"max_msgs_per_subject": 1}, {"max_msgs_per_subject": has})) is repaired


def test_limits_on_the_timeline_are_lifted() -> None:
    """A limit that somebody put on the timeline would delete schedules silently, so it goes."""
    (timeline,) = [stream for stream in topology(Names()).streams if stream.name == "SCHEDD_TIMELINE"]
    actual = {**timeline.config(1), "max_msgs": 1000, "max_msgs_per_subject": 1, "max_bytes": 5, "max_age": 1}
    assert differences(timeline.owned, actual) == {
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_bytes": -1,
        "max_age": 0,
    }


def test_what_cannot_be_changed() -> None:
    """Retention and storage of a stream, ack and deliver policy of a consumer are fixed at creation."""
    assert impossible({"retention": "limits", "discard": "new", "ack_policy": "none"}) == ["ack_policy", "retention"]
    assert impossible({"discard": "new"}) == []
