"""Interleavings from the due message to the queue: dispatch, slots, late ones (mechanisms.md, parts 4 to 6)."""

from __future__ import annotations

from tests.unit.interleavings.interleaving import Interleaving

SERVICES = "tests/unit/services"
DISPATCHER, LAUNCH = f"{SERVICES}/test_dispatcher.py", f"{SERVICES}/test_launch.py"
RIVALS, ENDS = f"{SERVICES}/test_launch_rivals.py", f"{SERVICES}/test_launch_ends.py"
DISPATCH, WITHHELD = (f"tests/unit/interleavings/test_{name}.py" for name in ("dispatch", "withheld"))
BUFFERS, INSPECTOR, LATE = (f"{SERVICES}/test_{name}.py" for name in ("buffers", "inspector", "late"))
DISOWNING = f"{SERVICES}/test_disowning.py"
DISPATCHER_DUE, DISPATCHER_FAULTS = f"{SERVICES}/test_dispatcher_due.py", f"{SERVICES}/test_dispatcher_faults.py"
DISPATCHER_LATE = f"{SERVICES}/test_dispatcher_late.py"
TRACKER, KILLS = f"{SERVICES}/test_tracker.py", f"{SERVICES}/test_tracker_kills.py"
REFUSED, NOTES = f"{SERVICES}/test_planner_faults.py", f"{SERVICES}/test_planner_notes.py"
RECORDS, HOUSE, SCHEMA = (f"{SERVICES}/test_{name}.py" for name in ("records", "housekeeping", "schema"))
CORE_LATE, TRACKING = "tests/unit/core/test_catch_up.py", "tests/unit/core/test_tracking.py"
QUEUES, CANCELS = "tests/contracts/test_queues.py", "tests/contracts/test_cancels.py"
STEPS = "tests/faults/test_dispatch_steps.py"

