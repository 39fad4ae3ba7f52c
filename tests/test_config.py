from __future__ import annotations

import os
import re
from dataclasses import FrozenInstanceError

import pytest

from otel_agentperf import _config
from otel_agentperf._config import SETTINGS, Config, load, parse_names
from otel_agentperf.sanitize import content


@pytest.fixture(autouse=True)
def nothing_reported_yet():
    _config.warned.clear()


def of(tmp_path, **environ):
    return load(environ, tmp_path)


def test_defaults_need_nothing(tmp_path):
    assert of(tmp_path) == Config()
    assert Config().content is False
    assert Config().weight_triple() == (0.4, 0.3, 0.3)
    assert Config().baseline("any") == 10.0
    assert Config().threshold_map() == {}


def test_it_does_not_change():
    with pytest.raises(FrozenInstanceError):
        Config().enabled = False


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_can_come_from_the_environment(tmp_path, setting):
    special = {
        "weights": "1,2,3",
        "thresholds": "a.b=1",
        "baselines": "x=2",
        "cache_spans": "all",
        "profile": "auto",
        "budgets": "run.tokens=7",
        "prices": "gpt=1/2",
    }
    default = getattr(Config(), setting)
    by_type = {bool: str(not default).lower(), int: "7", float: "7", str: "abc"}
    value = special.get(setting, by_type[type(default)])
    config = of(tmp_path, **{f"OTEL_AGENTPERF_{setting.upper()}": f" {value} "})
    assert str(getattr(config, setting)).lower() in (value, f"{value}.0")
    assert config != Config()


@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("true", True),
        ("TRUE", True),
        ("1", True),
        ("span_only", True),
        ("EVENT_ONLY", True),
        ("SPAN_AND_EVENT", True),
        ("no_content", False),
        ("false", False),
        ("", False),
    ],
)
def test_content_as_the_genai_instrumentations_spell_it(tmp_path, value, content):
    assert of(tmp_path, OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=value).content is content


WRONG = [
    ("ENABLED", "perhaps", "true or false"),
    ("MAX_RUNS", "many", "a number"),
    ("MAX_RUNS", "0", "above 0"),
    ("MAX_SPANS", "-5", "above 0"),
    ("BASELINE_S", "nan", "above 0"),
    ("MAX_AGE_S", "1h", "a number"),
    ("CACHE_SPANS", "some", "all or remote or none"),
    ("WEIGHTS", "1,2", "three numbers"),
    ("WEIGHTS", "0,0,0", "three numbers"),
    ("WEIGHTS", "1,1,-1", "three numbers"),
    ("WEIGHTS", "a,b,c", "three numbers"),
    ("WEIGHTS", "nan,1,1", "three numbers"),
    ("WEIGHTS", "1,inf,1", "three numbers"),
    ("WEIGHTS", "1e308,1e308,1e308", "three numbers"),
    ("THRESHOLDS", "y", "name=number"),
    ("THRESHOLDS", "min_saving_s=nan", "name=number"),
    ("BASELINES", "planner=fast", "name=number"),
    ("BASELINES", "planner=0", "above 0"),
    ("BASELINES", "planner=-1", "above 0"),
    ("BASELINES", "planner=nan", "above 0"),
]


@pytest.mark.parametrize(("setting", "value", "expected"), WRONG)
def test_a_wrong_value_is_named_once_and_the_default_used(tmp_path, caplog, setting, value, expected):
    config = of(tmp_path, **{f"OTEL_AGENTPERF_{setting}": value, "OTEL_AGENTPERF_REDACT": "secret"})
    assert config == Config(redact="secret")
    [message] = caplog.messages
    assert f"OTEL_AGENTPERF_{setting}" in message
    assert value in message
    assert expected in message


def test_a_wrong_threshold_costs_only_itself(tmp_path, caplog):
    config = of(tmp_path, OTEL_AGENTPERF_THRESHOLDS="slow_operation.db_s=2,slow_operation.tool_s=x")
    assert config.threshold_map() == {"slow_operation.db_s": 2.0}
    assert caplog.messages == [
        "otel-agentperf: OTEL_AGENTPERF_THRESHOLDS: 'slow_operation.tool_s=x' is not name=number; it is left out"
    ]


