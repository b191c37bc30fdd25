"""Every fault that schedd is to survive, F1 to F28, and the tests that hold it. Data; `catalogue.py` reads it.

`tests` are node ids as pytest takes them, without parameters. What no test does is said in `missing`: a fault with no
test at all is listed as missing, one with some and a `missing` as partly held.
Whether a test runs in CI is not written here; it is read from its marks.
"""

from __future__ import annotations

from msgspec import Struct

REPLICAS = "tests/faults/test_replicas.py"
NATS = "tests/faults/test_nats.py"
CLUSTER = "tests/faults/test_cluster.py"
PARTITION = "tests/faults/test_partition.py"
CLOCKS = "tests/faults/test_clocks.py"
SPLIT = "tests/faults/test_split.py"
SLOW = "tests/faults/test_slow_link.py"
VERSIONS = "tests/faults/test_versions.py"
CREDENTIALS = "tests/faults/test_credentials.py"
QUEUES = "tests/faults/test_queues.py"
EDITS = "tests/faults/test_edits.py"
STEPS = "tests/faults/test_dispatch_steps.py"
OVERLAP = "tests/faults/test_overlap.py"
LOST = "tests/faults/test_lost_streams.py"
CORRUPTION = "tests/faults/test_corruption.py"
HERDS = "tests/faults/test_herds.py"
UNDER_FIRE = "tests/faults/test_sdk_under_fire.py"
TEN_THOUSAND = "tests/faults/test_sdk_ten_thousand.py"
BAD_VALUES = "tests/acceptance/test_bad_values.py"
TASKS = "tests/acceptance/test_contract_tasks.py"
OUTCOMES = "tests/acceptance/test_contract_outcomes.py"
WORKERS = "tests/acceptance/test_workers.py"
WORKER_FAULTS = "tests/integration/test_worker_faults.py"
CONNECTION = "tests/integration/test_connection.py"
TIMELINE = "tests/contracts/test_timeline.py"
RENEWALS = "tests/unit/services/test_leader_renewals.py"
SIMULATION = "tests/unit/simulation/test_simulation.py"
SEEDS = "tests/unit/simulation/test_seeds.py"


class Fault(Struct, frozen=True, kw_only=True):
    """`broken`: what is done; `expected`: what has to hold all the same; `missing`: what of it no test does."""

    id: str
    broken: str
    expected: str
    tests: tuple[str, ...] = ()
    missing: str = ""


