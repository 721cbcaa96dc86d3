package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Supplier;

/**
 * Fields that are read and changed: those of a {@link Session}, or the {@link UserData} of a user.
 * It is safe for use by many threads; while one of them talks to the store, the others wait.
 *
 * <p>{@link #commit}, {@link #reload}, and take, update, addWithin and setWithin of the fields talk
 * to the store. Reading and changing a field does not: a mistake is kept, and fails the commit.
 */
public abstract sealed class Data permits Session, UserData {
    private final DataState s;
    private final Committer commits;
    /** Changes that the store decides. */
    final AtomicChanges atomic;

    Data(DataState s, Committer commits) {
        this.s = s;
        this.commits = commits;
        atomic = new AtomicChanges(s, commits);
    }

    /**
     * Returns the id of the user who is signed in, or whose data this is; "" if nobody is signed
     * in.
     */
    public abstract String user();

    /** Returns the names of the fields that are set. An entry of a map has the name "field:key". */
    public Set<String> names() {
        return s.locked(() -> new TreeSet<>(s.view.fields.keySet()));
    }

    /** Unsets all fields. */
    public void clear() {
        change(Op.of("clear", ""));
    }

    /** Drops the changes that are not committed, and the mistake that would fail the commit. */
    public void discard() {
        s.locking(() -> {
            s.view.discard(s.phase == DataState.Phase.LIVE);
            s.forgive();
        });
    }

    /**
     * Stores the changes made so far, in one atomic step. Afterwards reads are exact: they have
     * other requests' changes, too. With nothing changed it does nothing. The filter commits before
     * the response header leaves; call it to act on the outcome.
     *
     * @throws SessionException ENDED, UNAVAILABLE, UNKNOWN_OUTCOME, HEADER_SENT, CROSS_ORIGIN,
     *     TOO_LARGE, INVALID, DECODE or SEALED. After an error no more changes are taken
     */
    public void commit() {
        s.locking(() -> {
            s.outcome.report();
            if (!s.view.ops.isEmpty()) {
                s.outcome.reporting(() -> {
                    commits.commit();
                    return null;
                });
            }
        });
    }

    /**
     * Drops the changes that are not committed, and reads the fields again: for connections that
     * stay open.
     *
     * @throws SessionException ENDED if the session has ended; UNAVAILABLE; SEALED
     */
    public abstract void reload();

    /** Commits at the end of a request: reads need not be exact any more. */
    void commitLast() {
        s.locking(() -> {
            if (s.outcome.error != null) {
                throw s.outcome.error;
            }
            if (!s.view.ops.isEmpty()) {
                commits.send(List.of());
            }
        });
    }

    // What the kinds of field use.

    /** Returns a stored value, sealed or not; null if it is unset. */
    byte[] stored(String name) {
        return s.locked(() -> s.view.fields.get(name));
    }

    /** Returns a value in clear; null if it is unset. */
    byte[] value(String name) {
        return s.locked(() -> s.open(name, s.view.fields.get(name)));
    }

    /** Returns the stored values of the entries of a map, by their keys. */
    Map<String, byte[]> storedEntries(String field) {
        return s.locked(() -> {
            Map<String, byte[]> entries = new LinkedHashMap<>();
            Op.entries(s.view.fields, field).forEach((name, value) -> entries.put(name.substring(field.length() + 1), value));
            return entries;
        });
    }

    /** Returns the entries of a map in clear, by their keys. */
    Map<String, byte[]> entries(String field) {
        return s.locked(() -> {
            Map<String, byte[]> entries = storedEntries(field);
            entries.replaceAll((key, value) -> s.open(field + ":" + key, value));
            return entries;
        });
    }

    /** Sets a value. What the encoder throws fails the commit. */
    void set(String name, Supplier<byte[]> encoded) {
        s.locking(() -> {
            try {
                byte[] plain = encoded.get();
                change(Op.set(name, plain), true);
            } catch (SessionException e) {
                s.outcome.keep(e);
            }
        });
    }

    /** Makes a change, for the next commit. A mistake fails the commit. */
    void change(Op op) {
        s.locking(() -> change(op, false));
    }

    private void change(Op op, boolean seals) {
        if (s.outcome.error != null) {
            return;
        }
        try {
            s.refuse();
            String wrong = op.kind().equals("clear") ? null : Names.check(op.key());
            if (wrong != null) {
                throw DataState.fail(Kind.INVALID, wrong);
            }
            if (s.view.ops.size() >= Op.MOST) {
                throw DataState.fail(Kind.TOO_LARGE, "a commit has at most " + Op.MOST + " operations");
            }
            s.view.change(seals ? Op.set(op.key(), s.seal(op.key(), op.a())) : op);
        } catch (SessionException e) {
            s.outcome.keep(e);
        }
    }
}