def test_a_wrong_number_is_told_with_the_file_that_has_it(tmp_path, caplog):
    (tmp_path / "agentperf.toml").write_text('[baselines]\nplanner = 0\n[thresholds]\nmin_saving_s = "x"')
    config = of(tmp_path)
    assert (config.baselines, config.thresholds) == ("", "")
    assert [message.partition(": '")[0] for message in caplog.messages] == [
        "otel-agentperf: baselines in agentperf.toml", "otel-agentperf: thresholds in agentperf.toml"
    ]  # fmt: skip


def test_a_toml_file(tmp_path):
    (tmp_path / "agentperf.toml").write_text(
        """
        enabled = false
        content = "span_only"
        baseline_s = 5
        weights = [1, 0, 1]
        [baselines]
        planner = 20
        [thresholds]
        "slow_operation.db_s" = 2
        [thresholds.n_plus_one_calls]
        calls = 9
        """
    )
    config = of(tmp_path)
    assert (config.enabled, config.content, config.baseline("x"), config.baseline("planner")) == (
        False,
        True,
        5.0,
        20.0,
    )
    assert config.weight_triple() == (1.0, 0.0, 1.0)
    assert config.threshold_map() == {"slow_operation.db_s": 2.0, "n_plus_one_calls.calls": 9.0}


def test_the_environment_wins(tmp_path):
    (tmp_path / "agentperf.toml").write_text("baseline_s = 5\nmax_runs = 7")
    config = of(tmp_path, OTEL_AGENTPERF_BASELINE_S="6")
    assert (config.baseline_s, config.max_runs) == (6.0, 7)


def test_a_file_elsewhere(tmp_path):
    path = tmp_path / "other.toml"
    path.write_text("max_runs = 7")
    assert of(tmp_path, OTEL_AGENTPERF_CONFIG=str(path)).max_runs == 7


@pytest.mark.parametrize("text", ["not = = toml", "\udcff".encode("utf-8", "surrogatepass")])
def test_a_broken_file_is_named_and_ignored(tmp_path, caplog, text):
    path = tmp_path / "agentperf.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert of(tmp_path) == Config()
    assert str(path) in caplog.text


def test_a_missing_file_that_was_asked_for_is_named(tmp_path, caplog):
    assert of(tmp_path, OTEL_AGENTPERF_CONFIG=str(tmp_path / "none.toml")) == Config()
    assert "none.toml" in caplog.text


def test_unknown_settings_of_a_file_are_named(tmp_path, caplog):
    (tmp_path / "agentperf.toml").write_text("baselin_s = 5")
    assert of(tmp_path) == Config()
    assert "baselin_s" in caplog.text


def test_the_hash_key_is_never_shown(tmp_path, caplog):
    config = of(tmp_path, OTEL_AGENTPERF_HASH_KEY="geheim")
    assert config.hash_key == "geheim"
    assert "geheim" not in repr(config)
    assert "geheim" not in caplog.text


def test_empty_values_are_not_given(tmp_path, caplog):
    assert of(tmp_path, OTEL_AGENTPERF_MAX_RUNS="", OTEL_AGENTPERF_CONFIG=" ") == Config()
    assert not caplog.messages


def test_it_reads_the_real_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTEL_AGENTPERF_MAX_RUNS", "3")
    assert load().max_runs == 3


def test_parse_names():
    assert parse_names(" a, b ,,a") == {"a", "b"}
    assert parse_names("") == frozenset()


def test_a_list_in_toml_stands_for_its_members(tmp_path):
    (tmp_path / "agentperf.toml").write_text('disabled_integrations = ["redis_client", "openai"]', encoding="utf-8")
    assert load({}, tmp_path).disabled_integrations == "redis_client,openai"


