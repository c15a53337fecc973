BEGIN TRANSACTION;
CREATE TABLE changes (
	name TEXT NOT NULL, 
	number BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "changes" VALUES('models',2);
CREATE TABLE depths (
	tier TEXT NOT NULL, 
	slot INTEGER NOT NULL, 
	queued INTEGER NOT NULL, 
	leased INTEGER NOT NULL, 
	bytes BIGINT DEFAULT 0 NOT NULL, 
	turn BIGINT DEFAULT 0 NOT NULL, 
	canary_queued INTEGER DEFAULT 0 NOT NULL, 
	canary_leased INTEGER DEFAULT 0 NOT NULL, 
	PRIMARY KEY (tier, slot)
);
INSERT INTO "depths" VALUES('free',0,2,1,3000,2,0,0);
INSERT INTO "depths" VALUES('premium',0,1,0,1000,0,0,0);
INSERT INTO "depths" VALUES('ended',0,2,0,2000,3,0,0);
INSERT INTO "depths" VALUES('served',0,1,1,2000,1,1,1);
INSERT INTO "depths" VALUES('traced',0,1,0,1000,0,0,0);
INSERT INTO "depths" VALUES('named',0,1,0,1000,0,0,0);
CREATE TABLE jobs (
	name TEXT NOT NULL, 
	tier TEXT NOT NULL, 
	run TEXT NOT NULL, 
	opened_at FLOAT NOT NULL, 
	asked_at FLOAT, 
	leased_at FLOAT, 
	ended_at FLOAT, 
	reason TEXT NOT NULL, 
	blamed BOOLEAN NOT NULL, 
	heard_at FLOAT, 
	model TEXT DEFAULT '' NOT NULL, 
	recalled_at FLOAT, 
	PRIMARY KEY (name)
);
INSERT INTO "jobs" VALUES('job','free','run-job',1800000000.0,1800000000.0,1800000000.0,NULL,'',0,1800000000.0,'',NULL);
INSERT INTO "jobs" VALUES('crashed','ended','run-crashed',1800000000.0,1800000000.0,1800000000.0,1800000000.0,'exit code 1',1,1800000000.0,'',NULL);
INSERT INTO "jobs" VALUES('canary','served','run-canary',1800000000.0,1800000000.0,1800000000.0,NULL,'',0,1800000000.0,'flowers@11111111 onnx/int8',NULL);
INSERT INTO "jobs" VALUES('recalled','lending','run-recalled',1800000000.0,NULL,NULL,NULL,'lent quota went back to premium',0,NULL,'',1800000000.0);
CREATE TABLE keys (
	id TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	tiers TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	expires_at FLOAT, 
	revoked_at FLOAT, 
	limits TEXT NOT NULL, 
	weight FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE measures (
	tier TEXT NOT NULL, 
	model TEXT NOT NULL, 
	slot INTEGER NOT NULL, 
	predictions BIGINT NOT NULL, 
	pictures BIGINT NOT NULL, 
	failed BIGINT NOT NULL, 
	unsure BIGINT NOT NULL, 
	milliseconds TEXT NOT NULL, 
	touched_at FLOAT NOT NULL, 
	PRIMARY KEY (tier, model, slot)
);
INSERT INTO "measures" VALUES('served','flowers@11111111 onnx/int8',0,1,1,0,1,'{"12": 1}',1800000000.0);
CREATE TABLE minutes (
	tier TEXT NOT NULL, 
	minute BIGINT NOT NULL, 
	slot INTEGER NOT NULL, 
	accepted BIGINT NOT NULL, 
	succeeded BIGINT NOT NULL, 
	failed BIGINT NOT NULL, 
	waits TEXT NOT NULL, 
	PRIMARY KEY (tier, minute, slot)
);
INSERT INTO "minutes" VALUES('free',30000000,0,3,2,1,'{"40": 2}');
CREATE TABLE model_tags (
	name TEXT NOT NULL, 
	tag TEXT NOT NULL, 
	version TEXT NOT NULL, 
	PRIMARY KEY (name, tag)
);
INSERT INTO "model_tags" VALUES('flowers','best','11111111');
CREATE TABLE models (
	name TEXT NOT NULL, 
	version TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	record TEXT NOT NULL, 
	files TEXT NOT NULL, 
	pushed_at FLOAT NOT NULL, 
	PRIMARY KEY (name, version)
);
INSERT INTO "models" VALUES('flowers','11111111','1111111111111111111111111111111111111111111111111111111111111111','{}','[["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 5]]',1800000000.0);
CREATE TABLE predictions (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	tier TEXT NOT NULL, 
	model TEXT NOT NULL, 
	status TEXT NOT NULL, 
	images INTEGER NOT NULL, 
	size INTEGER NOT NULL, 
	top_k INTEGER NOT NULL, 
	priority INTEGER NOT NULL, 
	turn BIGINT DEFAULT 0 NOT NULL, 
	owner TEXT NOT NULL, 
	caller TEXT DEFAULT '' NOT NULL, 
	idempotency_key TEXT, 
	fingerprint TEXT, 
	accepted_at FLOAT NOT NULL, 
	deadline_at FLOAT NOT NULL, 
	started_at FLOAT, 
	completed_at FLOAT, 
	attempts INTEGER DEFAULT 0 NOT NULL, 
	solo BOOLEAN DEFAULT 0 NOT NULL, 
	job TEXT, 
	token TEXT, 
	lost_tokens TEXT DEFAULT '' NOT NULL, 
	lease_until FLOAT, 
	results TEXT, 
	error TEXT, 
	predict_ms FLOAT, 
	reason TEXT DEFAULT '' NOT NULL, 
	canary BOOLEAN DEFAULT 0 NOT NULL, 
	function TEXT DEFAULT 'softmax' NOT NULL, 
	trace TEXT, 
	request_id TEXT, 
	names TEXT, 
	PRIMARY KEY (seq), 
	CHECK (status IN ('aborted', 'canceled', 'expired', 'failed', 'leased', 'queued', 'succeeded')), 
	CHECK ((completed_at IS NOT NULL) = (status IN ('aborted', 'canceled', 'expired', 'failed', 'succeeded'))), 
	CHECK ((lease_until IS NOT NULL) = (status = 'leased')), 
	UNIQUE (id)
);
INSERT INTO "predictions" VALUES(1,'p0000000000000000000000000000000000','free','lite0','succeeded',1,1000,5,0,1,'anna','owner:anna','k0','f0',1800000000.0,1800000600.0,1800000000.0,1800000000.0,1,0,'job','5e8c9902a5e1087fd0992817aea7f17f','5e8c9902a5e1087fd0992817aea7f17f ',NULL,'[{"index": 0, "labels": [{"label": "tabby", "score": 0.9}]}]',NULL,8.0,'',0,'softmax',NULL,NULL,NULL);
INSERT INTO "predictions" VALUES(2,'p0000000000000000000000000000000001','free','lite0','leased',1,1000,5,0,2,'anna','owner:anna','k1','f1',1800000000.0,1800000600.0,1800000000.0,NULL,1,0,'job','5e8c9902447ab5b5026c0828b80e5863','',1800000030.0,NULL,NULL,NULL,'',0,'softmax',NULL,NULL,NULL);
INSERT INTO "predictions" VALUES(3,'p0000000000000000000000000000000002','free','lite0','queued',1,1000,5,0,3,'anna','owner:anna','k2','f2',1800000000.0,1800000600.0,NULL,NULL,0,0,NULL,NULL,'',NULL,NULL,NULL,NULL,'',0,'softmax',NULL,NULL,NULL);
INSERT INTO "predictions" VALUES(4,'p0000000000000000000000000000000003','free','lite0','queued',1,1000,5,0,4,'anna','owner:anna','k3','f3',1800000000.0,1800000600.0,NULL,NULL,0,0,NULL,NULL,'',NULL,NULL,NULL,NULL,'',0,'softmax',NULL,NULL,NULL);
INSERT INTO "predictions" VALUES(5,'p0000000000000000000000000000000004','premium','lite0','queued',1,1000,5,0,1,'anna','owner:anna',NULL,NULL,1800000000.0,1800000600.0,NULL,NULL,0,0,NULL,NULL,'',NULL,NULL,NULL,NULL,'',0,'softmax',NULL,NULL,NULL);
INSERT INTO "predictions" VALUES(6,'p0000000000000000000000000000000005','ended','lite0','failed',1,1000,5,0,1,'anna','owner:anna',NULL,NULL,1800000000.0,1800000600.0,1800000000.0,1800000000.0,1,0,'crashed','ff42dd0d98faecea282fe40112f3353a','ff42dd0d98faecea282fe40112f3353a ',NULL,'[{"index": 0, "labels": [{"label": "tabby", "score": 0.9}]}]','{"code": "bad_image", "detail": "no picture"}',8.0,'',0,'softmax',NULL,NULL,NULL);
INSERT INTO "predictions" VALUES(7,'p0000000000000000000000000000000006','ended','lite0','canceled',1,1000,5,0,2,'anna','owner:anna',NULL,NULL,1800000000.0,1800000600.0,1800000000.0,1800000000.0,0,0,NULL,NULL,'ff42dd0d7cd0b443ced853f39ee345f6 ',NULL,NULL,NULL,NULL,'',0,'softmax',NULL,NULL,NULL);
INSERT INTO "predictions" VALUES(8,'p0000000000000000000000000000000007','ended','lite0','queued',1,1000,5,0,3,'anna','owner:anna',NULL,NULL,1800000000.0,1800000600.0,1800000000.0,NULL,1,1,NULL,NULL,'ff42dd0d5fe003c203d59521fcb77500 ',NULL,NULL,NULL,NULL,'exit code 1',0,'softmax',NULL,NULL,NULL);
INSERT INTO "predictions" VALUES(9,'p0000000000000000000000000000000008','ended','lite0','queued',1,1000,5,0,4,'anna','owner:anna',NULL,NULL,1800000000.0,1800000600.0,NULL,NULL,0,0,NULL,NULL,'',NULL,NULL,NULL,NULL,'',0,'softmax',NULL,NULL,NULL);
INSERT INTO "predictions" VALUES(10,'p0000000000000000000000000000000009','served','lite0','leased',1,1000,5,0,1,'anna','owner:anna',NULL,NULL,1800000000.0,1800000600.0,1800000000.0,NULL,1,0,'canary','e100fbceb024648f48cf024f0014ab2a','',1800000030.0,NULL,NULL,NULL,'',1,'softmax',NULL,NULL,NULL);
INSERT INTO "predictions" VALUES(11,'p0000000000000000000000000000000010','served','lite0','queued',1,1000,5,0,2,'anna','owner:anna',NULL,NULL,1800000000.0,1800000600.0,NULL,NULL,0,0,NULL,NULL,'',NULL,NULL,NULL,NULL,'',1,'softmax',NULL,NULL,NULL);
INSERT INTO "predictions" VALUES(12,'p0000000000000000000000000000000011','traced','lite0','queued',1,1000,5,0,1,'anna','owner:anna',NULL,NULL,1800000000.0,1800000600.0,NULL,NULL,0,0,NULL,NULL,'',NULL,NULL,NULL,NULL,'',0,'none','00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01','mine',NULL);
INSERT INTO "predictions" VALUES(13,'p0000000000000000000000000000000012','named','lite0','queued',1,1000,5,0,1,'anna','owner:anna',NULL,NULL,1800000000.0,1800000600.0,NULL,NULL,0,0,NULL,NULL,'',NULL,NULL,NULL,NULL,'',0,'softmax',NULL,NULL,'[["photo","größe.jpg"]]');
CREATE TABLE reports (
	tier TEXT NOT NULL, 
	"view" TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (tier)
);
INSERT INTO "reports" VALUES('free','{"running": 1, "starting": 0, "room": 0, "quota": {}, "healthy": true, "reason": "", "caution": "", "breaker": null, "lending": null}',1800000000.0);
CREATE TABLE secrets (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "secrets" VALUES('ids','7c2088a1953ea105e115dd1a35837b5f512e602b32c433ff379237206efb72d9');
CREATE TABLE serving (
	tier TEXT NOT NULL, 
	state TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	PRIMARY KEY (tier)
);
INSERT INTO "serving" VALUES('served','{"main": null, "canary": {"reference": "flowers@11111111", "digest": "1111111111111111111111111111111111111111111111111111111111111111", "runtime": "onnx", "variant": "int8", "since": 1800000000.0}, "percent": 5.0, "previous": [], "instead_of": "", "problem": ""}',1800000000.0);
CREATE TABLE shares (
	tier TEXT NOT NULL, 
	caller TEXT NOT NULL, 
	slot INTEGER NOT NULL, 
	finish FLOAT NOT NULL, 
	spent FLOAT NOT NULL, 
	seen FLOAT NOT NULL, 
	used_at FLOAT NOT NULL, 
	PRIMARY KEY (tier, caller, slot)
)
 WITHOUT ROWID

;
INSERT INTO "shares" VALUES('ended','owner:anna',0,5.0,4.0,0.0,1800000000.0);
INSERT INTO "shares" VALUES('free','owner:anna',0,5.0,4.0,0.0,1800000000.0);
INSERT INTO "shares" VALUES('named','owner:anna',0,2.0,1.0,0.0,1800000000.0);
INSERT INTO "shares" VALUES('premium','owner:anna',0,2.0,1.0,0.0,1800000000.0);
INSERT INTO "shares" VALUES('served','owner:anna',0,3.0,2.0,0.0,1800000000.0);
INSERT INTO "shares" VALUES('traced','owner:anna',0,2.0,1.0,0.0,1800000000.0);
CREATE TABLE uses (
	tier TEXT NOT NULL, 
	caller TEXT NOT NULL, 
	day INTEGER NOT NULL, 
	slot INTEGER NOT NULL, 
	requests BIGINT NOT NULL, 
	pictures BIGINT NOT NULL, 
	until FLOAT NOT NULL, 
	PRIMARY KEY (tier, caller, day, slot)
);
CREATE TABLE waiting (
	tier TEXT NOT NULL, 
	level INTEGER NOT NULL, 
	priority INTEGER NOT NULL, 
	turn BIGINT NOT NULL, 
	moment BIGINT NOT NULL, 
	slot INTEGER NOT NULL, 
	queued INTEGER NOT NULL, 
	PRIMARY KEY (tier, level, priority, turn, moment, slot)
)
 WITHOUT ROWID

;
INSERT INTO "waiting" VALUES('ended',0,0,0,0,0,2);
INSERT INTO "waiting" VALUES('ended',1,0,1,0,0,0);
INSERT INTO "waiting" VALUES('ended',1,0,2,0,0,0);
INSERT INTO "waiting" VALUES('ended',1,0,3,0,0,1);
INSERT INTO "waiting" VALUES('ended',1,0,4,0,0,1);
INSERT INTO "waiting" VALUES('ended',2,0,1,28800000000,0,0);
INSERT INTO "waiting" VALUES('ended',2,0,2,28800000000,0,0);
INSERT INTO "waiting" VALUES('ended',2,0,3,28800000000,0,1);
INSERT INTO "waiting" VALUES('ended',2,0,4,28800000000,0,1);
INSERT INTO "waiting" VALUES('free',0,0,0,0,0,2);
INSERT INTO "waiting" VALUES('free',1,0,1,0,0,0);
INSERT INTO "waiting" VALUES('free',1,0,2,0,0,0);
INSERT INTO "waiting" VALUES('free',1,0,3,0,0,1);
INSERT INTO "waiting" VALUES('free',1,0,4,0,0,1);
INSERT INTO "waiting" VALUES('free',2,0,1,28800000000,0,0);
INSERT INTO "waiting" VALUES('free',2,0,2,28800000000,0,0);
INSERT INTO "waiting" VALUES('free',2,0,3,28800000000,0,1);
INSERT INTO "waiting" VALUES('free',2,0,4,28800000000,0,1);
INSERT INTO "waiting" VALUES('named',0,0,0,0,0,1);
INSERT INTO "waiting" VALUES('named',1,0,1,0,0,1);
INSERT INTO "waiting" VALUES('named',2,0,1,28800000000,0,1);
INSERT INTO "waiting" VALUES('premium',0,0,0,0,0,1);
INSERT INTO "waiting" VALUES('premium',1,0,1,0,0,1);
INSERT INTO "waiting" VALUES('premium',2,0,1,28800000000,0,1);
INSERT INTO "waiting" VALUES('served',0,0,0,0,0,1);
INSERT INTO "waiting" VALUES('served',1,0,1,0,0,0);
INSERT INTO "waiting" VALUES('served',1,0,2,0,0,1);
INSERT INTO "waiting" VALUES('served',2,0,1,28800000000,0,0);
INSERT INTO "waiting" VALUES('served',2,0,2,28800000000,0,1);
INSERT INTO "waiting" VALUES('traced',0,0,0,0,0,1);
INSERT INTO "waiting" VALUES('traced',1,0,1,0,0,1);
INSERT INTO "waiting" VALUES('traced',2,0,1,28800000000,0,1);
CREATE INDEX predictions_deadline ON predictions (tier, deadline_at) WHERE status = 'queued';
CREATE INDEX predictions_lease ON predictions (tier, lease_until) WHERE status = 'leased';
CREATE INDEX predictions_holder ON predictions (job) WHERE status = 'leased';
CREATE INDEX predictions_listed ON predictions (owner, tier, status, accepted_at, seq) WHERE owner != 'anonymous';
CREATE INDEX predictions_queue ON predictions (tier, canary, priority, turn, accepted_at, seq, status) WHERE status = 'queued';
CREATE UNIQUE INDEX predictions_key ON predictions (owner, idempotency_key, fingerprint) WHERE idempotency_key IS NOT NULL;
CREATE INDEX predictions_completed ON predictions (tier, completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX predictions_caller ON predictions (tier, caller, size) WHERE status = 'queued';
CREATE INDEX predictions_oldest ON predictions (tier, canary, accepted_at) WHERE status = 'queued';
CREATE INDEX jobs_model ON jobs (tier, model, ended_at);
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_tier ON jobs (tier, ended_at);
CREATE INDEX jobs_live ON jobs (opened_at) WHERE ended_at IS NULL;
CREATE INDEX uses_until ON uses (until);
CREATE TRIGGER predictions_inserted AFTER INSERT ON predictions WHEN new.completed_at IS NULL BEGIN
            INSERT INTO depths (tier, slot, queued, leased, bytes, turn, canary_queued, canary_leased)
            VALUES (
                new.tier, 0, new.status = 'queued', new.status = 'leased', new.size,
                iif(new.status = 'leased' AND NOT new.canary, new.turn, 0),
                new.canary AND new.status = 'queued', new.canary AND new.status = 'leased'
            )
            ON CONFLICT (tier, slot) DO UPDATE SET
                queued = queued + excluded.queued, leased = leased + excluded.leased, bytes = bytes + excluded.bytes,
                turn = max(turn, excluded.turn),
                canary_queued = canary_queued + excluded.canary_queued,
                canary_leased = canary_leased + excluded.canary_leased;
        END;
CREATE TRIGGER predictions_moved AFTER UPDATE OF status ON predictions BEGIN
            UPDATE depths SET
                queued = queued - (old.status = 'queued') + (new.status = 'queued'),
                leased = leased - (old.status = 'leased') + (new.status = 'leased'),
                bytes = bytes - iif(new.status IN ('queued', 'leased'), 0, old.size),
                turn = max(turn, iif(new.status = 'leased' AND NOT new.canary, new.turn, 0)),
                canary_queued = canary_queued + new.canary * ((new.status = 'queued') - (old.status = 'queued')),
                canary_leased = canary_leased + new.canary * ((new.status = 'leased') - (old.status = 'leased'))
            WHERE tier = new.tier;
        END;
CREATE TRIGGER predictions_laned AFTER UPDATE OF canary ON predictions WHEN old.completed_at IS NULL BEGIN
            UPDATE depths SET
                canary_queued = canary_queued + (new.canary - old.canary) * (old.status = 'queued'),
                canary_leased = canary_leased + (new.canary - old.canary) * (old.status = 'leased')
            WHERE tier = old.tier;
        END;
CREATE TRIGGER predictions_deleted AFTER DELETE ON predictions WHEN old.completed_at IS NULL BEGIN
            UPDATE depths SET
                queued = queued - (old.status = 'queued'),
                leased = leased - (old.status = 'leased'),
                bytes = bytes - old.size,
                canary_queued = canary_queued - (old.canary AND old.status = 'queued'),
                canary_leased = canary_leased - (old.canary AND old.status = 'leased')
            WHERE tier = old.tier;
        END;
CREATE TRIGGER predictions_arrived AFTER INSERT ON predictions WHEN new.status = 'queued' BEGIN INSERT INTO waiting (tier, level, priority, turn, moment, slot, queued) VALUES (new.tier, 0, new.priority, new.turn >> 10, 0, 0, 1), (new.tier, 1, new.priority, new.turn, 0, 0, 1), (new.tier, 2, new.priority, new.turn, CAST(new.accepted_at * 16 AS INTEGER), 0, 1) ON CONFLICT (tier, level, priority, turn, moment, slot) DO UPDATE SET queued = queued + excluded.queued; END;
CREATE TRIGGER predictions_queued AFTER UPDATE OF status ON predictions WHEN new.status = 'queued' AND old.status <> 'queued' BEGIN INSERT INTO waiting (tier, level, priority, turn, moment, slot, queued) VALUES (new.tier, 0, new.priority, new.turn >> 10, 0, 0, 1), (new.tier, 1, new.priority, new.turn, 0, 0, 1), (new.tier, 2, new.priority, new.turn, CAST(new.accepted_at * 16 AS INTEGER), 0, 1) ON CONFLICT (tier, level, priority, turn, moment, slot) DO UPDATE SET queued = queued + excluded.queued; END;
CREATE TRIGGER predictions_unqueued AFTER UPDATE OF status ON predictions WHEN old.status = 'queued' AND new.status <> 'queued' BEGIN INSERT INTO waiting (tier, level, priority, turn, moment, slot, queued) VALUES (new.tier, 0, new.priority, new.turn >> 10, 0, 0, -1), (new.tier, 1, new.priority, new.turn, 0, 0, -1), (new.tier, 2, new.priority, new.turn, CAST(new.accepted_at * 16 AS INTEGER), 0, -1) ON CONFLICT (tier, level, priority, turn, moment, slot) DO UPDATE SET queued = queued + excluded.queued; END;
CREATE TRIGGER predictions_gone AFTER DELETE ON predictions WHEN old.status = 'queued' BEGIN INSERT INTO waiting (tier, level, priority, turn, moment, slot, queued) VALUES (old.tier, 0, old.priority, old.turn >> 10, 0, 0, -1), (old.tier, 1, old.priority, old.turn, 0, 0, -1), (old.tier, 2, old.priority, old.turn, CAST(old.accepted_at * 16 AS INTEGER), 0, -1) ON CONFLICT (tier, level, priority, turn, moment, slot) DO UPDATE SET queued = queued + excluded.queued; END;
COMMIT;
PRAGMA user_version = 11;
