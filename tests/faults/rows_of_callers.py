"""Rows of the list of faults that come with requests: from clients, from strangers, and from false workers."""

from __future__ import annotations

from tests.faults.row import CALLERS, E2E, HOSTILE, HTTP, KILLS, MODEL, SERVER, SERVICE, SINGLE, Row

CALLER_ROWS: tuple[Row, ...] = (
    Row(
        32,
        "forged worker tokens",
        tests=(
            f"{SERVER}/test_worker_tokens.py::test_nothing_else_is_believed",
            f"{HTTP}/test_worker_protocol.py::test_a_token_of_one_tier_is_worth_nothing_in_another",
            f"{HTTP}/test_channel_work.py::test_a_job_that_ended_is_dismissed",
            f"{SERVICE}/test_worker_protocol.py::test_the_job_of_a_worker_that_was_killed_is_dismissed",
            f"{E2E}/test_security.py::test_the_internal_port_takes_no_other_token",
        ),
        faults=("forgery",),
    ),
    Row(
        33,
        "results that are none",
        tests=(
            f"{CALLERS}::test_33_a_result_of_fifty_megabytes_is_refused_and_the_lease_stays",
            f"{HTTP}/test_worker_protocol.py::test_a_message_that_breaks_the_schema_ends_the_channel",
            f"{HTTP}/test_worker_protocol.py::test_what_is_no_object_of_json_ends_the_channel",
            f"{HTTP}/test_channel_work.py::test_somebody_elses_prediction_is_not_completed",
        ),
        faults=("forgery",),
    ),
    Row(
        34,
        "bombs and disguises",
        tests=(
            f"{MODEL}/test_images.py::test_bombs_are_refused_quickly_and_in_little_memory",
            f"{MODEL}/test_images.py::test_ten_thousand_frames_cost_no_more_than_one",
            f"{MODEL}/test_images.py::test_other_formats_are_refused_whatever_their_name",
        ),
    ),
    Row(
        35,
        "damaged and odd pictures",
        tests=(
            f"{MODEL}/test_images.py::test_damaged_bytes_give_a_picture_or_an_image_error",
            f"{SERVICE}/test_bad_input.py::test_odd_cats_are_cats",
            f"{SERVICE}/test_bad_input.py::test_a_picture_that_cannot_be_decoded_is_a_result",
        ),
    ),
    Row(
        36,
        "slow and lying clients",
        tests=(
            f"{CALLERS}::test_36_slow_and_silent_clients_are_hung_up_on",
            f"{HTTP}/test_refusals.py::test_missing_and_lying_lengths",
            f"{HTTP}/test_uploads.py::test_a_picture_without_a_length_is_refused_as_soon_as_it_is_too_long",
        ),
        faults=("liars", "cuts"),
    ),
    Row(
        37,
        "fifty thousand parts, a header of a megabyte",
        tests=(f"{CALLERS}::test_37_monstrous_requests_cost_little",),
    ),
    Row(
        38,
        "made-up client addresses",
        tests=(
            f"{HTTP}/test_health.py::test_one_address_can_have_only_so_many_tokens_checked_whatever_address_it_claims",
        ),
    ),
    Row(
        39,
        "API keys guessed",
        tests=(
            f"{CALLERS}::test_39_guessed_keys_are_refused_and_the_right_one_opens_beside_them",
            f"{HOSTILE}/test_siege.py::test_an_attack_neither_fills_nor_slows_nor_stops_the_server",
        ),
    ),
    Row(
        40,
        "ids and keys that are paths",
        tests=(
            f"{CALLERS}::test_40_ids_that_are_paths_lead_nowhere",
            f"{SERVER}/test_blobs.py::test_no_key_leaves_its_place",
            f"{HTTP}/test_predictions.py::test_an_old_id_is_gone_and_a_strange_one_was_never_there",
        ),
    ),
    Row(
        52,
        "kill -9 of a server while keys are made and revoked",
        tests=(
            f"{KILLS}::test_01_a_server_killed_at_every_named_point_loses_nothing",
            f"{SINGLE}::test_42_faults_at_random",
        ),
        faults=("server-kill", "server-kill-point"),
    ),
    Row(
        53,
        "owners who ask for others' predictions, with their ids or their idempotency keys",
        tests=(
            f"{KILLS}::test_01_a_server_killed_at_every_named_point_loses_nothing",
            f"{SERVICE}/test_access.py::test_nobody_sees_anothers_prediction_at_either_server",
        ),
    ),
)
