BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE answers (
	id INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	version TEXT NOT NULL, 
	seed TEXT NOT NULL, 
	sampling TEXT NOT NULL, 
	finish TEXT NOT NULL, 
	tokens TEXT NOT NULL, 
	logprobs TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "answers" VALUES(1,'Dear Ann','0001','9223372036854775819','{"temperature": 0.9, "top_k": 40, "top_p": 0.95, "max_tokens": 3, "seed": 9223372036854775819, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": []}','length','[5, 7, 2]','[-0.1, -2.25, -1e-09]');
INSERT INTO "answers" VALUES(2,'third','0002','0','{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 256, "seed": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": []}','stop','[]','[]');
INSERT INTO "answers" VALUES(3,'Dear Ann','0001','9223372036854775819','{"temperature": 0.9, "top_k": 40, "top_p": 0.95, "max_tokens": 3, "seed": 9223372036854775819, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": []}','length','[5, 7, 2]','[-0.1, -2.25, -1e-09]');
INSERT INTO "answers" VALUES(4,'Hi — ✓','','0','{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 256, "seed": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": []}','stop','[]','[]');
INSERT INTO "answers" VALUES(5,'','','0','{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 256, "seed": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": []}','stop','[]','[]');
INSERT INTO "answers" VALUES(6,'Dear Ann','0001','9223372036854775819','{"temperature": 0.9, "top_k": 40, "top_p": 0.95, "max_tokens": 3, "seed": 9223372036854775819, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": []}','length','[5, 7, 2]','[-0.1, -2.25, -1e-09]');
INSERT INTO "answers" VALUES(7,'Hi — ✓','','0','{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 256, "seed": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": []}','stop','[]','[]');
INSERT INTO "answers" VALUES(8,'','','0','{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 256, "seed": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": []}','stop','[]','[]');
INSERT INTO "answers" VALUES(9,'Dear Ann','0001','9223372036854775819','{"temperature": 0.9, "top_k": 40, "top_p": 0.95, "max_tokens": 3, "seed": 9223372036854775819, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": []}','length','[5, 7, 2]','[-0.1, -2.25, -1e-09]');
INSERT INTO "answers" VALUES(10,'Hi — ✓','','0','{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 256, "seed": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": []}','stop','[]','[]');
INSERT INTO "answers" VALUES(11,'','','0','{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 256, "seed": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": []}','stop','[]','[]');
CREATE TABLE consent (
	id INTEGER NOT NULL, 
	annotator TEXT NOT NULL, 
	granted BOOLEAN NOT NULL, 
	words TEXT NOT NULL, 
	created TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "consent" VALUES(1,'ann',1,'May your rankings be used?','2026-11-29T05:30:14.580+00:00');
INSERT INTO "consent" VALUES(2,'bob',1,'May your rankings be used?','2026-11-29T05:30:14.581+00:00');
INSERT INTO "consent" VALUES(3,'bob',0,'May your rankings be used?','2026-11-29T05:30:14.582+00:00');
CREATE TABLE conversations (
	id INTEGER NOT NULL, 
	annotator TEXT NOT NULL, 
	created TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "conversations" VALUES(1,'ann','2026-11-29T05:30:14.557+00:00');
INSERT INTO "conversations" VALUES(2,'ann','2026-11-29T05:30:14.558+00:00');
CREATE TABLE messages (
	id INTEGER NOT NULL, 
	conversation_id INTEGER NOT NULL, 
	place INTEGER NOT NULL, 
	role TEXT NOT NULL, 
	content TEXT NOT NULL, 
	answer_id INTEGER, 
	created TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT one_message_a_place UNIQUE (conversation_id, place), 
	FOREIGN KEY(conversation_id) REFERENCES conversations (id), 
	FOREIGN KEY(answer_id) REFERENCES answers (id)
);
INSERT INTO "messages" VALUES(1,1,0,'system','Be brief.',NULL,'2026-11-29T05:30:14.561+00:00');
INSERT INTO "messages" VALUES(2,1,1,'user','Hello
 there',NULL,'2026-11-29T05:30:14.563+00:00');
INSERT INTO "messages" VALUES(3,1,2,'assistant','Dear Ann',1,'2026-11-29T05:30:14.565+00:00');
INSERT INTO "messages" VALUES(4,2,0,'user','Straße?',NULL,'2026-11-29T05:30:14.566+00:00');
INSERT INTO "messages" VALUES(5,1,3,'assistant','second try',NULL,'2026-11-29T05:30:14.567+00:00');
INSERT INTO "messages" VALUES(6,1,4,'user','More',NULL,'2026-11-29T05:30:14.568+00:00');
INSERT INTO "messages" VALUES(7,1,5,'assistant','third',2,'2026-11-29T05:30:14.569+00:00');
CREATE TABLE ranked_answers (
	ranking_id INTEGER NOT NULL, 
	place INTEGER NOT NULL, 
	answer_id INTEGER NOT NULL, 
	PRIMARY KEY (ranking_id, place), 
	FOREIGN KEY(ranking_id) REFERENCES rankings (id), 
	FOREIGN KEY(answer_id) REFERENCES answers (id)
);
INSERT INTO "ranked_answers" VALUES(1,0,3);
INSERT INTO "ranked_answers" VALUES(1,1,4);
INSERT INTO "ranked_answers" VALUES(1,2,5);
INSERT INTO "ranked_answers" VALUES(2,0,6);
INSERT INTO "ranked_answers" VALUES(2,1,7);
INSERT INTO "ranked_answers" VALUES(2,2,8);
INSERT INTO "ranked_answers" VALUES(3,0,9);
INSERT INTO "ranked_answers" VALUES(3,1,10);
INSERT INTO "ranked_answers" VALUES(3,2,11);
CREATE TABLE rankings (
	id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	conversation TEXT NOT NULL, 
	ranks TEXT NOT NULL, 
	all_bad BOOLEAN NOT NULL, 
	shown TEXT NOT NULL, 
	annotator TEXT NOT NULL, 
	milliseconds INTEGER NOT NULL, 
	created TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE ("key")
);
INSERT INTO "rankings" VALUES(1,'a','[{"role": "user", "content": "Write to Ann."}]','[2, 1, 2]',0,'[2, 0, 1]','ann',1234,'2026-11-29T05:30:14.571+00:00');
INSERT INTO "rankings" VALUES(2,'b','[{"role": "user", "content": "Other"}]','[1, 1, 1]',0,'[2, 0, 1]','ann',1234,'2026-11-29T05:30:14.574+00:00');
INSERT INTO "rankings" VALUES(3,'c','[{"role": "user", "content": "Third"}]','[1, 2, 3]',0,'[2, 0, 1]','bob',1234,'2026-11-29T05:30:14.578+00:00');
CREATE TABLE withdrawals (
	id INTEGER NOT NULL, 
	ranking_id INTEGER NOT NULL, 
	created TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (ranking_id), 
	FOREIGN KEY(ranking_id) REFERENCES rankings (id)
);
INSERT INTO "withdrawals" VALUES(1,2,'2026-11-29T05:30:14.577+00:00');
CREATE INDEX ix_conversations_annotator ON conversations (annotator);
CREATE INDEX ix_rankings_annotator ON rankings (annotator);
CREATE INDEX ix_consent_annotator ON consent (annotator);
CREATE TRIGGER conversations_no_update BEFORE UPDATE ON conversations BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER conversations_no_delete BEFORE DELETE ON conversations BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER answers_no_update BEFORE UPDATE ON answers BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER answers_no_delete BEFORE DELETE ON answers BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER messages_no_update BEFORE UPDATE ON messages BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER messages_no_delete BEFORE DELETE ON messages BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER rankings_no_update BEFORE UPDATE ON rankings BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER rankings_no_delete BEFORE DELETE ON rankings BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER ranked_answers_no_update BEFORE UPDATE ON ranked_answers BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER ranked_answers_no_delete BEFORE DELETE ON ranked_answers BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER consent_no_update BEFORE UPDATE ON consent BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER consent_no_delete BEFORE DELETE ON consent BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER withdrawals_no_update BEFORE UPDATE ON withdrawals BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
CREATE TRIGGER withdrawals_no_delete BEFORE DELETE ON withdrawals BEGIN SELECT RAISE(ABORT, 'the store is append-only'); END;
COMMIT;
