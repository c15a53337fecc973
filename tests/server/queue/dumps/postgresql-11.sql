CREATE FUNCTION predictions_counted() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
        DECLARE
            of_tier text := coalesce(new.tier, old.tier);
            of_slot integer := mod(pg_backend_pid(), 64);
            of_priority integer := coalesce(new.priority, old.priority);
            of_turn bigint := coalesce(new.turn, old.turn);
            of_moment bigint := floor(coalesce(new.accepted_at, old.accepted_at) * 16)::bigint;
            was text := coalesce(old.status, '');
            is_now text := coalesce(new.status, '');
            more_queued integer := (is_now = 'queued')::int - (was = 'queued')::int;
            more_leased integer := (is_now = 'leased')::int - (was = 'leased')::int;
            more_bytes bigint := (more_queued + more_leased)::bigint * coalesce(new.size, old.size);
            was_canary text := CASE WHEN old.canary THEN was ELSE '' END;
            is_canary text := CASE WHEN new.canary THEN is_now ELSE '' END;
        BEGIN
            INSERT INTO depths AS d (tier, slot, queued, leased, bytes, turn, canary_queued, canary_leased)
            VALUES (
                of_tier, of_slot, more_queued, more_leased, more_bytes,
                CASE WHEN is_now = 'leased' AND is_canary = '' THEN of_turn ELSE 0 END,
                (is_canary = 'queued')::int - (was_canary = 'queued')::int,
                (is_canary = 'leased')::int - (was_canary = 'leased')::int
            )
            ON CONFLICT (tier, slot) DO UPDATE SET
                queued = d.queued + excluded.queued,
                leased = d.leased + excluded.leased,
                bytes = d.bytes + excluded.bytes,
                turn = greatest(d.turn, excluded.turn),
                canary_queued = d.canary_queued + excluded.canary_queued,
                canary_leased = d.canary_leased + excluded.canary_leased;
            IF more_queued <> 0 THEN
                INSERT INTO waiting AS w (tier, level, priority, turn, moment, slot, queued)
                VALUES
                    (of_tier, 0, of_priority, of_turn >> 10, 0, of_slot, more_queued),
                    (of_tier, 1, of_priority, of_turn, 0, of_slot, more_queued),
                    (of_tier, 2, of_priority, of_turn, of_moment, of_slot, more_queued)
                ON CONFLICT (tier, level, priority, turn, moment, slot)
                DO UPDATE SET queued = w.queued + excluded.queued;
            END IF;
            RETURN NULL;
        END $$;

CREATE TABLE changes (
    name text NOT NULL,
    number bigint NOT NULL
);

CREATE TABLE depths (
    tier text NOT NULL,
    slot integer NOT NULL,
    queued integer NOT NULL,
    leased integer NOT NULL,
    bytes bigint DEFAULT 0 NOT NULL,
    turn bigint DEFAULT 0 NOT NULL,
    canary_queued integer DEFAULT 0 NOT NULL,
    canary_leased integer DEFAULT 0 NOT NULL
)
WITH (fillfactor='20', autovacuum_vacuum_threshold='500');

CREATE TABLE jobs (
    name text NOT NULL,
    tier text NOT NULL,
    run text NOT NULL,
    opened_at double precision NOT NULL,
    asked_at double precision,
    leased_at double precision,
    ended_at double precision,
    reason text NOT NULL,
    blamed boolean NOT NULL,
    heard_at double precision,
    model text DEFAULT ''::text NOT NULL,
    recalled_at double precision
);

CREATE TABLE keys (
    id text NOT NULL,
    owner text NOT NULL,
    tiers text NOT NULL,
    digest text NOT NULL,
    created_at double precision NOT NULL,
    expires_at double precision,
    revoked_at double precision,
    limits text NOT NULL,
    weight double precision NOT NULL
);

CREATE TABLE measures (
    tier text NOT NULL,
    model text NOT NULL,
    slot integer NOT NULL,
    predictions bigint NOT NULL,
    pictures bigint NOT NULL,
    failed bigint NOT NULL,
    unsure bigint NOT NULL,
    milliseconds text NOT NULL,
    touched_at double precision NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_threshold='500');

