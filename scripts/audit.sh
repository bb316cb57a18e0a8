#!/bin/sh
# Looks for known weaknesses of what the lock files name. Fails where one is known, and not where nobody can be asked.
set -u
cd "$(dirname "$0")/.."

SECONDS_TO_ASK=${SECONDS_TO_ASK:-60}
set --
for lock in requirements.lock requirements-torch.lock requirements-cuda.lock requirements-build.lock; do
    set -- "$@" -r "$lock"
done
output=$(timeout "$SECONDS_TO_ASK" .venv-tools/bin/pip-audit --disable-pip --require-hashes --progress-spinner off \
    --timeout 15 "$@" 2>&1)
status=$?
case "$status $output" in
    "0 "*) echo "No known weakness in what the lock files name." ;;
    *"Fix Versions"*) echo "$output"; exit 1 ;;
    *) echo "Skipped: the list of known weaknesses cannot be reached." ;;
esac
