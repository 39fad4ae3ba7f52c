"""What one chat completion of the `openai` client costs more under each instrumentation that is installed here.

    .venv/bin/nox -s beside && ~/.cache/…/nox/beside/bin/python benchmarks/bench_beside.py

Each in processes of its own, in turns, on the same work: a call inside a run of ten, answered in the process by the
client's own transport, exported in batches to nowhere. CPU time of the whole process, the exporter's thread included;
the least of all rounds, as what else the machine does only adds to it.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

ROUNDS = 9
INSTRUMENTATIONS = {
    "none, a bare span around each call": ("", "bare"),
    "otel-agentperf": ("otel_agentperf", "import otel_agentperf; otel_agentperf.instrument(tracer_provider=provider)"),
    "OpenInference": (
        "openinference.instrumentation.openai",
        "from openinference.instrumentation.openai import OpenAIInstrumentor as Other",
    ),
    "OpenLLMetry": (
        "opentelemetry.instrumentation.openai",
        "from opentelemetry.instrumentation.openai import OpenAIInstrumentor as Other",
    ),
    "official GenAI": (
        "opentelemetry.instrumentation.genai.openai",
        "from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor as Other",
    ),
    "official openai-v2": (
        "opentelemetry.instrumentation.openai_v2",
        "from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor as Other",
    ),
    "Logfire": ("logfire", "logfire"),
}
PROGRAM = """
import json, sys, time
import httpx
from contextlib import nullcontext
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

class Nowhere(SpanExporter):
    def export(self, spans):
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Nowhere()))
tracer = provider.get_tracer("bench")
around = nullcontext
{code}
import openai

ANSWER = {{
    "id": "1", "object": "chat.completion", "created": 0, "model": "gpt-4o",
    "choices": [{{"index": 0, "finish_reason": "stop", "message": {{"role": "assistant", "content": "Oslo"}}}}],
    "usage": {{"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}},
}}
body = json.dumps(ANSWER)
headers = {{"content-type": "application/json"}}
transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body, headers=headers))
client = openai.OpenAI(api_key="x", base_url="http://localhost/v1", http_client=httpx.Client(transport=transport))
{after}
messages = [{{"role": "user", "content": "Where is it cold? " * 20}}]

def run(calls):
    with tracer.start_as_current_span("invoke_agent bench", attributes={{"gen_ai.operation.name": "invoke_agent"}}):
        for _ in range(calls):
            with around():
                client.chat.completions.create(model="gpt-4o", messages=messages)

for _ in range(5):
    run(10)
started = time.process_time()
for _ in range(30):
    run(10)
print((time.process_time() - started) / 300)
"""
OTHER = "Other().instrument(tracer_provider=provider)"


def seconds(code: str) -> float:
    after = ""
    if code == "bare":
        code = "around = lambda: tracer.start_as_current_span('chat gpt-4o')"
    elif code == "logfire":
        code = ""
        after = (
            "import logfire; logfire.configure(send_to_logfire=False, console=False, "
            "additional_span_processors=[BatchSpanProcessor(Nowhere())]); logfire.instrument_openai(client)"
        )
    elif code.endswith("as Other"):
        code = f"{code}\n{OTHER}"
    program = PROGRAM.format(code=code, after=after)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def is_installed(module: str) -> bool:
    try:
        return not module or importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def main() -> None:
    here = {name: code for name, (module, code) in INSTRUMENTATIONS.items() if is_installed(module)}
    found: dict[str, list[float]] = {name: [] for name in ("plain", *here)}
    for _ in range(ROUNDS):
        found["plain"].append(seconds(""))
        for name, code in here.items():
            found[name].append(seconds(code))
    plain = min(found["plain"])
    print(f"{'':40}{'CPU µs':>10}{'more':>8}")
    for name, values in found.items():
        least = min(values)
        print(f"{name:40}{least * 1e6:10.0f}{(least - plain) * 1e6:8.0f}")


if __name__ == "__main__":
    main()
