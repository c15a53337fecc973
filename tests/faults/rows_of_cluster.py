"""Rows of the list of faults that come from a cluster: its API server, quotas, nodes, and what people change in it."""

from __future__ import annotations

from tests.faults.row import E2E, SERVER, STARTING, Row

CLUSTER_ROWS: tuple[Row, ...] = (
    Row(13, "API server away", tests=(f"{E2E}/test_faults.py::test_an_api_server_that_is_away_stops_no_client",)),
    Row(
        14,
        "API server fails at random",
        tests=(f"{STARTING}::test_14_an_engine_that_fails_at_random_gets_no_job_twice",),
    ),
    Row(
        15,
        "a Job is created and the answer is lost",
        tests=(
            f"{STARTING}::test_14_an_engine_that_fails_at_random_gets_no_job_twice",
            f"{SERVER}/kubernetes_engine/test_kubernetes_jobs.py::test_a_job_that_is_there_already_is_started",
        ),
    ),
    Row(
        16,
        "API server silent",
        tests=(f"{SERVER}/test_cluster.py::test_a_silent_api_server_is_waited_for_once_not_by_every_caller",),
        reason="there is no watch to be blackholed: each look is a list with a timeout",
    ),
    Row(17, "a watch that ends oddly", reason="there is no watch: each look is a list"),
    Row(
        18,
        "the server's own token rotated or expired",
        tests=(f"{SERVER}/leader/test_starting.py::test_an_engine_that_cannot_be_asked_stops_nothing_else",),
        reason="the client reads the file anew each minute; a 401 is an engine that cannot be asked",
    ),
    Row(
        19,
        "quota full",
        tests=(
            f"{E2E}/test_quota.py::test_twenty_slow_predictions_wait_in_order_for_two_workers",
            f"{E2E}/test_quota.py::test_a_quota_used_up_by_somebody_else_is_told_and_a_freed_one_is_used",
        ),
    ),
    Row(
        20,
        "quota raised and lowered while it runs",
        tests=(f"{E2E}/test_quota.py::test_a_raised_quota_acts_within_ten_seconds_and_a_lowered_one_kills_no_worker",),
    ),
    Row(
        21,
        "a Job that gets no pod",
        tests=(f"{SERVER}/leader/test_starting.py::test_a_job_that_the_quota_gave_no_pod_is_withdrawn_without_blame",),
    ),
    Row(
        22,
        "an image that cannot be pulled",
        tests=(
            f"{E2E}/test_misconfiguration.py::test_an_image_that_does_not_exist",
            f"{E2E}/test_misconfiguration.py::test_tiers_whose_pods_cannot_run_say_why_start_few_jobs_and_go_on_once_mended",
        ),
    ),
    Row(
        23,
        "a pod that cannot be scheduled",
        tests=(
            f"{E2E}/test_misconfiguration.py::test_tiers_whose_pods_cannot_run_say_why_start_few_jobs_and_go_on_once_mended",
            f"{SERVER}/leader/test_starting.py::test_a_job_that_asks_for_no_work_is_replaced",
        ),
    ),
    Row(24, "a lost node", tests=(f"{E2E}/test_faults.py::test_work_of_a_lost_node_goes_on_elsewhere",)),
    Row(
        25,
        "policy refuses the template",
        tests=(
            f"{E2E}/test_misconfiguration.py::test_a_template_that_asks_for_rights_is_refused_with_file_and_line",
            f"{E2E}/test_misconfiguration.py::test_a_limit_of_somebody_else_is_told_and_no_job_is_started",
        ),
    ),
    Row(
        26,
        "a bad template or value while it runs",
        tests=(
            f"{SERVER}/leader/test_starting.py::test_bad_changes_keep_the_last_good_ones_and_say_so",
            f"{E2E}/test_live.py::test_a_bad_template_and_a_bad_value_keep_the_last_good_ones_and_say_so",
        ),
    ),
    Row(
        27,
        "Jobs or a namespace deleted by hand",
        tests=(
            f"{E2E}/test_faults.py::test_deleted_jobs_cost_only_time",
            f"{E2E}/test_misconfiguration.py::test_a_namespace_deleted_by_hand_comes_back_with_an_upgrade",
        ),
    ),
)
