# The targets are server, worker (ONNX Runtime) and worker-timm (torch). The default is server.
#
#   BASE=python:3.11-slim@$(docker buildx imagetools inspect python:3.11-slim --format '{{.Manifest.Digest}}')
#   docker build --build-arg BASE_IMAGE=$BASE --target server -t tierserve-server:0.1.0 \
#     --build-context models=.tierserve/models .
#   docker build --build-arg BASE_IMAGE=$BASE --target worker -t tierserve-worker:0.1.0 \
#     --build-context models=.tierserve/models .
#
# Models: `make models` fills .tierserve/models. The server's image has their records, so that the server knows which models the
# workers' image has. Without --build-context models=DIR the stage `models` builds the two default models.
# Base image: any image with Python 3.11 or later, its venv module and ca-certificates. It is named by its digest, which the
# build records, because a tag names another image every few weeks; only an image of this machine (localhost/...) needs none.
# Proxy with its own certificate authority: buildah and podman can mount the host's certificates during the build, and none
# of them stays in the image. With Docker use a base image that has them.
#   buildah bud -v /etc/ssl/certs:/etc/ssl/certs:ro --target server .
# Your own package index: pass its pip.conf, with credentials, as a secret, which stays out of every layer:
#   --secret id=pip,src=$HOME/.config/pip/pip.conf
ARG BASE_IMAGE=python:3.11-slim


# The base of all build stages: the installer, in its own virtual environment, installs into /opt/tierserve.
FROM ${BASE_IMAGE} AS tools
ARG BASE_IMAGE
RUN case "$BASE_IMAGE" in *@sha256:*|localhost/*) ;; \
    *) echo "name the base image by its digest: --build-arg BASE_IMAGE=$BASE_IMAGE@sha256:..." >&2; exit 1;; esac
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    UV_NO_CACHE=1
WORKDIR /src
COPY requirements.lock docker/install.sh ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv --without-pip /pip && python3 -m venv --without-pip /opt/tierserve \
    && sh install.sh /pip/bin /pip/bin/python cyclonedx-bom && /pip/bin/cyclonedx-py --version
# COMPILE compiles Python files for a start that writes nothing. SBOM writes the list of what is installed in /opt/tierserve
# beside it; the tests validate it. The call above has compiled the program for all stages.
ENV COMPILE="/opt/tierserve/bin/python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash" \
    SBOM="/pip/bin/cyclonedx-py environment --no-validate --output-reproducible -o /opt/tierserve/sbom.cdx.json /opt/tierserve/bin/python"


FROM tools AS server-packages
COPY setup.py ./
# Installs the distribution without its code: its dependencies, its metadata and its command. The code is copied below.
# Removes 60 MB that nothing imports: the asynchronous Kubernetes client, SQLAlchemy's ORM and its dialects for other
# databases, most of its extensions, the lexers of pygments, and what makes aiohttp's WebSockets faster.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    sh install.sh /pip/bin /opt/tierserve/bin/python '.[server,cluster,postgresql,objects,tracing]' \
    && cd /opt/tierserve/lib/python3*/site-packages && rm -r kubernetes/aio aiohttp/_websocket/reader_c.*.so \
        sqlalchemy/orm sqlalchemy/dialects/mssql sqlalchemy/dialects/mysql sqlalchemy/dialects/oracle \
        pygments/lexers/[a-z]*.py \
    && find sqlalchemy/ext -mindepth 1 -maxdepth 1 ! -name __init__.py ! -name compiler.py -exec rm -r {} + \
    && /pip/bin/uv pip uninstall -q --python /opt/tierserve/bin/python aiohttp-retry \
    && find . -type d \( -name test -o -name tests -o -name testing \) -prune -exec rm -r {} + && find . -name '*.pyi' -delete \
    && $COMPILE . && $SBOM

FROM tools AS whole-worker-packages
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    sh install.sh /pip/bin /opt/tierserve/bin/python numpy onnxruntime pillow websockets

FROM whole-worker-packages AS worker-packages
# libonnxruntime.so is for C programs; the Python module contains the same code.
RUN cd /opt/tierserve/lib/python3*/site-packages \
    && rm -r onnxruntime/capi/libonnxruntime.so* onnxruntime/quantization onnxruntime/tools onnxruntime/transformers \
        numpy/_core/include numpy/_core/lib numpy/f2py \
    && find . -type d -name tests -prune -exec rm -r {} + && find . -name '*.pyi' -delete \
    && $COMPILE . && $SBOM