CREATE TABLE minutes (
    tier text NOT NULL,
    minute bigint NOT NULL,
    slot integer NOT NULL,
    accepted bigint NOT NULL,
    succeeded bigint NOT NULL,
    failed bigint NOT NULL,
    waits text NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_threshold='500');

CREATE TABLE model_tags (
    name text NOT NULL,
    tag text NOT NULL,
    version text NOT NULL
);

CREATE TABLE models (
    name text NOT NULL,
    version text NOT NULL,
    digest text NOT NULL,
    record text NOT NULL,
    files text NOT NULL,
    pushed_at double precision NOT NULL
);

CREATE TABLE predictions (
    seq bigint NOT NULL,
    id text NOT NULL,
    tier text NOT NULL,
    model text NOT NULL,
    status text NOT NULL,
    images integer NOT NULL,
    size integer NOT NULL,
    top_k integer NOT NULL,
    priority integer NOT NULL,
    turn bigint DEFAULT 0 NOT NULL,
    owner text NOT NULL,
    caller text DEFAULT ''::text NOT NULL,
    idempotency_key text,
    fingerprint text,
    accepted_at double precision NOT NULL,
    deadline_at double precision NOT NULL,
    started_at double precision,
    completed_at double precision,
    attempts integer DEFAULT 0 NOT NULL,
    solo boolean DEFAULT false NOT NULL,
    job text,
    token text,
    lost_tokens text DEFAULT ''::text NOT NULL,
    lease_until double precision,
    results text,
    error text,
    predict_ms double precision,
    reason text DEFAULT ''::text NOT NULL,
    canary boolean DEFAULT false NOT NULL,
    function text DEFAULT 'softmax'::text NOT NULL,
    trace text,
    request_id text,
    names text,
    CONSTRAINT predictions_check CHECK (((completed_at IS NOT NULL) = (status = ANY (ARRAY['aborted'::text, 'canceled'::text, 'expired'::text, 'failed'::text, 'succeeded'::text])))),
    CONSTRAINT predictions_check1 CHECK (((lease_until IS NOT NULL) = (status = 'leased'::text))),
    CONSTRAINT predictions_status_check CHECK ((status = ANY (ARRAY['aborted'::text, 'canceled'::text, 'expired'::text, 'failed'::text, 'leased'::text, 'queued'::text, 'succeeded'::text])))
)
WITH (autovacuum_vacuum_scale_factor='0.02', autovacuum_vacuum_threshold='1000');

CREATE SEQUENCE predictions_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE predictions_seq_seq OWNED BY predictions.seq;

CREATE TABLE reports (
    tier text NOT NULL,
    view text NOT NULL,
    at double precision NOT NULL
);

CREATE TABLE schema_version (
    version integer NOT NULL
);

CREATE TABLE secrets (
    name text NOT NULL,
    value text NOT NULL
);

CREATE TABLE serving (
    tier text NOT NULL,
    state text NOT NULL,
    at double precision NOT NULL
);

CREATE TABLE shares (
    tier text NOT NULL,
    caller text NOT NULL,
    slot integer NOT NULL,
    finish double precision NOT NULL,
    spent double precision NOT NULL,
    seen double precision NOT NULL,
    used_at double precision NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_threshold='500');

CREATE TABLE uses (
    tier text NOT NULL,
    caller text NOT NULL,
    day integer NOT NULL,
    slot integer NOT NULL,
    requests bigint NOT NULL,
    pictures bigint NOT NULL,
    until double precision NOT NULL
);

CREATE TABLE waiting (
    tier text NOT NULL,
    level integer NOT NULL,
    priority integer NOT NULL,
    turn bigint NOT NULL,
    moment bigint NOT NULL,
    slot integer NOT NULL,
    queued integer NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_threshold='500');

ALTER TABLE ONLY predictions ALTER COLUMN seq SET DEFAULT nextval('predictions_seq_seq'::regclass);

INSERT INTO changes VALUES ('models', 2);

