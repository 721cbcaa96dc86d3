package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.DataState.Phase;
import io.github.coatcheckgo.session.SessionException.Kind;
import java.lang.System.Logger.Level;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

/**
 * The user data that a session has opened. A request that signs in as another user has several.
 *
 * <p>Locks: a call that holds the lock of user data may take that of the session, and never the
 * other way round.
 */
final class OpenedData {
    private final Session session;
    private final Commits commits;
    private final RequestState s;
    // The latest first. The lock of the session guards it
    private final List<UserData> opened = new ArrayList<>();

    OpenedData(Session session, Commits commits) {
        this.session = session;
        this.commits = commits;
        s = commits.s;
    }

    /** Calls the body with all of them, the latest first. */
    void forEach(Consumer<UserData> body) {
        s.locked(() -> List.copyOf(opened)).forEach(body);
    }

    /** Opens the data of the user who is signed in. Returns null if nobody is. */
    UserData open() {
        UserData data = s.locked(this::find);
        if (data != null) {
            data.open();
        }
        return data;
    }

    /** Returns the data of the user who is signed in, perhaps not read yet; null if nobody is. */
    private UserData find() {
        if (s.phase == Phase.UNREAD || s.phase == Phase.FAILED) {
            s.refuse();
        }
        String owner = s.owner();
        if (owner == null) {
            return null;
        }
        for (UserData d : opened) {
            if (d.owner().equals(owner)) {
                return d;
            }
        }
        UserData d = new UserData(s.m, session.user(), owner, this);
        if (s.outcome.stopped) {
            d.stop(s.outcome.error);
        }
        opened.add(0, d);
        return d;
    }

    boolean isPassive() {
        return s.passive;
    }

    /**
     * Throws why the session must not change the data of this owner: ENDED unless the owner is
     * signed in, and the session is alive.
     */
    void admit(String owner) {
        s.locking(() -> {
            s.refuse();
            if (!owner.equals(s.owner())) {
                throw DataState.ended();
            }
            try {
                commits.reader.askAlive();
            } catch (SessionException e) {
                // Nothing was sent yet
                throw e.kind() != Kind.UNKNOWN_OUTCOME ? e : new SessionException(Kind.UNAVAILABLE, e.getMessage(), e);
            }
        });
    }

    /** Moves the user's fields to the data. The caller holds the lock of the data. */
    void join(UserCommits data) {
        s.locking(() -> new Joining(commits, data).join());
    }

    /** Moves the user's fields, which a new session has, to the data of the user. */
    void joinAtSignIn() {
        if (s.locked(s::hasUserFields)) {
            try {
                open();
            } catch (SessionException e) {
                Session.LOG.log(Level.WARNING, "session " + session.handle() + ": the fields of an anonymous session did not join the data"
                    + " of its user; a later request tries again", e);
            }
        }
    }

    /** Commits the changes, after those of the session. Its error is the session's, too. */
    void commit() {
        forEach(d -> {
            try {
                d.commitLast();
            } catch (SessionException e) {
                boolean reported = d.wasReported();
                s.locking(() -> {
                    s.outcome.keep(e);
                    s.outcome.reported |= reported;
                });
                throw e;
            }
        });
    }

    /** Commits the changes before another sign-in. */
    void close() {
        forEach(d -> {
            try {
                d.commit();
            } catch (SessionException e) {
                if (e.kind() != Kind.ENDED) { // signing in is how to go on after an end
                    throw e;
                }
                d.discard();
            }
        });
    }
}
