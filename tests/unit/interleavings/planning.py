"""Interleavings of those who lead: lease and fence, watermark, planning (mechanisms.md, parts 1 to 3)."""

from __future__ import annotations

from tests.unit.interleavings.interleaving import Interleaving

SERVICES = "tests/unit/services"
LEADER, ENDS = f"{SERVICES}/test_leader.py", f"{SERVICES}/test_leader_ends.py"
RENEWALS = f"{SERVICES}/test_leader_renewals.py"
PLANNER, SLICES = f"{SERVICES}/test_planner.py", f"{SERVICES}/test_planner_slices.py"
REFUSED, NOTES = f"{SERVICES}/test_planner_faults.py", f"{SERVICES}/test_planner_notes.py"
REPLACED = f"{SERVICES}/test_replaced_unseen.py"
WATERMARKS, APPLIED, CALENDARS = (f"{SERVICES}/test_{name}.py" for name in ("watermarks", "applied", "calendars"))
LEADING_TESTS = "tests/unit/interleavings/test_leading.py"
TAKE_OVER = "tests/unit/interleavings/test_take_over.py"
TIMELINE = "tests/contracts/test_timeline.py"
FACTS = "tests/contracts/test_server_facts.py"
REPLICAS = "tests/faults/test_replicas.py"
LEADERSHIP = "tests/unit/core/test_leadership.py"
CHAINS = "tests/unit/simulation/test_chains.py"