FAULTS = (
    Fault(
        id="F1",
        broken="kill -9 of the leading replica, again and again",
        expected="a take-over within the lease and its retries; nothing lost, doubled, early; audit 100 %",
        tests=(
            f"{REPLICAS}::test_killing_leaders_loses_and_doubles_nothing",
            f"{REPLICAS}::test_a_leader_killed_while_planning_leaves_no_gap",
            "tests/acceptance/test_audit.py::test_everything_is_explained_while_the_leader_is_killed",
            "tests/faults/test_storm.py::test_a_minute_of_storm_breaks_no_guarantee",
        ),
    ),
    Fault(
        id="F2",
        broken="SIGSTOP of the leader for longer than its lease, then SIGCONT",
        expected="the ex-leader's batches are refused by the storage and counted; it steps down",
        tests=(
            f"{REPLICAS}::test_a_leader_stopped_beyond_its_lease_does_no_harm",
            f"{REPLICAS}::test_a_batch_staged_before_a_long_stop_is_refused_by_the_storage",
            f"{TIMELINE}::test_stale_epoch",
            f"{TIMELINE}::test_late_landing_of_an_ex_leader",
        ),
    ),
    Fault(
        id="F3",
        broken="SIGSTOP or kill -9 between any two writes of a dispatch (record, slot, claim and task, queued)",
        expected="whoever comes next finishes the same occurrence: one task, one run",
        tests=(
            f"{STEPS}::test_a_kill_at_each_step_comes_to_exactly_one_task",
            f"{STEPS}::test_a_stall_at_each_step_changes_nothing",
            "tests/faults/test_events.py::test_an_end_is_told_though_its_replica_was_killed_over_it",
            f"{SEEDS}::test_histories",
        ),
    ),
    Fault(
        id="F4",
        broken="SIGTERM of the leader; rolling restart of all replicas",
        expected="the lease is released: a successor in under a second, nothing late",
        tests=(
            f"{REPLICAS}::test_kill_term_hands_over_in_under_a_second",
            "tests/deploy/test_rolling.py::test_a_rolling_restart",
            f"{OVERLAP}::test_rolling_restarts_delay_nothing",
        ),
    ),
    Fault(
        id="F5",
        broken="kill -9 of the only nats-server, back after 2 to 60 s; killed again and again; stopped",
        expected="late by the outage and once, although the server's own deduplication is gone",
        tests=(
            f"{NATS}::test_nats_killed_and_restarted_loses_and_doubles_nothing",
            f"{NATS}::test_a_deleted_schedule_stays_deleted_when_nats_is_killed_long_after",
            f"{NATS}::test_what_ended_long_ago_does_not_come_back_when_nats_is_killed",
            f"{NATS}::test_a_flapping_server_is_survived",
            f"{NATS}::test_a_paused_server_is_survived",
            "tests/faults/test_long_outage.py::test_a_minute_without_nats_is_late_once_and_audited",
            f"{UNDER_FIRE}::test_each_attempt_runs_once_whatever_dies",
        ),
    ),
    Fault(
        id="F6",
        broken="kill -9 or SIGSTOP of the node that leads the timeline, the tasks or a bucket, while something is due"
        " every second",
        expected="late by the election, once",
        tests=(
            f"{CLUSTER}::test_killing_the_nodes_that_lead_our_streams_loses_nothing",
            f"{CLUSTER}::test_killing_the_nodes_that_lead_our_buckets_loses_nothing",
            f"{CLUSTER}::test_a_paused_node_that_leads_is_survived",
            "tests/integration/test_streams_cluster.py::test_two_replicas_and_a_killed_leader",
        ),
    ),
    Fault(
        id="F7",
        broken="a follower killed alone; rolling restart of three NATS nodes, stopped or as lame ducks, each"
        " when the last has caught up",
        expected="no effect; hardly noticed: at most late by an election each",
        tests=(
            f"{CLUSTER}::test_a_follower_that_dies_is_not_noticed",
            f"{CLUSTER}::test_a_rolling_restart_of_nats_is_hardly_noticed",
            f"{CLUSTER}::test_nodes_that_leave_as_lame_ducks_one_after_the_other_are_hardly_noticed",
        ),
    ),
    Fault(
        id="F8",
        broken="two of three NATS nodes down, then back; all three and the leader down at once",
        expected="nothing is written meanwhile and nobody gives up; afterwards late, once",
        tests=(
            f"{CLUSTER}::test_a_lost_majority_is_waited_out",
            f"{CLUSTER}::test_the_whole_cluster_and_the_leader_die_together",
            "tests/integration/test_watch.py::test_without_a_majority",
        ),
    ),
    Fault(
        id="F9",
        broken="the leader behind a dead switch, or with a minority of NATS nodes; links that fail one way or every"
        " second; a node that is back and still tells the past; a watch cut in the server",
        expected="one epoch in force at a time; late by election and lease, once; no stale definition planned or fired",
        tests=(
            f"{PARTITION}::test_a_leader_behind_a_dead_switch_is_replaced_and_does_no_harm",
            f"{PARTITION}::test_a_flapping_link_is_survived",
            f"{PARTITION}::test_a_leader_whose_watch_is_cut_plans_no_stale_definition",
            f"{SPLIT}::test_links_that_fail_one_way_replace_the_leader_and_do_no_harm",
            f"{SPLIT}::test_a_leader_with_a_minority_of_nodes_is_replaced_and_does_no_harm",
            f"{SPLIT}::test_a_node_that_was_cut_off_takes_nobody_back",
            f"{SPLIT}::test_a_node_whose_routes_flap_every_second_does_no_harm",
        ),
    ),
    Fault(
        id="F10",
        broken="500 ms of latency and every tenth packet lost between replicas and NATS",
        expected="the lease changes hands at most once in ten minutes; nothing lost or doubled",
        tests=(
            f"{SLOW}::test_half_a_second_of_latency_changes_no_leader",
            f"{SLOW}::test_latency_and_lost_packets_change_hardly_a_leader",
            f"{SLOW}::test_ten_minutes_of_latency_and_lost_packets_change_hardly_a_leader",
            f"{RENEWALS}::test_an_answer_that_takes_longer_than_a_retry_period_keeps_the_office",
            f"{SIMULATION}::test_history",
        ),
    ),
    Fault(
        id="F11",
        broken="NATS restarted under 500 clients that all come back at once; a load balancer that resets them again and"
        " again",
        expected="all are back within a minute, nobody gives up, no file is left open",
        tests=(
            "tests/faults/test_reconnects.py::test_five_hundred_clients_come_back_at_once",
            "tests/faults/test_reconnects.py::test_a_load_balancer_that_resets_everybody_again_and_again",
        ),
    ),
    Fault(
        id="F12",
        broken="the account's storage, or the disk of the NATS node itself, is used up by somebody else, then freed",
        expected="writes are refused, no acknowledgement lies, no replica is ready; afterwards (for a full disk: NATS"
        " restarted) what got stuck is fired, late and once",
        tests=(
            f"{QUEUES}::test_the_disk_limit_is_reached_and_lifted",
            "tests/faults/test_full_disk.py::test_a_full_disk_is_told_and_survived",
            "tests/unit/services/test_leader_ends.py::test_storage_that_takes_no_write_is_told",
        ),
    ),
    Fault(
        id="F13",
        broken="a flipped bit in a block file of one NATS node; a block cut short or deleted; a damaged index",
        expected="three nodes: nothing lost; one node: definitions and arms are made up for, lost tasks end as lost,"
        " lost records are told by audit, and it is told",
        tests=(
            f"{CORRUPTION}::test_a_damaged_block_of_the_only_node_costs_nothing",
            f"{CORRUPTION}::test_tasks_in_a_damaged_block_end_as_lost",
            f"{CORRUPTION}::test_records_in_a_damaged_block_are_told_by_audit",
            f"{CORRUPTION}::test_a_damaged_index_costs_nothing",
            f"{CORRUPTION}::test_a_flipped_bit_behind_a_clean_stop",
            f"{CORRUPTION}::test_a_damaged_block_of_one_node_of_three_costs_nothing",
            "tests/unit/services/test_restoring.py::test_a_bucket_that_lost_its_end",
            "tests/unit/services/test_restoring.py::test_a_gap_in_the_middle",
        ),
    ),
    Fault(
        id="F14",
        broken="foreign, empty, oversized or undecodable values and messages; deleted streams, buckets, consumers; a"
        " newer schema",
        expected="that one is quarantined and told; everything else goes on; what was deleted is made again",
        tests=(
            f"{BAD_VALUES}::test_each_bad_value_is_reported_and_nothing_else_suffers",
            f"{BAD_VALUES}::test_a_bad_value_over_a_good_one_stops_it_until_it_is_repaired",
            f"{BAD_VALUES}::test_foreign_messages_on_our_own_subjects_break_nothing",
            f"{LOST}::test_all_at_once",
            f"{LOST}::test_lost_one_after_the_other_nothing_is_missing",
            f"{NATS}::test_lost_streams_are_made_again",
            f"{NATS}::test_an_older_replica_refuses_newer_data",
            "tests/contracts/test_bucket.py::test_foreign_markers",
        ),
    ),
    Fault(
        id="F15",
        broken="the clocks of a replica jump or run at another rate; wall clocks of the world change (DST)",
        expected="decisions follow the server's time: nothing early; a replica too far off does not lead",
        tests=(
            f"{CLOCKS}::test_clocks_that_lie_change_nothing",
            f"{CLOCKS}::test_a_wall_clock_that_runs_off_is_noticed_in_time",
            f"{CLOCKS}::test_a_minute_with_every_clock_off_differently",
            "tests/unit/system/test_clock.py::test_setting_the_wall_clock_shifts_only_the_offset",
            "tests/unit/system/test_clock.py::test_a_large_correction_is_applied_at_once",
            "tests/unit/system/test_offset.py::test_a_clock_at_another_rate_is_followed",
            "tests/unit/services/test_leader_ends.py::test_a_skewed_clock_does_not_lead",
            "tests/unit/core/test_triggers_dst.py::test_clock_change",
        ),
    ),
    Fault(
        id="F16",
        broken="thousands due at one instant; payloads of the largest size together; a bucket of 100,000 keys",
        expected="nothing lost, lag bounded, requests beyond the limit refused at once",
        tests=(
            f"{HERDS}::test_a_herd_at_one_second",
            f"{HERDS}::test_a_thousand_every_second_for_a_minute",
            f"{HERDS}::test_definitions_applied_at_once",
            f"{HERDS}::test_requests_beyond_the_limit_are_refused_at_once",
            "tests/acceptance/test_schedules.py::test_large_payloads_due_together",
            "tests/integration/test_watch.py::test_a_hundred_thousand_keys",
            "tests/integration/test_api.py::test_beyond_its_limit_a_replica_says_so",
        ),
    ),
    Fault(
        id="F17",
        broken="slow workers, full queues, max_ack_pending reached",
        expected="others do not starve; what is refused says queue_full; the limit is kept",
        tests=(
            f"{OVERLAP}::test_a_full_queue_skips_and_says_so",
            "tests/integration/test_queues.py::test_one_at_a_time_over_two_workers",
            "tests/integration/test_queues.py::test_a_full_queue_of_its_own_limit",
            "tests/integration/test_worker_limits.py::test_a_full_type_starves_no_other",
            "tests/integration/test_health.py::test_a_healthy_schedd_and_a_full_queue",
        ),
    ),
    Fault(
        id="F18",
        broken="kill -9 of a worker in the middle of a run",
        expected="attempt 2 after the ack wait; with max_tries 1 lost, and never run again",
        tests=(
            f"{WORKERS}::test_a_worker_killed_mid_run_is_followed_by_the_next",
            f"{WORKERS}::test_a_worker_killed_in_its_only_try_is_lost",
            f"{WORKER_FAULTS}::test_at_most_once_is_kept_through_a_kill",
            f"{UNDER_FIRE}::test_one_try_is_at_most_once_whatever_dies",
        ),
    ),
    Fault(
        id="F19",
        broken="a worker hangs or is stopped for longer than the ack wait, and goes on",
        expected="another runs the next attempt; the late end of the first is refused",
        tests=(
            f"{WORKER_FAULTS}::test_a_stalled_worker_cannot_end_its_successor",
            "tests/integration/test_worker_hostile.py::test_a_task_that_blocks_the_loop",
            f"{TEN_THOUSAND}::test_each_execution_has_one_end_and_no_attempt_starts_twice",
            f"{TEN_THOUSAND}::test_a_worker_that_wakes_just_when_its_tasks_are_taken_over",
        ),
    ),
    Fault(
        id="F20",
        broken="one due message, one pair or one task delivered twice",
        expected="one record, one task, one start",
        tests=(
            "tests/faults/test_duplicates.py::test_due_messages_that_come_again_fire_nothing_again",
            f"{WORKER_FAULTS}::test_the_same_task_delivered_twice_is_claimed_once",
            "tests/unit/services/test_dispatcher.py::test_twice_in_one_batch",
            "tests/contracts/test_queues.py::test_twice",
            f"{TIMELINE}::test_redelivery",
        ),
    ),
    Fault(
        id="F21",
        broken="a task that always fails, or ends whoever runs it, or that nobody answers",
        expected="after its tries it has failed, with the reason on record; the queue drains",
        tests=(
            f"{WORKER_FAULTS}::test_tries_end_although_every_worker_dies",
            f"{OUTCOMES}::test_naks_end_with_max_tries",
            f"{OUTCOMES}::test_a_worker_that_never_answers",
            "tests/integration/test_cancel_and_retry.py::test_a_dead_letter_at_once",
        ),
    ),
    Fault(
        id="F22",
        broken="payloads, headers, ids and values that are too large",
        expected="refused by our own checks with a sentence; the connection stays",
        tests=(
            "tests/acceptance/test_contract_schedules.py::test_ids_at_their_limits",
            "tests/acceptance/test_contract_fields.py::test_every_field_refuses_what_the_contract_forbids",
            "tests/unit/wire/test_schedule_payload.py::test_payload_limit",
            "tests/integration/test_worker_hostile.py::test_a_payload_of_ten_megabytes",
            f"{TASKS}::test_everything_at_its_longest",
        ),
    ),
    Fault(
        id="F23",
        broken="`max_bytes` of the tasks or of the executions is reached",
        expected="what is new is refused, no claim or record goes; a warning at 70 %; with room it goes on",
        tests=(
            f"{QUEUES}::test_a_full_stream_refuses_and_evicts_nothing",
            "tests/unit/services/test_watching.py::test_how_full_streams_are_is_told",
            "tests/unit/services/test_watching.py::test_a_queue_has_a_limit_of_its_own",
        ),
    ),
    Fault(
        id="F24",
        broken="a fire that is stuck in the server, since its write was refused when it was due",
        expected="armed again by the reconciler, late and once",
        tests=(
            "tests/unit/services/test_reconcile_arms.py::test_arms_that_are_stuck",
            "tests/unit/services/test_planner_faults.py::test_stuck_arms_are_armed_again",
            f"{QUEUES}::test_the_disk_limit_is_reached_and_lifted",
        ),
    ),
    Fault(
        id="F25",
        broken="edits, pauses and deletions at the due instant, many a second, and right before the leader dies",
        expected="each occurrence by the definition in force; no phantom, no gap",
        tests=(
            f"{EDITS}::test_changes_just_before_the_leader_dies_are_applied",
            f"{EDITS}::test_a_storm_of_edits_neither_doubles_nor_starves",
            f"{EDITS}::test_a_leader_stopped_across_an_edit_plans_no_stale_definition",
            "tests/unit/services/test_planner_slices.py::test_edits_between_the_batches_of_a_herd",
        ),
    ),
    Fault(
        id="F26",
        broken="replicas of two releases side by side: upgrade and rollback under load; stored data of either",
        expected="nothing lost or doubled; unknown fields are passed over; a migration waits for every live replica;"
        " an older one refuses",
        tests=(
            f"{VERSIONS}::test_two_releases_are_upgraded_and_rolled_back_under_load",
            f"{VERSIONS}::test_minutes_of_upgrades_and_rollbacks",
            "tests/unit/services/test_schema.py::test_an_older_replica_that_lived_on_is_told_to_end",
            "tests/unit/services/test_schema.py::test_an_older_schema_is_migrated",
            "tests/unit/services/test_schema.py::test_an_older_replica_neither_starts_nor_leads",
            "tests/unit/wire/test_record.py::test_a_newer_replica_may_know_more",
            "tests/unit/wire/test_record.py::test_an_older_replica_wrote_less",
            f"{NATS}::test_an_older_replica_refuses_newer_data",
        ),
    ),
    Fault(
        id="F27",
        broken="a user expires, a key is revoked, certificates and CAs are rotated, while a replica and a worker run",
        expected="not ready, with the reason; they try without a storm and come back by the new files, without a"
        " restart; nothing lost or doubled",
        tests=(
            f"{CREDENTIALS}::test_what_signs_us_in_is_replaced_while_we_run",
            f"{CONNECTION}::test_revoked_credentials",
            f"{CONNECTION}::test_wrong_password",
            f"{CONNECTION}::test_mutual_tls",
        ),
    ),
    Fault(
        id="F28",
        broken="all of it for minutes (half an hour: python -m tests.faults.soak), in an order that the seed decides, "
        "with quiet in between, while clients edit, pause, delete, trigger and cancel",
        expected="every invariant; memory, files, consumers and stored bytes return to where they were",
        tests=(
            "tests/faults/test_soak.py::test_a_soak_loses_nothing_and_gives_everything_back",
            f"{SEEDS}::test_histories",
        ),
    ),
)
