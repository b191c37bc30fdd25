"""Interleavings from the queue to the end of a run and after it: attempts and outcomes, audit, repairs, clocks
(mechanisms.md, parts 7 to 10)."""

from __future__ import annotations

from tests.unit.interleavings.interleaving import Interleaving

SERVICES = "tests/unit/services"
OUTCOMES = "tests/unit/interleavings/test_outcomes.py"
DISPATCHER_LATE, RECONCILE = f"{SERVICES}/test_dispatcher_late.py", f"{SERVICES}/test_reconcile.py"
CANCELLING, RETRY = f"{SERVICES}/test_cancelling.py", f"{SERVICES}/test_retry_steps.py"
TRACKER, KILLS = f"{SERVICES}/test_tracker.py", f"{SERVICES}/test_tracker_kills.py"
SIGNALS = f"{SERVICES}/test_tracker_signals.py"
REFUSED, NOTES = f"{SERVICES}/test_planner_faults.py", f"{SERVICES}/test_planner_notes.py"
RECORDS, HOUSE, SCHEMA = (f"{SERVICES}/test_{name}.py" for name in ("records", "housekeeping", "schema"))
TRIGGER = f"{SERVICES}/api/test_trigger.py"
CORE_LATE, TRACKING = "tests/unit/core/test_catch_up.py", "tests/unit/core/test_tracking.py"
DECIDING = "tests/unit/worker/test_deciding.py"
QUEUES, CANCELS = "tests/contracts/test_queues.py", "tests/contracts/test_cancels.py"
CLAIMS, WORKER_FAULTS = "tests/integration/test_worker_claims.py", "tests/integration/test_worker_faults.py"

ATTEMPTS = (
    Interleaving(
        "7.1",
        "Many workers claim one attempt at once, or one finds no answer: one of them has it.",
        f"{CLAIMS}::test_one_of_many_wins",
        f"{CLAIMS}::test_a_claim_without_an_answer_may_be_another_ones",
        f"{CLAIMS}::test_its_own_earlier_claim_is_not_this_one",
    ),
    Interleaving(
        "7.2",
        "The consumer is made anew and counts from 1: a delivery that was not started is no attempt.",
        f"{TRACKING}::test_a_consumer_made_anew_counts_from_one",
        "tests/contracts/test_server_facts.py::test_a_consumer_made_anew_counts_deliveries_from_one",
        "tests/integration/test_worker_queues.py::test_a_consumer_made_anew_starts_nothing_twice",
    ),
    Interleaving(
        "7.3",
        "A claimer is refused: it acks only over a final `finished`, else hands back; the next attempt waits for "
        "the end of the one before or a whole ack wait of silence.",
        f"{DECIDING}::test_a_final_report_is_the_end",
        f"{DECIDING}::test_an_attempt_heard_of_within_the_ack_wait_is_waited_for",
        f"{DECIDING}::test_after_a_whole_ack_wait_of_silence_the_next_attempt_starts",
    ),
    Interleaving(
        "7.4",
        "An attempt ends between the look and the claim of the next one, or after it: kept and not run, or refused.",
        f"{CLAIMS}::test_an_end_that_comes_between_look_and_claim",
        f"{CLAIMS}::test_an_end_after_the_next_start_is_refused",
        f"{WORKER_FAULTS}::test_a_stalled_worker_cannot_end_its_successor",
    ),
    Interleaving(
        "7.5",
        "An ack, NAK or TERM overtakes the reports, which a dead replica holds: only reports decide.",
        f"{OUTCOMES}::test_a_signal_overtakes_the_report_that_explains_it",
        f"{SIGNALS}::test_signals_of_an_sdk_run_are_ignored",
    ),
    Interleaving(
        "7.6",
        "`finished` is folded before `started`, which another replica holds: read back.",
        f"{TRACKER}::test_finished_before_started_is_folded",
    ),
    Interleaving(
        "7.7",
        "MAX_DELIVERIES comes while reports are unfolded, or while the worker still runs it: read back, or held; "
        "the message is removed.",
        f"{OUTCOMES}::test_the_last_delivery_is_over_before_the_reports_are_folded",
        f"{SIGNALS}::test_max_deliveries_while_its_worker_runs_it",
        f"{SIGNALS}::test_max_deliveries",
    ),
    Interleaving(
        "7.8",
        "A TERM says that the task was deleted: our removal, or a strange hand's; no outcome.",
        f"{OUTCOMES}::test_a_removal_by_a_strange_hand_is_no_outcome",
        f"{SIGNALS}::test_plain_naks_up_to_max_tries",
        "tests/contracts/test_signals.py::test_removal",
    ),
    Interleaving(
        "7.9",
        "A task is gone and its signal waits, or got lost: waited for, then inferred; never before.",
        f"{SERVICES}/test_reconcile_gone.py::test_an_ack_that_nobody_told",
        f"{SERVICES}/test_inspector.py::test_a_task_that_vanished",
        f"{SERVICES}/test_reconcile_gone.py::test_a_signal_is_never_inferred_away",
    ),
    Interleaving(
        "7.10",
        "Killed between the record and the removal of a task: the record says why it goes, in this order.",
        f"{KILLS}::test_killed_anywhere",
        f"{OUTCOMES}::test_a_worker_that_claims_after_the_take_of_a_cancel_begins_nothing",
        f"{SERVICES}/test_reconcile_leftovers.py::test_a_task_that_outlived_its_execution",
    ),
    Interleaving(
        "7.11",
        "A worker's row forgets a run and names it again, or goes: lost only after a whole ack wait of silence.",
        f"{OUTCOMES}::test_a_lost_worker_is_lost_after_a_whole_ack_wait_of_silence_only",
        f"{OUTCOMES}::test_a_silence_ends_no_attempt_but_the_one_that_was_silent",
        f"{SERVICES}/test_reconcile_workers.py::test_a_row_that_forgot_the_run",
        f"{SERVICES}/test_reconcile_workers.py::test_a_worker_that_lives",
    ),
    Interleaving(
        "7.12",
        "A worker claims between the daemon's look and its take of the attempt: lost, it runs and is told to end.",
        f"{OUTCOMES}::test_a_worker_claims_between_the_look_and_the_take_of_a_cancel",
        f"{CANCELS}::test_take_what_a_worker_has",
        f"{CANCELLING}::test_a_started_report_that_nobody_has_folded",
    ),
    Interleaving(
        "7.13",
        "A worker claims after the daemon's take and before the record is written: refused, nothing begins.",
        f"{OUTCOMES}::test_a_worker_that_claims_after_the_take_of_a_cancel_begins_nothing",
        f"{WORKER_FAULTS}::test_an_attempt_of_the_daemon_is_not_followed",
        f"{CANCELLING}::test_the_canceller_dies",
    ),
    Interleaving(
        "7.14",
        "Reports, signals and ends of a drive come after its retry: not about the new drive.",
        f"{RETRY}::test_late_words_about_the_drive_before",
        f"{RETRY}::test_an_end_that_was_meant_for_the_drive_before",
        f"{RETRY}::test_a_signal_that_is_judged_while_it_is_retried",
        f"{RETRY}::test_killed_anywhere",
    ),
    Interleaving(
        "7.15",
        "A trigger with a nonce is repeated, at once or after silence anywhere: one execution, one task, one answer.",
        f"{TRIGGER}::test_many_repeats_at_once_make_one_task",
        f"{TRIGGER}::test_silence_anywhere_is_repaired_by_a_repeat",
        f"{TRIGGER}::test_a_repeated_nonce_answers_as_before",
    ),
    Interleaving(
        "7.16",
        "The claim expired under a long backlog, and the reconciler looks before the signal is folded: found by "
        "its sequence; TERM, NAK and MAX_DELIVERIES never become a success.",
        f"{OUTCOMES}::test_a_failure_under_a_long_backlog_is_never_inferred_away",
        f"{SIGNALS}::test_a_claim_that_has_expired",
        f"{TRACKING}::test_any_signals",
    ),
    Interleaving(
        "7.17",
        "A plain worker falls silent, which emits nothing, and another hands back: max_tries may be passed by that one "
        "delivery, and holds at the next word.",
        f"{OUTCOMES}::test_a_silent_delivery_is_told_by_the_next_word_about_it",
        "tests/contracts/test_signals.py::test_ack_wait_tells_nothing",
    ),
)

