"""Rows of the list of faults that hit what a server relies on: other servers, databases, stores, clocks, old data."""

from __future__ import annotations

from tests.faults.row import MODEL, QUEUE, SERVER, SERVICE, SINGLE, Row

SURROUNDING_ROWS: tuple[Row, ...] = (
    Row(
        28,
        "two servers, one of them killed",
        tests=(
            f"{SERVICE}/test_replicas.py::test_when_the_server_that_leads_is_killed_another_does",
            f"{QUEUE}/test_queue_servers.py::test_one_server_leads_until_it_goes",
        ),
    ),
    Row(
        29,
        "PostgreSQL restarted, read-only, out of connections",
        tests=(
            f"{SINGLE}::test_42_faults_at_random",
            f"{QUEUE}/test_queue_postgresql.py::test_a_database_that_goes_and_comes_back",
            f"{QUEUE}/test_queue_postgresql.py::test_a_connection_lost_in_the_commit_leaves_its_outcome_open",
            f"{QUEUE}/test_queue_postgresql.py::test_a_database_that_became_read_only_refuses_and_recovers",
            f"{QUEUE}/test_queue_postgresql.py::test_a_server_without_a_free_connection_is_told",
            f"{QUEUE}/test_queue_servers.py::test_a_deadlock_between_two_servers_is_nobodys_error",
        ),
        faults=("database-restart", "database-kill"),
    ),
    Row(
        30,
        "the clock jumps",
        tests=(
            f"{SINGLE}::test_30_a_clock_that_jumps_ends_nothing_early",
            f"{QUEUE}/test_queue_database.py::test_a_steady_clock_starts_at_the_systems_time_and_only_goes_forward",
        ),
        faults=("clock-jump",),
        reason="the server's clock is moved, not the machine's; one that starts under a wrong clock believes it",
    ),
    Row(
        31,
        "a worker's first connections are lost",
        tests=(
            f"{MODEL}/test_channel.py::test_a_connection_that_nobody_answers_is_given_up_long_before_a_reply",
            f"{MODEL}/test_line.py::test_an_outage_and_errors_of_the_server_are_outlasted",
        ),
    ),
    Row(
        41,
        "the object store fails",
        tests=(
            f"{SERVER}/test_object_blobs.py::test_a_put_that_failed_is_not_told_as_kept",
            f"{SERVER}/test_object_blobs.py::test_a_short_slow_down_is_waited_out",
        ),
        reason="AWS itself is not at hand: the store is one of this machine",
    ),
    Row(42, "a long run", tests=(f"{SINGLE}::test_42_faults_at_random",), reason="make soak runs as long as asked"),
    Row(
        43,
        "an upgrade with a full queue",
        tests=(
            f"{SINGLE}::test_43_a_full_queue_of_the_first_version_is_worked_off",
            f"{QUEUE}/test_queue_migrations.py::test_what_was_accepted_is_worked_off",
        ),
        reason="workers and server come from one release: no older worker meets a newer server",
    ),
    Row(
        44,
        "a network filesystem, a second server",
        tests=(
            f"{QUEUE}/test_queue_guard.py::test_a_network_filesystem_is_refused",
            f"{QUEUE}/test_queue_guard.py::test_a_second_process_is_refused_until_the_first_is_gone",
            f"{SERVICE}/test_lifecycle.py::test_a_second_server_on_the_same_data_is_refused",
        ),
    ),
)
