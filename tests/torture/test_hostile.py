"""Hostile names, values and objects on their whole way: through a live run, the real OTLP encoder, the reader that
takes that up again, and every renderer."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.trace import Status, StatusCode, set_span_in_context

from _recording import Recording, recording
from otel_agentperf import AgentPerfSpanProcessor, agent, cached, llm, retrieval, tool
from otel_agentperf._config import Config
from otel_agentperf._discover import discover
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.analysis.runs import find_runs
from otel_agentperf.model import Report
from otel_agentperf.readers import Query
from otel_agentperf.readers.files import read

RENDERERS = discover("renderers")
NAMES = {
    "lone surrogate": "a\ud800b\udfff",
    "NUL": "a\x00b",
    "ANSI": "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "rich markup": "[bold red]x[/] [link=http://e.vil]y[/link] [/]",
    "HTML": "</script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "Markdown": "| a | b |\n# x `y` [z](javascript:alert(1)) ***",
    "XML": ']]> <!-- <?xml version="1.0"?> &amp; &#0;',
    "JSON": '"},{"a":"',
    "bidirectional": "\u202egnp.exe\u2066\u200b\ufeff",
    "line breaks": "a\nb\rc\u2028d\u2029e\x85f\x0bg",
    "long": "x" * 50_000,
    "empty": "",
    "blank": " \t\n",
    "not in the plane": "\U000e0041\U0010ffff\ufffe",
}


@pytest.fixture(params=[False, True], ids=["", "content"])
def recorded(request: pytest.FixtureRequest) -> Iterator[Recording]:
    with recording(AgentPerfSpanProcessor(), config=Config(content=request.param)) as found:
        yield found


def rendered(renderer: ModuleType, reports: list[Report]) -> str:
    output = io.StringIO()
    renderer.render(reports, output)
    return output.getvalue()


def read_back(recorded: Recording, folder: Path) -> list[Report]:
    """What was exported, as an offline command would analyse it."""
    (folder / "trace.bin").write_bytes(encode_spans(recorded.spans).SerializeToString())
    runs = find_runs(list(read(str(folder / "trace.bin"), Query())))
    return [analyze(run) for run in runs]


def check_all(recorded: Recording, reports: list[Report], folder: Path) -> None:
    """Live and offline, each renderer writes a text that is of its format and harmless."""
    assert reports
    offline = read_back(recorded, folder)
    assert len(offline) == len(reports)
    for found in (reports, offline):
        texts = {name: rendered(renderer, found) for name, renderer in RENDERERS.items()}
        for name, text in texts.items():
            text.encode()
            assert not set("\x00\x07\x1b\u202e\u2066\ufffe") & set(text), name
        json.loads(texts["json"])
        json.loads(texts["sarif"])
        ElementTree.fromstring(texts["junit"])
        assert "<script>alert" not in texts["html"]
        assert "<img src=x" not in texts["html"]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names(recorded: Recording, reports: list[Report], name: str, tmp_path: Path) -> None:
    """Of agents, tools, models, retrievals, caches, errors and attributes."""
    clean = name.encode("utf-8", "ignore").decode().replace("\x00", "")
    error = type(clean, (Exception,), {"__module__": name})

    def fails() -> None:
        raise error(name)

    with agent(name) as run:
        run.arguments({name: name})
        run.set(name, name)
        for marker in (tool, llm, retrieval, cached, agent):
            for _ in range(3):
                marker(lambda *args, **kwargs: {name: name}, name=name)(name, **{name: name})
        with pytest.raises(error):
            tool(fails, name=name)()
        run.result(name)
    check_all(recorded, reports, tmp_path)


FOREIGN: dict[str, Callable[[], dict[str, Any]]] = {
    **{key: lambda name=name: {"input.value": name, name or "x": name} for key, name in NAMES.items()},
    "10,000 attributes": lambda: {f"own.{number}": number for number in range(10_000)},
    "5 MB": lambda: {"input.value": "x" * 5_000_000},
    "deep JSON": lambda: {"input.value": "[" * 100_000, "output.value": '{"a":' * 50_000 + "1" + "}" * 50_000},
    "no JSON": lambda: {"llm.input_messages": "{not json", "gen_ai.input.messages": "[[[{]"},
    "mixed lists": lambda: {"input.value": ["a"] * 10_000, "output.value": [True, False]},
    "numbers": lambda: {"gen_ai.usage.input_tokens": 2**63 - 1, "gen_ai.usage.output_tokens": -(2**63)},
    "wrong types": lambda: {"gen_ai.usage.input_tokens": "many", "gen_ai.usage.output_tokens": 1.5,
                            "gen_ai.tool.name": 5, "gen_ai.agent.name": True, "agentperf.cache.hit": "yes",
                            "http.response.status_code": "x", "error.type": 7, "agentperf.depends_on": "x",
                            "agentperf.cpu_time": "x", "gen_ai.operation.name": 3, "db.query.text": 9,
                            "agentperf.args.hash": 3, "url.full": False, "openinference.span.kind": 1},
    "not finite": lambda: {"agentperf.cpu_time": float("nan"), "gen_ai.response.time_to_first_chunk": float("inf")},
    "wrong JSON of ours": lambda: {"agentperf.caches": "[1]", "agentperf.stalls": '{"a":1}', "agentperf.history": "x",
                                   "agentperf.profile": "[[]]"},
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_spans_of_others(recorded: Recording, reports: list[Report], kind: str, tmp_path: Path) -> None:
    """What another instrumentation puts on its spans is nobody's reason to fail."""
    tracer = recorded.provider.get_tracer("somebody.else")
    attributes = FOREIGN[kind]()
    name = NAMES.get(kind, "call")
    root = tracer.start_span(f"invoke_agent {name}")
    for _ in range(6):
        call = tracer.start_span(f"execute_tool {name}", set_span_in_context(root))
        call.set_attributes(attributes)
        call.add_event(name or "x", attributes)
        call.record_exception(ValueError(name), attributes)
        call.set_status(Status(StatusCode.ERROR, name))
        call.end()
    root.set_attributes(attributes)
    root.end()
    assert len(reports) == 1
    # What the others' spans hold may break the others' batch; ours may not be what breaks it.
    if not any("\ud800" in str(value) for value in (name, *attributes.values())):
        check_all(recorded, reports, tmp_path)
    else:
        for renderer in RENDERERS.values():
            rendered(renderer, reports).encode()


