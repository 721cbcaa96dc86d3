package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.DataState.Phase;
import java.util.List;

/** Hands the session's token out to a client without cookies. */
final class HandingOut {
    private final RequestState s;
    private final Commits commits;

    HandingOut(RequestState s, Commits commits) {
        this.s = s;
        this.commits = commits;
    }

    /** Commits, and returns the token. The response sets no cookie for it. */
    String token() {
        if (!s.m.config.bearer) {
            throw new IllegalStateException("bearerToken needs Config.bearer");
        }
        if (s.phase == Phase.LIVE && !s.response.setCookie && !s.response.isHandedOut() && s.credentials.inCookie()) {
            throw new IllegalStateException("this token came in a cookie, which scripts must not read: renew it to hand it out");
        }
        s.outcome.report();
        s.outcome.reporting(() -> {
            s.refuse();
            return s.phase == Phase.ANONYMOUS || !s.view.ops.isEmpty() ? send() : null;
        });
        s.response.handOut();
        // Beside the new token, an old cookie would make every request ambiguous.
        if (s.response.issued) {
            s.response.drop();
        }
        return s.token.text(s.m.keys);
    }

    private List<String> send() {
        boolean creates = s.phase == Phase.ANONYMOUS && !s.response.isHandedOut();
        if (creates) {
            s.response.handOut();
        }
        try {
            return commits.send(List.of());
        } catch (SessionException e) {
            if (creates) {
                s.response.takeBack();
            }
            throw e;
        }
    }
}