FROM tools AS worker-timm-packages
# One file of torch (py312_...) uses the syntax of a later Python, so it is not compiled.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    sh install.sh /pip/bin /opt/tierserve/bin/python numpy pillow safetensors timm torch websockets \
    && cd /opt/tierserve/lib/python3*/site-packages && find . -name '*.pyi' -delete \
    && $COMPILE -x /py312_ . && $SBOM


FROM whole-worker-packages AS model-builder
COPY setup.py ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    sh install.sh /pip/bin /opt/tierserve/bin/python '.[build,worker]'
COPY model/ model/
RUN /opt/tierserve/bin/python -m model build --require int8 --output /models

FROM scratch AS models
COPY --from=model-builder /models /


FROM ${BASE_IMAGE} AS server-files
WORKDIR /srv/tierserve
COPY chart/rules.yaml chart/values.yaml chart/values.schema.json chart/
COPY chart/files/jobtemplates/ jobtemplates/
COPY schemas/ schemas/
COPY model/formats.json model/
COPY model/pictures/cat.jpg model/pictures/
COPY server/ server/
COPY tierserve/ tierserve/
RUN python3 -m compileall -q --invalidation-mode unchecked-hash server tierserve

FROM ${BASE_IMAGE} AS worker-code
WORKDIR /srv/tierserve
COPY model/*.py model/formats.json model/
COPY model/runtimes/ model/runtimes/
RUN python3 -m compileall -q --invalidation-mode unchecked-hash model

# For each image what it needs of the models: the server their records, workers the variants of their runtime.
FROM ${BASE_IMAGE} AS all-models
COPY --from=models / /models
COPY docker/pick_variants.py ./

FROM all-models AS server-models
RUN python3 pick_variants.py records /models /picked

FROM all-models AS worker-models
RUN python3 pick_variants.py onnx /models /picked

FROM all-models AS worker-timm-models
RUN python3 pick_variants.py timm /models /picked


# The base of the three images. The official Python images have no .pyc files, and a pip that a read-only image cannot use.
FROM ${BASE_IMAGE} AS runtime
RUN cd "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && python3 -m compileall -q --invalidation-mode unchecked-hash -x '/(test|tests|idlelib|lib2to3|site-packages)/' . \
    && rm -rf ensurepip site-packages/pip* site-packages/setuptools* site-packages/wheel* site-packages/pkg_resources \
        /usr/local/bin/pip* /usr/local/bin/wheel /usr/share/python-wheels \
    && echo 'tierserve:x:10001:10001::/tmp:/usr/sbin/nologin' >>/etc/passwd \
    && echo 'tierserve:x:10001:' >>/etc/group
ENV HOME=/tmp \
    PATH=/opt/tierserve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/srv/tierserve \
    PYTHONUNBUFFERED=1
WORKDIR /srv/tierserve
USER 10001:10001
ARG BASE_IMAGE
ARG VERSION=0.1.0
LABEL org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.base.name=${BASE_IMAGE} \
      org.opencontainers.image.licenses=Apache-2.0


FROM runtime AS worker-timm
LABEL org.opencontainers.image.title=tierserve-worker-timm \
      org.opencontainers.image.description="Classifies pictures for tierserve with timm and torch, on a GPU or a CPU"
ENV TIERSERVE_MODELS=/srv/tierserve/models
COPY --from=worker-timm-packages /opt/tierserve /opt/tierserve
COPY --from=worker-code /srv/tierserve /srv/tierserve
COPY --from=worker-timm-models /picked models
CMD ["python", "-m", "model", "work", "--help"]


FROM runtime AS worker
LABEL org.opencontainers.image.title=tierserve-worker \
      org.opencontainers.image.description="Classifies pictures for tierserve with ONNX Runtime, models inside"
ENV TIERSERVE_MODELS=/srv/tierserve/models
COPY --from=worker-packages /opt/tierserve /opt/tierserve
COPY --from=worker-code /srv/tierserve /srv/tierserve
COPY --from=worker-models /picked models
CMD ["python", "-m", "model", "work", "--help"]


FROM runtime AS server
LABEL org.opencontainers.image.title=tierserve-server \
      org.opencontainers.image.description="Queues pictures in tiers and starts the Kubernetes Jobs that classify them"
ENV TIERSERVE_MODELS=/srv/tierserve/models
COPY --from=server-packages /opt/tierserve /opt/tierserve
COPY --from=server-files /srv/tierserve /srv/tierserve
COPY --from=server-models /picked models
EXPOSE 8080 8081
ENTRYPOINT ["python", "-m", "server"]
CMD ["--help"]
