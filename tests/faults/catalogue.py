"""Every row of the list of faults: by which tests it is covered, or why it cannot be tested here.

The numbers are those of the project's list of faults (FAULTS.md); this is the one place that says what became of each.
"""

from __future__ import annotations

from dataclasses import dataclass

ROWS = 44
HERE, STARTING = "tests/faults/test_faults.py", "tests/faults/test_starting_faults.py"
KILLS, CALLERS = "tests/faults/test_kills.py", "tests/faults/test_callers.py"
SERVICE, SERVER, MODEL, E2E = "tests/service", "tests/server", "tests/model", "tests/e2e"
QUEUE, HTTP = f"{SERVER}/queue", f"{SERVER}/http"


@dataclass(frozen=True, slots=True)
class Row:
    """One fault. ``tests`` are paths with the test's name after ``::``; ``faults`` those that a long run injects."""

    number: int
    what: str
    tests: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    reason: str = ""


CATALOGUE: tuple[Row, ...] = (
    Row(
        1,
        "kill -9 of the server at named points",
        (f"{KILLS}::test_01_a_server_killed_at_every_named_point_loses_nothing",),
        ("server-kill-point",),
    ),
    Row(
        2,
        "kill -9 of the server at any moment",
        (
            f"{KILLS}::test_01_a_server_killed_at_every_named_point_loses_nothing",
            f"{SERVICE}/test_lifecycle.py::test_twenty_kills_under_load_lose_nothing",
            f"{QUEUE}/test_queue_database.py::test_what_was_acknowledged_survives_kill_9",
        ),
        ("server-kill",),
    ),
    Row(
        3,
        "disk full, or failing, under rows and pictures",
        (
            f"{HERE}::test_03_a_disk_that_failed_in_the_commit_leaves_no_half_prediction",
            f"{HERE}::test_03_a_full_disk_refuses_keeps_and_recovers",
            f"{HERE}::test_03_a_server_that_cannot_greet_ends_or_serves",
            f"{SERVICE}/test_lifecycle.py::test_a_full_disk_is_503_with_nothing_half_written",
            f"{QUEUE}/test_queue_database.py::test_a_full_disk_refuses_keeps_what_is_there_and_recovers",
        ),
        ("disk-full", "io-error"),
    ),
    Row(
        4,
        "the queue is full",
        (
            f"{HTTP}/test_predictions.py::test_a_full_queue_says_429_before_the_body",
            f"{QUEUE}/test_queue_intake.py::test_a_full_tier_leaves_the_other_alone",
        ),
        reason="there is no watermark of the disk: a full one is row 3",
    ),
    Row(
        5,
        "kill -9 of a worker in its batch",
        (
            f"{HERE}::test_42_faults_at_random",
            f"{QUEUE}/test_queue_upkeep.py::test_the_job_that_ended_gives_its_reason_at_once",
            f"{E2E}/test_faults.py::test_what_lost_workers_held_is_taken_up",
        ),
        ("worker-kill",),
    ),
    Row(
        6,
        "a picture that kills its worker, in a batch of eight",
        (
            f"{HERE}::test_06_a_poisoned_picture_takes_no_neighbour_along",
            f"{SERVICE}/test_lifecycle.py::test_a_worker_that_dies_on_every_attempt_fails_the_prediction",
        ),
    ),
    Row(
        7,
        "a worker that hangs, and revives after its lease",
        (
            f"{HERE}::test_42_faults_at_random",
            f"{SERVICE}/test_lifecycle.py::test_a_silent_worker_loses_its_lease_and_its_place_in_a_full_quota",
            f"{QUEUE}/test_queue_leases.py::test_a_late_result_is_refused_once_another_worker_finished",
        ),
        ("worker-hang",),
    ),
    Row(
        8,
        "the same result twice, or its answer lost",
        (
            f"{KILLS}::test_01_a_server_killed_at_every_named_point_loses_nothing",
            f"{QUEUE}/test_queue_leases.py::test_the_same_result_twice_changes_nothing",
        ),
    ),
    Row(
        9, "the reaper against a result", (f"{QUEUE}/test_queue_races.py::test_a_result_and_the_reaper_never_both_win",)
    ),
    Row(
        10,
        "many lost leases of a tier that is gone",
        (
            f"{QUEUE}/test_queue_upkeep.py::test_many_rows_of_one_tier_strand_no_other",
            f"{QUEUE}/test_queue_upkeep.py::test_tiers_not_named_are_never_touched",
        ),
    ),
    Row(
        11,
        "SIGTERM to a worker",
        (
            f"{HERE}::test_42_faults_at_random",
            f"{SERVICE}/test_lifecycle.py::test_a_drained_worker_hands_back_what_it_did_not_begin",
            f"{E2E}/test_faults.py::test_a_worker_that_must_go_hands_back_its_work",
        ),
        ("worker-term",),
    ),
    Row(
        12,
        "SIGTERM to the server during uploads",
        (
            f"{HERE}::test_12_a_sigterm_during_fifty_uploads_loses_none_that_was_accepted",
            f"{SERVICE}/test_lifecycle.py::test_a_sigterm_answers_who_waits_and_leaves_no_process",
        ),
        ("server-term",),
    ),
    Row(13, "API server away", (f"{E2E}/test_faults.py::test_an_api_server_that_is_away_stops_no_client",)),
    Row(14, "API server fails at random", (f"{STARTING}::test_14_an_engine_that_fails_at_random_gets_no_job_twice",)),
    Row(
        15,
        "a Job is created and the answer is lost",
        (
            f"{STARTING}::test_14_an_engine_that_fails_at_random_gets_no_job_twice",
            f"{SERVER}/test_kubernetes_engine.py::test_a_job_that_is_there_already_is_started",
        ),
    ),
    Row(
        16,
        "API server silent",
        (f"{SERVER}/test_cluster.py::test_a_silent_api_server_is_waited_for_once_not_by_every_caller",),
        reason="there is no watch to be blackholed: each look is a list with a timeout",
    ),
    Row(17, "a watch that ends oddly", reason="there is no watch: each look is a list"),
    Row(
        18,
        "the server's own token rotated or expired",
        (f"{SERVER}/leader/test_starting.py::test_an_engine_that_cannot_be_asked_stops_nothing_else",),
        reason="the client reads the file anew each minute; a 401 is an engine that cannot be asked",
    ),
    Row(
        19,
        "quota full",
        (
            f"{E2E}/test_quota.py::test_twenty_slow_predictions_wait_in_order_for_two_workers",
            f"{E2E}/test_quota.py::test_a_quota_used_up_by_somebody_else_is_told_and_a_freed_one_is_used",
        ),
    ),
    Row(
        20,
        "quota raised and lowered while it runs",
        (
            f"{E2E}/test_quota.py::test_a_raised_quota_acts_within_ten_seconds_and_restarts_nothing",
            f"{E2E}/test_quota.py::test_a_lowered_quota_kills_no_worker_and_starts_none",
        ),
    ),
    Row(
        21,
        "a Job that gets no pod",
        (f"{SERVER}/leader/test_starting.py::test_a_job_that_the_quota_gave_no_pod_is_withdrawn_without_blame",),
    ),
    Row(
        22,
        "an image that cannot be pulled",
        (
            f"{E2E}/test_misconfiguration.py::test_an_image_that_does_not_exist",
            f"{E2E}/test_misconfiguration.py::test_tiers_whose_pods_cannot_run_start_no_endless_jobs",
        ),
    ),
    Row(
        23,
        "a pod that cannot be scheduled",
        (
            f"{E2E}/test_misconfiguration.py::test_a_tier_whose_pods_cannot_run_says_why_and_the_work",
            f"{SERVER}/leader/test_starting.py::test_a_job_that_asks_for_no_work_is_replaced",
        ),
    ),
    Row(24, "a lost node", (f"{E2E}/test_faults.py::test_work_of_a_lost_node_goes_on_elsewhere",)),
    Row(
        25,
        "policy refuses the template",
        (
            f"{E2E}/test_misconfiguration.py::test_a_template_that_asks_for_rights_is_refused_with_file_and_line",
            f"{E2E}/test_misconfiguration.py::test_a_limit_of_somebody_else_is_told_and_no_job_is_started",
        ),
    ),
    Row(
        26,
        "a bad template or value while it runs",
        (
            f"{SERVER}/leader/test_starting.py::test_bad_changes_keep_the_last_good_ones_and_say_so",
            f"{E2E}/test_live.py::test_a_bad_template_and_a_bad_value_keep_the_last_good_ones_and_say_so",
        ),
    ),
    Row(
        27,
        "Jobs or a namespace deleted by hand",
        (
            f"{E2E}/test_faults.py::test_deleted_jobs_cost_only_time",
            f"{E2E}/test_misconfiguration.py::test_a_namespace_deleted_by_hand_comes_back_with_an_upgrade",
        ),
    ),
    Row(
        28,
        "two servers, one of them killed",
        (
            f"{SERVICE}/test_replicas.py::test_when_the_server_that_leads_is_killed_another_does",
            f"{QUEUE}/test_queue_servers.py::test_one_server_leads_until_it_goes",
        ),
    ),
    Row(
        29,
        "PostgreSQL restarted, read-only, out of connections",
        (
            f"{HERE}::test_42_faults_at_random",
            f"{QUEUE}/test_queue_postgresql.py::test_a_database_that_goes_and_comes_back",
            f"{QUEUE}/test_queue_postgresql.py::test_a_connection_lost_in_the_commit_leaves_its_outcome_open",
            f"{QUEUE}/test_queue_postgresql.py::test_a_database_that_became_read_only_refuses_and_recovers",
            f"{QUEUE}/test_queue_postgresql.py::test_a_server_without_a_free_connection_is_told",
            f"{QUEUE}/test_queue_servers.py::test_a_deadlock_between_two_servers_is_nobodys_error",
        ),
        ("database-restart", "database-kill"),
    ),
    Row(
        30,
        "the clock jumps",
        (
            f"{HERE}::test_30_a_clock_that_jumps_ends_nothing_early",
            f"{QUEUE}/test_queue_database.py::test_a_steady_clock_starts_at_the_systems_time_and_only_goes_forward",
        ),
        ("clock-jump",),
        "the server's clock is moved, not the machine's; one that starts under a wrong clock believes it",
    ),
    Row(
        31,
        "a worker's first connections are lost",
        (
            f"{MODEL}/test_worker.py::test_a_connection_that_nobody_answers_is_given_up_long_before_a_reply",
            f"{MODEL}/test_worker.py::test_a_dropped_connection_and_a_server_error_are_tried_again",
        ),
    ),
    Row(
        32,
        "forged worker tokens",
        (
            f"{SERVER}/test_access.py::test_nothing_else_is_believed",
            f"{HTTP}/test_worker_protocol.py::test_a_token_of_one_tier_is_worth_nothing_in_another",
            f"{HTTP}/test_worker_protocol.py::test_a_job_that_ended_is_dismissed",
            f"{SERVICE}/test_worker_protocol.py::test_the_job_of_a_worker_that_was_killed_is_dismissed",
            f"{E2E}/test_security.py::test_the_internal_port_takes_no_other_token",
        ),
        ("forgery",),
    ),
    Row(
        33,
        "results that are none",
        (
            f"{CALLERS}::test_33_a_result_of_fifty_megabytes_is_refused_and_the_lease_stays",
            f"{HTTP}/test_worker_protocol.py::test_bodies_that_break_the_schema_change_nothing",
            f"{HTTP}/test_worker_protocol.py::test_not_a_number_is_not_json",
            f"{HTTP}/test_worker_protocol.py::test_somebody_elses_prediction_is_not_completed",
        ),
        ("forgery",),
    ),
    Row(
        34,
        "bombs and disguises",
        (
            f"{MODEL}/test_images.py::test_bombs_are_refused_quickly_and_in_little_memory",
            f"{MODEL}/test_images.py::test_ten_thousand_frames_cost_no_more_than_one",
            f"{MODEL}/test_images.py::test_other_formats_are_refused_whatever_their_name",
        ),
    ),
    Row(
        35,
        "damaged and odd pictures",
        (
            f"{MODEL}/test_images.py::test_damaged_bytes_give_a_picture_or_an_image_error",
            f"{SERVICE}/test_bad_input.py::test_odd_cats_are_cats",
            f"{SERVICE}/test_bad_input.py::test_a_picture_that_cannot_be_decoded_is_a_result",
        ),
    ),
    Row(
        36,
        "slow and lying clients",
        (
            f"{CALLERS}::test_36_slow_and_silent_clients_are_hung_up_on",
            f"{HTTP}/test_refusals.py::test_missing_and_lying_lengths",
            f"{HTTP}/test_refusals.py::test_too_many_bytes_without_a_length_are_refused_when_they_come",
        ),
        ("liars", "cuts"),
    ),
    Row(
        37, "a hundred thousand parts, a header of a megabyte", (f"{CALLERS}::test_37_monstrous_requests_cost_little",)
    ),
    Row(38, "made-up client addresses", reason="no limit goes by address yet; when one does, its tests belong to it"),
    Row(39, "API keys guessed", reason="there are no API keys yet; when there are, their tests belong to them"),
    Row(
        40,
        "ids and keys that are paths",
        (
            f"{CALLERS}::test_40_ids_that_are_paths_lead_nowhere",
            f"{SERVER}/test_blobs.py::test_no_key_leaves_its_place",
            f"{HTTP}/test_predictions.py::test_an_old_id_is_gone_and_a_strange_one_was_never_there",
        ),
    ),
    Row(
        41,
        "the object store fails",
        (
            f"{SERVER}/test_object_blobs.py::test_a_put_that_failed_is_not_told_as_kept",
            f"{SERVER}/test_object_blobs.py::test_a_short_slow_down_is_waited_out",
        ),
        reason="AWS itself is not at hand: the store is one of this machine",
    ),
    Row(42, "a long run", (f"{HERE}::test_42_faults_at_random",), reason="make soak runs as long as asked"),
    Row(
        43,
        "an upgrade with a full queue",
        (
            f"{HERE}::test_43_a_full_queue_of_the_first_version_is_worked_off",
            f"{QUEUE}/test_queue_migrations.py::test_what_was_accepted_is_worked_off",
        ),
        reason="workers and server come from one release: no older worker meets a newer server",
    ),
    Row(
        44,
        "a network filesystem, a second server",
        (
            f"{QUEUE}/test_queue_guard.py::test_a_network_filesystem_is_refused",
            f"{QUEUE}/test_queue_guard.py::test_a_second_process_is_refused_until_the_first_is_gone",
            f"{SERVICE}/test_lifecycle.py::test_a_second_server_on_the_same_data_is_refused",
        ),
    ),
)


def table() -> str:
    """For people."""
    lines = []
    for row in CATALOGUE:
        lines.append(f"{row.number:>2}  {row.what}")
        lines += [f"      {test}" for test in row.tests]
        lines += [f"      injected by long runs: {', '.join(row.faults)}"] if row.faults else []
        lines += [f"      {row.reason}"] if row.reason else []
    return "\n".join(lines)
