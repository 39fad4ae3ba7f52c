"""What `agentperf run` prints, where, and what it exports."""

from __future__ import annotations

import json
import os
import time

import pytest

from cli._receiver import receiving
from cli._run import AGENTPERF, PLANNER, Folder

N_PLUS_ONE = """
@tool
def fetch(number): time.sleep(0.07); return number

@agent
def loop(): return [fetch(number) for number in range(6)]

loop()
"""


def test_the_report_follows_the_programs_output(folder: Folder) -> None:
    folder.write(PLANNER + N_PLUS_ONE + "print('the answer')")
    done = folder.agentperf("run", "app.py")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("the answer\n\nloop took 4")
    assert "1. fetch · n_plus_one_calls · saves " in done.out


def test_the_json_report_is_the_last_line_after_untouched_output(folder: Folder) -> None:
    done = folder.report_of(N_PLUS_ONE + "print('one'); print('two', end='')")
    assert done.out.splitlines()[:2] == ["one", "two"]
    assert done.document["schema"] == "agentperf.report/v1"
    (run,) = done.document["runs"]
    assert [finding["kind"] for finding in run["findings"]] == ["n_plus_one_calls"]


def test_output_goes_to_a_file_instead(folder: Folder) -> None:
    folder.write(PLANNER + "import os; os.chdir('/'); print('the answer'); planner()")
    done = folder.agentperf("run", "-o", "report.json", "--format", "json", "app.py")
    assert (done.code, done.out, done.err) == (0, "the answer\n", "")
    text = (folder.path / "report.json").read_text()
    assert text.startswith("{")
    assert json.loads(text)["runs"][0]["name"] == "planner"


@pytest.mark.parametrize("path", ["no/such/folder/report.json", "."])
def test_a_file_that_cannot_be_written_is_said_before_the_program_runs(folder: Folder, path: str) -> None:
    folder.write("print('ran')")
    done = folder.agentperf("run", "--output", path, "app.py")
    assert (done.code, done.out) == (2, "")
    assert f"cannot write {path}" in done.err


def test_a_full_disk_costs_the_report_and_nothing_else(folder: Folder) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("has no /dev/full")
    folder.write(PLANNER + "planner(); import sys; sys.exit(3)")
    done = folder.agentperf("run", "-o", "/dev/full", "app.py")
    assert (done.code, done.out) == (3, "")
    assert done.err == "agentperf: cannot write the report: No space left on device\n"


@pytest.mark.parametrize("closing", ["os.close(1)", "os.dup2(os.open(os.devnull, os.O_WRONLY), 1); os.close(1)"])
def test_a_file_that_took_the_place_of_standard_output_is_not_written_to(folder: Folder, closing: str) -> None:
    folder.write(f"{PLANNER}import os\nplanner()\n{closing}\ndata = open('data', 'w')\nassert data.fileno() == 1")
    done = folder.agentperf("run", "app.py")
    assert (folder.path / "data").read_text() == ""
    assert done.err.startswith("agentperf: cannot write the report: standard output is closed, or was replaced")


def test_a_reader_that_goes_away_is_no_error(folder: Folder) -> None:
    folder.write(PLANNER + "planner()")
    done = folder.run("sh", "-c", f"{AGENTPERF} run app.py | head -2")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[1].startswith("planner took ")


def test_a_program_without_agents_gets_a_hint_and_keeps_its_exit_code(folder: Folder) -> None:
    folder.write("import sys; sys.exit(7)")
    for format_ in ("terminal", "json"):
        done = folder.agentperf("run", "--format", format_, "app.py")
        assert done.code == 7
        assert done.err.startswith("agentperf: app.py made no agent run that was seen.")
        assert "@agent" in done.err
        assert "OTEL_AGENTPERF_WRAP" in done.err
    assert done.document["runs"] == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_SAMPLER", "always_off"), ("OTEL_AGENTPERF_ENABLED", "false")],
)
def test_a_setting_that_keeps_runs_from_being_seen_is_named(folder: Folder, setting: str, value: str) -> None:
    folder.write(PLANNER + "planner()")
    done = folder.agentperf("run", "app.py", env={setting: value})
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert done.err.startswith("agentperf: app.py made no agent run that was seen: ")
    assert setting in done.err


OWN_PROVIDER = """
from opentelemetry import trace, metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult

class Exporter(SpanExporter):
    def export(self, spans):
        for span in spans:
            print(span.name, span.resource.attributes["service.name"], "agentperf.grade" in span.attributes)
        return SpanExportResult.SUCCESS

provider = TracerProvider(resource=Resource({"service.name": "mine"}))
provider.add_span_processor(SimpleSpanProcessor(Exporter()))
"""
OWN_PROVIDERS = {
    "set first": OWN_PROVIDER + "trace.set_tracer_provider(provider); planner()",
    "set after spans were made": "planner()" + OWN_PROVIDER + "trace.set_tracer_provider(provider); planner()",
    "with a batch": OWN_PROVIDER.replace("(SimpleSpan", "(BatchSpan")
    + "trace.set_tracer_provider(provider); planner()",
    "shut down by the program": OWN_PROVIDER + "trace.set_tracer_provider(provider); planner(); provider.shutdown()",
    "with metrics": OWN_PROVIDER
    + "metrics.set_meter_provider(MeterProvider()); trace.set_tracer_provider(provider); planner()",
    "with our processor already": OWN_PROVIDER
    + "from otel_agentperf import AgentPerfSpanProcessor\nprovider.add_span_processor(AgentPerfSpanProcessor())\n"
    "trace.set_tracer_provider(provider); planner()",
}