INSERT INTO depths VALUES ('served', 1, 1, 1, 2000, 1, 1, 1);
INSERT INTO depths VALUES ('traced', 1, 1, 0, 1000, 0, 0, 0);
INSERT INTO depths VALUES ('named', 1, 1, 0, 1000, 0, 0, 0);
INSERT INTO depths VALUES ('premium', 1, 1, 0, 1000, 0, 0, 0);
INSERT INTO depths VALUES ('free', 1, 2, 1, 3000, 2, 0, 0);
INSERT INTO depths VALUES ('ended', 1, 2, 0, 2000, 3, 0, 0);

INSERT INTO jobs VALUES ('job', 'free', 'run-job', 1800000000, 1800000000, 1800000000, NULL, '', false, 1800000000, '', NULL);
INSERT INTO jobs VALUES ('crashed', 'ended', 'run-crashed', 1800000000, 1800000000, 1800000000, 1800000000, 'exit code 1', true, 1800000000, '', NULL);
INSERT INTO jobs VALUES ('canary', 'served', 'run-canary', 1800000000, 1800000000, 1800000000, NULL, '', false, 1800000000, 'flowers@11111111 onnx/int8', NULL);
INSERT INTO jobs VALUES ('recalled', 'lending', 'run-recalled', 1800000000, NULL, NULL, NULL, 'lent quota went back to premium', false, NULL, '', 1800000000);

INSERT INTO measures VALUES ('served', 'flowers@11111111 onnx/int8', 1, 1, 1, 0, 1, '{"12": 1}', 1800000000);

INSERT INTO minutes VALUES ('free', 30000000, 1, 3, 2, 1, '{"40": 2}');

INSERT INTO model_tags VALUES ('flowers', 'best', '11111111');

INSERT INTO models VALUES ('flowers', '11111111', '1111111111111111111111111111111111111111111111111111111111111111', '{}', '[["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 5]]', 1800000000);

