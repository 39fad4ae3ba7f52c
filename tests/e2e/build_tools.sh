#!/usr/bin/env bash
# Builds the Collector and Jaeger that the end-to-end tests run, with the Go toolchain, into the user's
# cache, by version. Prints the folder. About 15 minutes on two cores the first time, instant afterwards.
set -euo pipefail

COLLECTOR=0.159.0
# Jaeger v2.13.0: its code is the module's last v1 tag, because the module path has no /v2.
JAEGER=2.13.0 JAEGER_MODULE=github.com/jaegertracing/jaeger@v1.76.0

here=$(cd "$(dirname "$0")" && pwd)
tools="${XDG_CACHE_HOME:-$HOME/.cache}/otel-agentperf"
mkdir -p "$tools"

if [ ! -x "$tools/otelcol-$COLLECTOR" ]; then
  echo "building the OpenTelemetry Collector $COLLECTOR ..." >&2
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  GOBIN="$work/bin" go install "go.opentelemetry.io/collector/cmd/builder@v$COLLECTOR"
  (cd "$work" && CGO_ENABLED=0 bin/builder --config "$here/otelcol-builder.yaml") >&2
  mv "$work/out/otelcol" "$tools/otelcol-$COLLECTOR"
fi

if [ ! -x "$tools/jaeger-$JAEGER" ]; then
  echo "building Jaeger $JAEGER ..." >&2
  # `go install` refuses a go.mod with a replace directive, so build inside the module's own folder.
  source=$(go mod download -json "$JAEGER_MODULE" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  (cd "$source" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$tools/jaeger-$JAEGER.part" ./cmd/jaeger)
  mv "$tools/jaeger-$JAEGER.part" "$tools/jaeger-$JAEGER"
fi

echo "$tools"