LEADING = (
    Interleaving(
        "1.1",
        "Several candidates find the lease free at once: the compare-and-set makes one of them the leader.",
        f"{LEADER}::test_three_at_once_elect_one",
    ),
    Interleaving(
        "1.2",
        "The holder releases on SIGTERM while candidates watch: the next one leads in under a second; a watch "
        "that says nothing costs one retry period.",
        f"{LEADER}::test_a_release_hands_over_at_once",
        f"{LEADER}::test_without_a_watch_candidates_poll",
        f"{REPLICAS}::test_kill_term_hands_over_in_under_a_second",
    ),
    Interleaving(
        "1.3",
        "The lease changes while a candidate waits it out: only a whole lease without any change, on its own "
        "clock, makes it free.",
        f"{LEADERSHIP}::test_a_held_lease_is_waited_for_on_our_own_clock",
        f"{LEADER}::test_a_silent_holder_loses_the_lease_after_a_whole_lease",
    ),
    Interleaving(
        "1.4",
        "A renewal's answer is late: the deadline counts from before the write was sent, so trust ends first.",
        f"{RENEWALS}::test_the_deadline_counts_from_before_the_write_was_sent",
        f"{LEADING_TESTS}::test_a_term_ends_at_its_deadline_whatever_hangs",
        f"{RENEWALS}::test_the_deadline_is_kept_while_a_renewal_hangs",
    ),
    Interleaving(
        "1.5",
        "A renewal or campaign lands though its answer is lost: read back, it is ours by its nonce, and nobody else's.",
        f"{RENEWALS}::test_a_renewal_whose_answer_is_lost_is_adopted_by_its_nonce",
        f"{LEADER}::test_a_campaign_whose_answer_is_lost_is_read_back",
        f"{LEADER}::test_a_campaign_that_landed_unknown_to_us_blocks_nobody",
        f"{LEADERSHIP}::test_owns_by_the_nonce_of_the_write",
    ),
    Interleaving(
        "1.6",
        "A renewal is refused for now (10164) or finds no answer: repeated until the deadline, which does not move.",
        f"{RENEWALS}::test_renewals_refused_for_now_are_repeated_until_the_deadline",
        f"{RENEWALS}::test_renewals_refused_beyond_the_deadline_end_the_term",
    ),
    Interleaving(
        "1.7",
        "Stopped between winning the lease and taking office, another wins and takes office: epochs follow the "
        "order of leases, the older one gives up.",
        f"{LEADING_TESTS}::test_an_older_lease_that_is_still_believed_in_does_not_take_office",
        f"{LEADER}::test_an_older_lease_does_not_take_office_after_a_later_one",
    ),
    Interleaving(
        "1.8",
        "Two saw the same epoch: taking office is one batch of epoch and watermark, and one of them gets it.",
        f"{TIMELINE}::test_office_is_taken_once",
        f"{TIMELINE}::test_office_is_taken_from_what_stands",
        f"{TIMELINE}::test_taking_office",
    ),
    Interleaving(
        "1.9",
        "The batch that takes office is refused, lost, stored unheard or lands late: the term writes with the "
        "epoch in force.",
        f"{LEADER}::test_taking_office_survives_every_fault",
    ),
    Interleaving(
        "1.10",
        "A candidate loads its cache, its watch falls silent, another applies an edit, and then it takes office: "
        "what it plans from is read after that.",
        f"{TAKE_OVER}::test_a_candidate_with_a_silent_watch_plans_nothing_stale",
    ),
    Interleaving(
        "1.11",
        "An ex-leader sends a batch after another took office: refused whole, whether it arms, disarms or neither.",
        f"{TIMELINE}::test_stale_epoch",
        f"{TIMELINE}::test_old_epoch_with_the_new_watermark",
        f"{REFUSED}::test_an_office_taken_by_another_is_refused_and_counted",
        f"{REPLICAS}::test_a_batch_staged_before_a_long_stop_is_refused_by_the_storage",
    ),
    Interleaving(
        "1.12",
        "A batch of an ex-leader was under way when another took office, and arrives afterwards: refused.",
        f"{TIMELINE}::test_late_landing_of_an_ex_leader",
        f"{REFUSED}::test_a_refusal_that_is_on_its_way_when_the_term_ends_is_counted",
    ),
    Interleaving(
        "1.13",
        "A batch is refused (10071) though the epoch is ours, since an earlier try of it landed: the watermark is "
        "read anew, and planning goes on.",
        f"{TAKE_OVER}::test_a_batch_that_lands_between_the_look_and_the_repeat_is_not_the_end_of_a_term",
    ),
    Interleaving(
        "1.14",
        "A batch is refused for now (10164), lost, or stored unheard: the same reading, then it is sent again "
        "only if it is not there.",
        f"{REFUSED}::test_a_batch_that_finds_no_answer",
        f"{REFUSED}::test_a_batch_that_landed_unheard_is_not_sent_again",
    ),
    Interleaving(
        "1.15",
        "A leader is stopped beyond its own deadline: it steps down before it writes anything.",
        f"{LEADER}::test_a_stopped_leader_steps_down_before_it_writes",
        f"{REFUSED}::test_nothing_is_written_once_the_term_is_over",
        f"{ENDS}::test_nothing_may_be_written_once_the_term_is_over",
    ),
    Interleaving(
        "1.16",
        "A leader is stopped between its check and its write, which nobody can check: the fence refuses it.",
        f"{LEADER}::test_what_an_old_holder_still_sends_is_refused",
        f"{WATERMARKS}::test_a_stalled_leader_does_not_overwrite_the_copy_of_a_later_term",
    ),
    Interleaving(
        "1.17",
        "A deposed leader wakes and releases: it leaves the lease of another alone.",
        f"{ENDS}::test_a_deposed_leader_overwrites_nobody",
    ),
    Interleaving(
        "1.18",
        "The timeline stream is deleted and made anew: its first sequence is above the last epoch, so old tokens "
        "are worth nothing.",
        "tests/integration/test_provisioning.py::test_a_lost_stream_never_repeats_a_sequence",
        "tests/faults/test_lost_streams.py::test_lost_one_after_the_other_nothing_is_missing",
    ),
    Interleaving(
        "1.19",
        "The control bucket is lost and its revisions begin anew, below the lease of the epoch in force: somebody "
        "leads.",
        f"{LEADER}::test_a_lost_control_bucket_does_not_bar_everybody_from_office",
    ),
    Interleaving(
        "1.20",
        "A write is given up while the connection is lost: it does not land after the reconnect.",
        "tests/integration/test_connection.py::test_lost_and_back",
        "tests/integration/test_connection.py::test_requests_while_it_is_away",
    ),
    Interleaving(
        "1.21",
        "Another takes office between the two reads after a batch without an answer: its watermark is not taken for "
        "the batch.",
        f"{TAKE_OVER}::test_a_watermark_of_a_successor_is_not_taken_for_ones_own",
    ),
)

