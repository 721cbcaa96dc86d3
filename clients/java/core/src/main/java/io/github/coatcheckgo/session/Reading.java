package io.github.coatcheckgo.session;

import java.util.Map;

/** Decides what a token opens, from what the store holds. See "Reading" in the specification. */
final class Reading {
    static final long REMEMBERED = 60_000;

    enum Outcome { CURRENT, GRACE, SUPERSEDED, MOVED, UNKNOWN, THEFT, ENDED_DURING, ENDED_BEFORE, NONE }

    /** What the store holds, and its time. A null hash is a key of another type. */
    record Found(Map<String, byte[]> session, Map<String, byte[]> revocations, byte[] revoked, boolean revokedIsString, long now) {}

    final Outcome outcome;
    final Record record; // set unless there is no live session

    private Reading(Outcome outcome, Record record) {
        this.outcome = outcome;
        this.record = record;
    }

    static Reading of(Outcome outcome) {
        return new Reading(outcome, null);
    }

    /**
     * @param began when the request began, by the server's clock
     */
    static Reading decide(Found found, SessionId id, String namespace, long generation, String verifier, long began)
        throws Malformed {
        long now = found.now;
        if (found.session == null) {
            throw new Malformed(id.key(namespace), "not a hash");
        }
        Record.Stored stored = found.session.isEmpty() ? null : Record.parse(found.session);
        if (found.revocations == null) {
            throw new Malformed(id.revocationsKey(namespace), "not a hash");
        }
        long global = revokedTime(found, namespace);
        Record r = stored == null ? null : stored.record();
        Revocation revocation = r == null || r.principal == null ? null : Revocation.of(found.revocations, r.principal.owner());
        if (stored == null) {
            return global > 0 && now - global < REMEMBERED ? ended(global, began, now) : none(began, now);
        }
        if (stored.moved()) {
            return new Reading(Outcome.MOVED, null);
        }
        if (stored.ended()) {
            return ended(stored.time(), began, now);
        }
        if (now >= r.expires()) {
            return none(began, now);
        }
        if (r.created <= global) {
            return ended(global, began, now);
        }
        if (revocation != null && revocation.covers(id.name(), r.created)) {
            return ended(revocation.since(), began, now);
        }
        return token(r, generation, verifier, began, now);
    }

    private static Reading token(Record r, long generation, String verifier, long began, long now) {
        Outcome outcome = switch (r.status(verifier, now)) {
            case CURRENT -> Outcome.CURRENT;
            case GRACE -> Outcome.GRACE;
            case SUPERSEDED -> Outcome.SUPERSEDED;
            case UNKNOWN -> {
                if (generation >= r.generation) {
                    yield Outcome.UNKNOWN;
                }
                if (r.overlaps(verifier, began)) {
                    yield Outcome.SUPERSEDED;
                }
                yield r.stolen(verifier, generation) ? Outcome.THEFT : Outcome.UNKNOWN;
            }
        };
        return new Reading(outcome, r);
    }

    private static Reading ended(long at, long began, long now) {
        if (now - at >= REMEMBERED) {
            return none(began, now);
        }
        return new Reading(began < at ? Outcome.ENDED_DURING : Outcome.ENDED_BEFORE, null);
    }

    /** After a minute a marker may have expired: the browser may have a newer token. */
    private static Reading none(long began, long now) {
        return new Reading(now - began < REMEMBERED ? Outcome.NONE : Outcome.SUPERSEDED, null);
    }

    /** Returns the time of the last revocation of everybody, or 0. */
    static long revokedTime(Found found, String namespace) throws Malformed {
        if (found.revokedIsString && found.revoked == null) {
            return 0;
        }
        String text = found.revokedIsString ? new String(found.revoked, java.nio.charset.StandardCharsets.ISO_8859_1) : "";
        long time = text.length() == 12 ? Texts.hex(text) : -1;
        if (time < 0 || time > 253402300799999L) {
            throw new Malformed(namespace + ":revoked", "not a time");
        }
        return time;
    }

    /** A revocation of one user. */
    record Revocation(long since, String text) {
        static Revocation of(Map<String, byte[]> revocations, String owner) throws Malformed {
            byte[] value = revocations.get(owner);
            if (value == null) {
                return null;
            }
            String text = new String(value, java.nio.charset.StandardCharsets.ISO_8859_1);
            long since = text.length() % 34 == 24 ? Texts.hex(text.substring(0, 12)) : -1;
            if (since < 0) {
                throw new Malformed(owner, "a revocation of another form");
            }
            return new Revocation(since, text);
        }

        boolean covers(String name, long created) {
            if (created > since) {
                return false;
            }
            for (int i = 24; i < text.length(); i += 34) {
                if (text.startsWith(name, i)) {
                    return false;
                }
            }
            return true;
        }
    }
}
