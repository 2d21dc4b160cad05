#!/usr/bin/env bash
# Every check there is: style, types, import arrows, tests. `bash scripts/test.sh tests/test_x.py` passes on to pytest.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

export HF_HUB_OFFLINE=1 PYRIGHT_PYTHON_IGNORE_WARNINGS=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

command -v chromium chromium-browser google-chrome >/dev/null || {
  say "Installing a browser, which the console is tested in"
  apt_install chromium || printf '%s\n' "Not installed; those tests are skipped." "  run: sudo apt-get install chromium" >&2
}

say "Style"
ruff check --output-format concise .
ruff format --check .

say "Types"
pyright --pythonpath "$venv/bin/python"

say "Import arrows"
# A folder without __init__.py is invisible to import-linter in an editable install, so it looks at a wheel's content.
wheel=$(mktemp -d)
trap 'rm -rf "$wheel"' EXIT
rm -rf build # a former build's leftovers would be packed
python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --target "$wheel" .
rm -rf build
(cd "$wheel" && PYTHONPATH=$wheel lint-imports --config "$root/pyproject.toml" --no-cache)

say "Tests"
pytest -n "${PYTEST_WORKERS:-2}" --dist loadfile "$@"