WATERMARK = (
    Interleaving(
        "2.1",
        "A batch is closed on a watermark that was replaced: refused whole though its epoch is in force.",
        f"{TIMELINE}::test_stale_watermark",
    ),
    Interleaving(
        "2.2",
        "Edits, deletes (markers count), pauses and new schedules come after R, and the leader dies: the next one "
        "applies them, and goes on from W.",
        f"{TAKE_OVER}::test_what_was_written_after_the_last_applied_edit_is_not_forgotten",
        f"{PLANNER}::test_killed_at_any_call",
        "tests/faults/test_edits.py::test_changes_just_before_the_leader_dies_are_applied",
    ),
    Interleaving(
        "2.3",
        "The watch is dead while a slice is planned: R is compared with the bucket before the slice, and it resyncs.",
        f"{SLICES}::test_a_stalled_watch_plans_nothing_stale",
        f"{SLICES}::test_a_silent_watch_is_noticed_between_slices",
        "tests/faults/test_partition.py::test_a_leader_whose_watch_is_cut_plans_no_stale_definition",
    ),
    Interleaving(
        "2.4",
        "Somebody writes after each look at the bucket and before each batch: later writes are the next edits, no "
        "slice starves.",
        f"{TAKE_OVER}::test_a_storm_of_writes_starves_no_slice",
    ),
    Interleaving(
        "2.5",
        "The watch brings an edit between the proof of freshness and the slice: the slice leaves that schedule alone.",
        f"{SLICES}::test_a_slice_leaves_alone_what_is_edited_but_not_applied",
    ),
    Interleaving(
        "2.6",
        "A leader tells that an edit is applied and dies before its batch; the next write overtakes it, and R "
        "passes over it: what it owed is told as superseded.",
        f"{TAKE_OVER}::test_a_leader_dies_over_an_edit_and_the_next_write_overtakes_it",
        f"{SERVICES}/test_announcing.py::test_what_r_passes_over_is_superseded",
    ),
    Interleaving(
        "2.7",
        "A slice passes over a schedule for an edit that is replaced before it is applied: what the applied one "
        "owed is told.",
        f"{NOTES}::test_what_a_write_that_was_never_applied_kept_from_being_planned_is_told",
    ),
    Interleaving(
        "2.8",
        "put, pause, resume and delete are stored, and the answer waits for the stored R, not for anybody's "
        "belief; if it does not come: unavailable, stored and not yet applied.",
        f"{APPLIED}::test_it_returns_when_the_watermark_gets_there",
        f"{APPLIED}::test_the_time_is_over",
        f"{SERVICES}/api/test_schedules_write.py::test_a_write_waits_until_it_is_applied",
    ),
    Interleaving(
        "2.9",
        "The leader dies at any step of applying a calendar: C has not moved, the next one plans its users anew.",
        f"{CALENDARS}::test_a_leader_dies_at_any_call_of_an_edit",
    ),
    Interleaving(
        "2.10",
        "The timeline is lost: the copy of the watermark, and no later than it was written; without either, now.",
        f"{WATERMARKS}::test_a_lost_timeline_is_planned_again_from_when_the_copy_was_written",
        f"{WATERMARKS}::test_without_any_watermark_it_begins_now_and_remembers_when",
    ),
    Interleaving(
        "2.11",
        "The evidence of an edit is stored, then the leader dies, then R moves: never the other way round.",
        f"{NOTES}::test_evidence_is_stored_before_it_counts",
        f"{NOTES}::test_a_pause_is_announced_though_the_first_leader_died_between_row_and_event",
    ),
    Interleaving(
        "2.12",
        "An edit is replaced while nobody leads: the next leader, who saw it, tells of it, and what it owed is "
        "superseded; a one-shot of both is owed by the last.",
        f"{REPLACED}::test_what_it_owed_is_superseded",
        f"{REPLACED}::test_at_any_revision_that_counts_as_applied",
        f"{REPLACED}::test_a_one_shot_is_owed_by_whoever_has_it_last",
    ),
)

