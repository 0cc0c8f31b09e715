"""The tables by which the record is counted and searched, as SQL: kept by triggers, whoever writes a certificate.

Rules:
- A count changes in the transaction of what it counts, so that no crash leaves them apart, and reading one takes as
  long at a million rows as at ten.
- What triggers can say is said by triggers. They cannot write names backwards or digest them: `storage` does,
  where a certificate is stored and where one is deleted.
- Only rows in state `issued` are counted and found. A row that leaves the state, or the table, leaves the counts;
  `issue_days` alone is history, and keeps what was issued on a day for ever.
- Profiles and issuers are few: their sum is the number of certificates, and they are sorted when asked for. Requesters
  may be many: an index has them by size.
- `names` loses its foreign key: SQLite would look through all names for each certificate that is deleted.
- `unrenewed` has, for each profile and set of names, the certificate that is not revoked and ends last. All others of
  that set have been renewed.
- `sha256` and `reversed` are functions of this program (`database_file.py`). The schema itself uses none.
"""

from __future__ import annotations

from typing import Final

_TABLES: Final = """
    CREATE TABLE tallies (
        facet TEXT NOT NULL,
        value TEXT NOT NULL,
        certificates INTEGER NOT NULL CHECK (certificates >= 0),
        PRIMARY KEY (facet, value)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX requesters_by_size ON tallies (certificates) WHERE facet = 'requester';
    CREATE TABLE expiry_hours (
        hour INTEGER PRIMARY KEY,
        certificates INTEGER NOT NULL CHECK (certificates >= 0),
        unrenewed INTEGER NOT NULL CHECK (unrenewed >= 0)
    ) STRICT;
    CREATE TABLE issue_days (day INTEGER PRIMARY KEY, certificates INTEGER NOT NULL) STRICT;
    CREATE TABLE retention (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        deleted INTEGER NOT NULL,
        complete_from INTEGER NOT NULL
    ) STRICT;
    INSERT INTO retention (id, deleted, complete_from) VALUES (1, 0, 0);
    CREATE TABLE name_sets (
        id INTEGER PRIMARY KEY,
        digest BLOB NOT NULL,
        not_after INTEGER NOT NULL,
        revoked INTEGER NOT NULL CHECK (revoked IN (0, 1))
    ) STRICT;
    CREATE INDEX name_sets_by_expiry ON name_sets (digest, not_after) WHERE revoked = 0;
    CREATE TABLE unrenewed (
        digest BLOB PRIMARY KEY,
        not_after INTEGER NOT NULL,
        id INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX unrenewed_by_expiry ON unrenewed (not_after, id);
    CREATE TABLE domains (domain TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (domain, id)) STRICT, WITHOUT ROWID;
    ALTER TABLE names RENAME TO names_before;
    CREATE TABLE names (name TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (name, id)) STRICT, WITHOUT ROWID;
    CREATE INDEX issued_by_requester ON certificates (requester, id) WHERE state = 'issued';
    CREATE INDEX issued_by_issuer ON certificates (issuer, id) WHERE state = 'issued';
    CREATE INDEX issued_by_time ON certificates (issued_at, id) WHERE state = 'issued';
"""

