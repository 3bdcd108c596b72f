"""The schema of the state file, as the scripts that lead from one version to the next."""

SCHEMA = (
    """
    CREATE TABLE home (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE apps (
        name TEXT PRIMARY KEY,
        created_at TEXT NOT NULL,
        wanted TEXT NOT NULL DEFAULT 'running' CHECK (wanted IN ('running', 'stopped')),
        live_release INTEGER,
        live_slot INTEGER CHECK (live_slot IN (1, 2)),
        settings TEXT NOT NULL DEFAULT '{}'
    ) STRICT;
    CREATE TABLE ports (
        port INTEGER PRIMARY KEY,
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        slot INTEGER NOT NULL CHECK (slot IN (1, 2)),
        use TEXT NOT NULL CHECK (use IN ('http', 'node')),
        UNIQUE (app, slot, use)
    ) STRICT;
    CREATE TABLE domains (
        domain TEXT PRIMARY KEY,
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        added_at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE config (
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (app, name)
    ) STRICT;
    CREATE TABLE releases (
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        number INTEGER NOT NULL,
        origin TEXT NOT NULL CHECK (origin IN ('build', 'config')),
        base INTEGER,
        commit_id TEXT NOT NULL,
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        elixir TEXT NOT NULL,
        otp TEXT NOT NULL,
        config TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        removed_at TEXT,
        PRIMARY KEY (app, number)
    ) STRICT;
    CREATE TABLE deployments (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        cause TEXT NOT NULL,
        actor TEXT NOT NULL,
        mark TEXT NOT NULL,
        commit_id TEXT,
        release INTEGER,
        previous INTEGER,
        slot INTEGER,
        strategy TEXT,
        reasons TEXT NOT NULL DEFAULT '[]',
        outcome TEXT NOT NULL DEFAULT 'running'
            CHECK (outcome IN ('running', 'succeeded', 'failed', 'cancelled', 'interrupted')),
        error TEXT,
        started_at TEXT NOT NULL,
        seconds REAL,
        probe TEXT,
        suspended_ms REAL
    ) STRICT;
    CREATE INDEX deployments_by_app ON deployments (app, id);
    CREATE TABLE steps (
        deployment INTEGER NOT NULL REFERENCES deployments ON DELETE CASCADE,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        started_at TEXT NOT NULL,
        seconds REAL,
        outcome TEXT NOT NULL DEFAULT 'running',
        PRIMARY KEY (deployment, position)
    ) STRICT;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        actor TEXT NOT NULL,
        app TEXT,
        action TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT;
    """,
    "ALTER TABLE releases ADD COLUMN manifest TEXT NOT NULL DEFAULT '{}'",
    """
    CREATE TABLE keys (
        name TEXT PRIMARY KEY,
        type TEXT NOT NULL,
        blob TEXT NOT NULL,
        fingerprint TEXT NOT NULL UNIQUE,
        role TEXT NOT NULL CHECK (role IN ('admin', 'deployer', 'reader')),
        apps TEXT NOT NULL,
        created_at TEXT NOT NULL
    ) STRICT
    """,
    """
    ALTER TABLE apps ADD COLUMN maintenance TEXT;
    CREATE TABLE passwords (
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        domain TEXT NOT NULL,
        user TEXT NOT NULL,
        hash TEXT NOT NULL,
        added_at TEXT NOT NULL,
        PRIMARY KEY (app, domain, user)
    ) STRICT
    """,
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        job TEXT NOT NULL,
        cause TEXT NOT NULL CHECK (cause IN ('schedule', 'by hand')),
        actor TEXT,
        mark TEXT NOT NULL,
        release INTEGER NOT NULL,
        outcome TEXT NOT NULL DEFAULT 'running'
            CHECK (outcome IN ('running', 'succeeded', 'failed', 'timed out', 'skipped',
                               'cancelled', 'interrupted')),
        error TEXT,
        started_at TEXT NOT NULL,
        seconds REAL
    ) STRICT;
    CREATE INDEX runs_by_job ON runs (app, job, id)
    """,
    """
    ALTER TABLE domains ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
    UPDATE domains SET position = (
        SELECT count(*) FROM domains AS earlier WHERE earlier.app = domains.app
        AND (earlier.added_at, earlier.rowid) < (domains.added_at, domains.rowid)
    )
    """,
    "ALTER TABLE domains ADD COLUMN deployment INTEGER",
    """
    CREATE TABLE locks (
        app TEXT PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
        actor TEXT NOT NULL,
        reason TEXT NOT NULL,
        at TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE issuance (
        app TEXT PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
        certificate TEXT NOT NULL,
        renew_at REAL NOT NULL,
        ask_at REAL NOT NULL,
        failures INTEGER NOT NULL,
        error TEXT NOT NULL,
        hint TEXT NOT NULL,
        domains TEXT NOT NULL,
        retry_at REAL NOT NULL,
        blocked_until REAL NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE channels (
        name TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('webhook', 'mail', 'chat')),
        target TEXT NOT NULL,
        secret TEXT NOT NULL,
        apps TEXT NOT NULL,
        events TEXT NOT NULL,
        created_at TEXT NOT NULL,
        failures INTEGER NOT NULL DEFAULT 0,
        retry_at REAL NOT NULL DEFAULT 0,
        error TEXT NOT NULL DEFAULT '',
        sent_at TEXT,
        dropped INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        mark TEXT NOT NULL,
        at TEXT NOT NULL,
        event TEXT NOT NULL,
        app TEXT,
        title TEXT NOT NULL,
        body TEXT NOT NULL,
        data TEXT NOT NULL
    ) STRICT;
    CREATE TABLE deliveries (
        notice INTEGER NOT NULL REFERENCES outbox ON DELETE CASCADE,
        channel TEXT NOT NULL REFERENCES channels ON DELETE CASCADE,
        PRIMARY KEY (channel, notice)
    ) STRICT;
    CREATE TABLE conditions (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE platforms (
        name TEXT PRIMARY KEY,
        cluster TEXT NOT NULL,
        registry TEXT NOT NULL,
        added_at TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE databases (
        name TEXT PRIMARY KEY,
        app TEXT REFERENCES apps ON DELETE SET NULL,
        version INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'removing')),
        kept TEXT NOT NULL DEFAULT '',
        created_at TEXT NOT NULL
    ) STRICT;
    CREATE TABLE attachments (
        database TEXT NOT NULL REFERENCES databases ON DELETE CASCADE,
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        variable TEXT NOT NULL,
        access TEXT NOT NULL CHECK (access IN ('write', 'read')),
        PRIMARY KEY (database, app),
        UNIQUE (app, variable)
    ) STRICT
    """,
    """
    CREATE TABLE watches (
        app TEXT PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
        deployment INTEGER NOT NULL,
        release INTEGER NOT NULL,
        previous INTEGER NOT NULL,
        switched REAL NOT NULL,
        until REAL NOT NULL,
        before TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE drains (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        url TEXT NOT NULL,
        created_at TEXT NOT NULL,
        position TEXT NOT NULL DEFAULT '',
        failures INTEGER NOT NULL DEFAULT 0,
        error TEXT NOT NULL DEFAULT '',
        sent_at TEXT,
        lines INTEGER NOT NULL DEFAULT 0
    ) STRICT
    """,
    "ALTER TABLE watches ADD COLUMN previous_slot INTEGER CHECK (previous_slot IN (1, 2))",
    "ALTER TABLE issuance ADD COLUMN early_at REAL NOT NULL DEFAULT 0",
    "ALTER TABLE channels ADD COLUMN quiet TEXT NOT NULL DEFAULT ''",
    """
    CREATE TABLE backups (
        database TEXT PRIMARY KEY REFERENCES databases ON DELETE CASCADE,
        tried_at TEXT NOT NULL,
        proved_at TEXT,
        fault TEXT NOT NULL DEFAULT ''
    ) STRICT
    """,
    """
    CREATE TABLE backup_plans (
        database TEXT PRIMARY KEY REFERENCES databases ON DELETE CASCADE,
        at TEXT NOT NULL,
        count INTEGER NOT NULL,
        days INTEGER NOT NULL,
        changed_at TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE restore_points (
        database TEXT NOT NULL REFERENCES databases ON DELETE CASCADE,
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        release INTEGER NOT NULL,
        name TEXT NOT NULL,
        stanza TEXT NOT NULL,
        lsn INTEGER NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (database, app, release, stanza)
    ) STRICT
    """,
    """
    CREATE TABLE tokens (
        name TEXT PRIMARY KEY,
        digest TEXT NOT NULL UNIQUE,
        role TEXT NOT NULL CHECK (role IN ('admin', 'deployer', 'reader')),
        apps TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at TEXT NOT NULL,
        expires_at TEXT NOT NULL,
        used_at TEXT
    ) STRICT
    """,
    """
    CREATE TABLE database_sizes (
        database TEXT NOT NULL REFERENCES databases ON DELETE CASCADE,
        at INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (database, at)
    ) STRICT, WITHOUT ROWID
    """,
    "ALTER TABLE watches ADD COLUMN unproven TEXT",
    """
    ALTER TABLE apps ADD COLUMN platform TEXT;
    ALTER TABLE apps ADD COLUMN live_deployment INTEGER;
    ALTER TABLE releases ADD COLUMN image TEXT NOT NULL DEFAULT ''
    """,
    """
    CREATE TABLE forks (
        database TEXT PRIMARY KEY REFERENCES databases ON DELETE CASCADE,
        source TEXT NOT NULL,
        how TEXT NOT NULL,
        scrubbed INTEGER NOT NULL CHECK (scrubbed IN (0, 1))
    ) STRICT
    """,
    """
    ALTER TABLE restore_points ADD COLUMN counters TEXT NOT NULL DEFAULT ''
    """,
    """
    CREATE TABLE former_clusters (
        database TEXT PRIMARY KEY REFERENCES databases ON DELETE CASCADE,
        version INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        at TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE kept_clusters (
        database TEXT NOT NULL REFERENCES databases ON DELETE CASCADE,
        version INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        at TEXT NOT NULL,
        undone INTEGER NOT NULL DEFAULT 0,
        kept TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (database, version, generation)
    ) STRICT;
    INSERT INTO kept_clusters (database, version, generation, at)
        SELECT database, version, generation, at FROM former_clusters;
    DROP TABLE former_clusters;
    ALTER TABLE kept_clusters RENAME TO former_clusters
    """,
    """
    CREATE TABLE pools (
        app TEXT PRIMARY KEY REFERENCES apps ON DELETE CASCADE,
        size INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE moves (
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        platform TEXT NOT NULL,
        stage TEXT NOT NULL CHECK (stage IN ('coming', 'left')),
        PRIMARY KEY (app, platform)
    ) STRICT
    """,
    """
    CREATE TABLE moves_now (
        app TEXT NOT NULL REFERENCES apps ON DELETE CASCADE,
        platform TEXT NOT NULL,
        stage TEXT NOT NULL CHECK (stage IN ('coming', 'left', 'serving')),
        slot INTEGER,
        PRIMARY KEY (app, platform)
    ) STRICT;
    INSERT INTO moves_now (app, platform, stage) SELECT app, platform, stage FROM moves;
    DROP TABLE moves;
    ALTER TABLE moves_now RENAME TO moves
    """,
    "ALTER TABLE releases ADD COLUMN base_image TEXT NOT NULL DEFAULT ''",
)
"""One script per schema version; `PRAGMA user_version` is the number of those that have run."""