@pytest.mark.parametrize("pattern", ["[oops", "(a+)+$", r"(?:x|(\s*a)*)*b", r"(?=((y+)z)+)", "(" * 5_000])
def test_a_redaction_pattern_that_cannot_be_used_hides_all_content(tmp_path, caplog, pattern):
    redact = load({"OTEL_AGENTPERF_REDACT": pattern}, tmp_path).redact
    assert content("my number\nis PERS-4711", 99, re.compile(redact)) == "[redacted]"
    [message] = caplog.messages
    assert message.startswith("otel-agentperf: OTEL_AGENTPERF_REDACT: ")
    assert "all content is redacted" in message
    assert len(message) < 1_000


@pytest.mark.parametrize("pattern", [r"PERS-\d+", r"(?i)(?:ab)+c*", "(a{1,9})+", "x*y+"])
def test_an_ordinary_redaction_pattern_is_taken_as_it_is(tmp_path, caplog, pattern):
    assert load({"OTEL_AGENTPERF_REDACT": pattern}, tmp_path).redact == pattern
    assert not caplog.messages


def test_several_redaction_patterns_in_toml(tmp_path):
    (tmp_path / "agentperf.toml").write_text("redact = ['PERS-\\d+', 'a|b']", encoding="utf-8")
    assert content("PERS-12, PERS-x, b", 99, re.compile(load({}, tmp_path).redact)) == "[redacted], PERS-x, [redacted]"