# What is on record already.
_BACKFILL: Final = """
    INSERT INTO names SELECT name, id FROM names_before;
    DROP TABLE names_before;
    INSERT INTO domains SELECT reversed(name) || '.', id FROM names
        WHERE length(name) <= 253 AND name NOT GLOB '*[^a-z0-9_.*-]*' AND name GLOB '*[^0-9.]*';
    INSERT INTO tallies SELECT 'profile', profile, count(*) FROM certificates WHERE state = 'issued' GROUP BY profile;
    INSERT INTO tallies
        SELECT 'requester', requester, count(*) FROM certificates WHERE state = 'issued' GROUP BY requester;
    INSERT INTO tallies SELECT 'issuer', issuer, count(*) FROM certificates WHERE state = 'issued' GROUP BY issuer;
    INSERT INTO expiry_hours
        SELECT not_after / 3600, count(*), 0 FROM certificates WHERE state = 'issued' GROUP BY not_after / 3600;
    INSERT INTO issue_days
        SELECT issued_at / 86400, count(*) FROM certificates WHERE state = 'issued' GROUP BY issued_at / 86400;
    CREATE TABLE names_by_row (id INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (id, name)) STRICT, WITHOUT ROWID;
    INSERT INTO names_by_row SELECT id, name FROM names;
    INSERT INTO name_sets
        SELECT id, substr(sha256(profile || coalesce((SELECT group_concat(char(10) || name, '') FROM (
            SELECT name FROM names_by_row WHERE names_by_row.id = certificates.id ORDER BY name
        )), '')), 1, 16), not_after, EXISTS (SELECT 1 FROM revocations WHERE serial = certificates.serial)
        FROM certificates WHERE state = 'issued';
    DROP TABLE names_by_row;
    INSERT INTO tallies
        SELECT 'status', 'revoked', total FROM (SELECT count(*) AS total FROM name_sets WHERE revoked = 1)
        WHERE total > 0;
    INSERT INTO unrenewed
        SELECT digest, not_after, id FROM (
            SELECT digest, not_after, id,
                row_number() OVER (PARTITION BY digest ORDER BY not_after DESC, id DESC) AS place
            FROM name_sets WHERE revoked = 0
        ) WHERE place = 1;
    UPDATE expiry_hours SET unrenewed = (
        SELECT count(*) FROM unrenewed WHERE not_after >= hour * 3600 AND not_after < (hour + 1) * 3600
    );
"""

_CERTIFICATE_TRIGGERS: Final = """
    CREATE VIEW counted AS SELECT profile, requester, issuer, not_after, issued_at, 0 AS step FROM certificates;
    CREATE TRIGGER count_up INSTEAD OF INSERT ON counted WHEN NEW.step = 1
    BEGIN
        INSERT INTO tallies (facet, value, certificates)
            VALUES ('profile', NEW.profile, 1), ('requester', NEW.requester, 1), ('issuer', NEW.issuer, 1)
            ON CONFLICT (facet, value) DO UPDATE SET certificates = certificates + 1;
        INSERT INTO expiry_hours (hour, certificates, unrenewed) VALUES (NEW.not_after / 3600, 1, 0)
            ON CONFLICT (hour) DO UPDATE SET certificates = certificates + 1;
        INSERT INTO issue_days (day, certificates) VALUES (NEW.issued_at / 86400, 1)
            ON CONFLICT (day) DO UPDATE SET certificates = certificates + 1;
    END;
    CREATE TRIGGER count_down INSTEAD OF INSERT ON counted WHEN NEW.step = -1
    BEGIN
        UPDATE tallies SET certificates = certificates - 1 WHERE facet = 'profile' AND value = NEW.profile;
        UPDATE tallies SET certificates = certificates - 1 WHERE facet = 'requester' AND value = NEW.requester;
        UPDATE tallies SET certificates = certificates - 1 WHERE facet = 'issuer' AND value = NEW.issuer;
        UPDATE expiry_hours SET certificates = certificates - 1 WHERE hour = NEW.not_after / 3600;
    END;
    CREATE TRIGGER no_empty_tally AFTER UPDATE ON tallies WHEN NEW.certificates = 0
    BEGIN
        DELETE FROM tallies WHERE facet = NEW.facet AND value = NEW.value;
    END;
    CREATE TRIGGER no_empty_hour AFTER UPDATE ON expiry_hours WHEN NEW.certificates = 0 AND NEW.unrenewed = 0
    BEGIN
        DELETE FROM expiry_hours WHERE hour = NEW.hour;
    END;
    CREATE TRIGGER count_issued AFTER UPDATE OF state ON certificates
        WHEN OLD.state <> 'issued' AND NEW.state = 'issued'
    BEGIN
        INSERT INTO counted VALUES (NEW.profile, NEW.requester, NEW.issuer, NEW.not_after, NEW.issued_at, 1);
    END;
    CREATE TRIGGER count_inserted AFTER INSERT ON certificates WHEN NEW.state = 'issued'
    BEGIN
        INSERT INTO counted VALUES (NEW.profile, NEW.requester, NEW.issuer, NEW.not_after, NEW.issued_at, 1);
    END;
    CREATE TRIGGER count_withdrawn AFTER UPDATE OF state ON certificates
        WHEN OLD.state = 'issued' AND NEW.state <> 'issued'
    BEGIN
        INSERT INTO counted VALUES (OLD.profile, OLD.requester, OLD.issuer, OLD.not_after, OLD.issued_at, -1);
        DELETE FROM name_sets WHERE id = OLD.id;
    END;
    CREATE TRIGGER count_deleted AFTER DELETE ON certificates WHEN OLD.state = 'issued'
    BEGIN
        INSERT INTO counted VALUES (OLD.profile, OLD.requester, OLD.issuer, OLD.not_after, OLD.issued_at, -1);
        DELETE FROM name_sets WHERE id = OLD.id;
    END;
    CREATE TRIGGER issued_is_never_changed
        BEFORE UPDATE OF profile, requester, issuer, not_after, issued_at ON certificates WHEN OLD.state = 'issued'
    BEGIN
        SELECT RAISE(ABORT, 'what an issued certificate is counted by never changes');
    END;
"""