DISPATCHING = (
    Interleaving(
        "4.1",
        "Somebody writes after the batch was pulled and before it is decided, with a silent watch: the newest "
        "definition decides, since how far the bucket is, is asked after the batch arrived.",
        f"{DISPATCH}::test_a_write_between_the_pull_and_the_decision_counts",
        f"{DISPATCHER_DUE}::test_decided_by_what_is_stored_now",
        f"{DISPATCHER_DUE}::test_no_decision_without_proof_of_freshness",
    ),
    Interleaving(
        "4.2",
        "Armed by one definition, edited to another before the fire: a mismatch of generations alone is no verdict.",
        f"{DISPATCHER_DUE}::test_decided_by_what_is_stored_now",
        "tests/unit/core/test_dispatching.py::test_who_armed_it_is_no_verdict",
    ),
    Interleaving(
        "4.3",
        "It comes too late while another replica notes a younger one: the older note stands, no record is made.",
        f"{DISPATCH}::test_the_oldest_of_two_notes_stands",
        f"{DISPATCHER_LATE}::test_what_is_late_is_left_to_the_leader",
    ),
    Interleaving(
        "4.4",
        "Its first replica died after the claim: whoever is handed it goes on from there, however late it is.",
        f"{DISPATCHER_LATE}::test_a_late_one_that_has_a_record_goes_on",
        f"{RIVALS}::test_a_look_says_that_it_went_on",
        f"{RIVALS}::test_what_was_queued_before_keeps_its_time",
    ),
    Interleaving(
        "4.5",
        "It is delivered again after its record moved on, or ended: acknowledged, no second task.",
        f"{DISPATCHER}::test_a_record_in_a_later_state",
        f"{DISPATCH}::test_the_same_occurrence_fires_again_after_its_run_has_ended",
        f"{DISPATCH}::test_a_due_message_that_outlived_the_record_fires_nothing_again",
    ),
    Interleaving(
        "4.6",
        "kill -9 or SIGSTOP between any two of record, slot, pair, queued and ack: whoever comes next gets to the "
        "very same pair.",
        f"{DISPATCHER_FAULTS}::test_killed_anywhere",
        f"{STEPS}::test_a_kill_at_each_step_comes_to_exactly_one_task",
        f"{STEPS}::test_a_stall_at_each_step_changes_nothing",
    ),
    Interleaving(
        "4.7",
        "Two replicas carry out the same due message at once: one record, one task, one verdict.",
        f"{DISPATCHER}::test_two_replicas_at_the_same_time",
        f"{DISPATCHER}::test_rivals_over_a_slot_that_comes_free",
    ),
    Interleaving(
        "4.8",
        "One replica finds the slot taken and is slow to say so, another gets it meanwhile, or the other way "
        "round: one of skip and task is turned away.",
        f"{RIVALS}::test_a_skip_turns_the_creator_away",
        f"{RIVALS}::test_a_rival_turns_the_creators_skip_away",
        f"{RIVALS}::test_a_rival_refuses_only_what_is_old_enough",
    ),
    Interleaving(
        "4.9",
        "The pair of a claim that exists is sent again: refused, it keeps its task; one such claim refuses its "
        "batch, whose other pairs are queued all the same.",
        f"{QUEUES}::test_twice",
        f"{QUEUES}::test_existing_claims",
        "tests/unit/jetstream/test_pairs.py::test_in_flight_is_narrowed_down",
    ),
    Interleaving(
        "4.10",
        "A pair finds no answer and lands, never lands, or lands behind its repeat: one task.",
        f"{QUEUES}::test_lost_acknowledgement",
        f"{QUEUES}::test_late_landing",
        f"{QUEUES}::test_late_landing_behind_a_repeat",
    ),
    Interleaving(
        "4.11",
        "A worker is done before its dispatcher has written queued: the record passes through queued, counted once.",
        f"{DISPATCHER}::test_a_worker_faster_than_our_last_write",
        f"{TRACKER}::test_a_worker_faster_than_the_dispatcher",
    ),
    Interleaving(
        "4.12",
        "Edited, paused or deleted between claim and task: repair only rolls forward, it never undoes a claim.",
        f"{DISPATCH}::test_an_edit_between_the_claim_and_the_task_changes_nothing_of_it",
        f"{DISPATCH}::test_an_edit_of_the_policy_takes_no_task_back",
        f"{LAUNCH}::test_the_record_says_what_runs",
    ),
    Interleaving(
        "4.13",
        "It is still claimed after half the claim floor: lost, unless its claim proves that its task is there.",
        f"{DISPATCHER}::test_claimed_for_half_the_claim_floor",
        f"{SERVICES}/test_reconcile_claimed.py::test_claimed_too_long_is_lost",
        f"{RIVALS}::test_a_rival_is_too_late_for_a_task",
    ),
    Interleaving(
        "4.14",
        "Its nominal time is long past and its record young: the floor counts from the record.",
        f"{DISPATCH}::test_the_claim_floor_counts_from_the_record",
    ),
    Interleaving(
        "4.15",
        "A launcher stands still between its last look and its pair, somebody else ends the record as expired, "
        "skipped (an edit had made a slot necessary) or lost, and the pair is sent after all: refused, its claim is "
        "withheld.",
        f"{WITHHELD}::test_no_task_follows_a_verdict",
        f"{ENDS}::test_a_creator_stopped_right_before_its_pair_sends_nothing",
        f"{QUEUES}::test_a_withheld_claim_lets_no_task_follow",
    ),
    Interleaving(
        "4.16",
        "The pair lands before the claim is withheld: the claim is told instead, and the record says queued.",
        f"{WITHHELD}::test_the_pair_wins_if_it_was_first",
        f"{ENDS}::test_a_task_that_is_there_is_no_expired_one",
        f"{QUEUES}::test_what_is_queued_cannot_be_withheld",
    ),
    Interleaving(
        "4.17",
        "A third one goes on with it between the withheld claim and the end: the end is turned away, the next "
        "look ends it, and no task comes.",
        f"{ENDS}::test_who_takes_it_up_turns_the_end_away",
    ),
    Interleaving(
        "4.18",
        "A record is rewritten without a TTL while it is open, and ends: open ones live for ever, ended ones go, "
        "not before the claim floor.",
        f"{RECORDS}::test_only_what_has_ended_goes",
        "tests/contracts/test_bucket.py::test_ttl",
    ),
    Interleaving(
        "4.19",
        "A batch takes longer than the ack wait: in-progress keeps it; what a stopped puller holds comes again.",
        f"{DISPATCHER}::test_a_slow_batch_is_kept",
        "tests/contracts/test_timeline.py::test_redelivery",
        "tests/contracts/test_queue_settings.py::test_one_at_a_time",
    ),
)