def test_a_configuration_that_never_ends_is_not_read(tmp_path, caplog):
    """Asked for by name, a pipe would wait for a writer, and /dev/zero fill the memory."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large.toml").write_text("#" * 1_000_001, encoding="utf-8")
    (tmp_path / "deep.toml").write_text("a=" + "[" * 5_000, encoding="utf-8")
    for path in (
        str(tmp_path / "pipe"),
        "/dev/zero",
        str(tmp_path),
        str(tmp_path / "large.toml"),
        str(tmp_path / "deep.toml"),
    ):
        caplog.clear()
        assert load({"OTEL_AGENTPERF_CONFIG": path}, tmp_path) == Config()
        [message] = caplog.messages
        assert message.startswith(f"otel-agentperf: cannot read {path}: ")


def test_what_a_setting_holds_is_told_in_short_and_without_control_characters(tmp_path, caplog):
    environ = dict.fromkeys(("OTEL_AGENTPERF_MAX_RUNS", "OTEL_AGENTPERF_CONFIG"), "\x1b[31m\nFAKE" + "9" * 5_000)
    load({**environ, "OTEL_AGENTPERF_DISABLED_INTEGRATIONS": "x\x1b"}, tmp_path)
    assert len(caplog.messages) == 2
    assert all(len(message) <= 1_600 and message.isprintable() for message in caplog.messages)


def test_a_number_that_is_no_integer(tmp_path, caplog):
    (tmp_path / "agentperf.toml").write_text("max_runs = inf", encoding="utf-8")
    assert load({}, tmp_path) == Config()
    assert "max_runs in agentperf.toml" in caplog.text


def test_a_threshold_without_a_name_is_reported_and_ignored(tmp_path, caplog):
    assert load({"OTEL_AGENTPERF_THRESHOLDS": "=5"}, tmp_path).threshold_map() == {}
    assert "=5" in caplog.text


def test_an_unknown_variable_of_ours_is_named(tmp_path, caplog):
    of(tmp_path, OTEL_AGENTPERF_TRESHOLDS="a=1")
    assert "OTEL_AGENTPERF_TRESHOLDS" in caplog.text


def test_a_wrong_value_is_reported_once_a_process(tmp_path, caplog):
    for _ in range(2):
        of(tmp_path, OTEL_AGENTPERF_MAX_RUNS="many")
    assert len(caplog.messages) == 1


PYPROJECT = """
    [project]
    name = "app"
    [tool.otel-agentperf]
    max_runs = 7
    baseline_s = 5
    [tool.otel-agentperf.budgets]
    "run.duration_s" = 20
    """


def test_pyproject_is_read_below_agentperf_toml_and_the_environment(tmp_path):
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    assert (of(tmp_path).max_runs, of(tmp_path).baseline_s) == (7, 5.0)
    (tmp_path / "agentperf.toml").write_text("baseline_s = 6\nmax_spans = 9")
    config = of(tmp_path, OTEL_AGENTPERF_MAX_SPANS="8")
    assert (config.max_runs, config.baseline_s, config.max_spans) == (7, 6.0, 8)
    assert [config.source(name) for name in ("max_runs", "baseline_s", "max_spans")] == [
        "pyproject.toml",
        "agentperf.toml",
        "OTEL_AGENTPERF_MAX_SPANS",
    ]


def test_the_short_name_of_the_table_does_as_well(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.agentperf]\nmax_runs = 7")
    assert of(tmp_path).max_runs == 7


@pytest.mark.parametrize(
    "text", ["[tool.ruff]\nline-length = 9", "[broken", "tool = 1 # agentperf", "[tool]\nagentperf = 1", ""]
)
def test_a_project_that_does_not_configure_us_is_none_of_our_business(tmp_path, caplog, text):
    (tmp_path / "pyproject.toml").write_text(text)
    assert of(tmp_path) == Config()
    assert not caplog.messages


def test_a_wrong_value_names_the_file_it_is_in(tmp_path, caplog):
    (tmp_path / "pyproject.toml").write_text("[tool.agentperf]\nmax_runs = 0\nmax_rnus = 2")
    assert of(tmp_path) == Config()
    assert [message for message in caplog.messages if "max_runs in pyproject.toml" in message]
    assert [message for message in caplog.messages if "max_rnus in pyproject.toml" in message]


def test_budgets_prices_and_suppressions_as_toml(tmp_path, caplog):
    (tmp_path / "agentperf.toml").write_text(
        """
        [budgets]
        run.tokens = 50_000
        "tool.search.duration_s" = 2
        [budgets.agent."my planner"]
        calls = 10
        [budgets.tool.input]
        calls = 3
        [budgets.tool.unused]
        [prices]
        "gpt-4.1" = { input = 2, output = 8, cached = 0.5 }
        gpt-4.0 = "1/2"
        [[suppress]]
        kind = "n_plus_one_calls"
        operation = "a;b=c"
        reason = "paged API"
        [[suppress]]
        fingerprint = "9f3a00aa11bb"
        """
    )
    config = of(tmp_path)
    assert {budget.key: budget.limit for budget in config.budget_list()} == {
        "run.tokens": 50_000,
        "tool.search.duration_s": 2,
        "agent.my planner.calls": 10,
        "tool.input.calls": 3,
    }
    assert {budget.source for budget in config.budget_list()} == {"agentperf.toml"}
    assert [(one.model, one.input, one.output, one.cached) for one in config.price_list()] == [
        ("gpt-4.1", 2.0, 8.0, 0.5),
        ("gpt-4.0", 1.0, 2.0, None),
    ]
    assert [(one.kind, one.operation, one.fingerprint, one.reason) for one in config.suppression_list()] == [
        ("n_plus_one_calls", "a;b=c", "", "paged API"),
        ("", "", "9f3a00aa11bb", ""),
    ]
    assert not caplog.messages


@pytest.mark.parametrize("setting", ["BUDGETS", "PRICES", "SUPPRESS"])
def test_a_wrong_entry_is_named_once_with_the_setting(tmp_path, caplog, setting):
    for _ in range(2):
        of(tmp_path, **{f"OTEL_AGENTPERF_{setting}": "=oops"})
    [message] = caplog.messages
    assert f"OTEL_AGENTPERF_{setting}" in message
    assert "=oops" in message


def test_thresholds_of_one_operation_in_toml(tmp_path):
    (tmp_path / "agentperf.toml").write_text(
        """
        [thresholds]
        "slow_operation.db_s@SELECT a, b FROM t" = 2
        [thresholds.slow_operation]
        "tool_s@search" = 12
        """
    )
    assert of(tmp_path).threshold_map() == {
        "slow_operation.db_s@SELECT a, b FROM t": 2.0,
        "slow_operation.tool_s@search": 12.0,
    }