PLANNING = (
    Interleaving(
        "3.1",
        "A leader dies between the batches of one slice: W has not moved, arms stand beyond it, re-planning "
        "replaces them and each fires once.",
        f"{TAKE_OVER}::test_a_leader_dies_between_the_batches_of_a_slice",
        f"{REPLICAS}::test_a_leader_killed_while_planning_leaves_no_gap",
    ),
    Interleaving(
        "3.2",
        "Edits come between the batches of a slice: applied in between, and the rest of the slice leaves them out.",
        f"{SLICES}::test_edits_between_the_batches_of_a_herd",
    ),
    Interleaving(
        "3.3",
        "A schedule is new between two batches of a slice that W does not cover yet: it is planned up to the "
        "highest W sent.",
        f"{SLICES}::test_edits_between_the_batches_of_a_herd",
    ),
    Interleaving(
        "3.4",
        "What a dead leader armed beyond W belongs to a schedule that is edited before anybody leads: it is "
        "disarmed, since arms are listed from the server.",
        f"{TAKE_OVER}::test_a_leader_dies_between_the_batches_of_a_slice",
    ),
    Interleaving(
        "3.5",
        "`a` is deleted and `a.b` is not: no arm of `a.b` is listed, or disarmed, for `a`.",
        f"{PLANNER}::test_killed_at_any_call",
        f"{TIMELINE}::test_ids_with_dots",
        f"{TIMELINE}::test_disarmed",
    ),
    Interleaving(
        "3.6",
        "A disarm of an ex-leader arrives late: it is fenced as an arm is, since it is a roll-up with a TTL, no purge.",
        f"{TIMELINE}::test_old_epoch_with_the_new_watermark",
        f"{FACTS}::test_a_disarm_leaves_nothing_behind",
    ),
    Interleaving(
        "3.7",
        "R moves with the last batch of an edit: after each batch the watermark tells the truth.",
        f"{SLICES}::test_r_moves_with_the_last_batch_of_an_edit",
    ),
    Interleaving(
        "3.8",
        "A fire is held back (start_delay, jitter) when an edit or a death comes between nominal and fire time.",
        "tests/unit/simulation/test_fire_times.py::test_an_edit_while_a_fire_is_held_back",
        "tests/unit/simulation/test_fire_times.py::test_a_kill_while_a_fire_is_held_back",
        f"{NOTES}::test_what_an_edit_takes_back_is_told",
    ),
    Interleaving(
        "3.9",
        "An invalid value replaces a valid one and is repaired later: disarmed, nothing expected, nothing made up for.",
        f"{TAKE_OVER}::test_repairing_an_invalid_value_is_not_retroactive",
        f"{CHAINS}::test_invalid_for_a_while",
    ),
    Interleaving(
        "3.10",
        "A pause ends by itself around a change of leader: the row turns once, what lay in it is told as paused.",
        f"{NOTES}::test_the_row_tells_when_a_pause_ran_out",
        f"{SLICES}::test_a_one_shot_that_passed_in_a_pause_is_not_made_up_for",
        f"{SERVICES}/test_late.py::test_pauses_are_told_not_missed",
    ),
    Interleaving(
        "3.11",
        "The end of a chain's run is stored and whoever moves its next time dies: it comes to the same next time, "
        "once.",
        f"{CHAINS}::test_killed_anywhere",
        f"{CHAINS}::test_a_run_that_ends_while_nobody_leads",
    ),
    Interleaving(
        "3.12",
        "A manual run is under way, or ends, while a chain waits: its next time does not move.",
        f"{CHAINS}::test_skipped_because_of_a_manual_run",
    ),
    Interleaving(
        "3.13",
        "Killed while late ones are handed over: W moves only after they are noted, so none is neither armed nor "
        "noted.",
        f"{SLICES}::test_killed_while_late_ones_are_handed_over",
    ),
    Interleaving(
        "3.14",
        "An edit is written while the leader's idea of the time is off: it holds from the server's timestamp on.",
        f"{TAKE_OVER}::test_an_edit_takes_effect_at_the_servers_time",
    ),
)
