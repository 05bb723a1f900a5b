CREATE TABLE turnwise_drained (
	group_name VARCHAR(255) COLLATE "C" NOT NULL,
	runner_id VARCHAR(255) COLLATE "C" NOT NULL,
	PRIMARY KEY (group_name, runner_id)
);

CREATE TABLE turnwise_history (
	group_name VARCHAR(255) COLLATE "C" NOT NULL,
	service VARCHAR(255) COLLATE "C" NOT NULL,
	id VARCHAR(255) COLLATE "C" NOT NULL,
	happened_at BIGINT NOT NULL,
	kind VARCHAR(255) COLLATE "C" NOT NULL,
	body TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (group_name, service, id)
);

CREATE INDEX turnwise_history_by_kind ON turnwise_history (group_name, service, kind, happened_at, id);

CREATE INDEX turnwise_history_by_time ON turnwise_history (group_name, service, happened_at, id);

CREATE TABLE turnwise_offers (
	group_name VARCHAR(255) COLLATE "C" NOT NULL,
	service VARCHAR(255) COLLATE "C" NOT NULL,
	life VARCHAR(255) COLLATE "C" NOT NULL,
	runner_id VARCHAR(255) COLLATE "C" NOT NULL,
	boot_id VARCHAR(255) COLLATE "C" NOT NULL,
	settings TEXT COLLATE "C" NOT NULL,
	heartbeat_timeout BIGINT NOT NULL,
	may_run SMALLINT NOT NULL,
	offered_at BIGINT NOT NULL,
	PRIMARY KEY (group_name, service, life)
);

CREATE INDEX turnwise_offers_by_life ON turnwise_offers (group_name, runner_id, boot_id);

CREATE TABLE turnwise_records (
	group_name VARCHAR(255) COLLATE "C" NOT NULL,
	service VARCHAR(255) COLLATE "C" NOT NULL,
	kind VARCHAR(255) COLLATE "C" NOT NULL,
	version TEXT COLLATE "C" NOT NULL,
	body TEXT COLLATE "C" NOT NULL,
	run_id VARCHAR(255) COLLATE "C",
	runner_id VARCHAR(255) COLLATE "C",
	boot_id VARCHAR(255) COLLATE "C",
	heartbeat_timeout BIGINT,
	PRIMARY KEY (group_name, service, kind)
)
 WITH (fillfactor = 50);

CREATE INDEX turnwise_records_open ON turnwise_records (group_name, run_id) WHERE run_id IS NOT NULL;

CREATE TABLE turnwise_revisions (
	group_name VARCHAR(255) COLLATE "C" NOT NULL,
	revision BIGINT NOT NULL,
	PRIMARY KEY (group_name)
);

CREATE TABLE turnwise_runners (
	group_name VARCHAR(255) COLLATE "C" NOT NULL,
	runner_id VARCHAR(255) COLLATE "C" NOT NULL,
	boot_id VARCHAR(255) COLLATE "C" NOT NULL,
	joined_at BIGINT NOT NULL,
	heard_at BIGINT NOT NULL,
	left_at BIGINT,
	beat_count BIGINT NOT NULL,
	heartbeat_timeout BIGINT NOT NULL,
	runs TEXT COLLATE "C" NOT NULL,
	digest BIGINT NOT NULL,
	PRIMARY KEY (group_name, runner_id, boot_id)
)
 WITH (fillfactor = 50);

CREATE TABLE turnwise_schema (
	one SMALLINT NOT NULL,
	version BIGINT NOT NULL,
	identity VARCHAR(255) COLLATE "C" NOT NULL,
	PRIMARY KEY (one)
);

INSERT INTO turnwise_schema (one, version, identity) VALUES (1, 1, md5(random()::text || clock_timestamp()::text));