def test_every_special_method_fails(recorded: Recording, reports: list[Report], tmp_path: Path) -> None:
    """Arguments, results, exceptions, objects whose methods are traced, and the class itself."""

    def no(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("do not touch")

    special = """repr str eq ne lt hash bool len iter getattr format reduce reduce_ex contains index int float bytes
    getitem fspath dir sizeof length_hint copy deepcopy getstate instancecheck subclasscheck""".split()
    methods: dict[str, Any] = {f"__{name}__": no for name in special}
    methods["__class__"] = methods["name"] = methods["usage"] = methods["__dict__"] = property(no)
    meta = type(
        "Meta",
        (type,),
        {f"__{name}__": no for name in ("repr", "str", "eq", "bool", "len", "iter")} | {"__hash__": type.__hash__},
    )
    hostile = meta("Hostile", (), dict(methods))
    text = type("Text", (str,), dict(methods))
    number = type(
        "Number",
        (int,),
        {key: value for key, value in methods.items() if key != "__hash__"} | {"__hash__": int.__hash__},
    )
    mapping = type("Mapping", (dict,), {**methods, "keys": no, "values": no, "items": no})
    error = type(
        "HostileError",
        (Exception,),
        {key: methods[key] for key in ("__repr__", "__str__", "__bool__", "__eq__", "__getattr__", "usage")}
        | {"__hash__": no},
    )
    values = [hostile(), text("x"), number(5), mapping(a=1)]

    def run(self: Any, value: Any) -> Any:
        return value

    for marker in (agent, tool, llm, retrieval, cached):
        worker = meta("Worker", (), {**methods, "run": marker(run)})()
        for value in values:
            assert marker(lambda *args, **kwargs: args[0])(value, key=value, inside=[{"a": value}]) is value
            assert worker.run(value) is value

    def fails() -> None:
        raise raised

    raised = error()
    for marker in (agent, tool, llm, retrieval, cached):
        with pytest.raises(error) as caught:
            marker(fails)()
        assert caught.value is raised
    with agent("whole") as call:
        for value in values:
            call.set("own", value)
            call.arguments(value)
            call.result(value)
    assert sum(name == "invoke_agent whole" for name in recorded.names) == 1
    check_all(recorded, reports, tmp_path)


@pytest.mark.parametrize(
    "key",
    [
        "gen_ai.operation.name",
        "db.system",
        "rpc.grpc.status_code",
        "traceloop.span.kind",
        "gen_ai.tool.name",
        "error.type",
    ],
)
@pytest.mark.parametrize("value", [{"a": 1}, 1e308, float("nan")])
def test_an_odd_attribute_costs_no_report(reports: list[Report], key: str, value: Any) -> None:
    """As some SDKs and programs put on spans past all checks."""
    with recording(AgentPerfSpanProcessor()) as recorded:
        tracer = recorded.provider.get_tracer("other")
        root = tracer.start_span("run", attributes={"gen_ai.operation.name": "invoke_agent"})
        for name in (key, "agentperf.cpu_time"):
            span: Any = tracer.start_span("step", set_span_in_context(root))
            span._attributes._dict[name] = value
            span.set_status(StatusCode.ERROR)
            span.end()
        root.end()
    assert len(reports) == 1
