"""The ways in: `opentelemetry-instrument` without a line of code, and `instrument()` in the program."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from _programs import Ran, auto, run
from _recording import Kept
from otel_agentperf import AgentPerfSpanProcessor, _guard, agent, instrument, tool, uninstrument
from otel_agentperf._config import Config
from otel_agentperf.capture.tracing import state
from otel_agentperf.instrumentor import AgentPerfInstrumentor
from otel_agentperf.processor import processor_of

PROGRAM = """
from otel_agentperf import agent, tool

@tool
def search(q):
    return q

with agent("planner"):
    search("tea")
    search("milk")
print("the program's own output")
"""


def is_reported(ran: Ran) -> bool:
    attributes = ran.spans["invoke_agent planner"]["attributes"]
    return bool(attributes["agentperf.grade"]) and attributes["agentperf.tool.calls"] == 2


# --- opentelemetry-instrument -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_PYTHON_CONFIGURATOR": "agentperf"},
        {"OTEL_PYTHON_DISTRO": "agentperf"},
        {"OTEL_PYTHON_DISTRO": "agentperf", "OTEL_PYTHON_CONFIGURATOR": "agentperf"},
    ],
)
def test_nothing_but_the_environment(tmp_path: Path, environ: dict[str, str]) -> None:
    ran = auto(tmp_path, PROGRAM, **environ)
    assert (ran.code, ran.errors) == (0, "")
    assert "the program's own output" in ran.output
    assert is_reported(ran)


def test_switched_off_with_the_usual_variable(tmp_path: Path) -> None:
    ran = auto(tmp_path, PROGRAM, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="agentperf")
    assert ran.code == 0
    assert "agentperf.grade" not in ran.output


def test_code_that_may_not_be_touched(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text("def plan(): return search() + search()\ndef search(): return 1\n")
    program = "import theirs; print(theirs.plan())"
    ran = auto(
        tmp_path,
        program,
        OTEL_AGENTPERF_WRAP="theirs:plan=agent,theirs:search=tool",
        PYTHONPATH=str(tmp_path),
    )
    assert (ran.code, ran.errors) == (0, "")
    assert ran.spans["invoke_agent plan"]["attributes"]["agentperf.tool.calls"] == 2


def test_the_default_exporter_is_otlp_and_a_dead_endpoint_does_not_stop_the_program(tmp_path: Path) -> None:
    command = str(Path(sys.executable).parent / "opentelemetry-instrument")
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    ran = run(tmp_path, PROGRAM, command, sys.executable, **environ)
    assert ran.code == 0
    assert "the program's own output" in ran.output
    assert "127.0.0.1:9" in ran.errors


def test_a_set_up_that_fails_does_not_stop_the_program(tmp_path: Path) -> None:
    ran = auto(tmp_path, PROGRAM, OTEL_TRACES_EXPORTER="no_such_exporter")
    assert ran.code == 0
    assert "the program's own output" in ran.output
    assert "OpenTelemetry is not set up" in ran.errors
    assert "no_such_exporter" in ran.errors


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_AGENTPERF_CONFIG": "/no/such/file.toml"},
        {"OTEL_AGENTPERF_MAX_RUNS": "many"},
        {"OTEL_AGENTPERF_REDACT": "(unclosed"},
        {"OTEL_AGENTPERF_WRAP": "nonsense"},
        {"OTEL_AGENTPERF_DISABLED_INTEGRATIONS": "nonsense"},
    ],
)
def test_a_wrong_setting_is_reported_and_the_program_traced_all_the_same(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    ran = auto(tmp_path, PROGRAM, **environ)
    assert ran.code == 0
    assert is_reported(ran)
    assert ran.errors.count("otel-agentperf:") == 1, ran.errors


def test_the_programs_exit_code_and_exception_stay(tmp_path: Path) -> None:
    ran = auto(tmp_path, PROGRAM + "\nraise SystemExit(7)")
    assert ran.code == 7
    assert is_reported(ran)
    ran = auto(tmp_path, PROGRAM + "\n1 / 0")
    assert ran.code == 1
    assert "ZeroDivisionError" in ran.errors
    assert is_reported(ran)


def test_a_program_that_also_calls_instrument_and_adds_the_processor(tmp_path: Path) -> None:
    program = """
        from opentelemetry import trace
        from otel_agentperf import AgentPerfSpanProcessor, instrument
        instrument()
        trace.get_tracer_provider().add_span_processor(AgentPerfSpanProcessor())
    """
    ran = auto(tmp_path, textwrap.dedent(program) + PROGRAM)
    assert (ran.code, ran.errors) == (0, "")
    assert is_reported(ran)


@pytest.mark.skipif(
    not importlib.util.find_spec("opentelemetry.configuration"), reason="opentelemetry-configuration is not installed"
)
@pytest.mark.parametrize("processor", ["simple", "batch"])
def test_with_a_declarative_configuration_file(tmp_path: Path, processor: str) -> None:
    config = tmp_path / "otel.yaml"
    exporter = f"{processor}:\n        exporter:\n          console:\n"
    config.write_text(f'file_format: "1.0"\ntracer_provider:\n  processors:\n    - {exporter}')
    ran = auto(tmp_path, PROGRAM, OTEL_CONFIG_FILE=str(config))
    assert ran.code == 0, ran.errors
    assert is_reported(ran), ran.errors


# --- in code ----------------------------------------------------------------------------------------------

IN_CODE = """
from opentelemetry import trace
from opentelemetry.trace import set_tracer_provider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from otel_agentperf import instrument, uninstrument

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
"""


@pytest.mark.parametrize(
    "order",
    [
        "trace.set_tracer_provider(provider); instrument()",
        "instrument(); trace.set_tracer_provider(provider)",
        "instrument(); set_tracer_provider(provider)",
        "instrument(tracer_provider=provider)",
        "trace.set_tracer_provider(provider); instrument(); instrument(); instrument(tracer_provider=provider)",
        "instrument(); instrument(); trace.set_tracer_provider(provider)",
        "trace.set_tracer_provider(provider); instrument(); uninstrument(); instrument()",
        "instrument(); uninstrument(); instrument(); trace.set_tracer_provider(provider)",
        "instrument(); instrument(tracer_provider=provider)",
    ],
)
def test_in_whatever_order(tmp_path: Path, order: str) -> None:
    program = IN_CODE + order + "\nassert len(provider._active_span_processor._span_processors) == 2\n" + PROGRAM
    ran = run(tmp_path, program)
    assert (ran.code, ran.errors) == (0, "")
    assert is_reported(ran)


def test_uninstrumented_before_a_provider_came(tmp_path: Path) -> None:
    program = IN_CODE + "instrument(); uninstrument(); trace.set_tracer_provider(provider)\n" + PROGRAM
    ran = run(tmp_path, program)
    assert (ran.code, ran.errors) == (0, "")
    assert "agentperf.grade" not in ran.output
    assert "execute_tool search" in ran.spans, "decorators need a provider only"


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    before = {name: getattr(state, name) for name in type(state).__slots__}
    made = TracerProvider(shutdown_on_exit=False)
    yield made
    uninstrument()
    for name, value in before.items():
        setattr(state, name, value)


def test_the_processor_is_added_once_and_stays(provider: TracerProvider) -> None:
    for _ in range(3):
        instrument(tracer_provider=provider)
        uninstrument()
    assert processor_of(provider) is not None
    assert len(provider._active_span_processor._span_processors) == 1


def test_uninstrumenting_restores_what_was_patched(provider: TracerProvider) -> None:
    submit = ThreadPoolExecutor.submit
    instrument(tracer_provider=provider)
    assert ThreadPoolExecutor.submit is not submit
    instrument(tracer_provider=provider)
    uninstrument()
    uninstrument()
    assert ThreadPoolExecutor.submit is submit


def test_what_somebody_else_patched_since_stays(provider: TracerProvider) -> None:
    original = ThreadPoolExecutor.submit
    instrument(tracer_provider=provider)
    ours = ThreadPoolExecutor.submit

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        return ours(self, *args, **kwargs)

    ThreadPoolExecutor.submit = theirs  # type: ignore[method-assign]
    try:
        uninstrument()
        assert ThreadPoolExecutor.submit is theirs
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(abs, -1).result() == 1
    finally:
        ThreadPoolExecutor.submit = original  # type: ignore[method-assign]


def test_an_integration_can_be_left_out(provider: TracerProvider) -> None:
    submit = ThreadPoolExecutor.submit
    instrument(tracer_provider=provider, config=Config(disabled_integrations="threads"))
    assert ThreadPoolExecutor.submit is submit


def test_disabled(provider: TracerProvider) -> None:
    submit = ThreadPoolExecutor.submit
    instrument(tracer_provider=provider, config=Config(enabled=False))
    assert ThreadPoolExecutor.submit is submit
    assert processor_of(provider) is None


def test_an_integration_that_fails_disables_itself_only(
    provider: TracerProvider, monkeypatch: pytest.MonkeyPatch, swallow: None
) -> None:
    from otel_agentperf.capture import threads

    original = threads.patch

    def half(patches: Any) -> None:
        original(patches)
        raise RuntimeError("the library changed its shape")

    monkeypatch.setattr(threads, "patch", half)
    submit = ThreadPoolExecutor.submit
    instrument(tracer_provider=provider)
    assert ThreadPoolExecutor.submit is submit, "what it had done is undone"
    assert processor_of(provider) is not None
    assert _guard.counts == {("integration threads", "RuntimeError"): 1}


@pytest.mark.parametrize("place", ["_config.load", "_discover.members", "AgentPerfSpanProcessor"])
def test_an_error_while_setting_up_does_not_reach_the_program(
    provider: TracerProvider, monkeypatch: pytest.MonkeyPatch, swallow: None, place: str
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(f"otel_agentperf.wiring.{place}", broken)
    instrument(tracer_provider=provider)
    assert sum(_guard.counts.values()) == 1


def test_the_settings_given_are_used(provider: TracerProvider) -> None:
    kept = Kept()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    instrument(tracer_provider=provider, config=Config(baseline_s=1e-9, content=True))
    with agent("a"):
        tool(name="t")(lambda text: text)("visible")
    call, root = kept.spans
    assert call.attributes["gen_ai.tool.call.result"] == "visible"
    assert root.attributes["agentperf.score.speed"] == 0.0


def test_the_instrumentor_follows_the_contract_of_opentelemetry() -> None:
    from opentelemetry.util._importlib_metadata import entry_points

    (entry_point,) = entry_points(group="opentelemetry_instrumentor", name="agentperf")
    assert entry_point.load() is AgentPerfInstrumentor
    assert AgentPerfInstrumentor() is AgentPerfInstrumentor()
    assert AgentPerfInstrumentor().instrumentation_dependencies() == ()


def test_importing_the_package_imports_next_to_nothing(tmp_path: Path) -> None:
    program = "import sys, otel_agentperf; print(sorted(name for name in sys.modules if 'opentelemetry' in name))"
    assert run(tmp_path, program).output == "[]\n"


def test_instrumenting_loads_only_what_a_program_without_agents_needs(tmp_path: Path) -> None:
    """Each of these takes 5 to 30 ms of the start of every program."""
    program = """
    import sys
    from opentelemetry.sdk.trace import TracerProvider
    from otel_agentperf import instrument
    before = set(sys.modules)
    instrument(tracer_provider=TracerProvider())
    slow = {"wrapt", "asyncio", "importlib.metadata", "psutil", "opentelemetry.instrumentation", "decimal", "packaging"}
    print(sorted(slow & (sys.modules.keys() - before)), "otel_agentperf.analysis.analyze" in sys.modules)
    """
    assert run(tmp_path, program).output == "[] False\n"


@pytest.mark.parametrize(
    "work",
    [
        "import cachetools",
        "otel_agentperf.tool(len)",
        "otel_agentperf.agent('a')",
        "provider.get_tracer('theirs').start_span('first')",
    ],
)
def test_the_analysis_is_loaded_when_there_will_be_runs(tmp_path: Path, work: str) -> None:
    program = f"""
    import sys, otel_agentperf
    from opentelemetry.sdk.trace import TracerProvider
    provider = TracerProvider()
    otel_agentperf.instrument(tracer_provider=provider)
    before = "otel_agentperf.reporting" in sys.modules
    {work}
    print(before, "otel_agentperf.reporting" in sys.modules)
    """
    assert run(tmp_path, program).output == "False True\n"


def test_loading_late_is_not_the_first_spans_time(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, load = Kept(), AgentPerfSpanProcessor.load
    provider.add_span_processor(SimpleSpanProcessor(kept))
    provider.add_span_processor(AgentPerfSpanProcessor(load=False))
    monkeypatch.setattr(AgentPerfSpanProcessor, "load", lambda processor: (time.sleep(0.3), load(processor))[1])
    provider.get_tracer("theirs").start_span("first").end()
    (span,) = kept.spans
    assert (span.end_time or 0) - (span.start_time or 0) < 0.3e9


def test_both_ways_of_instrumenting_are_one(provider: TracerProvider) -> None:
    instrument(tracer_provider=provider)
    assert AgentPerfInstrumentor().is_instrumented_by_opentelemetry
    AgentPerfInstrumentor().uninstrument()
    submit = ThreadPoolExecutor.submit
    AgentPerfInstrumentor().instrument(tracer_provider=provider)
    assert ThreadPoolExecutor.submit is not submit
    uninstrument()
    assert ThreadPoolExecutor.submit is submit
    assert not AgentPerfInstrumentor().is_instrumented_by_opentelemetry


def test_every_public_name_can_be_imported_and_a_wrong_one_says_so() -> None:
    import otel_agentperf

    for name in otel_agentperf.__all__:
        assert getattr(otel_agentperf, name)
        assert name in dir(otel_agentperf)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = otel_agentperf.nonsense


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("instrument()", "nothing was recorded, because no tracer provider was set"),
        ("instrument(); set_tracer_provider(TracerProvider())", ""),
        ("set_tracer_provider(TracerProvider()); instrument()", ""),
        ("instrument(tracer_provider=TracerProvider())", ""),
        ("instrument(); uninstrument()", ""),
    ],
)
def test_it_says_at_the_end_that_there_was_no_provider(code: str, said: str) -> None:
    program = (
        "from otel_agentperf import instrument, uninstrument\n"
        "from opentelemetry.trace import set_tracer_provider\n"
        f"from opentelemetry.sdk.trace import TracerProvider\n{code}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (said in done.stderr) if said else (done.stderr == "")


def test_a_module_to_wrap_that_does_not_exist_is_named_at_the_end() -> None:
    program = (
        "from opentelemetry.sdk.trace import TracerProvider; from otel_agentperf import instrument\n"
        "instrument(tracer_provider=TracerProvider())"
    )
    wrap = {"OTEL_AGENTPERF_WRAP": "no_such_thing.x:f=tool,colorsys:rgb_to_hsv=tool"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **wrap},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr.count("there is no module no_such_thing") == 1
    assert "colorsys" not in done.stderr
