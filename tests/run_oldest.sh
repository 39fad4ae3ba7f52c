#!/usr/bin/env bash
# Runs the tests that touch OpenTelemetry against the oldest versions we promise: the SDK's floor and wrapt 1.17.
#
#     tests/run_oldest.sh [pytest arguments]
#
# The environment is made once, in $OLDEST_VENV (default: a folder of the user's cache).
set -euo pipefail
cd "$(dirname "$0")/.."

venv="${OLDEST_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/otel-agentperf/oldest}"
pins=(
  "opentelemetry-api==1.44.0" "opentelemetry-sdk==1.44.0" "opentelemetry-exporter-otlp==1.44.0"
  "opentelemetry-instrumentation==0.65b0" "opentelemetry-semantic-conventions==0.65b0" "wrapt==1.17.*"
  "pyinstrument==5.0.*"
)
if [ ! -x "$venv/bin/pytest" ]; then
  "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/pip" install --quiet "${pins[@]}" pytest hypothesis cachetools jsonschema
fi
"$venv/bin/pip" install --quiet "${pins[@]}" uvloop --editable .
"$venv/bin/pip" list 2>/dev/null | grep -E '^(opentelemetry-(api|sdk|instrumentation)|wrapt) '

if [ $# -eq 0 ]; then
  # The analysis imports no OpenTelemetry; the frameworks and the tools of the rest are not installed here.
  set -- tests/capture tests/test_{enrich,instrumentor,metrics,processor,run_buffer,sampling,sanitize}.py \
    tests/integrations/test_lru_cache.py
fi
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider "$@"
