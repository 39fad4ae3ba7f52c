from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from otel_agentperf import _config
from otel_agentperf._config import Config, load, parse_names


@pytest.fixture(autouse=True)
def nothing_reported_yet():
    _config._warn.cache_clear()


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


@pytest.mark.parametrize("setting", [setting.name for setting in fields(Config)])
def test_every_setting_can_come_from_the_environment(tmp_path, setting):
    value = {
        "weights": "1,2,3",
        "thresholds": "a.b=1",
        "baselines": "x=2",
        "cache_spans": "all",
        "content": "true",
        "enabled": "false",
        "max_runs": "7",
        "max_spans": "7",
        "content_limit": "7",
        "max_age_s": "7",
        "baseline_s": "7",
    }.get(setting, "abc")
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
    ("THRESHOLDS", "x=1,y", "name=number"),
    ("BASELINES", "planner=fast", "name=number"),
]


@pytest.mark.parametrize(("setting", "value", "expected"), WRONG)
def test_a_wrong_value_is_named_once_and_the_default_used(tmp_path, caplog, setting, value, expected):
    config = of(tmp_path, **{f"OTEL_AGENTPERF_{setting}": value, "OTEL_AGENTPERF_REDACT": "secret"})
    assert config == Config(redact="secret")
    [message] = caplog.messages
    assert f"OTEL_AGENTPERF_{setting}" in message
    assert value in message
    assert expected in message


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


def test_a_redaction_pattern_that_does_not_compile_is_reported_and_ignored(tmp_path, caplog):
    assert load({"OTEL_AGENTPERF_REDACT": "[oops"}, tmp_path).redact == ""
    assert "OTEL_AGENTPERF_REDACT" in caplog.text


def test_a_threshold_without_a_name_is_reported_and_ignored(tmp_path, caplog):
    assert load({"OTEL_AGENTPERF_THRESHOLDS": "=5"}, tmp_path).threshold_map() == {}
    assert "=5" in caplog.text


def test_an_unknown_variable_of_ours_is_named(tmp_path, caplog):
    of(tmp_path, OTEL_AGENTPERF_TRESHOLDS="a=1")
    assert "tresholds" in caplog.text


def test_a_wrong_value_is_reported_once_a_process(tmp_path, caplog):
    for _ in range(2):
        of(tmp_path, OTEL_AGENTPERF_MAX_RUNS="many")
    assert len(caplog.messages) == 1
