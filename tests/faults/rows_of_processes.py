"""Rows of the list of faults that hit the server's process, its disk and queue, or a worker."""

from __future__ import annotations

from tests.faults.row import E2E, FULL, HTTP, KILLS, LENDING, QUEUE, SERVICE, SINGLE, Row

PROCESS_ROWS: tuple[Row, ...] = (
    Row(
        1,
        "kill -9 of the server at named points",
        tests=(f"{KILLS}::test_01_a_server_killed_at_every_named_point_loses_nothing",),
        faults=("server-kill-point",),
    ),
    Row(
        2,
        "kill -9 of the server at any moment",
        tests=(
            f"{KILLS}::test_01_a_server_killed_at_every_named_point_loses_nothing",
            f"{SERVICE}/test_lifecycle.py::test_twenty_kills_under_load_lose_nothing",
            f"{QUEUE}/test_queue_database.py::test_what_was_acknowledged_survives_kill_9",
        ),
        faults=("server-kill",),
    ),
    Row(
        3,
        "disk full, or failing, under rows and pictures",
        tests=(
            f"{SINGLE}::test_03_a_disk_that_failed_in_the_commit_leaves_no_half_prediction",
            f"{SINGLE}::test_03_a_full_disk_refuses_keeps_and_recovers",
            f"{FULL}::test_03_ordinary_requests_fill_the_disk_and_all_of_them_end",
            f"{FULL}::test_03_a_database_that_cannot_be_written_to_is_told_and_heals",
            f"{SINGLE}::test_03_a_server_that_cannot_greet_ends_or_serves",
            f"{SERVICE}/test_lifecycle.py::test_a_full_disk_is_503_with_nothing_half_written",
            f"{QUEUE}/test_queue_database.py::test_a_full_disk_refuses_keeps_what_is_there_and_recovers",
        ),
        faults=("disk-full", "io-error"),
    ),
    Row(
        4,
        "the queue is full",
        tests=(
            f"{HTTP}/test_predictions.py::test_a_full_queue_says_429_before_the_body",
            f"{HTTP}/test_no_new_work.py::test_the_bytes_of_a_tier_are_a_limit_of_its_own",
            f"{QUEUE}/test_queue_intake.py::test_a_full_tier_leaves_the_other_alone",
            f"{QUEUE}/test_queue_intake.py::test_the_pictures_of_what_is_alive_take_no_more_bytes_than_they_may",
        ),
    ),
    Row(
        5,
        "kill -9 of a worker in its batch",
        tests=(
            f"{SINGLE}::test_42_faults_at_random",
            f"{QUEUE}/test_queue_upkeep.py::test_the_job_that_ended_gives_its_reason_at_once",
            f"{E2E}/test_faults.py::test_what_lost_workers_held_is_taken_up",
        ),
        faults=("worker-kill",),
    ),
    Row(
        6,
        "a picture that kills its worker, in a batch of eight",
        tests=(
            f"{SINGLE}::test_06_a_poisoned_picture_takes_no_neighbour_along",
            f"{SERVICE}/test_lifecycle.py::test_a_worker_that_dies_on_every_attempt_fails_the_prediction",
        ),
    ),
    Row(
        7,
        "a worker that hangs, and revives after its lease",
        tests=(
            f"{SINGLE}::test_42_faults_at_random",
            f"{SERVICE}/test_lifecycle.py::test_a_silent_worker_loses_its_lease_and_its_place_in_a_full_quota",
            f"{QUEUE}/test_queue_leases.py::test_a_late_result_is_refused_once_another_worker_finished",
        ),
        faults=("worker-hang",),
    ),
    Row(
        8,
        "the same result twice, or its answer lost",
        tests=(
            f"{KILLS}::test_01_a_server_killed_at_every_named_point_loses_nothing",
            f"{QUEUE}/test_queue_leases.py::test_the_same_result_twice_changes_nothing",
        ),
    ),
    Row(
        9,
        "the reaper against a result",
        tests=(f"{QUEUE}/test_queue_races.py::test_a_result_and_the_reaper_never_both_win",),
    ),
    Row(
        10,
        "many lost leases of a tier that is gone",
        tests=(
            f"{QUEUE}/test_queue_upkeep.py::test_many_rows_of_one_tier_strand_no_other",
            f"{QUEUE}/test_queue_upkeep.py::test_tiers_not_named_are_never_touched",
        ),
    ),
    Row(
        11,
        "SIGTERM to a worker",
        tests=(
            f"{SINGLE}::test_42_faults_at_random",
            f"{SERVICE}/test_lifecycle.py::test_a_drained_worker_hands_back_what_it_did_not_begin",
            f"{E2E}/test_faults.py::test_a_worker_that_must_go_hands_back_its_work",
        ),
        faults=("worker-term",),
    ),
    Row(
        12,
        "SIGTERM to the server during uploads",
        tests=(
            f"{SINGLE}::test_12_a_sigterm_during_fifty_uploads_loses_none_that_was_accepted",
            f"{SERVICE}/test_lifecycle.py::test_a_sigterm_answers_who_waits_and_leaves_no_process",
        ),
        faults=("server-term",),
    ),
    Row(
        54,
        "a recall, while workers and servers die",
        tests=(
            f"{LENDING}::test_54_recalls_while_workers_and_servers_die_cost_nothing",
            f"{LENDING}::test_a_server_that_counts_recalls_as_attempts_is_found",
            f"{E2E}/test_lending.py::test_what_free_borrows_comes_back_to_premium_in_seconds_and_nothing_is_lost",
        ),
    ),
)