_NAME_SET_TRIGGERS: Final = """
    CREATE VIEW changed_name_sets AS SELECT digest FROM name_sets;
    CREATE TRIGGER find_unrenewed INSTEAD OF INSERT ON changed_name_sets
    BEGIN
        DELETE FROM unrenewed WHERE digest = NEW.digest;
        INSERT INTO unrenewed (digest, not_after, id)
            SELECT digest, not_after, id FROM name_sets WHERE digest = NEW.digest AND revoked = 0
            ORDER BY not_after DESC, id DESC LIMIT 1;
    END;
    CREATE TRIGGER name_set_added AFTER INSERT ON name_sets
    BEGIN
        INSERT INTO changed_name_sets VALUES (NEW.digest);
    END;
    CREATE TRIGGER name_set_removed AFTER DELETE ON name_sets
    BEGIN
        INSERT INTO changed_name_sets VALUES (OLD.digest);
    END;
    CREATE TRIGGER name_set_revoked AFTER UPDATE OF revoked ON name_sets
    BEGIN
        INSERT INTO changed_name_sets VALUES (NEW.digest);
    END;
    CREATE TRIGGER unrenewed_added AFTER INSERT ON unrenewed
    BEGIN
        UPDATE expiry_hours SET unrenewed = unrenewed + 1 WHERE hour = NEW.not_after / 3600;
    END;
    CREATE TRIGGER unrenewed_removed AFTER DELETE ON unrenewed
    BEGIN
        UPDATE expiry_hours SET unrenewed = unrenewed - 1 WHERE hour = OLD.not_after / 3600;
    END;
    CREATE TRIGGER count_revoked AFTER INSERT ON name_sets WHEN NEW.revoked = 1
    BEGIN
        INSERT INTO tallies (facet, value, certificates) VALUES ('status', 'revoked', 1)
            ON CONFLICT (facet, value) DO UPDATE SET certificates = certificates + 1;
    END;
    CREATE TRIGGER count_newly_revoked AFTER UPDATE OF revoked ON name_sets WHEN OLD.revoked = 0 AND NEW.revoked = 1
    BEGIN
        INSERT INTO tallies (facet, value, certificates) VALUES ('status', 'revoked', 1)
            ON CONFLICT (facet, value) DO UPDATE SET certificates = certificates + 1;
    END;
    CREATE TRIGGER count_revoked_deleted AFTER DELETE ON name_sets WHEN OLD.revoked = 1
    BEGIN
        UPDATE tallies SET certificates = certificates - 1 WHERE facet = 'status' AND value = 'revoked';
    END;
    CREATE TRIGGER revoked_is_not_unrenewed AFTER INSERT ON revocations
    BEGIN
        UPDATE name_sets SET revoked = 1
            WHERE revoked = 0 AND id = (SELECT id FROM certificates WHERE serial = NEW.serial);
    END;
"""

MIGRATION: Final = _TABLES + _BACKFILL + _CERTIFICATE_TRIGGERS + _NAME_SET_TRIGGERS