@pytest.mark.parametrize("code", OWN_PROVIDERS.values(), ids=OWN_PROVIDERS.keys())
def test_a_program_with_its_own_provider_exports_through_it_and_is_reported(folder: Folder, code: str) -> None:
    done = folder.report_of(code)
    exported = done.out.splitlines()[:-2]
    assert done.err == ""
    assert exported[-4:] == ["execute_tool search mine False"] * 3 + ["invoke_agent planner mine True"]
    assert set(done.runs) == {"planner"}
    assert len(done.runs) == 1 + code.startswith("planner()")
    assert done.document["runs"][-1]["service"] == "mine"
    assert sorted(operation["calls"] for operation in done.document["runs"][-1]["operations"]) == [1, 3]


def test_a_program_with_its_own_provider_does_not_export_twice_beside_an_endpoint(folder: Folder) -> None:
    with receiving() as received:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        done = folder.report_of(OWN_PROVIDER + "trace.set_tracer_provider(provider); planner()", env=env)
    assert (done.err, done.runs, received.spans) == ("", ["planner"], {})
    assert done.out.splitlines()[3] == "invoke_agent planner mine True"


def test_a_second_provider_of_the_program_is_refused_as_ever(folder: Folder) -> None:
    done = folder.report_of(OWN_PROVIDER + "trace.set_tracer_provider(provider)\n" * 2 + "planner()")
    assert done.err.count("Overriding of current TracerProvider is not allowed") == 1


def test_a_provider_that_is_not_the_sdks_does_no_harm(folder: Folder) -> None:
    code = "from opentelemetry import trace\ntrace.set_tracer_provider(trace.NoOpTracerProvider())\nplanner()"
    done = folder.report_of(code)
    assert (done.code, done.err, done.runs) == (0, "", ["planner"])


def test_a_program_that_adds_to_the_global_provider_exports_through_it(folder: Folder) -> None:
    code = OWN_PROVIDER.replace('["service.name"]', '.get("service.name")') + (
        "trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(Exporter())); planner()"
    )
    done = folder.report_of(code, env={"OTEL_SERVICE_NAME": "told"})
    assert "invoke_agent planner told True" in done.out.splitlines()
    assert done.runs == ["planner"]


def test_a_program_that_instruments_itself_is_reported_once_and_quietly(folder: Folder) -> None:
    done = folder.report_of(f"{OWN_PROVIDER}import otel_agentperf; otel_agentperf.instrument(); planner()")
    assert (done.err, done.runs) == ("", ["planner"])


def test_a_program_that_instruments_itself_for_its_own_provider_exports_through_it(folder: Folder) -> None:
    code = f"{OWN_PROVIDER}import otel_agentperf; otel_agentperf.instrument(tracer_provider=provider); planner()"
    done = folder.report_of(code)
    assert (done.err, done.runs) == ("", ["planner"])
    assert done.out.splitlines()[3] == "invoke_agent planner mine True"


def test_with_an_endpoint_everything_is_exported_too(folder: Folder) -> None:
    with receiving() as received:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": received.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        done = folder.report_of("planner()", env=env)
    assert (done.err, done.runs) == ("", ["planner"])
    assert received.spans.keys() == {"invoke_agent planner", "execute_tool search"}
    assert {"agentperf.score", "agentperf.grade"} <= received.spans["invoke_agent planner"]
    assert {"gen_ai.invoke_agent.duration", "agentperf.run.score"} <= received.metrics


def test_with_an_endpoint_for_traces_only_traces_are_exported(folder: Folder) -> None:
    with receiving() as received:
        env = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{received.url}/v1/traces",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        done = folder.report_of("planner()", env=env)
    assert (done.err, done.runs) == ("", ["planner"])
    assert {path for path, _ in received.requests} == {"/v1/traces"}


def test_without_an_endpoint_nothing_connects_anywhere_and_the_end_is_quick(folder: Folder) -> None:
    code = """
        import socket, sys, time
        def refuse(event, args):
            if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
                print("connects", event, args, file=sys.stderr)
        sys.addaudithook(refuse)
        planner()
        print(time.time())
    """
    done = folder.report_of(code)
    ended = time.time()
    assert done.err == ""
    assert ended - float(done.out.splitlines()[0]) < 2


def test_what_the_program_starts_does_not_inherit_our_settings(folder: Folder) -> None:
    code = """
        import subprocess, sys
        planner()
        subprocess.run([sys.executable, "-c", "import os; print([k for k in os.environ if 'OTEL' in k])"])
    """
    assert folder.report_of(code).out.splitlines()[0] == "[]"


def test_a_wrong_setting_is_reported_once(folder: Folder) -> None:
    done = folder.report_of("planner()", env={"OTEL_AGENTPERF_MAX_RUNS": "many"})
    assert done.runs == ["planner"]
    assert done.err.count("OTEL_AGENTPERF_MAX_RUNS") == 1


def test_many_runs_are_bounded(folder: Folder) -> None:
    done = folder.report_of("@agent\ndef quick(): pass\nfor _ in range(1_020): quick()")
    assert len(done.runs) == 1_000
    assert "only the last 1,000 runs are shown; 20 earlier ones are left out" in done.err
