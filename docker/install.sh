# Installs packages: sh docker/install.sh TOOLS PYTHON PACKAGE..., in the folder of requirements.lock. TOOLS is the folder of
# a virtual environment's commands. If it has no pip, it gets the one that Python itself contains, and if it has no uv, pip
# installs uv; uv installs the rest for PYTHON.
# Versions and hashes come from requirements.lock, and a package with another hash is refused. The index comes from pip's
# settings, which uv itself does not read. UV_TORCH_BACKEND=cpu takes torch and torchvision from PyTorch's index for CPUs,
# in the versions of the lock; their hashes there are others, which the lock does not have, so these two are not compared.
set -eu
tools=$1 python=$2
shift 2
if [ ! -x "$tools/pip" ]; then
    # Unpacked and not installed, because `python -m venv` and `python -m ensurepip` install it for five seconds.
    "$tools/python" -c '
import pathlib, sys, sysconfig, zipfile
try:
    import ensurepip
    folder = sysconfig.get_config_var("WHEEL_PKG_DIR") or f"{ensurepip.__path__[0]}/_bundled"
    wheel = next(pathlib.Path(folder).glob("pip-*.whl"))
except (ImportError, StopIteration):
    sys.exit("this Python comes without pip; install its module venv (on Debian: apt-get install python3-venv)")
zipfile.ZipFile(wheel).extractall(sysconfig.get_path("purelib"))'
    printf '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/python" -m pip "$@"\n' >"$tools/pip"
    chmod +x "$tools/pip"
fi
if [ ! -x "$tools/uv" ]; then
    sed -n '/^uv==/,/[^\\]$/p' requirements.lock >"$tools/uv.txt"
    "$tools/pip" install -q --no-deps --require-hashes -r "$tools/uv.txt"
fi
settings=$("$tools/pip" config list)
eval "$(printf '%s\n' "$settings" | "$python" -c '
import ast, shlex, sys
names = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "trusted-host": "UV_INSECURE_HOST"}
lines = sorted(sys.stdin, key=lambda line: line.startswith(":env:"))  # the environment comes last, because it counts
for key, _, value in (line.partition("=") for line in lines):
    section, _, name = key.rpartition(".")
    if section in ("global", "install", ":env:") and name in names:
        print(f"export {names[name]}={shlex.quote(ast.literal_eval(value).strip())}")')"
lock=requirements.lock
if [ -n "${UV_TORCH_BACKEND:-}" ]; then
    lock=$tools/torch.txt
    sed '/^torch\(vision\)\{0,1\}==/,/[^\]$/{s/ \\$//;/--hash=/d;}' requirements.lock >"$lock"
fi
exec "$tools/uv" pip install --python "$python" -c "$lock" -b requirements.lock "$@"
