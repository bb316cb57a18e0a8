#!/bin/sh
# Brings .venv up to date: scripts/install.sh app | dev | browser | tools
#
# It may be killed at any time and run again: a stamp is written only after success and holds the checksum of the
# requirements; an environment that does not work is made anew; a package left half installed is installed again.
# Every package is of a lock file and has a hash there (`make lock`); nothing else is fetched, from wherever it comes.
# PYTHON names the interpreter to use, PIP_ARGS is handed to every `pip install`. TORCH_INDEX is where torch alone is
# taken from: without it from PyPI, whose build for Linux brings CUDA; https://download.pytorch.org/whl/cpu has none.
set -eu
cd "$(dirname "$0")/.."

python=.venv/bin/python

main() {
    case ${1:-} in
        app) install_app ;;
        dev) install_app; install_dev ;;
        browser) install_browser ;;
        tools) install_tools ;;
        *) fail "Usage: scripts/install.sh app | dev | browser | tools" ;;
    esac
}

install_app() {
    venv_works || make_venv
    forget_half_installed
    once app "requirements-build.lock requirements-torch.lock requirements-cuda.lock requirements.lock" app_packages
    # The command `come`, where the sources are (a container installs the rest before they arrive).
    [ ! -d come ] || once come "pyproject.toml setup.py requirements.txt" pip --no-deps --no-build-isolation --editable .
}

install_dev() {
    once dev "requirements-dev.lock" dev_packages
}

# An environment of its own, so that what the tools need changes nothing in the product's.
install_tools() {
    [ -e .venv/bin/python ] || install_app
    python_of_app=$python python=.venv-tools/bin/python
    "$python" -m pip --version >/dev/null 2>&1 || "$python_of_app" -m venv --clear .venv-tools
    once tools "requirements-tools.lock" locked requirements-tools.lock
}

app_packages() {
    echo "Installing PyTorch, Streamlit and the bundled model into .venv (the first time takes some minutes) ..."
    locked requirements-build.lock &&
        torch_package &&
        { torch_is_without_cuda || locked requirements-cuda.lock; } &&
        locked requirements.lock
}

# A build that lies on this machine (pip's find-links) comes before one that would have to be fetched.
torch_package() {
    if [ -n "${TORCH_INDEX:-}" ]; then
        locked requirements-torch.lock --index-url "$TORCH_INDEX"
    else
        locked requirements-torch.lock --no-index >/dev/null 2>&1 || locked requirements-torch.lock
    fi
}

dev_packages() {
    echo "Installing the tools for tests and lint into .venv ..."
    locked requirements-dev.lock
}

torch_is_without_cuda() {
    "$python" -c 'import sys; from importlib.metadata import version; sys.exit("+cpu" not in version("torch"))'
}

# once NAME "FILES" COMMAND...: runs the command, unless it succeeded before with the files as they are now
once() {
    stamp=${python%/bin/*}/.installed-$1
    sum=$(cat $2 | cksum)
    shift 2
    [ "$(cat "$stamp" 2>/dev/null)" != "$sum" ] || return 0
    "$@" || fail "The installation did not finish. Run the same command again to go on from here."
    echo "$sum" >"$stamp"
}

# locked FILE ARGUMENTS...: installs what a lock file says and nothing beside it
locked() {
    file=$1
    shift
    pip --require-hashes --no-deps --use-pep517 --no-build-isolation "$@" -r "$file"
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
