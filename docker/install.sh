# Installs packages: sh docker/install.sh TOOLS PYTHON PACKAGE..., in the folder of requirements.lock. TOOLS is the folder
# of a pip, which installs uv beside itself; uv installs the rest for PYTHON.
# Versions and hashes come from requirements.lock, and a package with another hash is refused. The index comes from pip's
# settings, which uv itself does not read. UV_TORCH_BACKEND=cpu takes torch and torchvision from PyTorch's index for CPUs,
# in the versions of the lock; their hashes there are others, which the lock does not have, so these two are not compared.
set -eu
tools=$1 python=$2
shift 2
if [ ! -x "$tools/uv" ]; then
    sed -n '/^uv==/,/[^\\]$/p' requirements.lock >"$tools/uv.txt"
    "$tools/pip" install -q --no-deps --require-hashes -r "$tools/uv.txt"
fi
setting() { "$tools/pip" config get "global.$1" 2>/dev/null || true; }
index=$(setting index-url) more=$(setting extra-index-url) trusted=$(setting trusted-host)
if [ -n "$index" ]; then export UV_DEFAULT_INDEX="$index"; fi
if [ -n "$more" ]; then export UV_INDEX="$more"; fi
if [ -n "$trusted" ]; then export UV_INSECURE_HOST="$trusted"; fi
lock=requirements.lock
if [ -n "${UV_TORCH_BACKEND:-}" ]; then
    lock=$tools/torch.txt
    sed '/^torch\(vision\)\{0,1\}==/,/[^\]$/{s/ \\$//;/--hash=/d;}' requirements.lock >"$lock"
fi
exec "$tools/uv" pip install --python "$python" -c "$lock" -b requirements.lock "$@"
