"""Rows of the list of faults that hit what waits in memory, and the channels to workers."""

from __future__ import annotations

from tests.faults.row import HTTP, KILLS, LOBBY, MODEL, SINGLE, Row

LOBBY_ROWS: tuple[Row, ...] = (
    Row(
        45,
        "a worker dies with pictures of the lobby",
        tests=(f"{LOBBY}::test_45_a_worker_that_dies_of_a_picture_of_the_lobby_takes_no_neighbour_along",),
        faults=("worker-kill",),
    ),
    Row(
        46,
        "kill -9 of a server with a full lobby",
        tests=(
            f"{LOBBY}::test_46_a_server_killed_with_a_full_lobby_forgets_what_it_promised_nobody",
            f"{KILLS}::test_01_a_server_killed_at_every_named_point_loses_nothing",
        ),
        faults=("server-kill", "server-kill-point"),
    ),
    Row(
        47,
        "a caller hangs up in the lobby",
        tests=(f"{LOBBY}::test_47_a_caller_that_hangs_up_in_the_lobby_is_not_worked_for",),
        faults=("cuts",),
    ),
    Row(
        48,
        "results of the lobby that cannot be committed",
        tests=(f"{LOBBY}::test_48_results_that_cannot_be_committed_are_told_and_leave_nothing",),
        faults=("disk-full", "io-error"),
    ),
    Row(
        49,
        "a database that is away while the lobby is in use",
        tests=(
            f"{LOBBY}::test_49_a_lobby_outlasts_a_database_that_is_away",
            f"{SINGLE}::test_42_faults_at_random",
        ),
        faults=("database-restart", "database-kill"),
    ),
    Row(
        50,
        "SIGTERM to a server with a full lobby",
        tests=(f"{LOBBY}::test_50_a_server_stopped_with_a_full_lobby_keeps_all_of_it",),
        faults=("server-term",),
    ),
    Row(
        51,
        "a channel that breaks in the middle of a frame",
        tests=(
            f"{LOBBY}::test_51_a_channel_that_breaks_in_a_frame_costs_no_attempt",
            f"{HTTP}/test_channel_work.py::test_what_was_leased_to_a_worker_that_hung_up_waits_again_at_no_cost",
            f"{MODEL}/test_line.py::test_a_cut_in_the_middle_of_a_frame_leaves_nothing_on_the_desk",
        ),
    ),
)