SLOTS = (
    Interleaving(
        "5.1",
        "Record, slot, pair, and in the end record, slot, the next one's pair: with each single write only a "
        "terminal record has freed a slot.",
        f"{DISPATCH}::test_a_terminal_record_frees_the_slot_and_nothing_else_does",
        f"{BUFFERS}::test_buffer_all_runs_all_in_their_order",
        f"{BUFFERS}::test_the_one_who_frees_the_slot_dies",
        f"{BUFFERS}::test_the_dispatcher_dies",
    ),
    Interleaving(
        "5.2",
        "Many replicas want the slots of one row at once: exactly as many get one as there are.",
        f"{SERVICES}/test_slots.py::test_many_replicas_want_one_row",
    ),
    Interleaving(
        "5.3",
        "A dead replica holds the final report, or died between record and slot: before a skip the holder is "
        "looked at, and folded.",
        f"{INSPECTOR}::test_a_final_report_that_waits_to_be_folded",
        f"{INSPECTOR}::test_an_ended_record_whose_slot_was_not_freed",
        f"{INSPECTOR}::test_a_holder_without_a_record",
    ),
    Interleaving(
        "5.4",
        "A dead replica holds a backlog of acks: it does not turn into skips, and nothing is inferred before it "
        "is folded.",
        f"{INSPECTOR}::test_a_signal_on_its_way_is_waited_for",
        f"{INSPECTOR}::test_a_task_that_vanished",
        f"{INSPECTOR}::test_a_backlog_of_signals_is_not_waited_for_without_end",
    ),
    Interleaving(
        "5.5",
        "Deleted with runs active and created again: the row is kept until they end, and inherited.",
        f"{DISPATCH}::test_a_schedule_that_is_created_again_inherits_its_runs",
        f"{NOTES}::test_a_deleted_schedule_keeps_its_row_while_runs_hold_slots",
        f"{SERVICES}/test_reconcile_rows.py::test_a_schedule_that_comes_back",
        f"{SERVICES}/test_rows.py::test_a_row_that_comes_into_use_meanwhile_is_kept",
    ),
    Interleaving(
        "5.6",
        "Whoever waits is ended while its turn comes: one of the two is turned away.",
        f"{ENDS}::test_what_ended_before_its_turn_came_gets_no_task",
        f"{ENDS}::test_only_its_creator_says_that_it_waits",
        f"{ENDS}::test_whose_turn_has_come_is_not_withdrawn",
    ),
    Interleaving(
        "5.7",
        "The dispatcher dies at any step near the last fire of max_fires: exactly so many fire.",
        f"{SERVICES}/test_max_fires.py::test_the_dispatcher_dies",
        f"{SERVICES}/test_max_fires.py::test_an_edit_that_raises_it_goes_on",
    ),
)

CATCHING_UP = (
    Interleaving(
        "6.1",
        "A leader dies at any step of a catch-up, or two carry it out at once: `decided` makes it run once.",
        f"{LATE}::test_killed_at_any_call",
        f"{LATE}::test_two_leaders_at_the_same_time",
        f"{CORE_LATE}::test_what_was_decided_is_not_decided_again",
    ),
    Interleaving(
        "6.2",
        "A late one had a record before it was decided: left out, not fired and not counted again.",
        f"{LATE}::test_what_has_a_record_is_left_out",
    ),
    Interleaving(
        "6.3",
        "A due message comes after its time was decided: acknowledged without a record; beside that: noted.",
        f"{DISPATCHER_LATE}::test_what_is_decided_is_only_acknowledged",
        f"{LATE}::test_one_that_comes_after_all_is_decided_by_itself",
    ),
    Interleaving(
        "6.4",
        "A late one is noted between the leader's look and his write: the note is kept and decided next.",
        f"{CORE_LATE}::test_a_note_of_what_was_not_late_yet_is_kept",
    ),
    Interleaving(
        "6.5",
        "An edit comes between the late time and the decision, or in the middle of it: superseded, once.",
        f"{DISOWNING}::test_an_edit_that_is_applied_in_the_middle_of_a_look",
        f"{DISOWNING}::test_an_edit_supersedes_what_is_late",
        f"{DISPATCHER_LATE}::test_an_edit_came_between",
    ),
    Interleaving(
        "6.6",
        "Another edit is applied, or more is noted, while one is told that took late ones away: what the next owed "
        "stays noted, and has its own verdict.",
        f"{DISOWNING}::test_another_edit_while_one_is_told",
        f"{DISOWNING}::test_a_note_while_a_deletion_is_told",
    ),
    Interleaving(
        "6.7",
        "A one-shot was past when it was first put, whoever leads then: late, not retroactive, and once.",
        f"{SERVICES}/test_planner_slices.py::test_a_past_one_shot_is_late_once",
        f"{NOTES}::test_a_new_leader_knows_what_was_before",
    ),
    Interleaving(
        "6.8",
        "A term ends between two steps of a catch-up: none of the following is taken, the next leader comes to the "
        "same.",
        f"{LATE}::test_nothing_is_written_once_the_term_is_over",
    ),
)
