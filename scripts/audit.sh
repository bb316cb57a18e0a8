#!/bin/sh
# Looks for known weaknesses of what the lock files name. Fails where one is known, and not where nobody can be asked.
set -u
cd "$(dirname "$0")/.."

SECONDS_TO_ASK=${SECONDS_TO_ASK:-60}
found=0
for lock in requirements.lock requirements-torch.lock requirements-cuda.lock; do
    output=$(timeout "$SECONDS_TO_ASK" .venv-tools/bin/pip-audit --disable-pip --require-hashes --progress-spinner off \
        --timeout 15 -r "$lock" 2>&1)
    status=$?
    case "$status $output" in
        "0 "*) echo "$lock: no known weakness." ;;
        *"Fix Versions"*) echo "$output"; found=1 ;;
        *) echo "$lock: skipped, the list of known weaknesses cannot be reached." ;;
    esac
done
exit "$found"