INSERT INTO predictions VALUES (3, 'p0000000000000000000000000000000002', 'free', 'lite0', 'queued', 1, 1000, 5, 0, 3, 'anna', 'owner:anna', 'k2', 'f2', 1800000000, 1800000600, NULL, NULL, 0, false, NULL, NULL, '', NULL, NULL, NULL, NULL, '', false, 'softmax', NULL, NULL, NULL);
INSERT INTO predictions VALUES (4, 'p0000000000000000000000000000000003', 'free', 'lite0', 'queued', 1, 1000, 5, 0, 4, 'anna', 'owner:anna', 'k3', 'f3', 1800000000, 1800000600, NULL, NULL, 0, false, NULL, NULL, '', NULL, NULL, NULL, NULL, '', false, 'softmax', NULL, NULL, NULL);
INSERT INTO predictions VALUES (5, 'p0000000000000000000000000000000004', 'premium', 'lite0', 'queued', 1, 1000, 5, 0, 1, 'anna', 'owner:anna', NULL, NULL, 1800000000, 1800000600, NULL, NULL, 0, false, NULL, NULL, '', NULL, NULL, NULL, NULL, '', false, 'softmax', NULL, NULL, NULL);
INSERT INTO predictions VALUES (2, 'p0000000000000000000000000000000001', 'free', 'lite0', 'leased', 1, 1000, 5, 0, 2, 'anna', 'owner:anna', 'k1', 'f1', 1800000000, 1800000600, 1800000000, NULL, 1, false, 'job', '5e8c99025bb2654d95d752682f7f3873', '', 1800000030, NULL, NULL, NULL, '', false, 'softmax', NULL, NULL, NULL);
INSERT INTO predictions VALUES (1, 'p0000000000000000000000000000000000', 'free', 'lite0', 'succeeded', 1, 1000, 5, 0, 1, 'anna', 'owner:anna', 'k0', 'f0', 1800000000, 1800000600, 1800000000, 1800000000, 1, false, 'job', '5e8c99025c7ee260cf7aebaa6f0f5e65', '5e8c99025c7ee260cf7aebaa6f0f5e65 ', NULL, '[{"index": 0, "labels": [{"label": "tabby", "score": 0.9}]}]', NULL, 8, '', false, 'softmax', NULL, NULL, NULL);
INSERT INTO predictions VALUES (9, 'p0000000000000000000000000000000008', 'ended', 'lite0', 'queued', 1, 1000, 5, 0, 4, 'anna', 'owner:anna', NULL, NULL, 1800000000, 1800000600, NULL, NULL, 0, false, NULL, NULL, '', NULL, NULL, NULL, NULL, '', false, 'softmax', NULL, NULL, NULL);
INSERT INTO predictions VALUES (6, 'p0000000000000000000000000000000005', 'ended', 'lite0', 'failed', 1, 1000, 5, 0, 1, 'anna', 'owner:anna', NULL, NULL, 1800000000, 1800000600, 1800000000, 1800000000, 1, false, 'crashed', 'ff42dd0de0f64b06ecf949af65ba79e4', 'ff42dd0de0f64b06ecf949af65ba79e4 ', NULL, '[{"index": 0, "labels": [{"label": "tabby", "score": 0.9}]}]', '{"code": "bad_image", "detail": "no picture"}', 8, '', false, 'softmax', NULL, NULL, NULL);
INSERT INTO predictions VALUES (7, 'p0000000000000000000000000000000006', 'ended', 'lite0', 'canceled', 1, 1000, 5, 0, 2, 'anna', 'owner:anna', NULL, NULL, 1800000000, 1800000600, 1800000000, 1800000000, 0, false, NULL, NULL, 'ff42dd0d662e7eb333edeb95820a4f29 ', NULL, NULL, NULL, NULL, '', false, 'softmax', NULL, NULL, NULL);
INSERT INTO predictions VALUES (8, 'p0000000000000000000000000000000007', 'ended', 'lite0', 'queued', 1, 1000, 5, 0, 3, 'anna', 'owner:anna', NULL, NULL, 1800000000, 1800000600, 1800000000, NULL, 1, true, NULL, NULL, 'ff42dd0db53d39122b2a232eae17ad87 ', NULL, NULL, NULL, NULL, 'exit code 1', false, 'softmax', NULL, NULL, NULL);
INSERT INTO predictions VALUES (11, 'p0000000000000000000000000000000010', 'served', 'lite0', 'queued', 1, 1000, 5, 0, 2, 'anna', 'owner:anna', NULL, NULL, 1800000000, 1800000600, NULL, NULL, 0, false, NULL, NULL, '', NULL, NULL, NULL, NULL, '', true, 'softmax', NULL, NULL, NULL);
INSERT INTO predictions VALUES (10, 'p0000000000000000000000000000000009', 'served', 'lite0', 'leased', 1, 1000, 5, 0, 1, 'anna', 'owner:anna', NULL, NULL, 1800000000, 1800000600, 1800000000, NULL, 1, false, 'canary', 'e100fbce1bec7bb1ae46874a18536857', '', 1800000030, NULL, NULL, NULL, '', true, 'softmax', NULL, NULL, NULL);
INSERT INTO predictions VALUES (12, 'p0000000000000000000000000000000011', 'traced', 'lite0', 'queued', 1, 1000, 5, 0, 1, 'anna', 'owner:anna', NULL, NULL, 1800000000, 1800000600, NULL, NULL, 0, false, NULL, NULL, '', NULL, NULL, NULL, NULL, '', false, 'none', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', 'mine', NULL);
INSERT INTO predictions VALUES (13, 'p0000000000000000000000000000000012', 'named', 'lite0', 'queued', 1, 1000, 5, 0, 1, 'anna', 'owner:anna', NULL, NULL, 1800000000, 1800000600, NULL, NULL, 0, false, NULL, NULL, '', NULL, NULL, NULL, NULL, '', false, 'softmax', NULL, NULL, '[["photo","größe.jpg"]]');

INSERT INTO reports VALUES ('free', '{"running": 1, "starting": 0, "room": 0, "quota": {}, "healthy": true, "reason": "", "caution": "", "breaker": null, "lending": null}', 1800000000);

INSERT INTO schema_version VALUES (11);

INSERT INTO secrets VALUES ('ids', 'a41fdf14233f6930221dc84c02253847e7f797190b0e0f8c15cc750063fbafe1');

INSERT INTO serving VALUES ('served', '{"main": null, "canary": {"reference": "flowers@11111111", "digest": "1111111111111111111111111111111111111111111111111111111111111111", "runtime": "onnx", "variant": "int8", "since": 1800000000.0}, "percent": 5.0, "previous": [], "instead_of": "", "problem": ""}', 1800000000);

INSERT INTO shares VALUES ('free', 'owner:anna', 1, 5, 4, 0, 1800000000);
INSERT INTO shares VALUES ('premium', 'owner:anna', 1, 2, 1, 0, 1800000000);
INSERT INTO shares VALUES ('ended', 'owner:anna', 1, 5, 4, 0, 1800000000);
INSERT INTO shares VALUES ('served', 'owner:anna', 1, 3, 2, 0, 1800000000);
INSERT INTO shares VALUES ('traced', 'owner:anna', 1, 2, 1, 0, 1800000000);
INSERT INTO shares VALUES ('named', 'owner:anna', 1, 2, 1, 0, 1800000000);

INSERT INTO waiting VALUES ('free', 1, 0, 3, 0, 1, 1);
INSERT INTO waiting VALUES ('free', 2, 0, 3, 28800000000, 1, 1);
INSERT INTO waiting VALUES ('free', 1, 0, 4, 0, 1, 1);
INSERT INTO waiting VALUES ('free', 2, 0, 4, 28800000000, 1, 1);
INSERT INTO waiting VALUES ('premium', 0, 0, 0, 0, 1, 1);
INSERT INTO waiting VALUES ('premium', 1, 0, 1, 0, 1, 1);
INSERT INTO waiting VALUES ('premium', 2, 0, 1, 28800000000, 1, 1);
INSERT INTO waiting VALUES ('free', 1, 0, 1, 0, 1, 0);
INSERT INTO waiting VALUES ('free', 2, 0, 1, 28800000000, 1, 0);
INSERT INTO waiting VALUES ('free', 0, 0, 0, 0, 1, 2);
INSERT INTO waiting VALUES ('free', 1, 0, 2, 0, 1, 0);
INSERT INTO waiting VALUES ('free', 2, 0, 2, 28800000000, 1, 0);
INSERT INTO waiting VALUES ('ended', 1, 0, 4, 0, 1, 1);
INSERT INTO waiting VALUES ('ended', 2, 0, 4, 28800000000, 1, 1);
INSERT INTO waiting VALUES ('ended', 1, 0, 1, 0, 1, 0);
INSERT INTO waiting VALUES ('ended', 2, 0, 1, 28800000000, 1, 0);
INSERT INTO waiting VALUES ('ended', 1, 0, 2, 0, 1, 0);
INSERT INTO waiting VALUES ('ended', 2, 0, 2, 28800000000, 1, 0);
INSERT INTO waiting VALUES ('ended', 0, 0, 0, 0, 1, 2);
INSERT INTO waiting VALUES ('ended', 1, 0, 3, 0, 1, 1);
INSERT INTO waiting VALUES ('ended', 2, 0, 3, 28800000000, 1, 1);
INSERT INTO waiting VALUES ('served', 1, 0, 2, 0, 1, 1);
INSERT INTO waiting VALUES ('served', 2, 0, 2, 28800000000, 1, 1);
INSERT INTO waiting VALUES ('served', 0, 0, 0, 0, 1, 1);
INSERT INTO waiting VALUES ('served', 1, 0, 1, 0, 1, 0);
INSERT INTO waiting VALUES ('served', 2, 0, 1, 28800000000, 1, 0);
INSERT INTO waiting VALUES ('traced', 0, 0, 0, 0, 1, 1);
INSERT INTO waiting VALUES ('traced', 1, 0, 1, 0, 1, 1);
INSERT INTO waiting VALUES ('traced', 2, 0, 1, 28800000000, 1, 1);
INSERT INTO waiting VALUES ('named', 0, 0, 0, 0, 1, 1);
INSERT INTO waiting VALUES ('named', 1, 0, 1, 0, 1, 1);
INSERT INTO waiting VALUES ('named', 2, 0, 1, 28800000000, 1, 1);

SELECT pg_catalog.setval('predictions_seq_seq', 13, true);

ALTER TABLE ONLY changes
    ADD CONSTRAINT changes_pkey PRIMARY KEY (name);

ALTER TABLE ONLY depths
    ADD CONSTRAINT depths_pkey PRIMARY KEY (tier, slot);

ALTER TABLE ONLY jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (name);

ALTER TABLE ONLY keys
    ADD CONSTRAINT keys_pkey PRIMARY KEY (id);

ALTER TABLE ONLY measures
    ADD CONSTRAINT measures_pkey PRIMARY KEY (tier, model, slot);

ALTER TABLE ONLY minutes
    ADD CONSTRAINT minutes_pkey PRIMARY KEY (tier, minute, slot);

ALTER TABLE ONLY model_tags
    ADD CONSTRAINT model_tags_pkey PRIMARY KEY (name, tag);

ALTER TABLE ONLY models
    ADD CONSTRAINT models_pkey PRIMARY KEY (name, version);

ALTER TABLE ONLY predictions
    ADD CONSTRAINT predictions_id_key UNIQUE (id);

ALTER TABLE ONLY predictions
    ADD CONSTRAINT predictions_pkey PRIMARY KEY (seq);

ALTER TABLE ONLY reports
    ADD CONSTRAINT reports_pkey PRIMARY KEY (tier);

ALTER TABLE ONLY secrets
    ADD CONSTRAINT secrets_pkey PRIMARY KEY (name);

ALTER TABLE ONLY serving
    ADD CONSTRAINT serving_pkey PRIMARY KEY (tier);

ALTER TABLE ONLY shares
    ADD CONSTRAINT shares_pkey PRIMARY KEY (tier, caller, slot);

ALTER TABLE ONLY uses
    ADD CONSTRAINT uses_pkey PRIMARY KEY (tier, caller, day, slot);

ALTER TABLE ONLY waiting
    ADD CONSTRAINT waiting_pkey PRIMARY KEY (tier, level, priority, turn, moment, slot);

CREATE INDEX jobs_ended ON jobs USING btree (ended_at) WHERE (ended_at IS NOT NULL);

CREATE INDEX jobs_live ON jobs USING btree (opened_at) WHERE (ended_at IS NULL);

CREATE INDEX jobs_model ON jobs USING btree (tier, model, ended_at);

CREATE INDEX jobs_tier ON jobs USING btree (tier, ended_at);

CREATE INDEX predictions_caller ON predictions USING btree (tier, caller, size) WHERE (status = 'queued'::text);

CREATE INDEX predictions_completed ON predictions USING btree (tier, completed_at) WHERE (completed_at IS NOT NULL);

CREATE INDEX predictions_deadline ON predictions USING btree (tier, deadline_at) WHERE (status = 'queued'::text);

CREATE INDEX predictions_holder ON predictions USING btree (job) WHERE (status = 'leased'::text);

CREATE UNIQUE INDEX predictions_key ON predictions USING btree (owner, idempotency_key, fingerprint) WHERE (idempotency_key IS NOT NULL);

CREATE INDEX predictions_lease ON predictions USING btree (tier, lease_until) WHERE (status = 'leased'::text);

CREATE INDEX predictions_listed ON predictions USING btree (owner, tier, status, accepted_at, seq) WHERE (owner <> 'anonymous'::text);

CREATE INDEX predictions_oldest ON predictions USING btree (tier, canary, accepted_at) WHERE (status = 'queued'::text);

CREATE INDEX predictions_queue ON predictions USING btree (tier, canary, priority, turn, accepted_at, seq, status) WHERE (status = 'queued'::text);

CREATE INDEX uses_until ON uses USING btree (until);

CREATE TRIGGER predictions_deleted AFTER DELETE ON predictions FOR EACH ROW WHEN ((old.completed_at IS NULL)) EXECUTE FUNCTION predictions_counted();

CREATE TRIGGER predictions_inserted AFTER INSERT ON predictions FOR EACH ROW WHEN ((new.completed_at IS NULL)) EXECUTE FUNCTION predictions_counted();

CREATE TRIGGER predictions_laned AFTER UPDATE OF canary ON predictions FOR EACH ROW WHEN (((old.canary <> new.canary) AND (old.status = new.status))) EXECUTE FUNCTION predictions_counted();

CREATE TRIGGER predictions_moved AFTER UPDATE OF status ON predictions FOR EACH ROW WHEN ((old.status <> new.status)) EXECUTE FUNCTION predictions_counted();
