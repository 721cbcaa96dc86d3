package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.DataState.Phase;
import io.github.coatcheckgo.session.SessionException.Kind;
import java.lang.System.Logger.Level;
import java.util.List;

/** Finds the session that the tokens of a request open. */
final class SessionReader {
    private final RequestState s;

    SessionReader(RequestState s) {
        this.s = s;
    }

    /** Reads the sessions of the request's tokens, until one opens. */
    void readTokens() {
        if (s.credentials.ambiguous) {
            ambiguous("too many tokens");
            return;
        }
        if (s.token == null) {
            s.reset(Phase.ANONYMOUS);
            return;
        }
        readToken();
        Token first = s.token; // a sign-out ends what the first one names
        List<Token> all = s.credentials.tokens;
        int twins = s.credentials.twins;
        for (int i = 1; i < all.size(); i++) {
            Token t = all.get(i);
            if (s.phase == Phase.ANONYMOUS) {
                s.token = t;
                readToken();
                if (i >= twins) {
                    twins = all.size(); // the rest came under the other name, as this one
                }
            } else if (s.phase == Phase.LIVE && i < twins && !t.sameSession(s.token) && opens(t)) {
                ambiguous("two cookies open different sessions");
                return;
            }
        }
        if (s.phase == Phase.ANONYMOUS) {
            s.token = first;
        }
    }

    private void ambiguous(String why) {
        s.cannotRead(RequestState.fail(Kind.AMBIGUOUS, why));
        if (!s.credentials.inHeader) {
            s.response.drop();
        }
    }

    private boolean opens(Token other) {
        try {
            Reading.Outcome outcome = ask(other).outcome;
            return outcome == Reading.Outcome.CURRENT || outcome == Reading.Outcome.GRACE;
        } catch (SessionException e) {
            return false;
        }
    }

    /** Reads the session of the request's token. */
    void readToken() {
        Reading r;
        try {
            r = ask(s.token);
        } catch (SessionException e) {
            s.cannotRead(e);
            return;
        }
        switch (r.outcome) {
            case CURRENT, GRACE -> s.become(r.record);
            case SUPERSEDED, MOVED -> {
                s.reset(Phase.MOVED);
                s.secret = r.record == null ? null : r.record.id;
            }
            case ENDED_DURING -> s.reset(Phase.ENDED);
            case UNKNOWN, ENDED_BEFORE, NONE -> s.reset(Phase.ANONYMOUS);
            case THEFT -> {
                endStolen(r.record);
                s.reset(Phase.ANONYMOUS);
            }
            default -> throw new IllegalStateException();
        }
        if (r.outcome == Reading.Outcome.THEFT || r.outcome == Reading.Outcome.UNKNOWN) {
            s.token = null; // a sign-out must not end the session with this token
        }
    }

    /**
     * Asks the store what a token opens.
     *
     * @throws SessionException UNAVAILABLE
     */
    Reading ask(Token t) {
        // First: a request that follows an end must not seem to have begun before it.
        long running = (System.nanoTime() - s.began) / 1_000_000;
        Ends.Refusal refusal = s.m.store.ends.refusal(t.id());
        if (refusal != null) {
            boolean during = refusal.moved() ? refusal.ago() < Reading.REMEMBERED : running > refusal.ago();
            return Reading.of(!during ? Reading.Outcome.NONE : refusal.moved() ? Reading.Outcome.MOVED : Reading.Outcome.ENDED_DURING);
        }
        long asked = System.nanoTime();
        Reading.Found found = s.m.store.load(t.id());
        try {
            // Rather too late: a request that follows an end must not seem to have begun before it.
            long beganAt = found.now() - (asked - s.began) / 1_000_000 + 1;
            Reading r = Reading.decide(found, t.id(), s.m.store.namespace, t.generation, t.verifierHash(), beganAt);
            s.view.at(found.now());
            return r;
        } catch (Malformed e) {
            throw e.forSession(t.id().handle());
        }
    }

    /**
     * Reads the session again, for a request that has found it.
     *
     * @throws SessionException ENDED if it is over; UNAVAILABLE
     */
    Reading askAlive() {
        while (true) {
            Reading r = ask(s.token);
            switch (r.outcome) {
                case CURRENT, GRACE -> {
                    return r;
                }
                case SUPERSEDED, MOVED, THEFT -> {
                    if (!s.adoptRotated()) {
                        throw s.lost(Phase.MOVED);
                    }
                }
                default -> throw s.lost(Phase.ENDED);
            }
        }
    }

    private void endStolen(Record r) {
        String handle = s.token.id().handle();
        try {
            UserSessions.endOne(s.m.store, s.token.id(), r.principal == null ? null : r.principal.owner(), true);
            Session.LOG.log(Level.WARNING, "session {0}: a stolen token was used; the session has ended", handle);
        } catch (SessionException e) {
            Session.LOG.log(Level.ERROR, "session " + handle + ": a stolen token was used, and the session could not be ended", e);
        }
    }
}
