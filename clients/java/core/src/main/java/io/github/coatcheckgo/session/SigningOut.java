package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.DataState.Phase;
import io.github.coatcheckgo.session.SessionException.Kind;

/** Ends the session of a request. */
final class SigningOut {
    private final RequestState s;

    SigningOut(RequestState s) {
        this.s = s;
    }

    /** Ends the session, drops what was not committed, and makes the response delete the cookie. */
    void signOut() {
        s.response.used = true;
        if (s.phase == Phase.MOVED && !s.named) {
            throw RequestState.fail(Kind.ENDED, "a sign-in has replaced the session");
        }
        SessionException failed = null;
        if (s.token != null) {
            try {
                end();
            } catch (SessionException e) {
                if (e.kind() == Kind.ENDED) {
                    s.lost(Phase.MOVED);
                    throw e;
                }
                failed = e;
            }
        }
        s.view.ops.clear();
        s.response.rotatedTo = null;
        s.response.setCookie = false;
        s.response.issued = false;
        s.response.renewed = false;
        s.response.drop();
        s.credentials.inHeader = false;
        s.phase = Phase.UNREAD;
        s.outcome.forgive();
        s.reset(failed == null ? Phase.ANONYMOUS : Phase.ENDED);
        if (failed != null) {
            SessionException e = new SessionException(Kind.UNAVAILABLE, "signing out: " + failed.getMessage(), failed);
            s.outcome.stop(e);
            throw e;
        }
        s.token = null;
    }

    private void end() {
        Record r = s.view.record;
        String owner = r == null ? s.m.store.owner(s.token.id()) : r.principal == null ? null : r.principal.owner();
        UserSessions.endOne(s.m.store, s.token.id(), owner, r != null);
    }
}