AUDIT_AND_REPAIR = (
    Interleaving(
        "8.1",
        "What counted at the time is judged, though definition, calendar or pause were edited since; no verdict "
        "before the fire time, none before what is kept.",
        f"{SERVICES}/api/test_audit.py::test_the_definition_of_the_time_decides",
        "tests/unit/core/test_auditing.py::test_no_verdict_before_the_fire_time",
        "tests/unit/core/test_auditing.py::test_what_is_forgotten_is_refused",
    ),
    Interleaving(
        "9.1",
        "An arm got stuck and is handed to the planner: armed through its one batch, unless it is not wanted by then.",
        f"{SERVICES}/test_reconcile_arms.py::test_arms_that_are_stuck",
        f"{REFUSED}::test_stuck_arms_are_armed_again",
        f"{REFUSED}::test_rearm_never_hangs",
        "tests/contracts/test_server_facts.py::test_a_fire_that_was_refused_is_stuck_until_it_is_armed_again",
    ),
    Interleaving(
        "9.2",
        "A reconciler dies anywhere, or its term ends: its successor ends the same, and nothing is written after it.",
        f"{RECONCILE}::test_a_reconciler_killed_anywhere",
        f"{RECONCILE}::test_a_term_that_is_over_writes_nothing",
    ),
    Interleaving(
        "9.3",
        "A consumer is deleted under everybody: restored.",
        f"{SERVICES}/test_reconcile_consumers.py::test_missing_consumers",
        "tests/faults/test_nats.py::test_lost_streams_are_made_again",
    ),
    Interleaving(
        "10.1",
        "A replica's wall clock is set off by more than 30 s: no candidate, and out of office at the next renewal.",
        f"{SERVICES}/test_leader_ends.py::test_a_skewed_clock_does_not_lead",
        "tests/unit/system/test_clock.py::test_setting_the_wall_clock_shifts_only_the_offset",
    ),
    Interleaving(
        "10.2",
        "A delete marker is removed in the very moment in which its key is put again: the new one lives.",
        f"{HOUSE}::test_a_schedule_put_again_keeps_its_place",
        f"{HOUSE}::test_markers_go_after_an_hour_once_they_are_applied",
        f"{HOUSE}::test_followers_forget_what_the_leader_removed",
    ),
    Interleaving(
        "10.3",
        "An older replica meets a newer schema, or a leader dies between a step of migration and its note.",
        f"{SCHEMA}::test_an_older_replica_neither_starts_nor_leads",
        f"{SCHEMA}::test_a_step_that_was_cut_off_is_repeated",
    ),
)
