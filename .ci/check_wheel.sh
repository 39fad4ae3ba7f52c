#!/usr/bin/env bash
# Does the same source give the same wheel, byte for byte? Built twice, from two folders, with other times and modes on
# the files. The hash holds for one version of the build backend, which the wheel names.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${PYTHON:-python3}"
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-1767225600}"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

build() {
  mkdir "$scratch/$1"
  cp -R pyproject.toml README.md LICENSE src "$scratch/$1/"
  find "$scratch/$1" -name __pycache__ -prune -exec rm -rf {} +
  "${@:2}"
  "$python" -m pip wheel -q --no-deps --no-cache-dir -w "$scratch/$1/wheel" "$scratch/$1"
}

build one true
umask 077
build two find "$scratch/two" -exec touch -d 2001-01-01 {} + -exec chmod go= {} +

one="$(sha256sum "$scratch"/one/wheel/*.whl | cut -d' ' -f1)"
two="$(sha256sum "$scratch"/two/wheel/*.whl | cut -d' ' -f1)"
(cd "$scratch/one/wheel" && echo "$one  $(echo *.whl)")
if [ "$one" != "$two" ]; then
  echo "the second build is $two" >&2
  exit 1
fi
if "$python" -m zipfile -l "$scratch"/one/wheel/*.whl | grep -E '__pycache__|\.pyc|/tests/' >&2; then
  echo "the wheel holds what it should not" >&2
  exit 1
fi
