"""Each key of gatling.toml has a test that shows what it does; it is named here."""

from __future__ import annotations

import ast

import pytest

from gatling.project.settings import known
from tests.conftest import ROOT

SHOWN_BY = {
    "deploy.branch": "push/test_manifest.py::test_it_names_the_branch_that_deploys",
    "deploy.strategy": "push/test_manifest.py::test_it_says_how_releases_replace_each_other",
    "deploy.second_instance": "hot/test_second.py::test_the_project_can_say_whether_two_may_run",
    "deploy.figures": (
        "deploy/cutover/test_hot.py::test_figures_are_only_reported_where_a_setting_says_so"
    ),
    "build.timeout": "server/test_hostile_builds.py::test_what_a_build_leaves_behind_has_ended",
    "build.release": "push/test_projects.py::test_a_path_dependency_outside_of_the_apps_directory",
    "build.memory": "server/test_hostile_builds.py::test_a_build_that_takes_too_much_memory",
    "build.tasks": "server/test_hostile_builds.py::test_a_fork_bomb",
    "build.cpu": "server/test_hostile_builds.py::test_how_much_of_a_processor_a_build_gets",
    "build.directory": "push/test_manifest.py::test_a_project_in_a_directory_of_its_repository",
    "build.toolchain": (
        "push/test_toolchain.py::test_an_installed_toolchain_builds_what_asks_for_it"
    ),
    "health.path": "push/test_failures.py::test_answers_with_errors_only",
    "health.timeout": "push/test_failures.py::test_never_healthy",
    "health.interval": "deploy/evidence/test_health.py::test_how_often_it_is_asked",
    "migrate.command": "push/test_migrations.py::test_what_runs_them_can_be_said",
    "migrate.setup": "push/test_migrations.py::test_setup_is_run_once_after_the_first_migrations",
    "migrate.timeout": "push/test_migrations.py::test_one_that_takes_too_long_is_ended",
    "migrate.rehearse": (
        "home/test_rehearsals.py::test_migrations_that_succeed_report_time_and_locks"
    ),
    "instance.drain": "home/test_router.py::test_what_is_under_way_ends_at_the_instance_it_reached",
    "instance.drain_rate": "home/test_sockets.py::test_sockets_reconnect_at_a_pace",
    "instance.stop": "home/test_router.py::test_one_that_does_not_heed_its_end_is_killed_in_time",
    "limits.memory": "server/test_server.py::test_limits_are_systemds",
    "limits.tasks": "server/test_server.py::test_limits_are_systemds",
    "limits.cpu": "server/test_server.py::test_limits_are_systemds",
    "hot.watch": "hot/test_undone.py::test_a_process_that_crashes_afterwards",
    "hot.suspend": "hot/test_rolling.py::test_a_process_that_cannot_be_suspended",
    "hot.boot_check": "hot/test_undone.py::test_the_boot_can_be_checked_before",
    "hot.rehearse": "hot/test_rehearsal.py::test_a_good_upgrade_is_rehearsed_and_made",
    "hot.rerender": "hot/test_pages.py::test_pages_are_left_alone_if_so_set",
    "hot.structs": "hot/test_rolling.py::test_a_struct_may_change_where_the_project_says_so",
    "hot.deny": "hot/test_rolling.py::test_hot_can_be_forbidden_and_demanded",
    "stats.telemetry": "operations/test_stats.py::test_the_counts_can_be_turned_off",
    **{
        f"alerts.{rule}": "operations/test_alerts.py::test_bounds_are_settings"
        for rule in ("errors", "latency", "latency_ratio", "memory", "run_queue", "messages")
    },
    "alerts.quiet": "operations/test_notices.py::test_alerts_of_an_app_wait_in_its_quiet_hours",
    "rolling.watch": (
        "deploy/cutover/test_previous.py::test_the_previous_instance_is_kept_while_it_is_watched"
    ),
    "releases.keep": "push/test_manifest.py::test_what_it_asks_for_is_done",
    "cluster.instances": "cluster/test_apps.py::test_it_is_scaled_stopped_and_started",
    "cluster.base": "cluster/test_base.py::test_a_named_image_is_the_base_of_releases",
    "cluster.tls": "cluster/test_distribution.py::test_it_is_turned_on_without_a_failed_request",
    "cluster.issuer": "cluster/test_apps.py::test_domains_are_in_an_ingress",
    "proxy.body_limit": "home/test_proxy.py::test_how_large_a_body_may_be",
    "proxy.read_timeout": "home/test_proxy.py::test_how_long_the_app_may_keep_silent",
    "proxy.send_timeout": "home/test_proxy.py::test_how_long_the_app_may_not_listen",
    "proxy.buffering": (
        "home/test_proxy.py::test_whether_answers_are_taken_faster_than_clients_take_them"
    ),
    "proxy.redirect_www": "home/test_proxy.py::test_www_is_sent_to_the_apex_and_back",
    "proxy.hsts": "proxy/test_tls.py::test_hsts_is_said_over_https_only_and_where_it_is_asked_for",
    "proxy.http3": "proxy/test_http3.py::test_a_client_finds_it_by_the_header_of_an_answer",
    "proxy.https": "home/test_proxy.py::test_http_is_sent_to_https",
    "proxy.headers": "home/test_proxy.py::test_headers_of_all_answers",
    "proxy.maintenance_page": "home/test_proxy.py::test_maintenance_and_a_push_behind_it",
    "proxy.static": "home/test_proxy.py::test_a_page_loaded_before_a_deployment_finds_its_files",
    "proxy.static_keep": (
        "home/test_proxy.py::test_a_page_loaded_before_a_deployment_finds_its_files"
    ),
    "certificates.obtain": "server/test_acme.py::test_an_app_may_be_left_out",
    "certificates.challenge": "operations/test_issuing.py::test_which_way_each_domain_is_verified",
    "certificates.check": "server/test_acme.py::test_the_check_may_be_left_out",
    "processes.NAME.command": (
        "home/test_processes.py::test_each_deployment_replaces_them_when_it_is_live"
    ),
    "processes.NAME.instances": (
        "home/test_processes.py::test_how_many_there_are_and_how_long_they_have_to_end"
    ),
    "processes.NAME.stop": (
        "home/test_processes.py::test_how_many_there_are_and_how_long_they_have_to_end"
    ),
    "schedule.NAME.cron": "server/test_jobs.py::test_a_timer_fires",
    "schedule.NAME.command": "home/test_jobs.py::test_by_hand",
    "schedule.NAME.timeout": "home/test_jobs.py::test_a_time_limit",
    "schedule.NAME.overlap": "home/test_jobs.py::test_overlap_wait",
}


def test_no_key_is_forgotten() -> None:
    assert SHOWN_BY.keys() == known().keys()


@pytest.mark.parametrize(("key", "test"), SHOWN_BY.items(), ids=SHOWN_BY)
def test_the_test_is_there_and_sets_the_key(key: str, test: str) -> None:
    path, _, name = test.partition("::")
    text = (ROOT / "tests" / path).read_text()
    (found,) = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    word = key.rpartition(".")[2]
    lines = text.splitlines()[found.lineno - 1 : found.end_lineno]
    within = "\n".join(lines)
    assert word in within or f"{word} =" in text, f"{test} says nothing of {word}"
