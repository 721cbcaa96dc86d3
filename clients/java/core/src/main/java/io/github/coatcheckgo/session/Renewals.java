package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.Commits.Renewal;
import io.github.coatcheckgo.session.DataState.Phase;
import io.github.coatcheckgo.session.SessionException.Kind;
import java.lang.System.Logger.Level;
import java.util.List;

/** Gives a session a new token: at once, or because the token is old. */
final class Renewals {
    /**
     * How long a rotated token is accepted after the first use of its successor, in milliseconds.
     */
    static final long GRACE = 30_000;
    /** How old the store's word on a new token may be when the response header leaves. */
    static final long RECHECK_NANOS = 50_000_000;

    private final RequestState s;
    private final SessionReader reader;
    private final Commits commits;

    Renewals(Commits commits) {
        s = commits.s;
        reader = commits.reader;
        this.commits = commits;
    }

    /** Changes the token, and commits. */
    void renew() {
        s.refuse();
        if (s.phase == Phase.ANONYMOUS) {
            if (!s.view.ops.isEmpty()) {
                commits.send(List.of());
            }
            return;
        }
        if (s.response.sent) {
            throw Commits.headerSent();
        }
        Renewal n = new Renewal(s.token.renewed(0), 0);
        commits.send(List.of(), n);
        // The token before has not left
        boolean first = s.response.issued && !s.response.renewed && (s.response.setCookie || s.response.isHandedOut());
        Record r = s.view.record;
        r.previous = s.token.verifierHash();
        r.current = n.token.verifierHash();
        r.unused = true;
        r.accepted = false;
        r.generation = n.generation;
        r.issued = s.view.serverTime();
        s.token = n.token.withGeneration(n.generation);
        s.response.bringFirst(s.who != null, cookieAge());
        s.response.issued = first;
        s.response.renewed = !first;
        s.touched = false;
    }

    private long cookieAge() {
        return Response.age(s.isPersistent(), s.view.record.deadline - s.view.serverTime());
    }

    /** Returns a rotation if one is due, or null. */
    Renewal due(boolean canSetCookie) {
        long every = s.m.config.rotateEvery.toMillis();
        if (every == 0 || s.phase != Phase.LIVE || s.passive || s.response.sent || !canSetCookie || !s.credentials.inCookie()
            || s.response.setCookie || s.response.rotatedTo != null
            || !s.view.record.rotationDue(s.token.verifierHash(), every, s.view.serverTime())) {
            return null;
        }
        long next = s.view.record.generation + (s.view.record.current.equals(s.token.verifierHash()) ? 1 : 0);
        return new Renewal(s.token.renewed(next), every);
    }

    /** Notes that a commit has made the rotation, if it took place. */
    void rotated(Renewal n) {
        if (!n.kept) {
            s.response.rotatedTo = n.token.withGeneration(n.generation);
            s.response.bring(s.who != null, cookieAge());
        }
    }

    /**
     * Commits a rotation and nothing else. If it fails, the request does not: its own token stays
     * good.
     */
    void rotateAlone(Renewal n) {
        Phase before = s.phase;
        SessionException errorBefore = s.outcome.error;
        try {
            commits.apply(List.of(), n);
            rotated(n);
        } catch (SessionException e) {
            s.phase = before;
            s.outcome.error = errorBefore;
            if (e.kind() != Kind.ENDED) {
                Session.LOG.log(Level.WARNING, "session " + s.token.id().handle() + ": a token was not rotated; a later request will try again", e);
            }
        }
    }

    /**
     * Drops a new token from the response if another request has superseded it, or has ended the
     * session.
     */
    void recheckCookie() {
        if (!s.response.setCookie || s.response.rotatedTo != null || System.nanoTime() - s.response.confirmed < s.m.recheckNanos) {
            return;
        }
        try {
            if (reader.ask(s.token).outcome != Reading.Outcome.CURRENT) {
                s.response.setCookie = false;
            }
        } catch (SessionException e) {
            // The token leaves: the store did not say anything against it.
        }
    }
}
