"""The tests of `make quick`: the most telling ones of each subject, without Docker, a browser or many kernels."""

import re
from pathlib import Path

import pytest

# By file: which of its tests, as a pattern for what stands behind the file's name in their ids.
QUICK = {
    "test_background.py": r"::TestHandle",
    "test_callables.py": r".*\[forked",
    "test_clusters.py": r"::test_(a_mistake|executors_are_kept)",
    "test_comparison.py": r"",
    "test_checkpoint.py": r"::TestResuming",
    "test_contract.py": r".*\[(isolated|process)\b(?!.*-50\])",
    "test_differential.py": r"::test_nothing_of_a_run_is_seen_by_the_next",
    "test_each.py": r"::(test_the_line|TestExpressions|TestErrorsOfRows|TestComparison)",
    "test_environment.py": r"",
    "test_environments.py": r"::Test(Errors|ScriptBlocks)(?!.*cold)",
    "test_error_report.py": r"::TestPlace.*\[forked",
    "test_event_loop.py": r"::TestTopLevelAwait.*\[forked",
    "test_executor.py": r"::Test(Process|Code|Errors|Output).*\[forked",
    "test_exit_report.py": r"",
    "test_fitness.py": r"::test_(?!a_worker)",
    "test_fork_server.py": r"::TestChoice",
    "test_groups.py": r"",
    "test_hints.py": r"::Test(Names|Imports).*\[forked",
    "test_history.py": r"::test_(runs_without_scores|which_cells)",
    "test_hostile.py": r"::Test(Printed|Values)(?!.*(megabytes|up_to_the_limit)).*\[forked",
    "test_html.py": r"",
    "test_layers.py": r"",
    "test_lifecycle.py": r"::TestRuns(?!.*timeout).*\[forked",
    "test_limits.py": r"::test_a_breach_is_named\[forked(?!-processor)|::test_sizes|::test_the_next_run",
    "test_magic.py": r"::TestResult",
    "test_metric.py": r"::TestMetricClass.*\[forked",
    "test_models.py": r"",
    "test_options.py": r"",
    "test_output.py": r"(?!.*flood)",
    "test_payload.py": r"(?!.*large)",
    "test_process.py": r"::TestReuse",
    "test_readme.py": r"",
    "test_redaction.py": r"::(test_(?!the_work_grows|it_is_fast|no_piece)|TestRuns.*\[forked)",
    "test_render.py": r"(?!.*hundreds_of_thousands)",
    "test_report.py": r"",
    "test_result.py": r"::Test(Printed|LastExpression|WhichResult).*\[forked",
    "test_row_stream.py": r".*(made_once|print_nothing).*(\[isolated|those_that_do)",
    "test_rows.py": r"(?!.*(memory|opik))",
    "test_saving.py": r"(?!.*(Checkpoint|ran|secret))",
    "test_statistics.py": r"",
    "test_summary.py": r"(?!.*real_runs)",
    "test_row_json.py": r"",
    "test_system_calls.py": r"",
    "test_telemetry.py": r".*\[forked",
    "test_values.py": r"::Test(Env|Data)",
}


def pytest_configure() -> None:
    gone = [name for name in QUICK if not Path(__file__).with_name(name).exists()]
    if gone:
        raise pytest.UsageError(f"tests/quick.py names files that are not there: {gone}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no more than these files, where nothing else is wanted."""
    other = collection_path.name.startswith("test_") and collection_path.name not in QUICK
    return True if other and config.option.markexpr == "quick" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    matched = set()
    for item in items:
        file, _, name = item.nodeid.rpartition("tests/")[2].partition("::")
        if file in QUICK and re.match(QUICK[file], f"::{name}"):
            item.add_marker(pytest.mark.quick)
            matched.add(file)
    there = {item.path.name for item in items}
    unmatched = sorted(file for file in QUICK if file in there and file not in matched)
    if set(QUICK) <= there and unmatched:
        raise pytest.UsageError(f"tests/quick.py matches no test of {unmatched}")
