#!/bin/sh
# Makes .venv from the lock file, every package checked against its hash.
# Works where Debian's python3-venv is missing, as root or not.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }

command -v "$python" >/dev/null || { say "Python 3.11 or newer is needed: apt-get install python3"; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    say "$("$python" --version) is too old: set PYTHON to 3.11 or newer, as in: make PYTHON=python3.12 test"
    exit 1
}

if [ ! -x .venv/bin/python ]; then
    say "making .venv with $("$python" --version)"
    # ensurepip is a package of its own on Debian; the system's pip can stand in for it.
    if ! "$python" -m venv .venv >/dev/null 2>&1; then
        rm -rf .venv
        if "$python" -m pip --version >/dev/null 2>&1; then
            "$python" -m venv --without-pip .venv
        elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            say "installing python3-venv, which Debian keeps apart from python3"
            apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
            "$python" -m venv .venv
        else
            say "Python cannot make a virtual environment here: apt-get install python3-venv"
            exit 1
        fi
    fi
fi
if ! .venv/bin/python -m uv --version >/dev/null 2>&1; then
    say "installing uv"
    if .venv/bin/python -m pip --version >/dev/null 2>&1; then
        .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
    else
        "$python" -m pip --python .venv/bin/python install -q --disable-pip-version-check \
            --require-hashes -r requirements/uv.txt
    fi
fi
say "installing the locked packages"
.venv/bin/python -m uv pip sync -q -p .venv --require-hashes requirements/uv.txt requirements/dev.txt
.venv/bin/python -m uv pip install -q -p .venv --no-deps --no-build-isolation -e .

# The provider's SDK in an old major version, for the tests that hold both to the same behaviour.
[ -x .venv-anthropic-old/bin/python ] || .venv/bin/python -m uv venv -q -p .venv/bin/python .venv-anthropic-old
.venv/bin/python -m uv pip sync -q -p .venv-anthropic-old --require-hashes requirements/anthropic-old.txt
