"""What several servers share: a PostgreSQL in the cluster, and an S3 server outside of it."""

from __future__ import annotations

import http.client
import json
import operator
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import make_conninfo

from tests.cluster.cluster import Cluster
from tests.cluster.postgresql import ACCOUNT, NAME, postgresql_image
from tests.e2e.deployment import NAMESPACE, VOLUME
from tests.e2e.things import Thing
from tests.s3 import s3
from tests.waiting import eventually

SPACE = "tierserve-stores"
USER, PASSWORD, BUCKET = "tierserve", "not-a-secret", "pictures"
# The S3 server checks no signature, but it needs one of this form.
SOMEBODY = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, Signature=x"
SERVE = """
if [ ! -s $PGDATA/PG_VERSION ]; then
  initdb --username=$PGUSER --pwfile=/run/secret/password --auth=scram-sha-256 --encoding=UTF8 --no-locale
  echo 'host all all all scram-sha-256' >>$PGDATA/pg_hba.conf
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp
"""
POSTGRESQL = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {SPACE}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: postgresql, namespace: {SPACE}}}
stringData: {{password: {PASSWORD}}}
---
apiVersion: v1
kind: Service
metadata: {{name: postgresql, namespace: {SPACE}}}
spec: {{selector: {{app: postgresql}}, ports: [{{port: 5432}}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: postgresql, namespace: {SPACE}}}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: ""
  volumeName: {SPACE}
  resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: postgresql, namespace: {SPACE}}}
spec:
  strategy: {{type: Recreate}}
  selector: {{matchLabels: {{app: postgresql}}}}
  template:
    metadata: {{labels: {{app: postgresql}}}}
    spec:
      automountServiceAccountToken: false
      securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
        - name: postgresql
          image: {NAME}
          imagePullPolicy: Never
          command: [sh, -c, {json.dumps(SERVE)}]
          env: [{{name: PGDATA, value: /data/postgresql}}, {{name: PGUSER, value: {USER}}}]
          readinessProbe: {{tcpSocket: {{port: 5432}}, periodSeconds: 1}}
          resources: {{requests: {{cpu: 100m, memory: 128Mi}}, limits: {{memory: 512Mi}}}}
          securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
          volumeMounts:
            - {{name: data, mountPath: /data}}
            - {{name: secret, mountPath: /run/secret}}
      volumes:
        - name: data
          persistentVolumeClaim: {{claimName: postgresql}}
        - name: secret
          secret: {{secretName: postgresql}}
"""

# objid 2 is the lock of the leader (server/queue/store/leadership.py); objsubid 2 means that its key has two parts.
HOLDER = """
    SELECT host(client_addr) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND objid = 2 AND objsubid = 2 AND granted
"""


class Stores:
    """PostgreSQL and the bucket, and the chart's values that name them."""

    def __init__(self, cluster: Cluster, store: tuple[str, int]) -> None:
        self._cluster = cluster
        self._store = store
        self.sets = (
            "database.secretName=database",
            f"blobs.url=s3://{BUCKET}/tierserve",
            "blobs.secretName=bucket",
            f"blobs.port={store[1]}",
        )

    def start(self) -> None:
        """Start PostgreSQL on the node n1, make the bucket, and put Secrets for both into the release's namespace."""
        self._cluster.nodes["n1"].load_image(postgresql_image())
        # A new folder each time, because the volume of an earlier run may still have its data.
        path = self._cluster.node_directory("n1", f"postgresql-{time.monotonic_ns()}")
        os.chown(path, ACCOUNT, ACCOUNT)
        self._cluster.kubectl("apply", "-f", "-", stdin=VOLUME.format(name=SPACE, path=path))
        self._cluster.kubectl("apply", "-f", "-", stdin=POSTGRESQL)
        connection = http.client.HTTPConnection(*self._store, timeout=10)
        connection.request("PUT", f"/{BUCKET}", headers={"Authorization": SOMEBODY})
        assert connection.getresponse().status == 200
        connection.close()
        self._cluster.kubectl("create", "namespace", NAMESPACE)
        self._secret("database", url=f"postgresql://{USER}:{PASSWORD}@postgresql.{SPACE}/postgres")
        address = f"http://{self._store[0]}:{self._store[1]}"
        self._secret("bucket", AWS_ENDPOINT_URL=address, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="not-one-either")
        self.wait_ready()
        service = json.loads(self._cluster.kubectl("-n", SPACE, "get", "service", "postgresql", "-o", "json"))
        self._database = service["spec"]["clusterIP"]

    def remove(self) -> None:
        """Remove PostgreSQL with its data, and the Secrets."""
        self._cluster.kubectl("delete", "namespace", SPACE, NAMESPACE, "--ignore-not-found", timeout=120)
        self._cluster.kubectl("delete", "persistentvolume", SPACE, "--ignore-not-found")

    def wait_ready(self) -> None:
        """Return when PostgreSQL's pod is ready."""

        def ready(pods: list[Thing]) -> bool:
            return any(state["ready"] for pod in pods for state in pod["status"].get("containerStatuses", ()))

        eventually(self.pods, 100, "PostgreSQL is ready", ready)

    def scale(self, replicas: int) -> None:
        """Run one pod of PostgreSQL or none. Returns when it is ready or gone."""
        self._cluster.kubectl("-n", SPACE, "scale", "deployment/postgresql", f"--replicas={replicas}")
        if replicas:
            self.wait_ready()
        else:
            eventually(self.pods, 60, "PostgreSQL has ended", operator.not_)

    def pods(self) -> list[Thing]:
        """The pods of PostgreSQL."""
        told = self._cluster.kubectl("-n", SPACE, "get", "pods", "--selector=app=postgresql", "-o", "json")
        return [Thing(item) for item in json.loads(told)["items"]]

    def leading(self) -> str:
        """The address of the pod that holds the leader's lock; empty if none does."""
        where = make_conninfo(host=self._database, user=USER, password=PASSWORD, dbname="postgres")
        with psycopg.connect(where, connect_timeout=10) as connection:
            row = connection.execute(HOLDER).fetchone()
        return str(row[0]) if row else ""

    def wait_answers(self) -> None:
        """Return when PostgreSQL takes connections."""
        eventually(self.leading, 90, "PostgreSQL answers", lambda _: True, (psycopg.OperationalError,))

    def _secret(self, name: str, **texts: str) -> None:
        literals = [f"--from-literal={key}={text}" for key, text in texts.items()]
        self._cluster.kubectl("-n", NAMESPACE, "create", "secret", "generic", name, *literals)


@contextmanager
def stores(cluster: Cluster) -> Iterator[Stores]:
    """PostgreSQL and the bucket while the block lasts. The S3 server listens on the cluster's own link."""
    with s3(cluster.network.host, cluster.logs / "s3.log") as address:
        found = Stores(cluster, address)
        try:
            found.start()
            yield found
        finally:
            found.remove()
